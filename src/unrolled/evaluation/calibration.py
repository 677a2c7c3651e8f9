"""Temperature scaling (Guo et al. 2017) of both kinds of models, and the validation loss of a table model.

Probabilities are softmax(logits * scale). A text model is saved with the scale multiplied into its last layer: `logit_scale`
in its history. A table model stores the inverse, `temperature`, as a tensor, and divides by it when it predicts. A text model
has one validation loss for all its tokens, so one Newton step per evaluation follows the best scale; a table model keeps the
logits of its validation rows and tries a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.evaluation.text_loss import Evaluation, ratio_standard_error
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.ngram_classifier import DEFAULT_NUMBER_SHARE, DEFAULT_SHARE, NUMBER_SHARES, SHARES
from unrolled.tables.padding import pad_base_ids
from unrolled.tables.pair_batching import PairDataset, bucket_by_length
from unrolled.tables.series_rows import SeriesRows
from unrolled.text.batching import IGNORE_INDEX

MAX_BATCH_ROWS, MAX_BATCH_STEPS = 256, 1 << 14
"""Limits of a batch: its rows, and rows times time steps."""

TEMPERATURES = tuple(round(1.1**power, 4) for power in range(-8, 17))
"""Temperatures tried: 0.47 to 4.6 in steps of 10%; the loss is flat around the best."""

MIN_SHARE_ROWS, MAX_SHARE_ROWS = 50, 2048
"""Minimum and maximum number of rows, spread evenly over all, on which the weight of the n-gram classifier is chosen."""

MAX_LOGIT_SCALE_STEP = 0.15
"""The scale changes by this much at most in one evaluation: far from its best value, the loss is not a parabola in it."""

MAX_LOGIT_SCALE = 5.0
"""The scale is between 1 / 5 and 5: a model that has learned nothing yet has no best scale."""

RowIndices = npt.NDArray[np.int64]
Check = Callable[[], None]


def validation_loss(model: EncoderDecoder, is_calibrated: bool) -> Callable[..., float]:
    """Return what computes the validation loss, with the arguments of `mean_loss`.

    It also fits the temperature of labels, if `is_calibrated`, or the weight of the n-grams of a number.
    """
    if is_calibrated:
        return fit_temperature
    return mean_loss if model.ngrams is None or model.dims.target_tensor_kind != "floats" else fit_number_share


@torch.inference_mode()
def mean_loss(
    model: EncoderDecoder,
    dataset: PairDataset | SeriesRows,
    row_indices: RowIndices,
    machine: DeviceConfig,
    check: Check = lambda: None,
) -> float:
    """Return the mean loss of some rows, in nats per target, or of numbers in the unit of their loss.

    Args:
        model: The model; it is in evaluation mode meanwhile.
        dataset: Encoded rows.
        row_indices: Which of them, `(R,)`.
        machine: Number format and device.
        check: Called between batches; it may raise to stop.
    """
    return mean_loss_with_error(model, dataset, row_indices, machine, check)[0]


@torch.inference_mode()
def mean_loss_with_error(
    model: EncoderDecoder,
    dataset: PairDataset | SeriesRows,
    row_indices: RowIndices,
    machine: DeviceConfig,
    check: Check = lambda: None,
) -> tuple[float, float | None]:
    """Return the mean loss of some rows, and its standard error, None with fewer than two rows; arguments as of `mean_loss`."""
    sums, counts = [], []
    for tensors in _batches(model, dataset, row_indices, machine, check):
        with machine.autocast():
            losses = model.loss_per_target(tensors)
        sums.append(losses.double().sum(0).cpu().numpy())
        is_target = tensors["target"] != IGNORE_INDEX
        if model.dims.is_stream and is_target.dim() == 3:
            row_targets = (~tensors["target"].isnan()).sum((0, 2))
        else:
            row_targets = is_target.sum(0) if is_target.dim() == 2 else torch.ones(is_target.shape[1])
        counts.append(row_targets.double().cpu().numpy() + dataset.eos_per_row)
    row_sums, row_counts = np.concatenate(sums), np.concatenate(counts)
    return float(row_sums.sum() / max(1.0, row_counts.sum())), ratio_standard_error(row_sums, row_counts)


@torch.inference_mode()
def fit_temperature(
    model: EncoderDecoder,
    dataset: PairDataset | SeriesRows,
    row_indices: RowIndices,
    machine: DeviceConfig,
    check: Check = lambda: None,
) -> float:
    """Set the model's temperature to the best one for some rows, and return their mean loss; arguments as of `mean_loss`.

    The weight of a classifier of n-grams next to the recurrent layers is chosen in the same way.

    Accuracy keeps improving after the model has become overconfident. Without this, the validation loss would select the
    model of an early step.
    """
    logits, ngram_logits, targets, weights = _outputs(model, dataset, row_indices, machine, check)
    share = 0.0
    if len(targets) == 0:
        return 0.0
    if ngram_logits is not None:
        share = _best_share(logits, ngram_logits, targets, weights)
        logits = logits + share * ngram_logits if share else logits
    best = _best_temperature(logits, targets, weights)
    set_answer_scales(model, best, share)
    return _loss(logits, targets, best, weights)


@torch.inference_mode()
def fit_number_share(
    model: EncoderDecoder,
    dataset: PairDataset | SeriesRows,
    row_indices: RowIndices,
    machine: DeviceConfig,
    check: Check = lambda: None,
) -> float:
    """Set the weight of the model's numbers of n-grams to the best one for some rows, and return their mean squared error.

    Arguments are as of `mean_loss`.
    """
    outputs, fitted, targets, _ = _outputs(model, dataset, row_indices, machine, check)
    if fitted is None:
        raise ValueError("This model has no linear model of n-grams.")
    if len(targets) == 0:
        return 0.0

    def loss(share: float) -> float:
        return float((torch.lerp(outputs, fitted, share) - targets).square().mean())

    share = min(NUMBER_SHARES, key=loss) if len(targets) >= MIN_SHARE_ROWS else DEFAULT_NUMBER_SHARE
    set_answer_scales(model, 1.0, share)
    return loss(share)


def _outputs(
    model: EncoderDecoder, dataset: PairDataset | SeriesRows, row_indices: RowIndices, machine: DeviceConfig, check: Check
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Return the outputs `(N, V)` for the targets of some rows, those of the n-grams if there are some, the targets `(N,)`, of
    numbers `(N, V)`, and the weights of labels `(V,)` if there are some; neither scaled nor added."""
    set_answer_scales(model, 1.0, 0.0)
    outputs, fitted, targets, weights = [], [], [], None
    for tensors in _batches(model, dataset, row_indices, machine, check):
        with machine.autocast():
            batch_outputs = model.logits(tensors)
            batch_fitted = None if model.ngrams is None else model.fitted_logits(tensors)
        target = tensors["target"]
        chosen = torch.ones(target.shape[:2], dtype=torch.bool) if target.is_floating_point() else target != IGNORE_INDEX
        outputs.append(batch_outputs[chosen].float().cpu())
        fitted += [] if batch_fitted is None else [batch_fitted[chosen].float().cpu()]
        targets.append(target[chosen].cpu())
        weights = tensors["label_weights"].cpu() if "label_weights" in tensors else None
    return torch.cat(outputs), torch.cat(fitted) if fitted else None, torch.cat(targets), weights


