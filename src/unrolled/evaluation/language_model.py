"""How well a model predicts a text, in nats a symbol, with the context said.

`carried`: the state runs on through the whole text. `window=N`: every N symbols start from zero, for comparison with models
that see windows. Documents always start from zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.nn.cells import State
from unrolled.nn.device import Machine
from unrolled.nn.language_model import SequenceModel
from unrolled.nn.loss import cross_entropy
from unrolled.text.batching import IGNORED, LONGEST_ROW, Batch, Reader, sorted_rows
from unrolled.text.tokenizer import Ids

LANE = 4096
"""A long text is read in lanes of at least so many symbols, side by side."""

LANES = 64
WARM_UP = 512
"""Symbols a lane reads before the first that counts, so that its state is the one carried from before (to 1e-4 nats)."""

STRETCH = 1024
"""Where only some of a text is read, it is in so short stretches: many of them, since parts of a text differ (LOG.md)."""

CHUNK = 64


@dataclass(frozen=True)
class Evaluation:
    """Mean loss in `nats` a character over `symbols` predicted symbols, which are `characters` characters.

    A document's end is one, as its line end would be. Where the symbols are bytes, characters are fewer, and the loss of one
    is the sum over its bytes. `unknown` counts the characters of the text that the model has no symbol for; they are left out.

    `slope` and `curvature` are the loss's first two derivatives by what the scores are multiplied by, where that was asked for.
    """

    nats: float
    symbols: int
    characters: int
    context: str
    unknown: int = 0
    slope: float = 0.0
    curvature: float = 0.0

    @property
    def bits(self) -> float:
        """Bits a character."""
        return self.nats / math.log(2)


@torch.inference_mode()
def evaluate(
    model: SequenceModel,
    machine: Machine,
    ids: Ids,
    end: int | None = None,
    longest: int | None = None,
    window: int | None = None,
    limit: int | None = None,
    begins: npt.NDArray[np.bool_] | None = None,
    check: Callable[[], None] = lambda: None,
    sharpness: float | None = None,
) -> Evaluation:
    """Return the mean loss of `model` on `ids` `(N,)`, of which each but the first is predicted.

    With `sharpness`, the scores are multiplied by it first, and the derivatives by it come along.

    `begins` `(V,)` says which symbols begin a character; without it, each is one. `check` is called between batches, and
    may raise to give up.

    `end` is the symbol documents start from; if the `longest` of them is short they are read as padded rows. With `limit`, only
    about so many symbols are read, spread evenly over the text.
    """
    if len(ids) < 2:
        raise ValueError(f"At least two symbols are needed, to predict one from the other; got {len(ids)}.")
    if window is not None:
        batches, context = _windows(ids, window, end), f"window={window}"
    elif end is not None and longest is not None and longest <= LONGEST_ROW:
        batches, context = sorted_rows(ids, end, LANES * CHUNK, limit), "document"
    else:
        batches, context = _lanes(ids, end, limit), "carried" if end is None else "document"
    was_training = model.training
    model.eval()
    try:
        sums, symbols, characters = _total(model, machine, batches, begins, check, sharpness)
    finally:
        model.train(was_training)
    nats, slope, curvature = (value / max(1, characters) for value in sums)
    return Evaluation(nats, symbols, characters, context, slope=slope, curvature=curvature)


def _total(
    model: SequenceModel,
    machine: Machine,
    batches: Iterator[Batch],
    begins: npt.NDArray[np.bool_] | None,
    check: Callable[[], None],
    sharpness: float | None,
) -> tuple[list[float], int, int]:
    """Return the sums of the losses and their two derivatives, and how many symbols and characters they are of."""
    total = torch.zeros(3, dtype=torch.float64, device=machine.device)
    symbols = characters = 0
    state: State = None
    for batch in batches:
        check()
        inputs, targets = (torch.from_numpy(array).to(machine.device) for array in (batch.inputs, batch.targets))
        resets = None if batch.resets is None else torch.from_numpy(batch.resets).to(machine.device)
        state = state if batch.carried else model.initial_state(inputs.shape[1])
        with machine.autocast():
            logits, state = model(inputs, state, resets)
        total += _sums(logits, targets, sharpness)
        symbols += batch.symbols
        counted = batch.targets[batch.targets != IGNORED]
        characters += batch.symbols if begins is None else int(begins[counted].sum())
    return total.tolist(), symbols, characters


def _sums(logits: Tensor, targets: Tensor, sharpness: float | None) -> Tensor:
    """Return the sums over all targets of the loss and its derivatives by `sharpness`, `(3,)`; without one, these are zero.

    The scores' mean under the model, less the target's own, is the first; their variance is the second.
    """
    if sharpness is None:
        zero = torch.zeros((), dtype=torch.float64, device=logits.device)
        return torch.stack([cross_entropy(logits, targets, "sum").double(), zero, zero])
    counted = targets != IGNORED
    scores, own = logits[counted].float(), targets[counted].unsqueeze(-1)  # (N, V), (N, 1)
    logs = (scores * sharpness).log_softmax(-1)
    chances = logs.exp()
    mean = (chances * scores).sum(-1)
    spread = (chances * scores.square()).sum(-1) - mean.square()
    parts = (-logs.gather(-1, own), mean - scores.gather(-1, own).squeeze(-1), spread)
    return torch.stack([part.sum(dtype=torch.float64) for part in parts])


def _lanes(ids: Ids, end: int | None, limit: int | None) -> Iterator[Batch]:
    """Read the text in lanes side by side, each warmed up on what comes before it."""
    reader, pairs = Reader(ids), len(ids) - 1
    lanes = max(1, min(LANES, pairs // LANE if limit is None or limit >= pairs else limit // STRETCH))
    starts = np.arange(lanes, dtype=np.int64) * pairs // lanes
    stops = np.append(starts[1:], pairs)
    if limit is not None and limit < pairs:
        stops = np.minimum(stops, starts + max(1, limit // lanes))
    steps = int((stops - starts).max())
    for first in range(-WARM_UP if lanes > 1 else 0, steps, CHUNK):
        at = starts + np.arange(first, min(first + CHUNK, steps), dtype=np.int64)[:, None]  # (T, B)
        read = np.clip(at, 0, pairs - 1)
        counted = (at >= starts) & (at < stops)
        inputs, following = reader.pairs(read)
        targets = np.where(counted, following, IGNORED)
        resets = at == 0
        if end is not None:
            resets |= inputs == end
        started = first > (-WARM_UP if lanes > 1 else 0)
        yield Batch(inputs, targets, resets if resets.any() else None, started, int(counted.sum()))


def _windows(ids: Ids, window: int, end: int | None) -> Iterator[Batch]:
    """Read the text in windows that each start from zero; the last may be shorter."""
    reader, pairs = Reader(ids), len(ids) - 1
    rows = max(1, LANES * CHUNK // window)
    for first in range(0, pairs, rows * window):
        starts = np.arange(first, min(first + rows * window, pairs), window, dtype=np.int64)
        for chunk in range(0, window, CHUNK):
            at = starts + np.arange(chunk, min(chunk + CHUNK, window), dtype=np.int64)[:, None]  # (T, B)
            counted = at < pairs
            read = np.minimum(at, pairs - 1)
            inputs, following = reader.pairs(read)
            targets = np.where(counted, following, IGNORED)
            resets = None if end is None else inputs == end
            if counted.any():
                yield Batch(inputs, targets, resets, chunk > 0, int(counted.sum()))
