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
from unrolled.text.text_files import CHUNK_READERS, LINE_ENDS_NOTE, Chunk, display_name, is_compressed
from unrolled.text.tokenizer import NUM_CODE_POINTS, ByteTokenizer, CharTokenizer, Ids, Tokenizer


class FileSlice(NamedTuple):
    """The bytes of a file from `start` to before `stop`; None is its end, and only what is not compressed is ever cut."""

    path: Path
    start: int = 0
    stop: int | None = None

    def read(self, tokens: str, notes: dict[str, int]) -> Iterator[Chunk]:
        """Yield the symbols of the part in pieces; what is wrong with it is told as to one who reads the whole file."""
        try:
            yield from CHUNK_READERS[tokens](self.path, notes, self.start, self.stop)
        except DataError:
            if self.stop is not None:  # a character that is cut short by nothing but our cut is not what is wrong
                for _ in CHUNK_READERS[tokens](self.path, {}, self.start):
                    pass
            raise


@dataclass
class ShardStats:
    """What is known of a shard: its `size` in ids, and what `join` needs.

    `documents` is the ends in it, `head` the ids before the first of them, `tail` those after the last, `longest` the longest
    document between two. `joined` counts symbols put between files. `joins` says that one may belong before all of it, and
    `closed` that it ends with one. Of a file that is cut, `returned` and `returning` say that its part at the start and at the
    end of the shard had other line ends, and `finished` that it ends here; `notes` counts all others.
    """

    num_tokens: int = 0
    num_documents: int = 0
    head_length: int = 0
    tail_length: int = 0
    longest_document: int = 0
    num_unknown: int = 0
    num_separators: int = 0
    is_text: bool = True
    wants_separator: bool = False
    ends_separated: bool = False
    head_had_crlf: bool = False
    tail_had_crlf: bool = False
    ends_file: bool = False
    notes: dict[str, int] = field(default_factory=dict)


class ShardSpan(NamedTuple):
    """Where the ids of a shard are among all; with `led`, the first of them is a border that belongs before the shard."""

    offset: int
    size: int
    has_separator: bool


@dataclass(frozen=True)
class CorpusStats:
    """What is known of a text: `places` of its shards, one after the other, and the facts of all of them together."""

    spans: tuple[ShardSpan, ...]
    num_tokens: int
    num_documents: int
    longest_document: int
    num_unknown: int
    is_text: bool
    notes: tuple[str, ...]


def merge_stats(shards: Sequence[ShardStats], has_eos: bool, has_separator: bool) -> CorpusStats:
    """Put the facts of shards, in their order, together. Without `has_border`, nothing stands between files."""
    spans: list[ShardSpan] = []
    notes: dict[str, int] = {}
    offset = num_documents = longest_document = num_unknown = open_length = 0
    ends_separated: bool | None = None  # None: there is nothing yet
    file_had_crlf = False
    for shard in shards:
        add_separator = has_eos if not spans else has_separator and shard.wants_separator and ends_separated is False
        if has_eos and add_separator and spans:
            num_documents, longest_document, open_length = num_documents + 1, max(longest_document, open_length), 0
        size = add_separator + shard.num_tokens - (0 if has_separator else shard.num_separators)
        spans.append(ShardSpan(offset, size, add_separator))
        offset += size
        if shard.num_documents:
            longest_document = max(longest_document, open_length + shard.head_length, shard.longest_document)
            num_documents, open_length = num_documents + shard.num_documents, shard.tail_length
        else:
            open_length += shard.num_tokens
        ends_separated = shard.ends_separated if shard.num_tokens else True if add_separator else ends_separated
        file_had_crlf |= shard.head_had_crlf
        if shard.ends_file:
            if file_had_crlf:
                notes[LINE_ENDS_NOTE] = notes.get(LINE_ENDS_NOTE, 0) + 1
            file_had_crlf = False
        file_had_crlf |= shard.tail_had_crlf
        num_unknown += shard.num_unknown
        for note, count in shard.notes.items():
            notes[note] = notes.get(note, 0) + count
    is_text = all(shard.is_text for shard in shards)
    messages = tuple(f"{count:,} {note}" for note, count in notes.items())
    return CorpusStats(
        tuple(spans), offset, num_documents, longest_document if has_eos else offset, num_unknown, is_text, messages
    )


def require_same_tokens(tokenizer: Tokenizer, options: DataOptions) -> None:
    """Raise `DataError` if a text that is read in this way cannot be put in the ids of a vocabulary."""
    if (tokenizer.eos_id is not None) != (options.documents != "none"):
        raise DataError("The model and the text disagree on documents: use the --unit the model was trained with.")
    if tokenizer.kind != options.tokens:
        raise DataError(f"The model reads {tokenizer.kind}, and the text is to be read as {options.tokens}: choose --tokens.")


