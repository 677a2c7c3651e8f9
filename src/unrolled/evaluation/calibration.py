"""The loss of a model of a table on rows it did not learn from, and the temperature that makes its probabilities honest."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.nn.device import Machine
from unrolled.nn.encoder_decoder import PairModel
from unrolled.tables.pair_batching import Pairs, grouped
from unrolled.text.batching import IGNORED

ROWS, STEPS = 256, 1 << 14
"""Rows read together, and their steps in all."""

Index = npt.NDArray[np.int64]
Check = Callable[[], None]


@torch.inference_mode()
def mean_loss(model: PairModel, pairs: Pairs, index: Index, machine: Machine, check: Check = lambda: None) -> float:
    """Return the mean loss of the rows `index`, in nats a target (numbers: squared deviations)."""
    total, count = 0.0, 0
    for tensors, symbols in _batches(model, pairs, index, machine, check):
        with machine.autocast():
            losses = model.losses(tensors)
        total += float(losses.double().sum())
        count += symbols
    return total / max(1, count)


@torch.inference_mode()
def calibrate(model: PairModel, pairs: Pairs, index: Index, machine: Machine, check: Check = lambda: None) -> float:
    """Set the model's temperature to what suits the rows `index` best, and return their mean loss at it.

    A network goes on learning which label is right long after it has become too sure of it; without this, the loss would call
    the model of an early step the best one.
    """
    with torch.inference_mode(False):
        model.temperature.fill_(1.0)
    scores, targets = [], []
    for tensors, _ in _batches(model, pairs, index, machine, check):
        with machine.autocast():
            said = model.answers(tensors)
        known = tensors["target"] != IGNORED
        scores.append(said[known].float().cpu())
        targets.append(tensors["target"][known].cpu())
    logits, truth = torch.cat(scores), torch.cat(targets)
    if len(truth) == 0:
        return 0.0
    best = min(TEMPERATURES, key=lambda temperature: _loss(logits, truth, temperature))
    with torch.inference_mode(False):
        model.temperature.fill_(best)
    return _loss(logits, truth, best)


TEMPERATURES = tuple(round(1.1**power, 4) for power in range(-8, 17))
"""Temperatures tried: 0.47 to 4.6, a tenth apart; the loss is flat around the best."""


def _loss(logits: Tensor, truth: Tensor, temperature: float) -> float:
    return float(F.cross_entropy(logits / temperature, truth))


def _batches(
    model: PairModel, pairs: Pairs, index: Index, machine: Machine, check: Check
) -> Iterator[tuple[dict[str, Tensor], int]]:
    """Yield the rows in batches, the model being in the state of use meanwhile."""
    was_training = model.training
    model.eval()
    lengths = np.maximum(pairs.source.lengths, pairs.target.lengths)
    try:
        for group in grouped(np.asarray(index), lengths, ROWS, STEPS):
            check()
            batch = pairs.batch(group)
            yield {name: torch.from_numpy(array).to(machine.device) for name, array in batch.arrays().items()}, batch.symbols
    finally:
        model.train(was_training)
