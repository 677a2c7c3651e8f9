"""How surprising each symbol and each line of a text is, in bits: a text of any length, in constant memory.

Text is taken in blocks of many lanes side by side, each lane warmed up on what comes before it, as `evaluate` does; so a
long text is read at the speed of a matrix product, and not a step at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from unrolled.evaluation.language_model import CHUNK, LANES, WARM_UP
from unrolled.nn.clamp import Hold, holding
from unrolled.nn.device import Machine
from unrolled.nn.language_model import SequenceModel
from unrolled.text.batching import LONGEST_ROW
from unrolled.text.tokenized_text import LINE_FEED
from unrolled.text.tokenizer import CODE_POINTS, Vocabulary

LANE = 8192
"""Symbols of a lane: long, so that what is read to warm it up is a small share."""

BLOCK = LANE * LANES
"""Symbols worked on at once."""

ROW_STEPS = 1 << 14
"""Steps of short documents read together."""

UNKNOWN_BITS = math.log2(CODE_POINTS)
"""What a symbol costs that the model has none for: to be told among all code points of Unicode."""

Bits = npt.NDArray[np.float64]
Points = npt.NDArray[Any]


@dataclass
class Scorer:
    """One model that scores the blocks of a text in their order, units perhaps held. `unit` is what its documents are."""

    model: SequenceModel
    vocabulary: Vocabulary
    unit: str
    machine: Machine
    holds: Sequence[Hold] = ()
    _context: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def score(self, points: Points) -> tuple[Bits, npt.NDArray[np.bool_]]:
        """Return the bits of each symbol of the next block `(N,)`, and whether it is known to the model.

        Nothing comes before the first symbol of a text, and its bits are nan, unless the model knows how documents begin.
        An unknown symbol has `UNKNOWN_BITS`, and is read on as the closest known one.
        """
        ids, known = self.vocabulary.align(points)
        end = self.vocabulary.end
        if self.unit == "line" and end is not None:
            breaks = points == LINE_FEED
            ids, known = np.where(breaks, end, ids), known | breaks
        if end is not None and len(self._context) == 0:
            self._context = np.array([end])
        everything = np.concatenate([self._context, ids])
        with torch.inference_mode(), holding(self.model.stack, self.holds):
            if self._in_rows(everything, end):
                nats = self._row_losses(everything, end or 0)
            else:
                nats = self._lane_losses(everything, len(self._context), end)
        self._context = everything[-WARM_UP - 1 :]
        bits = nats[-len(ids) :] / math.log(2) if len(ids) else np.zeros(0)
        bits[~known] = UNKNOWN_BITS
        return bits, known

    def _in_rows(self, ids: npt.NDArray[np.int64], end: int | None) -> bool:
        """Return whether the block is whole, short documents."""
        if end is None or self._context[-1] != end:
            return False
        return int(np.diff(np.append(np.flatnonzero(ids == end), len(ids))).max()) <= LONGEST_ROW

    def _lane_losses(self, ids: npt.NDArray[np.int64], first: int, end: int | None) -> Bits:
        """Return the nats of each of ids `(N,)`, nan before `first`, read in lanes side by side."""
        pairs, begin = len(ids) - 1, max(first - 1, 0)
        nats = np.full(len(ids), np.nan)
        if pairs <= begin:
            return nats
        lanes = max(1, min(LANES, (pairs - begin) // (LANE // 2)))
        starts = begin + np.arange(lanes) * (pairs - begin) // lanes
        stops = np.append(starts[1:], pairs)
        state = self.model.initial_state(lanes)
        for step in range(-min(WARM_UP, int(starts[-1])), int((stops - starts).max()), CHUNK):
            at = starts + np.arange(step, step + CHUNK)[:, None]  # (T, B)
            counted = (at >= starts) & (at < stops)
            read = np.clip(at, 0, pairs - 1)
            resets = at == 0 if end is None else (at == 0) | (ids[read] == end)
            losses, state = self._losses(ids[read], ids[read + 1], state, resets if resets.any() else None)
            nats[at[counted] + 1] = losses[counted]
        return nats

    def _row_losses(self, ids: npt.NDArray[np.int64], end: int) -> Bits:
        """Return the nats of each of ids `(N,)`, nan for the first, read as documents that each start from zero."""
        nats = np.full(len(ids), np.nan)
        starts = np.flatnonzero(ids[:-1] == end)
        lengths = np.diff(np.append(starts, len(ids) - 1))
        order = np.argsort(lengths, kind="stable")
        while len(order):
            rows = max(1, min(len(order), ROW_STEPS // max(1, int(lengths[order[-1]]))))
            group, order = order[-rows:], order[:-rows]
            at = starts[group] + np.arange(int(lengths[group].max()))[:, None]
            counted = at < starts[group] + lengths[group]
            read = np.minimum(at, len(ids) - 2)
            losses, _ = self._losses(ids[read], ids[read + 1], self.model.initial_state(rows), None)
            nats[at[counted] + 1] = losses[counted]
        return nats

    def _losses(self, inputs: Points, targets: Points, state: Any, resets: Points | None) -> tuple[Bits, Any]:
        device = self.machine.device
        zero = None if resets is None else torch.from_numpy(resets).to(device)
        with self.machine.autocast():
            logits, state = self.model(torch.from_numpy(inputs).to(device), state, zero)
        wanted = torch.from_numpy(targets).to(device)
        losses = F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten(), reduction="none")
        return losses.view(targets.shape).cpu().numpy(), state


@dataclass(frozen=True)
class Block:
    """A scored stretch of a text: points `(N,)`, bits `(M, N)` of M models, and whether the first knows each symbol `(N,)`."""

    points: Points
    bits: Bits
    known: npt.NDArray[np.bool_]


def score(scorers: Sequence[Scorer], pieces: Iterable[Points]) -> Iterator[Block]:
    """Score a text that comes in pieces by every scorer; yield its blocks in their order, cut at line ends where there are."""
    for points in _blocks(pieces):
        scored = [scorer.score(points) for scorer in scorers]
        yield Block(points, np.stack([bits for bits, _ in scored]), scored[0][1])


def _blocks(pieces: Iterable[Points]) -> Iterator[Points]:
    held = np.zeros(0, dtype=np.uint8)
    for piece in pieces:
        held = np.concatenate([held, piece])
        while len(held) > BLOCK:
            ends = np.flatnonzero(held[:BLOCK] == LINE_FEED)
            cut = int(ends[-1]) + 1 if len(ends) else BLOCK
            yield held[:cut]
            held = held[cut:]
    if len(held):
        yield held