def require_nonempty(stats: CorpusStats, has_eos: bool, paths: Sequence[Path]) -> None:
    """Raise `DataError` if nothing of the text is left."""
    names = display_name(paths[0]) if len(paths) == 1 else f"these {len(paths)} files"
    if stats.num_tokens <= has_eos and stats.num_unknown:
        raise DataError(f"The model knows none of the {stats.num_unknown:,} symbols in {names}.")
    if stats.num_tokens <= has_eos:
        raise DataError(f"There is no text in {names}: nothing to learn from.")


class CharSet:
    """The code points that were seen."""

    def __init__(self) -> None:
        self._ascii = b""
        self._seen = np.zeros(NUM_CODE_POINTS, dtype=bool)

    def add(self, chunk: Chunk) -> None:
        """Note what is in a piece."""
        if chunk.dtype == np.uint8:
            # Deleting what is known leaves next to nothing to look at: 5 times faster than marking every byte.
            self._ascii += bytes(set(chunk.tobytes().translate(None, self._ascii)))
        else:
            self._seen[chunk] = True

    @property
    def chars(self) -> list[str]:
        """All that were seen, in their order."""
        self._seen[list(self._ascii)] = True
        return [chr(code_point) for code_point in np.flatnonzero(self._seen)]


def char_tokenizer(chars: Iterable[str], options: DataOptions) -> CharTokenizer:
    """Return the vocabulary of a text in which these symbols, in their order, are."""
    if options.documents == "line":
        chars = [char for char in chars if char != "\n"]
    return CharTokenizer(list(chars), options.documents != "none")


class TextEncoder:
    """Parts of files in, arrays of ids out; counts in `facts` what goes by.

    `border` is the id that stands between two files of a stream, or after a document, and never twice in a row; or None.
    The end that a text of documents begins with is not among the ids.
    """

    def __init__(self, tokenizer: Tokenizer, options: DataOptions) -> None:
        self.options = options
        self.eos_id = tokenizer.eos_id
        bits = 8 if tokenizer.vocab_size < 256 or tokenizer.to_json() == {"kind": "bytes", "has_eos": False} else 16
        self.dtype = np.dtype(f"uint{bits if tokenizer.vocab_size < 65536 else 32}")
        self.unknown_id = int(np.iinfo(self.dtype).max)
        self.is_bytes = isinstance(tokenizer, ByteTokenizer)
        if isinstance(tokenizer, CharTokenizer):
            id_table = tokenizer.id_of_code_point.astype(self.dtype)  # -1 becomes `missing`
        else:
            id_table = np.arange(256, dtype=self.dtype)
        if options.documents == "line":
            id_table[ord("\n")] = tokenizer.eos_id or 0
        self.id_table = id_table
        self.byte_table = id_table[:256].tobytes() if bits == 8 else None
        newline_id = int(id_table[ord("\n")])
        file_separator = None if self.is_bytes or newline_id == self.unknown_id else newline_id
        self.separator = file_separator if self.eos_id is None else self.eos_id
        self._reset()

    def _reset(self) -> None:
        self.stats = ShardStats()
        self._last_id = -1 if self.eos_id is None else self.eos_id
        self._last_eos = -1

    def encode(self, slices: Iterable[FileSlice]) -> Iterator[Ids]:
        """Yield the ids of parts of consecutive files, piece by piece."""
        for file_slice in slices:
            if self.eos_id is None and not file_slice.start:
                yield from self._separator_ids()
            notes: dict[str, int] = {}
            utf8_decoder = codecs.getincrementaldecoder("utf-8")()
            for chunk in self._read_chunks(file_slice, notes):
                self._check_utf8(utf8_decoder, chunk)
                ids = self._filter_ids(self._to_ids(chunk))
                if len(ids):
                    yield self._update_stats(ids)
            if file_slice.stop is not None:  # where a file itself ends within a character, that is let pass
                self._check_utf8(utf8_decoder, None)
            self._count_notes(file_slice, notes)
            if self.eos_id is not None and file_slice.stop is None:
                yield from self._separator_ids()
        self.stats.ends_separated = self.stats.num_tokens > 0 and self._last_id == self.separator
        self.stats.tail_length = self.stats.num_tokens - self._last_eos - 1

    def _read_chunks(self, file_slice: FileSlice, notes: dict[str, int]) -> Iterator[Chunk]:
        return file_slice.read(self.options.tokens, notes)

    def _separator_ids(self) -> Iterator[Ids]:
        """Yield the border, where something and not itself stands before it."""
        if not self.stats.num_tokens:
            self.stats.wants_separator = True
        elif self.separator is not None and self._last_id != self.separator:
            self.stats.num_separators += 1
            yield self._update_stats(np.array([self.separator], dtype=self.dtype))

    def _count_notes(self, file_slice: FileSlice, notes: dict[str, int]) -> None:
        """Count what was normalised; a file that is cut has its line ends counted once, when all of it is known."""
        stats, is_full_file = self.stats, not file_slice.start and file_slice.stop is None
        for note, count in notes.items():
            if note != LINE_ENDS_NOTE or is_full_file:
                stats.notes[note] = stats.notes.get(note, 0) + count
        stats.head_had_crlf |= file_slice.start > 0 and LINE_ENDS_NOTE in notes
        stats.tail_had_crlf |= not file_slice.start and not is_full_file and LINE_ENDS_NOTE in notes
        stats.ends_file |= file_slice.start > 0 and file_slice.stop is None

    def _check_utf8(self, utf8_decoder: codecs.IncrementalDecoder, chunk: Chunk | None) -> None:
        """Notice bytes that are not UTF-8: then there are no characters to measure by. None is the end."""
        if self.is_bytes and self.stats.is_text:
            try:
                utf8_decoder.decode(b"" if chunk is None else chunk.tobytes(), chunk is None)
            except UnicodeDecodeError:
                self.stats.is_text = False

    def _to_ids(self, chunk: Chunk) -> Ids:
        if chunk.dtype == np.uint8 and self.byte_table is not None:
            return np.frombuffer(chunk.tobytes().translate(self.byte_table), dtype=np.uint8)
        ids: Ids = self.id_table[chunk]
        return ids

    def _filter_ids(self, ids: Ids) -> Ids:
        """Leave out unknown symbols, and ends of documents that hold nothing."""
        if not self.is_bytes:
            unknown_mask = ids == self.unknown_id
            count = int(np.count_nonzero(unknown_mask))
            if count:
                self.stats.num_unknown += count
                ids = ids[~unknown_mask]
        return self._drop_empty_documents(ids)

    def _drop_empty_documents(self, ids: Ids) -> Ids:
        if self.options.documents != "line" or not len(ids):
            return ids
        eos_mask = ids == self.eos_id
        self.stats.wants_separator |= not self.stats.num_tokens and bool(eos_mask[0])
        after_eos = np.concatenate(([self._last_id == self.eos_id], eos_mask[:-1]))
        filtered: Ids = ids[~(eos_mask & after_eos)]
        return filtered

    def _update_stats(self, ids: Ids) -> Ids:
        """Keep the totals: symbols, documents and the longest of them."""
        stats = self.stats
        eos_positions = np.zeros(0, int) if self.eos_id is None else np.flatnonzero(ids == self.eos_id) + stats.num_tokens
        if len(eos_positions):
            lengths = np.diff(eos_positions, prepend=self._last_eos) - 1
            if not stats.num_documents:
                stats.head_length, lengths = int(lengths[0]), lengths[1:]
            stats.num_documents += len(eos_positions)
            stats.longest_document = max(stats.longest_document, int(lengths.max(initial=0)))
            self._last_eos = int(eos_positions[-1])
        stats.num_tokens += len(ids)
        self._last_id = int(ids[-1])
        return ids


