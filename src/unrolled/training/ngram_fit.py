"""Fit the linear model of n-grams and, if there is a language model, of its pooled states.

It is a logistic regression with an L2 penalty, or of numbers a ridge regression. Its loss is convex and does not depend on the
recurrent layers, so it is minimized once, before their first step. That takes less time than one epoch of them, and gives a
higher accuracy than training it by the optimizer steps of the recurrent layers did (benchmarks/LOG.md).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.display import plural
from unrolled.nn.base_classifier import MAX_STEPS, BaseClassifier
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.kernels.select import set_kernel
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.ngram_classifier import SCALE, NgramClassifier
from unrolled.tables.cell_values import Array
from unrolled.tables.padding import pad_base_ids
from unrolled.tables.pair_batching import PairDataset, bucket_by_length

logger = logging.getLogger(__name__)

PENALTY = 0.15
"""Half of this times the sum of squares of the table, divided by the number of rows, is added to the mean loss. On 50, 200,
1,000 and 4,900 questions of TREC, 0.05 and 0.15 are equally good, 0.5 and 1.5 up to 0.02 and 0.06 nats worse."""

WORD_WEIGHT = 3.0
"""Weight of what is made of words next to runs of characters, of which a text has five times as many. On TREC, 1 / 2 / 3 give
0.286 / 0.274 / 0.266 nats, and both kinds with a norm of their own 0.269."""

NUMBER_PENALTY = 5.0
"""The same for half of the mean squared error of scaled numbers. On molecules and their solubility, and on inhibitors, 5 and 15
are equally good; 0.5 is up to 0.09 of an rmse of 0.78 worse."""

MAX_ITERATIONS, HISTORY = 40, 10
"""Iterations of L-BFGS, and how many of them it remembers."""

MIN_PROGRESS = 1e-5
"""The fit ends when an iteration lowers the loss by less than this share of it."""

SUFFICIENT_DECREASE, MAX_HALVINGS = 1e-4, 20
"""A step is halved, at most so often, until it lowers the loss by this share of what the slope promises (Armijo)."""

MAX_LOGIT_TERMS = 1 << 26
"""N-grams of all rows times labels: of longer tables, rows are left out evenly. The fit to so many takes 8 s of one core."""

MAX_CHARACTERS, MAX_BATCH_ROWS = 1 << 22, 64
"""Characters of all rows that a language model reads: of longer tables, rows are left out evenly. So many take 134 s of one
core. And rows that it reads at a time."""

Objective = Callable[[Tensor], tuple[float, Tensor]]


class _Rows(NamedTuple):
    """Numbers of n-grams, one row after the other, and where each row begins."""

    ids: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return np.diff(self.starts, append=len(self.ids))


class FittedClassifier(NamedTuple):
    """The parts of a fitted classifier: of n-grams, and of the states of a language model; each None if there is none."""

    ngrams: NgramClassifier | None = None
    base: BaseClassifier | None = None

    def copy_to(self, model: EncoderDecoder) -> None:
        """Give a model copies of the parts that there are."""
        model.ngrams = model.ngrams if self.ngrams is None else copy.deepcopy(self.ngrams)
        model.base = model.base if self.base is None else copy.deepcopy(self.base)


def fit_rows(dataset: PairDataset, rows: npt.NDArray[np.int64], base: RecurrentLM | None = None) -> FittedClassifier:
    """Return a classifier of some rows, fitted to their labels; `base` is the language model, if the model is to have one."""
    dims = dataset.spec.dims
    if not dims.ngram_buckets or dataset.ngrams is None:
        return FittedClassifier()
    ngrams, reader, features = NgramClassifier(dims.ngram_buckets, dims.target_size), None, None
    rows = rows[:: -(-int(dataset.ngrams.lengths[rows].sum()) * dims.target_size // MAX_LOGIT_TERMS) or 1]
    if dims.base is not None and base is not None:
        rows = _rows_to_read(dataset, rows)
        reader = BaseClassifier(dims.base, dims.target_size)
        reader.load_base(base)
        features = reader.standardize(_read_features(reader, dataset, rows))
    row_ngrams = [dataset.ngrams[row] % np.uint32(dims.ngram_buckets) for row in rows.tolist()]
    labels = np.array([dataset.target[row][0] for row in rows.tolist()])  # or numbers
    table = fit_ngrams(ngrams, row_ngrams, labels, dataset.label_weights, features)
    if reader is not None:
        reader.table.copy_(table)
    return FittedClassifier(ngrams, reader)


def _rows_to_read(dataset: PairDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows of some that are read: as many as have `MAX_CHARACTERS`, spread evenly."""
    if dataset.base_ids is None:
        return rows
    chosen = rows[:: -(-int(dataset.base_ids.lengths[rows].sum()) // MAX_CHARACTERS) or 1]
    if len(chosen) < len(rows):
        logger.info(f"the language model and the n-grams learn from {len(chosen):,} of {plural(len(rows), 'row')}")
    num_characters = int(dataset.base_ids.lengths[chosen].sum())
    logger.info(f"the language model reads {plural(num_characters, 'character')} before the first step")
    return chosen


def _read_features(reader: BaseClassifier, dataset: PairDataset, rows: npt.NDArray[np.int64]) -> Tensor:
    """Return the features `(N, K)` of some rows, read in batches of similar length."""
    if dataset.base_ids is None:
        raise ValueError("These rows are not encoded for a language model.")
    set_kernel(reader, "auto")
    features, places = torch.empty(len(rows), len(reader.means)), np.arange(len(rows))
    for group in bucket_by_length(places, dataset.base_ids.lengths[rows], MAX_BATCH_ROWS, MAX_STEPS):
        texts = pad_base_ids([dataset.base_ids[row] for row in rows[group].tolist()])
        features[torch.from_numpy(group)] = reader.features(*map(torch.from_numpy, texts.values()))
    return features


def fit_ngrams(
    classifier: NgramClassifier,
    rows: list[Array],
    labels: Array,
    label_weights: Array | None = None,
    features: Tensor | None = None,
) -> Tensor:
    """Set the weights of a classifier to those that predict the labels of some rows best.

    Args:
        classifier: The classifier; its share is left as it is.
        rows: The rows of the table that are the n-grams of each text, `(K_i,)` each; even numbers are words and pairs.
        labels: The label of each row, `(N,)`; or its numbers, `(N, V)`.
        label_weights: What the loss of a row with each label is multiplied by, `(V,)`.
        features: Dense features of each row, in addition to the n-grams, `(N, K)`.

    Returns:
        The weights of the dense features, `(K, V)`.
    """
    num_buckets, num_labels = len(classifier.table) - 1, classifier.table.shape[1]
    lengths = np.array([len(row) for row in rows])
    ragged = _Rows(np.concatenate(rows).astype(np.int64), np.cumsum(lengths) - lengths)
    weights = _ngram_weights(ragged, num_buckets)
    data_loss: DataLoss = (
        SquaredError(labels) if np.issubdtype(labels.dtype, np.floating) else CrossEntropy(labels, num_labels, label_weights)
    )
    loss = _RegularizedLoss(ragged, weights, data_loss, num_labels, features)
    solution = minimize(loss, torch.zeros(loss.num_weights))
    classifier.table.zero_()
    classifier.table[torch.from_numpy(loss.used)] = loss.table(solution)
    classifier.weights.copy_(torch.from_numpy(weights))
    classifier.bias.copy_(loss.bias(solution))
    return loss.dense_table(solution)


def _ngram_weights(rows: _Rows, num_buckets: int) -> npt.NDArray[np.float32]:
    """Return the inverse document frequency of each n-gram, more for words, and 0 for those of no row, `(buckets + 1,)`."""
    counts = np.bincount(rows.ids, minlength=num_buckets + 1)
    rarity = np.log((1 + len(rows.starts)) / (1 + counts)) + 1
    weights = rarity * np.where(np.arange(num_buckets + 1) % 2, 1.0, WORD_WEIGHT) * (counts > 0)
    return weights.astype(np.float32)


class DataLoss(Protocol):
    """The loss of the outputs `(N, V)` of all rows, and its gradient, without the penalty."""

    penalty: float

    def __call__(self, outputs: Tensor) -> tuple[float, Tensor]: ...


class CrossEntropy:
    """The mean cross-entropy of labels `(N,)`, in nats, of each row multiplied by the weight of its label `(V,)`."""

    penalty = PENALTY

    def __init__(self, labels: Array, num_labels: int, label_weights: Array | None = None) -> None:
        self._labels = torch.from_numpy(labels.astype(np.int64))
        weights = torch.ones(num_labels) if label_weights is None else torch.from_numpy(label_weights)
        self._row_weights = (weights[self._labels] / len(labels)).unsqueeze(-1)

    def __call__(self, outputs: Tensor) -> tuple[float, Tensor]:
        log_probs = F.log_softmax(outputs, -1)
        loss = -(log_probs.gather(1, self._labels[:, None]) * self._row_weights).sum()
        errors = log_probs.exp()
        errors[torch.arange(len(errors)), self._labels] -= 1
        return float(loss), errors * self._row_weights


class SquaredError:
    """Half of the mean squared error of numbers `(N, V)`."""

    penalty = NUMBER_PENALTY

    def __init__(self, numbers: Array) -> None:
        self._numbers = torch.from_numpy(numbers.astype(np.float32))

    def __call__(self, outputs: Tensor) -> tuple[float, Tensor]:
        errors = outputs - self._numbers
        return float(errors.square().sum() / (2 * len(errors))), errors / len(errors)


class _RegularizedLoss:
    """The loss of all rows, and its gradient, at a vector of the tables of the n-grams that occur (`used`) and of the
    `features`, and the bias.

    Every sum is made in a fixed order: of a row's logits over its n-grams, and of an n-gram's gradient over its rows.
    """

    def __init__(
        self,
        rows: _Rows,
        weights: npt.NDArray[np.float32],
        data_loss: DataLoss,
        num_labels: int,
        features: Tensor | None = None,
    ) -> None:
        values = weights[rows.ids]
        values *= SCALE * np.repeat(1 / np.sqrt(np.add.reduceat(values * values, rows.starts)), rows.lengths)
        by_ngram = np.argsort(rows.ids, kind="stable")
        self.used, first = np.unique(rows.ids[by_ngram], return_index=True)
        row_of = np.repeat(np.arange(len(rows.starts)), rows.lengths)
        self._by_row = tuple(map(torch.from_numpy, (np.searchsorted(self.used, rows.ids), rows.starts, values)))
        self._by_ngram = tuple(map(torch.from_numpy, (row_of[by_ngram], first, values[by_ngram])))
        self._data_loss, self._num_labels = data_loss, num_labels
        num_rows = len(rows.starts)
        self._penalty = data_loss.penalty / num_rows
        self._features = torch.zeros(num_rows, 0) if features is None else features
        self.num_weights = (len(self.used) + self._features.shape[1] + 1) * num_labels

    def table(self, vector: Tensor) -> Tensor:
        """Return the logits of each n-gram that occurs, `(U, V)`."""
        return vector[: len(self.used) * self._num_labels].view(-1, self._num_labels)

    def dense_table(self, vector: Tensor) -> Tensor:
        """Return the logits of each of the features, `(K, V)`."""
        return vector[len(self.used) * self._num_labels : -self._num_labels].view(-1, self._num_labels)

    def bias(self, vector: Tensor) -> Tensor:
        """Return the bias `(V,)`."""
        return vector[-self._num_labels :]

    def __call__(self, vector: Tensor) -> tuple[float, Tensor]:
        table, dense_table = self.table(vector), self.dense_table(vector)
        logits = _weighted_sums(table, self._by_row) + self._features @ dense_table
        loss, errors = self._data_loss(logits + self.bias(vector))
        loss += self._penalty / 2 * float(table.square().sum() + dense_table.square().sum())
        gradient = _weighted_sums(errors, self._by_ngram) + self._penalty * table
        dense_gradient = self._features.T @ errors + self._penalty * dense_table
        return loss, torch.cat([gradient.flatten(), dense_gradient.flatten(), errors.sum(0)])


def _weighted_sums(vectors: Tensor, bags: tuple[Tensor, ...]) -> Tensor:
    index, starts, values = bags
    sums: Tensor = F.embedding_bag(index, vectors, starts, mode="sum", per_sample_weights=values)
    return sums


def minimize(objective: Objective, point: Tensor) -> Tensor:
    """Return where a smooth convex function has its minimum, by L-BFGS (Liu and Nocedal 1989) from `point` `(D,)`.

    `torch.optim.LBFGS` does the same; importing it costs 190 MB of memory.

    Example:
        >>> import torch
        >>> def f(x):
        ...     return float((x - 3).square().sum()), 2 * (x - 3)
        >>> minimize(f, torch.zeros(2)).round(decimals=3).tolist()
        [3.0, 3.0]
    """
    loss, gradient = objective(point)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(MAX_ITERATIONS):
        direction = _descent_direction(gradient, pairs)
        slope, size = float(gradient @ direction), 1.0
        for _ in range(MAX_HALVINGS):
            next_point = point + size * direction
            next_loss, next_gradient = objective(next_point)
            if next_loss <= loss + SUFFICIENT_DECREASE * size * slope:
                break
            size /= 2
        else:
            break
        if (next_point - point) @ (next_gradient - gradient) > 0:
            pairs = [*pairs, (next_point - point, next_gradient - gradient)][-HISTORY:]
        progress = loss - next_loss
        point, loss, gradient = next_point, next_loss, next_gradient
        if progress < MIN_PROGRESS * abs(loss):
            break
    return point


def _descent_direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return minus the gradient times the inverse Hessian that the last steps and their changes of the gradient tell."""
    direction, factors = -gradient, []
    if not pairs:
        direction /= gradient.norm().clamp_min(1e-12)
        return direction
    for step, change in reversed(pairs):
        factors.append((step @ direction) / (step @ change))
        direction = direction - factors[-1] * change
    last_step, last_change = pairs[-1]
    direction = direction * ((last_step @ last_change) / (last_change @ last_change))
    for (step, change), factor in zip(pairs, reversed(factors), strict=True):
        direction = direction + (factor - (change @ direction) / (step @ change)) * step
    return direction
