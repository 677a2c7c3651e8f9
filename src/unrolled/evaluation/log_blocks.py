"""The lines of a log as blocks to score: masked as the model was trained, with the key of each line's session."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence

import numpy as np

from unrolled.evaluation.surprisal import CodePoints, TextBlock, split_blocks
from unrolled.text.line_format import KeyFinder, LineFormat, mask_note, split_lines
from unrolled.text.normalization import normalize
from unrolled.text.rule_tokenizer import PRIVATE_USE
from unrolled.text.tokenizer import LINE_FEED, RECORD_SEPARATOR, Tokenizer

BATCH_LINES = 1 << 12


class LogBlocks:
    """Makes blocks of lines for a model with this tokenizer; counts what it masks, unknown tokens, and lines without a key.

    With `keeps_separators`, record separators stand between documents; otherwise they are spaces.
    """

    def __init__(self, tokenizer: Tokenizer, keeps_separators: bool = False) -> None:
        self._tokenizer, self._keeps_separators = tokenizer, keeps_separators
        self._format = tokenizer.line_format
        self.counts: Counter[str] = Counter()
        self.spelled: Counter[str] = Counter()
        self.finder = None if self._format.group_by is None else KeyFinder(self._format)

    def block(self, lines: Sequence[str], ends_with_line_end: bool = True) -> TextBlock:
        """Return lines, without their ends, as a block."""
        keys: list[Hashable | None] | None = None
        found: Sequence[str] = lines
        if self.finder is not None:
            found, named = self.finder.find(lines)
            keys = list(named)
        text = "\n".join(found) + ("\n" if ends_with_line_end else "")
        if not self._keeps_separators:
            text = text.replace(chr(RECORD_SEPARATOR), " ")
        text = normalize(self._format.apply(text, self.counts), self._tokenizer.normalization)
        return TextBlock(self._code_points(text), keys, lines)

    def _code_points(self, text: str) -> CodePoints:
        """Return masked lines as code points, and count the tokens that the model does not know."""
        if self._tokenizer.reads_bytes or not text:
            return self._tokenizer.code_points(text)
        chunk = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return np.concatenate(list(self._tokenizer.translate([chunk], self.spelled)))

    def blocks(self, chunks: Iterable[CodePoints]) -> Iterator[TextBlock]:
        """Yield a text that comes in chunks as blocks of its lines."""
        for code_points in split_blocks(chunks):
            text = decode_points(self._tokenizer, code_points)
            yield self.block(split_lines(text), text.endswith("\n"))

    def blocks_of_lines(self, lines: Iterable[str]) -> Iterator[TextBlock]:
        """Yield lines, without their ends, as blocks."""
        remaining = iter(lines)
        while batch := list(itertools.islice(remaining, BATCH_LINES)):
            yield self.block(batch)

    def notes(self) -> list[str]:
        """Return what is to be reported after the lines have been read."""
        if self.finder is not None:
            self.counts["key"] = self.finder.num_lines - self.finder.num_without_key if self.finder.masks_key else 0
        notes = [] if self.finder is None else self.finder.notes()
        spelled: dict[str, int] = {}
        self._tokenizer.note_spelled(self.spelled, spelled)
        unknown = [f"{count:,} {note}" for note, count in spelled.items()]
        return [*notes, *filter(None, [mask_note(self.counts)]), *unknown]


def held_out_sessions(chunks: Iterable[CodePoints]) -> Iterator[TextBlock]:
    """Yield the sessions of a text that is grouped and masked already, separated by record separators, as blocks."""
    number = itertools.count()
    current = next(number)
    for code_points in split_blocks(chunks):
        is_separator = code_points == RECORD_SEPARATOR
        sessions = current + np.cumsum(is_separator)
        current = int(sessions[-1]) if len(sessions) else current
        kept = code_points[~is_separator]
        ends = np.flatnonzero(kept == LINE_FEED)
        firsts = np.append(0, ends + 1)[: len(ends) + int(len(kept) > 0 and kept[-1] != LINE_FEED)]
        yield TextBlock(kept, sessions[~is_separator][firsts].tolist())


def decode_points(tokenizer: Tokenizer, code_points: CodePoints) -> str:
    """Return the text of code points or bytes; a byte that is not part of a character is a surrogate."""
    if tokenizer.reads_bytes:
        return code_points.astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
    if code_points.max(initial=0) < PRIVATE_USE:  # each stands for itself
        return code_points.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
    return "".join(tokenizer.texts_of(code_points))


def has_line_format(tokenizer: Tokenizer) -> bool:
    """Return whether a model masks lines or groups them."""
    return tokenizer.line_format != LineFormat()
