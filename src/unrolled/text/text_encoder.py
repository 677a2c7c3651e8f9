"""Pieces of text in, arrays of ids out, and what there is to know of them.

A text may be encoded in one go or in shards, one after the other or side by side; `join` puts together what is known of
each. What a shard gives depends on those before it in one symbol at most: that between two files of a stream, or the end of
a document, stands there only if something else stands before it. So a shard is encoded as if it did stand there, and notes
whether it matters (`Facts.joins`).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unrolled.atomic_io import storage_error
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.text_files import LINE_ENDS, READERS, Piece, is_packed, shown
from unrolled.text.tokenizer import CODE_POINTS, Bytes, Characters, Ids, Vocabulary


class Part(NamedTuple):
    """The bytes of a file from `start` to before `stop`; None is its end, and only what is not compressed is ever cut."""

    path: Path
    start: int = 0
    stop: int | None = None

    def read(self, tokens: str, notes: dict[str, int]) -> Iterator[Piece]:
        """Yield the symbols of the part in pieces; what is wrong with it is told as to one who reads the whole file."""
        try:
            yield from READERS[tokens](self.path, notes, self.start, self.stop)
        except DataError:
            if self.stop is not None:  # a character that is cut short by nothing but our cut is not what is wrong
                for _ in READERS[tokens](self.path, {}, self.start):
                    pass
            raise


@dataclass
class Facts:
    """What is known of a shard: its `size` in ids, and what `join` needs.

    `documents` is the ends in it, `head` the ids before the first of them, `tail` those after the last, `longest` the longest
    document between two. `joined` counts symbols put between files. `joins` says that one may belong before all of it, and
    `closed` that it ends with one. Of a file that is cut, `returned` and `returning` say that its part at the start and at the
    end of the shard had other line ends, and `finished` that it ends here; `notes` counts all others.
    """

    size: int = 0
    documents: int = 0
    head: int = 0
    tail: int = 0
    longest: int = 0
    unknown: int = 0
    joined: int = 0
    is_text: bool = True
    joins: bool = False
    closed: bool = False
    returned: bool = False
    returning: bool = False
    finished: bool = False
    notes: dict[str, int] = field(default_factory=dict)


class Place(NamedTuple):
    """Where the ids of a shard are among all; with `led`, the first of them is a border that belongs before the shard."""

    offset: int
    size: int
    led: bool


@dataclass(frozen=True)
class Whole:
    """What is known of a text: `places` of its shards, one after the other, and the facts of all of them together."""

    places: tuple[Place, ...]
    size: int
    documents: int
    longest: int
    unknown: int
    is_text: bool
    notes: tuple[str, ...]


def join(shards: Sequence[Facts], has_end: bool, has_border: bool) -> Whole:
    """Put the facts of shards, in their order, together. Without `has_border`, nothing stands between files."""
    places: list[Place] = []
    notes: dict[str, int] = {}
    at = documents = longest = unknown = length = 0
    closed: bool | None = None  # None: there is nothing yet
    returned = False
    for shard in shards:
        led = has_end if not places else has_border and shard.joins and closed is False
        if has_end and led and places:
            documents, longest, length = documents + 1, max(longest, length), 0
        size = led + shard.size - (0 if has_border else shard.joined)
        places.append(Place(at, size, led))
        at += size
        if shard.documents:
            longest = max(longest, length + shard.head, shard.longest)
            documents, length = documents + shard.documents, shard.tail
        else:
            length += shard.size
        closed = shard.closed if shard.size else True if led else closed
        returned |= shard.returned
        if shard.finished:
            if returned:
                notes[LINE_ENDS] = notes.get(LINE_ENDS, 0) + 1
            returned = False
        returned |= shard.returning
        unknown += shard.unknown
        for what, count in shard.notes.items():
            notes[what] = notes.get(what, 0) + count
    is_text = all(shard.is_text for shard in shards)
    told = tuple(f"{count:,} {what}" for what, count in notes.items())
    return Whole(tuple(places), at, documents, longest if has_end else at, unknown, is_text, told)


def refuse_other_symbols(vocabulary: Vocabulary, options: DataOptions) -> None:
    """Raise `DataError` if a text that is read in this way cannot be put in the ids of a vocabulary."""
    if (vocabulary.end is not None) != (options.unit != "stream"):
        raise DataError("The model and the text disagree on documents: use the --unit the model was trained with.")
    if vocabulary.kind != options.tokens:
        raise DataError(f"The model reads {vocabulary.kind}, and the text is to be read as {options.tokens}: choose --tokens.")


def refuse_nothing(whole: Whole, has_end: bool, paths: Sequence[Path]) -> None:
    """Raise `DataError` if nothing of the text is left."""
    names = shown(paths[0]) if len(paths) == 1 else f"these {len(paths)} files"
    if whole.size <= has_end and whole.unknown:
        raise DataError(f"The model knows none of the {whole.unknown:,} symbols in {names}.")
    if whole.size <= has_end:
        raise DataError(f"There is no text in {names}: nothing to learn from.")


class Alphabet:
    """The code points that were seen."""

    def __init__(self) -> None:
        self._ascii = b""
        self._seen = np.zeros(CODE_POINTS, dtype=bool)

    def add(self, piece: Piece) -> None:
        """Note what is in a piece."""
        if piece.dtype == np.uint8:
            # Deleting what is known leaves next to nothing to look at: 5 times faster than marking every byte.
            self._ascii += bytes(set(piece.tobytes().translate(None, self._ascii)))
        else:
            self._seen[piece] = True

    @property
    def symbols(self) -> list[str]:
        """All that were seen, in their order."""
        self._seen[list(self._ascii)] = True
        return [chr(point) for point in np.flatnonzero(self._seen)]


def characters(symbols: Iterable[str], options: DataOptions) -> Characters:
    """Return the vocabulary of a text in which these symbols, in their order, are."""
    if options.unit == "line":
        symbols = [symbol for symbol in symbols if symbol != "\n"]
    return Characters(list(symbols), options.unit != "stream")


class Encoder:
    """Parts of files in, arrays of ids out; counts in `facts` what goes by.

    `border` is the id that stands between two files of a stream, or after a document, and never twice in a row; or None.
    The end that a text of documents begins with is not among the ids.
    """

    def __init__(self, vocabulary: Vocabulary, options: DataOptions) -> None:
        self.options = options
        self.end = vocabulary.end
        bits = 8 if vocabulary.size < 256 or vocabulary.to_json() == {"kind": "bytes", "end": False} else 16
        self.dtype = np.dtype(f"uint{bits if vocabulary.size < 65536 else 32}")
        self.missing = int(np.iinfo(self.dtype).max)
        self.complete = isinstance(vocabulary, Bytes)
        if isinstance(vocabulary, Characters):
            table = vocabulary.table.astype(self.dtype)  # -1 becomes `missing`
        else:
            table = np.arange(256, dtype=self.dtype)
        if options.unit == "line":
            table[ord("\n")] = vocabulary.end or 0
        self.table = table
        self.bytes_table = table[:256].tobytes() if bits == 8 else None
        line_end = int(table[ord("\n")])
        between = None if self.complete or line_end == self.missing else line_end
        self.border = between if self.end is None else self.end
        self._begin()

    def _begin(self) -> None:
        self.facts = Facts()
        self._last = -1 if self.end is None else self.end
        self._open = -1

    def encode(self, parts: Iterable[Part]) -> Iterator[Ids]:
        """Yield the ids of parts of consecutive files, piece by piece."""
        for part in parts:
            if self.end is None and not part.start:
                yield from self._between()
            told: dict[str, int] = {}
            decoder = codecs.getincrementaldecoder("utf-8")()
            for piece in self._pieces(part, told):
                self._watch_text(decoder, piece)
                ids = self._keep(self._look_up(piece))
                if len(ids):
                    yield self._count(ids)
            if part.stop is not None:  # where a file itself ends within a character, that is let pass
                self._watch_text(decoder, None)
            self._note(part, told)
            if self.end is not None and part.stop is None:
                yield from self._between()
        self.facts.closed = self.facts.size > 0 and self._last == self.border
        self.facts.tail = self.facts.size - self._open - 1

    def _pieces(self, part: Part, notes: dict[str, int]) -> Iterator[Piece]:
        return part.read(self.options.tokens, notes)

    def _between(self) -> Iterator[Ids]:
        """Yield the border, where something and not itself stands before it."""
        if not self.facts.size:
            self.facts.joins = True
        elif self.border is not None and self._last != self.border:
            self.facts.joined += 1
            yield self._count(np.array([self.border], dtype=self.dtype))

    def _note(self, part: Part, told: dict[str, int]) -> None:
        """Count what was normalised; a file that is cut has its line ends counted once, when all of it is known."""
        facts, whole = self.facts, not part.start and part.stop is None
        for what, count in told.items():
            if what != LINE_ENDS or whole:
                facts.notes[what] = facts.notes.get(what, 0) + count
        facts.returned |= part.start > 0 and LINE_ENDS in told
        facts.returning |= not part.start and not whole and LINE_ENDS in told
        facts.finished |= part.start > 0 and part.stop is None

    def _watch_text(self, decoder: codecs.IncrementalDecoder, piece: Piece | None) -> None:
        """Notice bytes that are not UTF-8: then there are no characters to measure by. None is the end."""
        if self.complete and self.facts.is_text:
            try:
                decoder.decode(b"" if piece is None else piece.tobytes(), piece is None)
            except UnicodeDecodeError:
                self.facts.is_text = False

    def _look_up(self, piece: Piece) -> Ids:
        if piece.dtype == np.uint8 and self.bytes_table is not None:
            return np.frombuffer(piece.tobytes().translate(self.bytes_table), dtype=np.uint8)
        ids: Ids = self.table[piece]
        return ids

    def _keep(self, ids: Ids) -> Ids:
        """Leave out unknown symbols, and ends of documents that hold nothing."""
        if not self.complete:
            missing = ids == self.missing
            count = int(np.count_nonzero(missing))
            if count:
                self.facts.unknown += count
                ids = ids[~missing]
        return self._without_blanks(ids)

    def _without_blanks(self, ids: Ids) -> Ids:
        if self.options.unit != "line" or not len(ids):
            return ids
        ends = ids == self.end
        self.facts.joins |= not self.facts.size and bool(ends[0])
        before = np.concatenate(([self._last == self.end], ends[:-1]))
        kept: Ids = ids[~(ends & before)]
        return kept

    def _count(self, ids: Ids) -> Ids:
        """Keep the totals: symbols, documents and the longest of them."""
        facts = self.facts
        at = np.zeros(0, int) if self.end is None else np.flatnonzero(ids == self.end) + facts.size
        if len(at):
            lengths = np.diff(at, prepend=self._open) - 1
            if not facts.documents:
                facts.head, lengths = int(lengths[0]), lengths[1:]
            facts.documents += len(at)
            facts.longest = max(facts.longest, int(lengths.max(initial=0)))
            self._open = int(at[-1])
        facts.size += len(ids)
        self._last = int(ids[-1])
        return ids


class Counter(Encoder):
    """Counts what an encoder that knows every symbol will give, before it is known which ids there will be.

    Code points, or bytes, take the place of ids. `alphabet` is what was seen, where that is to become a vocabulary. Only
    `size`, `joined`, `joins` and `closed` of the facts are right.
    """

    def __init__(self, options: DataOptions) -> None:
        self.options = options
        self.complete = options.tokens == "bytes"
        self.alphabet = None if self.complete else Alphabet()
        self.end = {"stream": None, "line": ord("\n"), "file": -1}[options.unit]  # -1: no symbol at all
        self.border = self.end if self.end is not None or self.complete else ord("\n")
        self.dtype = np.dtype(np.int64)
        self._begin()

    def _pieces(self, part: Part, notes: dict[str, int]) -> Iterator[Piece]:
        if self.alphabet is None and self.options.unit != "line" and not is_packed(part.path):
            try:
                stop = part.path.stat().st_size if part.stop is None else part.stop
            except OSError as error:
                raise storage_error(error, part.path, "read") from error
            yield np.broadcast_to(np.uint8(0), (stop - part.start,))  # a byte is a symbol: there is nothing to look at
            return
        for piece in super()._pieces(part, notes):
            if self.alphabet is not None:
                self.alphabet.add(piece)
            yield piece

    def _watch_text(self, decoder: codecs.IncrementalDecoder, piece: Piece | None) -> None:
        pass

    def _look_up(self, piece: Piece) -> Ids:
        return piece

    def _keep(self, ids: Ids) -> Ids:
        return self._without_blanks(ids)

    def _count(self, ids: Ids) -> Ids:
        self.facts.size += len(ids)
        self._last = int(ids[-1])
        return ids
