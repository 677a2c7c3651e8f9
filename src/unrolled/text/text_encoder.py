"""Encoding of files in chunks: code points or bytes to token ids, with statistics.

A small text is one shard, a large one is encoded in many, in any order; `merge_stats` combines their statistics. The ids of
a shard depend on the shards before it in one place only, its start: a separator belongs there if the text before it does not
end with one. So a shard is encoded without it, and its statistics record whether one may be needed (`wants_separator`).
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unrolled.display import counted
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.encodings import display_name
from unrolled.text.normalization import normalize_chunks
from unrolled.text.text_files import LINE_ENDS_NOTE, Chunk, read_chunks
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS, LINE_FEED, NUM_CODE_POINTS, Ids, Tokenizer
from unrolled.text.tokenizers import tokenizer_class


class FileSlice(NamedTuple):
    """The bytes `start` to `stop` (exclusive; None is the end) of a file. Compressed files are never split."""

    path: Path
    start: int = 0
    stop: int | None = None

    def read(self, as_bytes: bool, notes: dict[str, int]) -> Iterator[Chunk]:
        """Yield the code points or bytes of the slice in chunks. Raises the same errors as if the full file was read."""
        try:
            yield from read_chunks(self.path, as_bytes, notes, self.start, self.stop)
        except DataError:
            if self.stop is not None:  # a character that only the split made incomplete is not the error to report
                for _ in read_chunks(self.path, as_bytes, {}, self.start):
                    pass
            raise


@dataclass
class ShardStats:
    """Statistics of a shard: its size in ids, and what `merge_stats` needs.

    `num_documents` counts its eos ids, `head_length` the ids before the first of them, `tail_length` those after the last;
    `longest_document` is between two. `num_separators` counts separators between files; `wants_separator` means that one may
    be needed before the shard, `ends_separated` that the shard ends with one. The last three fields are about files that are
    split: whether the slice at the start and the one at the end of the shard had other line ends than `\\n`, and whether the
    first of them ends its file. `notes` counts all other normalizations.
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
    """Where the ids of a shard are in the corpus; with `has_separator`, the first one is a separator before the shard."""

    offset: int
    size: int
    has_separator: bool


@dataclass(frozen=True)
class CorpusStats:
    """Statistics of a text: the `spans` of its shards, which follow one another, and the merged statistics of all."""

    spans: tuple[ShardSpan, ...]
    num_tokens: int
    num_documents: int
    longest_document: int
    num_unknown: int
    is_text: bool
    notes: tuple[str, ...]


def merge_stats(shards: Sequence[ShardStats], has_eos: bool, has_separator: bool) -> CorpusStats:
    """Merge the statistics of shards, given in order. Without `has_separator`, nothing is put between files."""
    spans: list[ShardSpan] = []
    notes: dict[str, int] = {}
    offset = num_documents = longest_document = num_unknown = open_length = 0
    ends_separated: bool | None = None  # None: no ids yet
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
    messages = tuple(f"{count:,} {counted(count, note)}" for note, count in sorted(notes.items()))
    return CorpusStats(
        tuple(spans), offset, num_documents, longest_document if has_eos else offset, num_unknown, is_text, messages
    )


def require_same_tokens(tokenizer: Tokenizer, options: DataOptions) -> None:
    """Raise `DataError` if a text that is read with these options cannot be encoded by a tokenizer."""
    if (tokenizer.eos_id is not None) != (options.documents != "none"):
        raise DataError("The model was trained with other documents: use the same --documents.")
    if tokenizer.setting != options.tokens:
        raise DataError(f"The model was trained with --tokens {tokenizer.setting}, and {options.tokens} are asked for.")


def require_nonempty(stats: CorpusStats, has_eos: bool, paths: Sequence[Path]) -> None:
    """Raise `DataError` if a text has no token."""
    names = display_name(paths[0]) if len(paths) == 1 else f"these {len(paths)} files"
    if stats.num_tokens <= has_eos and stats.num_unknown:
        raise DataError(f"The model knows none of the {stats.num_unknown:,} characters in {names}.")
    if stats.num_tokens <= has_eos:
        raise DataError(f"There is no text in {names}.")


class CharSet:
    """The set of code points in a text."""

    def __init__(self) -> None:
        self._ascii = b""
        self._seen = np.zeros(NUM_CODE_POINTS, dtype=bool)

    def add(self, chunk: Chunk) -> None:
        """Add those of a chunk."""
        if chunk.dtype == np.uint8:
            # Deleting known bytes leaves very few to examine: 5 times faster than marking every byte.
            self._ascii += bytes(set(chunk.tobytes().translate(None, self._ascii)))
        else:
            self._seen[chunk] = True

    @property
    def chars(self) -> list[str]:
        """The characters, sorted."""
        self._seen[list(self._ascii)] = True
        return [chr(code_point) for code_point in np.flatnonzero(self._seen)]


def fit_tokenizer(chars: Iterable[str], options: DataOptions) -> Tokenizer:
    """Return the tokenizer of a text with these characters, sorted (none are needed for one that reads bytes)."""
    if options.documents in DOCUMENT_SEPARATORS:
        chars = [char for char in chars if ord(char) != DOCUMENT_SEPARATORS[options.documents]]
    tokenizer = tokenizer_class(options.tokens).fit(list(chars), options.documents != "none")
    tokenizer.normalization = "none" if tokenizer.reads_bytes else options.normalize
    return tokenizer


