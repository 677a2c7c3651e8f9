"""Bits of symbols added up to lines, and the most surprising of them."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.evaluation.surprisal import Bits, Block, Points, Scorer, score
from unrolled.text.tokenized_text import LINE_FEED
from unrolled.text.tokenizer import Bytes, Vocabulary

SHOWN = 400
"""Symbols of a line that are kept to be shown."""


@dataclass(frozen=True, eq=False)
class Line:
    """A line of a text, its end included: its `number` from 1, `bits` for each model, and the points it begins with.

    `surprise` says how far the first model's bits lie above the text's mean, for the line's length: excess bits over the root
    of the number of symbols, in which neither long nor short lines come first for their length.
    """

    number: int
    characters: int
    symbols: int
    bits: tuple[float, ...]
    unknown: int
    surprise: float
    points: Points
    point_bits: Bits
    of_bytes: bool

    @property
    def text(self) -> str:
        """The text, as far as it is shown; without its end."""
        return "".join(self.shown()[0])

    @property
    def is_cut(self) -> bool:
        """Whether there is more of it than is shown."""
        return self.symbols > len(self.points) + 1

    def shown(self) -> tuple[list[str], Bits]:
        """Return the characters that are shown and the first model's bits of each; nan where nothing comes before."""
        whole = len(self.points) > 0 and self.points[-1] == LINE_FEED
        points, bits = (self.points[:-1], self.point_bits[:-1]) if whole else (self.points, self.point_bits)
        if not self.of_bytes:
            return list(points.astype(np.uint32).tobytes().decode("utf-32-le", "replace")), bits
        decoder, characters, sums, held = Bytes().decoder(), list[str](), list[float](), 0.0
        for point, own in zip(points.tolist(), bits.tolist(), strict=True):
            held += own
            if text := decoder.push(point):
                characters, sums, held = [*characters, text], [*sums, held], 0.0
        if rest := decoder.finish():
            characters, sums = [*characters, rest], [*sums, held]
        return characters, np.array(sums)


@dataclass
class Totals:
    """Sums over all that was scored: `bits` for each model, of `characters`; `unknown` symbols of the first model.

    `lines` counts the lines; `best` counts, for each model, those that it predicts best.
    """

    bits: list[float]
    best: list[int]
    characters: int = 0
    symbols: int = 0
    unknown: int = 0
    lines: int = 0

    def bits_per_character(self, model: int = 0) -> float:
        """Return the mean."""
        return self.bits[model] / max(1, self.characters)


class LineReader:
    """Adds the bits of blocks up to lines. A line longer than a block is carried on as sums, and not kept."""

    def __init__(self, models: int, vocabulary: Vocabulary) -> None:
        self.totals = Totals([0.0] * models, [0] * models)
        self.of_bytes = vocabulary.kind == "bytes"
        self._open: _Sums | None = None

    def read(self, block: Block, least: float = -math.inf) -> Iterator[Line]:
        """Yield the lines that end in a block, but for those whose surprise is not above `least`."""
        ends = np.flatnonzero(block.points == LINE_FEED) + 1
        starts = np.concatenate([[0], ends[ends < len(block.points)]]).astype(np.int64)
        sums = self._sums(block, starts)
        whole = len(ends) == len(starts)  # the block ends with a line end
        if self._open is not None and len(starts):
            sums.add_first(self._open)
            self._open = None
        closed = len(starts) if whole else len(starts) - 1
        if closed < len(starts):
            self._open = sums.only(closed)
        rate = self.totals.bits[0] / self.totals.symbols if self.totals.symbols else None
        yield from self._lines(sums, closed, rate, least)

    def finish(self) -> Iterator[Line]:
        """Yield the last line, if the text does not end with a line end."""
        if self._open is not None:
            sums, self._open = self._open, None
            rate = self.totals.bits[0] / self.totals.symbols if self.totals.symbols else None
            yield from self._lines(sums, 1, rate, -math.inf)

    def _sums(self, block: Block, starts: npt.NDArray[np.int64]) -> _Sums:
        counted = ~np.isnan(block.bits[0])
        begins = (block.points & 0xC0 != 0x80) if self.of_bytes else np.ones(len(block.points), dtype=bool)
        stops = np.append(starts[1:], len(block.points))
        shown = [slice(start, min(start + SHOWN, stop)) for start, stop in zip(starts, stops, strict=True)]
        add = np.add.reduceat
        self.totals.unknown += int((~block.known).sum())
        return _Sums(
            [block.points[part].copy() for part in shown],
            [block.bits[0, part].copy() for part in shown],
            add(np.nan_to_num(block.bits), starts, axis=1),
            add((begins & counted).astype(np.int64), starts),
            add(counted.astype(np.int64), starts),
            add((~block.known).astype(np.int64), starts),
        )

    def _lines(self, sums: _Sums, closed: int, rate: float | None, least: float) -> Iterator[Line]:
        bits, symbols = sums.bits[:, :closed], sums.symbols[:closed]
        if rate is None:
            rate = float(bits[0].sum() / max(1, symbols.sum()))
        surprise = (bits[0] - rate * symbols) / np.sqrt(np.maximum(symbols, 1))
        first = self.totals.lines
        self._count(sums, closed)
        for index in np.flatnonzero(surprise > least):
            yield Line(
                first + int(index) + 1,
                int(sums.characters[index]),
                int(symbols[index]),
                tuple(bits[:, index].tolist()),
                int(sums.unknown[index]),
                float(surprise[index]),
                sums.heads[index],
                sums.head_bits[index],
                self.of_bytes,
            )

    def _count(self, sums: _Sums, closed: int) -> None:
        totals = self.totals
        totals.lines += closed
        totals.characters += int(sums.characters[:closed].sum())
        totals.symbols += int(sums.symbols[:closed].sum())
        winners = np.bincount(sums.bits[:, :closed].argmin(0), minlength=len(totals.bits)) if closed else [0] * len(totals.bits)
        for model in range(len(totals.bits)):
            totals.bits[model] += float(sums.bits[model, :closed].sum())
            totals.best[model] += int(winners[model])


