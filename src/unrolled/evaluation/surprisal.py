"""Surprisal of each token of a text, in bits, for a text of any length in constant memory.

The text is read in blocks. A block is split into many batch columns, each warmed up on the tokens before it as in `evaluate`,
so that a long text is read at the speed of batched matrix products.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from unrolled.evaluation.session_surprisal import SessionScorer
from unrolled.evaluation.text_loss import CHUNK_STEPS, MAX_COLUMNS, WARMUP_TOKENS, scoring_model
from unrolled.generation.sampling import Network
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime.language_model import LanguageModel
from unrolled.text.batching import MAX_ROW_LENGTH
from unrolled.text.tokenized_text import TokenizedText
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS, LINE_FEED, NUM_CODE_POINTS, RECORD_SEPARATOR, Tokenizer

if TYPE_CHECKING:
    from unrolled.nn.device import DeviceConfig

MAX_COLUMN_TOKENS = 8192
"""Tokens of a batch column: many, so that the warm-up is a small part of them."""

BLOCK_TOKENS = MAX_COLUMN_TOKENS * MAX_COLUMNS
"""Tokens of a block."""

MAX_BATCH_STEPS = 1 << 14
"""Rows times time steps of a batch of short documents."""

UNKNOWN_BITS = math.log2(NUM_CODE_POINTS)
"""Surprisal of a character that the model has no token for: the bits to name one of all Unicode code points."""

Bits = npt.NDArray[np.float64]
CodePoints = npt.NDArray[Any]


@dataclass
class SurprisalScorer:
    """One model that scores the blocks of a text in order, with or without clamped units.

    `documents` is the model's kind of document, as of the option; `machine` is as for `scoring_model`. With `in_order`, the
    text is one row, for a model that learns while it reads.
    """

    model: Network | LanguageModel
    tokenizer: Tokenizer
    documents: str
    machine: DeviceConfig | None = None
    clamps: Sequence[Clamp] = ()
    in_order: bool = False
    _state: Any = None
    _context: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @functools.cached_property
    def _scorer(self) -> LanguageModel:
        return scoring_model(self.model, self.machine, self.clamps)

    @functools.cached_property
    def sessions(self) -> SessionScorer:
        """What reads the lines of sessions, each from the state of its own."""
        return SessionScorer(self._scorer, self.tokenizer.eos_id or 0)

    def score(
        self, code_points: CodePoints, keys: Sequence[Hashable | None] | None = None
    ) -> tuple[Bits, npt.NDArray[np.bool_]]:
        """Return the bits of each token of the next block `(N,)`, and whether the model has a token for it `(N,)`.

        A model of both strands of sequences reads both, and the bits of a base are the mean of the two, but with `in_order`.

        With `keys`, the block is of whole lines, each of the session of its key (see `SessionScorer`).
        The first token of a text has no context and its bits are nan, unless the model has a token that documents begin with.
        An unknown character has `UNKNOWN_BITS`; the model reads the most similar known one instead.
        """
        bits, is_known = self._score_strand(code_points, keys)
        found = None if self.in_order else self.tokenizer.other_strand(code_points)
        if found is not None:
            strand, places = found
            bits[places] = (bits[places] + self._other_strand._score_strand(strand, None)[0]) / 2
        return bits, is_known

    @functools.cached_property
    def _other_strand(self) -> SurprisalScorer:
        """What reads the other strand, of a model that reads both."""
        return SurprisalScorer(self._scorer, self.tokenizer, self.documents, self.machine, self.clamps)

    def _score_strand(
        self, code_points: CodePoints, keys: Sequence[Hashable | None] | None
    ) -> tuple[Bits, npt.NDArray[np.bool_]]:
        ids, is_known = self.tokenizer.encode_lossy(code_points)
        if keys is not None:
            bits = self._session_bits(code_points, ids, keys)
            bits[~is_known] = UNKNOWN_BITS
            return bits, is_known
        eos_id = self.tokenizer.eos_id
        if self.documents in DOCUMENT_SEPARATORS and eos_id is not None:
            is_end = code_points == DOCUMENT_SEPARATORS[self.documents]
            ids, is_known = np.where(is_end, eos_id, ids), is_known | is_end
        if eos_id is not None and len(self._context) == 0:
            self._context = np.array([eos_id])
        all_ids = np.concatenate([self._context, ids])
        with self._scorer.inference():
            if self.in_order:
                nats = self._losses_in_order(all_ids, len(self._context), eos_id)
            elif self._is_short_documents(all_ids, eos_id):
                nats = self._document_losses(all_ids, eos_id or 0)
            else:
                nats = self._column_losses(all_ids, len(self._context), eos_id)
        self._context = all_ids[-WARMUP_TOKENS - 1 :]
        bits = nats[-len(ids) :] / math.log(2) if len(ids) else np.zeros(0)
        bits[~is_known] = UNKNOWN_BITS
        return bits, is_known

    def _session_bits(self, code_points: CodePoints, ids: npt.NDArray[np.int64], keys: Sequence[Hashable | None]) -> Bits:
        """Return the bits of lines; those of empty lines, which are part of no session, are nan."""
        stops = np.flatnonzero(code_points == LINE_FEED) + 1
        if len(code_points) and (not len(stops) or stops[-1] < len(code_points)):
            stops = np.append(stops, len(code_points))
        starts = np.append(0, stops[:-1]) if len(stops) else stops
        is_empty = code_points[starts] == LINE_FEED
        filled = np.flatnonzero(~is_empty).tolist()
        line_ids = np.split(ids.astype(np.int32), stops[:-1])
        nats = self.sessions.score([line_ids[i] for i in filled], [keys[i] for i in filled])
        bits = np.full(len(ids), np.nan)
        for index, line_nats in zip(filled, nats, strict=True):
            bits[starts[index] : stops[index]] = line_nats
        return bits / math.log(2)

    def _losses_in_order(self, ids: npt.NDArray[np.int64], first: int, eos_id: int | None) -> Bits:
        """Return the nats of each of ids `(N,)`, nan before `first`; each is read once, and the state is kept."""
        nats = np.full(len(ids), np.nan)
        first_input = max(first - 1, 0)
        if len(ids) - first_input < 2:
            return nats
        inputs, targets = ids[first_input:-1, None], ids[first_input + 1 :, None]
        state = self._scorer.initial_state(1) if self._state is None else self._state
        resets = None if eos_id is None else inputs == eos_id
        losses, self._state = self._scorer.token_losses(inputs, targets, state, resets)
        nats[first_input + 1 :] = losses[:, 0]
        return nats

    def _is_short_documents(self, ids: npt.NDArray[np.int64], eos_id: int | None) -> bool:
        """Return whether the block consists of whole, short documents."""
        if eos_id is None or self._context[-1] != eos_id:
            return False
        return int(np.diff(np.append(np.flatnonzero(ids == eos_id), len(ids))).max()) <= MAX_ROW_LENGTH

    def _column_losses(self, ids: npt.NDArray[np.int64], first: int, eos_id: int | None) -> Bits:
        """Return the nats of each of ids `(N,)`, nan before `first`, read in batch columns."""
        num_targets, first_target = len(ids) - 1, max(first - 1, 0)
        nats = np.full(len(ids), np.nan)
        if num_targets <= first_target:
            return nats
        num_columns = max(1, min(MAX_COLUMNS, (num_targets - first_target) // (MAX_COLUMN_TOKENS // 2)))
        starts = first_target + np.arange(num_columns) * (num_targets - first_target) // num_columns
        stops = np.append(starts[1:], num_targets)
        state = self._scorer.initial_state(num_columns)
        for step in range(-min(WARMUP_TOKENS, int(starts[-1])), int((stops - starts).max()), CHUNK_STEPS):
            positions = starts + np.arange(step, step + CHUNK_STEPS)[:, None]  # (T, B)
            is_scored = (positions >= starts) & (positions < stops)
            clipped = np.clip(positions, 0, num_targets - 1)
            resets = positions == 0 if eos_id is None else (positions == 0) | (ids[clipped] == eos_id)
            losses, state = self._scorer.token_losses(ids[clipped], ids[clipped + 1], state, resets if resets.any() else None)
            nats[positions[is_scored] + 1] = losses[is_scored]
        return nats

    def _document_losses(self, ids: npt.NDArray[np.int64], eos_id: int) -> Bits:
        """Return the nats of each of ids `(N,)`, nan for the first, read as documents that each start from a zero state."""
        nats = np.full(len(ids), np.nan)
        starts = np.flatnonzero(ids[:-1] == eos_id)
        lengths = np.diff(np.append(starts, len(ids) - 1))
        order = np.argsort(lengths, kind="stable")
        while len(order):
            batch_size = max(1, min(len(order), MAX_BATCH_STEPS // max(1, int(lengths[order[-1]]))))
            group, order = order[-batch_size:], order[:-batch_size]
            positions = starts[group] + np.arange(int(lengths[group].max()))[:, None]
            is_scored = positions < starts[group] + lengths[group]
            clipped = np.minimum(positions, len(ids) - 2)
            losses, _ = self._scorer.token_losses(ids[clipped], ids[clipped + 1], self._scorer.initial_state(batch_size), None)
            nats[positions[is_scored] + 1] = losses[is_scored]
        return nats


def token_bits(model: LanguageModel, tokenized: TokenizedText) -> Bits:
    """Return the surprisal of each token of a text given those before it, in bits, `(T,)`; nan for the first."""
    ids, resets = tokenized.ids[:, None], tokenized.reset_mask
    bits = np.full(len(ids), np.nan)
    with model.inference():
        state = model.initial_state(1)
        for start in range(0, len(ids) - 1, MAX_ROW_LENGTH):
            chunk = slice(start, min(start + MAX_ROW_LENGTH, len(ids) - 1))
            targets, chunk_resets = ids[chunk.start + 1 : chunk.stop + 1], None if resets is None else resets[chunk, None]
            losses, state = model.token_losses(ids[chunk], targets, state, chunk_resets)
            bits[chunk.start + 1 : chunk.stop + 1] = losses[:, 0] / math.log(2)
    return bits


@dataclass(frozen=True)
class TextBlock:
    """A block of a text: code points `(N,)` as the model reads them and, of a log, the key and the original of each line."""

    code_points: CodePoints
    keys: Sequence[Hashable | None] | None = None
    sources: Sequence[str] | None = None


@dataclass(frozen=True)
class ScoredBlock:
    """A scored block of a text: code points `(N,)`, bits `(M, N)` of M models, and whether the first model knows each.

    `keys` and `sources` are those of its `TextBlock`.
    """

    code_points: CodePoints
    bits: Bits
    is_known: npt.NDArray[np.bool_]
    keys: Sequence[Hashable | None] | None = None
    sources: Sequence[str] | None = None


def score_blocks(scorers: Sequence[SurprisalScorer], blocks: Iterable[TextBlock]) -> Iterator[ScoredBlock]:
    """Score the blocks of a text, in order, with every scorer."""
    for block in blocks:
        scored = [scorer.score(block.code_points, block.keys) for scorer in scorers]
        yield ScoredBlock(block.code_points, np.stack([bits for bits, _ in scored]), scored[0][1], block.keys, block.sources)


def text_blocks(chunks: Iterable[CodePoints]) -> Iterator[TextBlock]:
    """Return the blocks of a text that comes in chunks, cut at line ends where possible."""
    return map(TextBlock, split_blocks(chunks))


def split_blocks(chunks: Iterable[CodePoints]) -> Iterator[CodePoints]:
    """Yield a text in blocks that end at line ends, or between documents, where possible."""
    buffer = np.zeros(0, dtype=np.uint8)
    for chunk in chunks:
        buffer = np.concatenate([buffer, chunk])
        while len(buffer) > BLOCK_TOKENS:
            ends = np.flatnonzero(np.isin(buffer[:BLOCK_TOKENS], (LINE_FEED, RECORD_SEPARATOR)))
            stop = int(ends[-1]) + 1 if len(ends) else BLOCK_TOKENS
            yield buffer[:stop]
            buffer = buffer[stop:]
    if len(buffer):
        yield buffer
