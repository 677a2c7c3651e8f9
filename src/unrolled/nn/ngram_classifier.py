"""A linear model of the hashed n-grams of a text, next to the recurrent layers: wide and deep (Cheng et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SCALE = 8.0
"""The length of the vector of a row's n-grams. With a penalty on the squares of the table, it only sets the unit of these."""

MIN_SQUARES = 1e-4
"""Lower bound of the sum of the squared weights of a row: that of an n-gram that was seen is at least 1."""

SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights of the logits of this classifier next to those of the recurrent layers: one is chosen on held-out rows."""

DEFAULT_SHARE = 4.0
"""The weight where too few rows are held out to choose one: with 50 and 200 questions of TREC, 2, 4 and 8 are equally good."""


NUMBER_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The same for a number: the answer is the mean of both, weighted by this and by 1 minus this."""

DEFAULT_NUMBER_SHARE = 0.5


class NgramClassifier(nn.Module):
    """Logits, or numbers, b + s sum_k w_k T[n_k] / sqrt(sum_k w_k^2) of the n-grams n_k of each row, with s = `SCALE`.

    `weights` w are those of the n-grams, 0 of those that were not seen in training, and `table` T has a row of logits for each
    n-gram; the last row of both is for padding. Both are fitted before the first training step (`training.ngram_fit`), so
    they are no parameters. `share` is the weight of these logits in the answers of the model (see `add_to`).
    """

    table: Tensor
    weights: Tensor
    bias: Tensor
    share: Tensor

    def __init__(self, buckets: int, num_labels: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(buckets + 1, num_labels))
        self.register_buffer("weights", torch.zeros(buckets + 1))
        self.register_buffer("bias", torch.zeros(num_labels))
        self.register_buffer("share", torch.full((), DEFAULT_SHARE))

    def forward(self, ngrams: Tensor) -> Tensor:
        """Return logits `(1, B, V)` for `ngrams` `(K, B)`: rows of the table, padded with its last one."""
        weights = self.weights[ngrams]
        sums = F.embedding_bag(ngrams.T, self.table, per_sample_weights=weights.T, mode="sum")
        norms = weights.square().sum(0).clamp_min(MIN_SQUARES).rsqrt()
        return (sums * (SCALE * norms).unsqueeze(-1) + self.bias)[None]

    def add_to(self, outputs: Tensor, fitted: Tensor, is_number: bool) -> Tensor:
        """Return the outputs of the recurrent layers with these: their sum, or of numbers a weighted mean."""
        return torch.lerp(outputs, fitted, self.share) if is_number else outputs + self.share * fitted


def to_present_state(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a model under today's names: a classifier that was trained with the layers had an embedding."""
    present = dict(tensors)
    if (table := present.pop("ngrams.embedding.weight", None)) is not None:
        weights = torch.ones(len(table))
        weights[-1] = 0.0
        present |= {"ngrams.table": table, "ngrams.weights": weights}
    return present