class TextEncoder:
    """Encodes slices of files to arrays of ids, and keeps their statistics in `stats`.

    `separator` is the id between two files of a stream, or after a document, and never twice in a row; or None.
    The eos that a text of documents begins with is not among the ids. With `is_fitted_here`, the tokenizer was fitted to this
    very text, and the tokens that it spells were counted then.
    """

    tokenizer: Tokenizer | None = None

    def __init__(self, tokenizer: Tokenizer, options: DataOptions, is_fitted_here: bool = False) -> None:
        self.options, self.tokenizer, self._is_fitted_here = options, tokenizer, is_fitted_here
        self.eos_id, self.is_bytes = tokenizer.eos_id, tokenizer.reads_bytes
        self.normalization = tokenizer.normalization
        ids = tokenizer.id_of_code_point
        self.has_unknown = bool((ids < 0).any())
        self.dtype = np.min_scalar_type(tokenizer.vocab_size + self.has_unknown - 1)
        self.unknown_id = int(np.iinfo(self.dtype).max)
        self.id_table = ids.astype(self.dtype)  # -1 becomes `unknown_id`
        newline_id = None if self.is_bytes or ids[LINE_FEED] < 0 else int(ids[LINE_FEED])
        if options.documents in DOCUMENT_SEPARATORS:
            self.id_table[DOCUMENT_SEPARATORS[options.documents]] = tokenizer.eos_id or 0
        self.byte_table = self.id_table[:256].tobytes() if self.dtype == np.uint8 else None
        self.separator = newline_id if self.eos_id is None else self.eos_id
        self._reset()

    def _reset(self) -> None:
        self._spelled: Counter[str] = Counter()
        self.stats = ShardStats()
        self._last_id = -1 if self.eos_id is None else self.eos_id
        self._last_eos = -1

    def encode(self, slices: Iterable[FileSlice]) -> Iterator[Ids]:
        """Yield the ids of slices of consecutive files, chunk by chunk."""
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
            if file_slice.stop is not None:  # an incomplete character at the end of a file is accepted
                self._check_utf8(utf8_decoder, None)
            self._count_notes(file_slice, notes)
            if self.eos_id is not None and file_slice.stop is None:
                yield from self._separator_ids()
        if self.tokenizer is not None and not self._is_fitted_here:
            self.tokenizer.note_spelled(self._spelled, self.stats.notes)
        self.stats.ends_separated = self.stats.num_tokens > 0 and self._last_id == self.separator
        self.stats.tail_length = self.stats.num_tokens - self._last_eos - 1

    def _read_chunks(self, file_slice: FileSlice, notes: dict[str, int]) -> Iterator[Chunk]:
        chunks = normalize_chunks(file_slice.read(self.is_bytes, notes), self.normalization, notes)
        return chunks if self.tokenizer is None else self.tokenizer.translate(chunks, self._spelled)

    def _separator_ids(self) -> Iterator[Ids]:
        """Yield the separator, unless there are no ids before it, or it is the last of them."""
        if not self.stats.num_tokens:
            self.stats.wants_separator = True
        elif self.separator is not None and self._last_id != self.separator:
            self.stats.num_separators += 1
            yield self._update_stats(np.array([self.separator], dtype=self.dtype))

    def _count_notes(self, file_slice: FileSlice, notes: dict[str, int]) -> None:
        """Count what was normalized; the line ends of a file that is split are counted once, by `merge_stats`."""
        stats, is_full_file = self.stats, not file_slice.start and file_slice.stop is None
        for note, count in notes.items():
            if note != LINE_ENDS_NOTE or is_full_file:
                stats.notes[note] = stats.notes.get(note, 0) + count
        stats.head_had_crlf |= file_slice.start > 0 and LINE_ENDS_NOTE in notes
        stats.tail_had_crlf |= not file_slice.start and not is_full_file and LINE_ENDS_NOTE in notes
        stats.ends_file |= file_slice.start > 0 and file_slice.stop is None

    def _check_utf8(self, utf8_decoder: codecs.IncrementalDecoder, chunk: Chunk | None) -> None:
        """Record whether bytes are UTF-8: else losses per character have no meaning. None is the end."""
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
        """Leave out unknown tokens, and the eos of empty documents."""
        if self.has_unknown:
            unknown_mask = ids == self.unknown_id
            count = int(np.count_nonzero(unknown_mask))
            if count:
                self.stats.num_unknown += count
                ids = ids[~unknown_mask]
        return self._drop_empty_documents(ids)

    def _drop_empty_documents(self, ids: Ids) -> Ids:
        if self.options.documents not in DOCUMENT_SEPARATORS or not len(ids):
            return ids
        eos_mask = ids == self.eos_id
        self.stats.wants_separator |= not self.stats.num_tokens and bool(eos_mask[0])
        after_eos = np.concatenate(([self._last_id == self.eos_id], eos_mask[:-1]))
        filtered: Ids = ids[~(eos_mask & after_eos)]
        return filtered

    def _update_stats(self, ids: Ids) -> Ids:
        """Count tokens and documents, and measure the longest document."""
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
