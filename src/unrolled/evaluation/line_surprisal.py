"""Surprisal of lines: the bits of their tokens added up, and the lines with the highest surprisal."""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.evaluation.surprisal import Bits, CodePoints, ScoredBlock, SurprisalScorer, TextBlock, score_blocks
from unrolled.text.line_format import MASK_SYMBOLS
from unrolled.text.tokenizer import LINE_FEED, RECORD_SEPARATOR, ByteTokenizer, Tokenizer

LINE_ENDS = (LINE_FEED, RECORD_SEPARATOR)
"""Code points that end a line; the second one stands between documents that have line ends."""

MAX_KEPT_TOKENS = 400
"""Tokens of a line that are kept for display."""


class FileStarts:
    """The files of a text that is several, each with the number of lines before it; they are added while the text is read."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._starts: list[int] = []

    def add(self, name: str, num_lines: int) -> None:
        """Add the next file, before which there are `num_lines` lines."""
        self._names.append(name)
        self._starts.append(num_lines)

    def place(self, number: int) -> tuple[str | None, int]:
        """Return the file that a line of the text is in, and its number there; None and the number of a text that is one file.

        Example:
            >>> files = FileStarts()
            >>> files.add("a.txt", 0), files.add("b.txt", 3)
            (None, None)
            >>> files.place(3), files.place(4)
            (('a.txt', 3), ('b.txt', 1))
        """
        if not self._names:
            return None, number
        index = bisect.bisect_left(self._starts, number) - 1
        return self._names[index], number - self._starts[index]


@dataclass(frozen=True, eq=False)
class ScoredLine:
    """A line of a text with its line end: its `number` from 1, `bits` of each model, and its first code points.

    Of a text that is several files, `file` is the one that it is in, and `number_in_file` its number there.

    `excess_surprisal` compares the first model's bits with the mean of the text so far: (bits - mean * n) / sqrt(n) for a line
    of n tokens. Dividing by the root keeps long lines from being ranked first, or last, for their length alone.
    """

    number: int
    num_chars: int
    num_tokens: int
    bits: tuple[float, ...]
    num_unknown: int
    excess_surprisal: float
    code_points: CodePoints
    code_point_bits: Bits
    tokenizer: Tokenizer
    key: Hashable | None = None
    """The key of its session, if the model reads sessions and the line has one."""
    source: str | None = None
    """The line before it was masked, if the model masks lines."""
    file: str | None = None
    number_in_file: int = 0

    @property
    def place(self) -> str:
        """The line's number, or `FILE:NUMBER`."""
        return str(self.number) if self.file is None else f"{self.file}:{self.number_in_file}"

    @property
    def text(self) -> str:
        """The text without its line end, at most the first `MAX_KEPT_TOKENS` tokens."""
        return "".join(self.chars_and_bits()[0])

    @property
    def is_truncated(self) -> bool:
        """Whether the line is longer than `text`."""
        return self.num_tokens > len(self.code_points) + 1

    def chars_and_bits(self) -> tuple[list[str], Bits]:
        """Return the tokens of `text` (of bytes: characters) and the first model's bits of each; nan without context."""
        has_line_end = len(self.code_points) > 0 and self.code_points[-1] in LINE_ENDS
        code_points, bits = (
            (self.code_points[:-1], self.code_point_bits[:-1]) if has_line_end else (self.code_points, self.code_point_bits)
        )
        if not self.tokenizer.reads_bytes:
            return self.tokenizer.texts_of(code_points), bits
        decoder, characters, char_bits, pending_bits = ByteTokenizer().decode_stream(), list[str](), list[float](), 0.0
        for byte, byte_bits in zip(code_points.tolist(), bits.tolist(), strict=True):
            pending_bits += byte_bits
            if text := decoder.decode_step(byte):
                characters, char_bits, pending_bits = [*characters, text], [*char_bits, pending_bits], 0.0
        if remainder := decoder.finish():
            characters, char_bits = [*characters, remainder], [*char_bits, pending_bits]
        return characters, np.array(char_bits)

    def source_and_bits(self) -> tuple[list[str], Bits]:
        """Return the same of the line before it was masked: a value that was masked has the bits of its symbol."""
        texts, bits = self.chars_and_bits()
        if self.source is None:
            return texts, bits
        values = iter(self.tokenizer.line_format.masked_values(self.source))
        return [MASK_SYMBOLS.sub(lambda symbol: next(values, symbol.group()), text) for text in texts], bits