def set_answer_scales(model: EncoderDecoder, temperature: float, share: float) -> None:
    """Set the temperature of a model, and the weight of its classifier of n-grams if it has one."""
    with torch.inference_mode(False):
        model.temperature.fill_(temperature)
        if model.ngrams is not None:
            model.ngrams.share.fill_(share)


def _best_temperature(logits: Tensor, targets: Tensor, weights: Tensor | None) -> float:
    return min(TEMPERATURES, key=lambda temperature: _loss(logits, targets, temperature, weights))


def _best_share(logits: Tensor, ngram_logits: Tensor, targets: Tensor, weights: Tensor | None) -> float:
    """Return the weight of the n-grams' logits with the lowest loss, at the best temperature of each, on some of the rows."""
    if len(targets) < MIN_SHARE_ROWS:
        return DEFAULT_SHARE
    some = slice(None, None, -(-len(targets) // MAX_SHARE_ROWS))
    logits, ngram_logits, targets = logits[some], ngram_logits[some], targets[some]

    def loss(share: float) -> float:
        mixed = logits + share * ngram_logits
        return _loss(mixed, targets, _best_temperature(mixed, targets, weights), weights)

    return min(SHARES, key=loss)


def _loss(logits: Tensor, targets: Tensor, temperature: float, weights: Tensor | None) -> float:
    if weights is None:
        return float(F.cross_entropy(logits / temperature, targets))
    return float(F.cross_entropy(logits / temperature, targets, weights, reduction="sum")) / len(targets)


def best_threshold(probabilities: npt.NDArray[np.float64], is_second: npt.NDArray[np.bool_]) -> float:
    """Return the decision threshold with the best macro F1: the lowest probability at which the second label is predicted.

    Args:
        probabilities: Those of the second label, `(N,)`.
        is_second: Whether a row has the second label, `(N,)`.

    Of thresholds that are equally good, the one closest to 0.5 is taken.

    Example:
        >>> best_threshold(np.array([0.1, 0.2, 0.3, 0.4]), np.array([False, False, True, True]))
        0.25
    """
    values = np.unique(probabilities)
    candidates = [0.5, *((values[1:] + values[:-1]) / 2).tolist()]

    def macro_f1(threshold: float) -> float:
        predicted = probabilities >= threshold
        hits = np.array([(predicted & is_second).sum(), (~predicted & ~is_second).sum()])
        support = np.array([predicted.sum() + is_second.sum(), (~predicted).sum() + (~is_second).sum()])
        return float((2 * hits[support > 0] / support[support > 0]).mean())

    return float(max(candidates, key=lambda threshold: (round(macro_f1(threshold), 9), -abs(threshold - 0.5))))


def _batches(
    model: EncoderDecoder, dataset: PairDataset | SeriesRows, row_indices: RowIndices, machine: DeviceConfig, check: Check
) -> Iterator[dict[str, Tensor]]:
    """Yield the rows in batches, with the model in evaluation mode meanwhile."""
    was_training = model.training
    model.eval()
    try:
        for group in bucket_by_length(np.asarray(row_indices), dataset.row_lengths, MAX_BATCH_ROWS, MAX_BATCH_STEPS):
            check()
            batch = dataset.collate(group)
            arrays = {name: torch.from_numpy(array).to(machine.device) for name, array in batch.arrays().items()}
            yield arrays | _base_logits(model, dataset, group, machine)
    finally:
        model.train(was_training)


def _base_logits(
    model: EncoderDecoder, dataset: PairDataset | SeriesRows, rows: RowIndices, machine: DeviceConfig
) -> dict[str, Tensor]:
    """Return what the classifier of a language model's states says of some rows: it never changes, so it is kept."""
    if model.base is None or not isinstance(dataset, PairDataset) or dataset.base_ids is None:
        return {}
    known = dataset.base_logits
    if new := [row for row in rows.tolist() if row not in known]:
        texts = pad_base_ids([dataset.base_ids[row] for row in new])
        known.update(
            zip(new, model.base(*(torch.from_numpy(array).to(machine.device) for array in texts.values())), strict=True)
        )
    return {"base_logits": torch.stack([known[row] for row in rows.tolist()])}


def fit_logit_scale(evaluation: Evaluation, logit_scale: float) -> tuple[float, float]:
    """Return the loss of a text model at its best logit scale near `logit_scale`, and that scale.

    One step of Newton's method from `evaluation`, which was measured at `logit_scale`. Later evaluations take the next steps.
    """
    step = min(MAX_LOGIT_SCALE_STEP, max(-MAX_LOGIT_SCALE_STEP, -evaluation.slope / max(evaluation.curvature, 1e-9)))
    step = min(MAX_LOGIT_SCALE, max(1 / MAX_LOGIT_SCALE, logit_scale + step)) - logit_scale
    return evaluation.nats + evaluation.slope * step + evaluation.curvature * step**2 / 2, logit_scale + step