@dataclass
class _Sums:
    """Lines of a block: the points they begin with, and sums: bits `(M, lines)`, the others `(lines,)`."""

    heads: list[Points]
    head_bits: list[Bits]
    bits: Bits
    characters: Points
    symbols: Points
    unknown: Points

    def add_first(self, other: _Sums) -> None:
        """Put what is known of the first line from earlier blocks before it."""
        self.heads[0] = np.concatenate([other.heads[0], self.heads[0]])[:SHOWN]
        self.head_bits[0] = np.concatenate([other.head_bits[0], self.head_bits[0]])[:SHOWN]
        self.bits[:, 0] += other.bits[:, 0]
        for own, earlier in zip((self.characters, self.symbols, self.unknown), other.counts(), strict=True):
            own[0] += earlier[0]

    def counts(self) -> tuple[Points, Points, Points]:
        return self.characters, self.symbols, self.unknown

    def only(self, index: int) -> _Sums:
        """Return one of the lines."""
        one = slice(index, index + 1)
        heads, head_bits = self.heads[one], self.head_bits[one]
        return _Sums(heads, head_bits, self.bits[:, one], self.characters[one], self.symbols[one], self.unknown[one])


class Scoring:
    """A text being scored by models, the first of them the one that is asked, `names` what they are called, `held` how many
    of them have units held.

    The text is read once, by whichever of `lines`, `top` and `symbols` is called; `totals` are the sums of what was read.
    """

    def __init__(self, names: Sequence[str], scorers: Sequence[Scorer], pieces: Iterable[Points]) -> None:
        self.names, self.held = list(names), sum(bool(scorer.holds) for scorer in scorers)
        self._vocabulary = scorers[0].vocabulary
        self._blocks = score(scorers, pieces)
        self._reader = LineReader(len(scorers), self._vocabulary)

    @property
    def totals(self) -> Totals:
        """Sums over what was read so far."""
        return self._reader.totals

    def lines(self) -> Iterator[Line]:
        """Yield every line, in order."""
        for block in self._blocks:
            yield from self._reader.read(block)
        yield from self._reader.finish()

    def top(self, count: int) -> list[Line]:
        """Read the text to its end and return the `count` most surprising lines, the most surprising first."""
        heap: list[tuple[float, int, Line]] = []

        def keep(found: Iterator[Line]) -> None:
            for line in found:
                item = (line.surprise, -line.number, line)
                if len(heap) < count:
                    heapq.heappush(heap, item)
                else:
                    heapq.heappushpop(heap, item)

        for block in self._blocks:
            keep(self._reader.read(block, heap[0][0] if len(heap) >= count > 0 else -math.inf))
        keep(self._reader.finish())
        return [line for _, _, line in sorted(heap, key=lambda item: item[:2], reverse=True)]

    def beginning_and_top(self, beginning: int, count: int) -> tuple[list[Line], list[Line]]:
        """Read the text to its end and return the lines it begins with, and the most surprising, the most surprising first."""
        first: list[Line] = []

        def passed() -> Iterator[Line]:
            for line in self.lines():
                if len(first) < beginning:
                    first.append(line)
                yield line

        return first, heapq.nlargest(max(count, 1), passed(), key=lambda line: (line.surprise, -line.number))[:count]

    def symbols(self) -> Iterator[tuple[str, tuple[float, ...]]]:
        """Yield the text of every symbol, with its bits for each model; nan where nothing comes before.

        Of a character of several bytes, the last one has its text.
        """
        decoder = self._vocabulary.decoder() if self._reader.of_bytes else None
        for block in self._blocks:
            for _ in self._reader.read(block, math.inf):
                pass
            for point, bits in zip(block.points.tolist(), block.bits.T.tolist(), strict=True):
                yield (chr(point) if decoder is None else decoder.push(point)), tuple(bits)
        for _ in self._reader.finish():
            pass