@dataclass
class ScoreTotals:
    """Sums over everything that was scored: `bits` of each model, and `num_unknown` tokens of the first model.

    `best_lines` counts, for each model, the lines for which it needs the fewest bits.
    """

    bits: list[float]
    best_lines: list[int]
    num_chars: int = 0
    num_tokens: int = 0
    num_unknown: int = 0
    num_lines: int = 0

    def bits_per_character(self, model: int = 0) -> float:
        """Return the mean bits per character of one model; nan if no character was predicted."""
        return self.bits[model] / self.num_chars if self.num_chars else math.nan

    def bits_per_token(self, model: int = 0) -> float:
        """Return the mean bits per token of one model; nan if no token was predicted."""
        return self.bits[model] / self.num_tokens if self.num_tokens else math.nan


class LineAggregator:
    """Adds up the bits of blocks to lines. Of a line longer than a block, only sums and its first tokens are kept."""

    def __init__(self, num_models: int, tokenizer: Tokenizer, files: FileStarts | None = None) -> None:
        self.totals = ScoreTotals([0.0] * num_models, [0] * num_models)
        self._tokenizer, self._files = tokenizer, files or FileStarts()
        self._open_line: _LineSums | None = None

    def add(self, block: ScoredBlock, min_excess: float = -math.inf) -> Iterator[ScoredLine]:
        """Yield the lines that end in a block and whose excess surprisal is above `min_excess`."""
        ends = np.flatnonzero(np.isin(block.code_points, LINE_ENDS)) + 1
        starts = np.concatenate([[0], ends[ends < len(block.code_points)]]).astype(np.int64)
        sums = self._sum_lines(block, starts)
        if self._open_line is not None and len(starts):
            sums.prepend(self._open_line)
            self._open_line = None
        num_closed = len(ends)  # one less than the starts, if the block ends within a line
        if num_closed < len(starts):
            self._open_line = sums.select(num_closed)
        yield from self._scored_lines(sums, num_closed, min_excess)

    def finish(self) -> Iterator[ScoredLine]:
        """Yield the last line if the text does not end with a line end."""
        if self._open_line is not None:
            sums, self._open_line = self._open_line, None
            yield from self._scored_lines(sums, 1, -math.inf)

    def _sum_lines(self, block: ScoredBlock, starts: npt.NDArray[np.int64]) -> _LineSums:
        is_scored = ~np.isnan(block.bits[0])
        char_counts = self._tokenizer.char_counts_of(block.code_points)
        stops = np.append(starts[1:], len(block.code_points))
        kept_slices = [slice(start, min(start + MAX_KEPT_TOKENS, stop)) for start, stop in zip(starts, stops, strict=True)]
        sum_at = np.add.reduceat
        self.totals.num_unknown += int((~block.is_known).sum())
        unnamed: list[Any] = [None] * len(starts)
        return _LineSums(
            [block.code_points[kept].copy() for kept in kept_slices],
            [block.bits[0, kept].copy() for kept in kept_slices],
            sum_at(np.nan_to_num(block.bits), starts, axis=1),
            sum_at(char_counts * is_scored, starts),
            sum_at(is_scored.astype(np.int64), starts),
            sum_at((~block.is_known).astype(np.int64), starts),
            unnamed if block.keys is None else list(block.keys),
            unnamed if block.sources is None else list(block.sources),
        )

    def _scored_lines(self, sums: _LineSums, num_closed: int, min_excess: float) -> Iterator[ScoredLine]:
        bits, num_tokens = sums.bits[:, :num_closed], sums.num_tokens[:num_closed]
        mean_bits = self.totals.bits_per_token() if self.totals.num_tokens else float(bits[0].sum() / max(1, num_tokens.sum()))
        excess = (bits[0] - mean_bits * num_tokens) / np.sqrt(np.maximum(num_tokens, 1))
        first = self.totals.num_lines
        self._update_totals(sums, num_closed)
        for index in np.flatnonzero(excess > min_excess):
            yield ScoredLine(
                first + int(index) + 1,
                int(sums.num_chars[index]),
                int(num_tokens[index]),
                tuple(bits[:, index].tolist()),
                int(sums.num_unknown[index]),
                float(excess[index]),
                sums.heads[index],
                sums.head_bits[index],
                self._tokenizer,
                sums.keys[index],
                sums.sources[index],
                *self._files.place(first + int(index) + 1),
            )

    def _update_totals(self, sums: _LineSums, num_closed: int) -> None:
        totals = self.totals
        totals.num_lines += num_closed
        totals.num_chars += int(sums.num_chars[:num_closed].sum())
        totals.num_tokens += int(sums.num_tokens[:num_closed].sum())
        best_counts = (
            np.bincount(sums.bits[:, :num_closed].argmin(0), minlength=len(totals.bits))
            if num_closed
            else [0] * len(totals.bits)
        )
        for model in range(len(totals.bits)):
            totals.bits[model] += float(sums.bits[model, :num_closed].sum())
            totals.best_lines[model] += int(best_counts[model])