class CountingEncoder(TextEncoder):
    """Counts what an encoder that knows every symbol will give, before it is known which ids there will be.

    Code points, or bytes, take the place of ids. `alphabet` is what was seen, where that is to become a vocabulary. Only
    `size`, `joined`, `joins` and `closed` of the facts are right.
    """

    def __init__(self, options: DataOptions) -> None:
        self.options = options
        self.is_bytes = options.tokens == "bytes"
        self.char_set = None if self.is_bytes else CharSet()
        self.eos_id = {"none": None, "line": ord("\n"), "file": -1}[options.documents]  # -1: no symbol at all
        self.separator = self.eos_id if self.eos_id is not None or self.is_bytes else ord("\n")
        self.dtype = np.dtype(np.int64)
        self._reset()

    def _read_chunks(self, file_slice: FileSlice, notes: dict[str, int]) -> Iterator[Chunk]:
        if self.char_set is None and self.options.documents != "line" and not is_compressed(file_slice.path):
            try:
                stop = file_slice.path.stat().st_size if file_slice.stop is None else file_slice.stop
            except OSError as error:
                raise storage_error(error, file_slice.path, "read") from error
            yield np.broadcast_to(np.uint8(0), (stop - file_slice.start,))  # a byte is a symbol: there is nothing to look at
            return
        for chunk in super()._read_chunks(file_slice, notes):
            if self.char_set is not None:
                self.char_set.add(chunk)
            yield chunk

    def _check_utf8(self, utf8_decoder: codecs.IncrementalDecoder, chunk: Chunk | None) -> None:
        pass

    def _to_ids(self, chunk: Chunk) -> Ids:
        return chunk

    def _filter_ids(self, ids: Ids) -> Ids:
        return self._drop_empty_documents(ids)

    def _update_stats(self, ids: Ids) -> Ids:
        self.stats.num_tokens += len(ids)
        self._last_id = int(ids[-1])
        return ids