@dataclass
class _LineSums:
    """Lines of a block: their first code points with bits, and sums: bits `(M, lines)`, the others `(lines,)`."""

    heads: list[CodePoints]
    head_bits: list[Bits]
    bits: Bits
    num_chars: CodePoints
    num_tokens: CodePoints
    num_unknown: CodePoints
    keys: list[Hashable | None]
    sources: list[str | None]

    def prepend(self, other: _LineSums) -> None:
        """Add to the first line its part in earlier blocks."""
        self.heads[0] = np.concatenate([other.heads[0], self.heads[0]])[:MAX_KEPT_TOKENS]
        self.head_bits[0] = np.concatenate([other.head_bits[0], self.head_bits[0]])[:MAX_KEPT_TOKENS]
        self.bits[:, 0] += other.bits[:, 0]
        self.keys[0], self.sources[0] = other.keys[0], other.sources[0]
        self.num_chars[0] += other.num_chars[0]
        self.num_tokens[0] += other.num_tokens[0]
        self.num_unknown[0] += other.num_unknown[0]

    def select(self, index: int) -> _LineSums:
        """Return one line."""
        at = slice(index, index + 1)
        counts = (self.num_chars[at], self.num_tokens[at], self.num_unknown[at])
        return _LineSums(self.heads[at], self.head_bits[at], self.bits[:, at], *counts, self.keys[at], self.sources[at])


class ScoringStream:
    """A text that several models score while it is read; `num_clamped` of them have clamped units.

    The text can be read once, by one of `lines`, `top_lines`, `first_and_top_lines` or `tokens`; `totals` are the sums of
    what was read so far.
    """

    def __init__(
        self,
        names: Sequence[str],
        scorers: Sequence[SurprisalScorer],
        blocks: Iterable[TextBlock],
        files: FileStarts | None = None,
    ) -> None:
        self.model_names, self.num_clamped = list(names), sum(bool(scorer.clamps) for scorer in scorers)
        self._tokenizer = scorers[0].tokenizer
        self._blocks = score_blocks(scorers, blocks)
        self._aggregator = LineAggregator(len(scorers), self._tokenizer, files)

    @property
    def totals(self) -> ScoreTotals:
        """Sums over everything that was read so far."""
        return self._aggregator.totals

    def lines(self) -> Iterator[ScoredLine]:
        """Yield every line, in order."""
        for block in self._blocks:
            yield from self._aggregator.add(block)
        yield from self._aggregator.finish()

    def top_lines(self, count: int) -> list[ScoredLine]:
        """Read the whole text and return the `count` lines with the highest excess surprisal, highest first."""
        heap: list[tuple[float, int, ScoredLine]] = []

        def keep(lines: Iterator[ScoredLine]) -> None:
            for line in lines:
                item = (line.excess_surprisal, -line.number, line)
                if len(heap) < count:
                    heapq.heappush(heap, item)
                else:
                    heapq.heappushpop(heap, item)

        for block in self._blocks:
            keep(self._aggregator.add(block, heap[0][0] if len(heap) >= count > 0 else -math.inf))
        keep(self._aggregator.finish())
        return [line for _, _, line in sorted(heap, key=lambda item: item[:2], reverse=True)]

    def first_and_top_lines(self, num_first: int, num_top: int) -> tuple[list[ScoredLine], list[ScoredLine]]:
        """Read the whole text; return its first lines, and the lines with the highest excess surprisal, highest first."""
        first_lines: list[ScoredLine] = []

        def keep_first() -> Iterator[ScoredLine]:
            for line in self.lines():
                if len(first_lines) < num_first:
                    first_lines.append(line)
                yield line

        return first_lines, heapq.nlargest(
            max(num_top, 1), keep_first(), key=lambda line: (line.excess_surprisal, -line.number)
        )[:num_top]

    def tokens(self) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Yield the text of every token with its bits for each model; nan for a token without context.

        If a character is several bytes, its text comes with the last of them.
        """
        decoder = self._tokenizer.decode_stream() if self._tokenizer.reads_bytes else None
        for block in self._blocks:
            for _ in self._aggregator.add(block, math.inf):
                pass
            code_points = np.where(block.code_points == RECORD_SEPARATOR, LINE_FEED, block.code_points)
            texts = map(decoder.decode_step, code_points.tolist()) if decoder else self._tokenizer.texts_of(code_points)
            for text, bits in zip(texts, block.bits.T.tolist(), strict=True):
                yield text, tuple(bits)
        for _ in self._aggregator.finish():
            pass
