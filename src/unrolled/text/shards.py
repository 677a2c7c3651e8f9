"""Shards of a large text: where it is split, and how one shard is counted, written and checked.

A shard is about 256 MB of consecutive files. A file that is not compressed is split where a character begins, and never
within a `\\r\\n`; a compressed one is never split; small files share a shard. All shards are counted first, which gives the
place of their ids, and are then written there, into one file `ids.bin`, each with its CRC-32.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import storage_error, write_atomic
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.compressed_files import is_compressed
from unrolled.text.fingerprint import TEXT_CHANGED, checksum, from_checked_json, to_checked_json
from unrolled.text.normalization import starts_segment
from unrolled.text.text_encoder import CharSet, FileSlice, ShardSpan, ShardStats, TextEncoder
from unrolled.text.text_files import Chunk
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS, LINE_FEED, Ids, Tokenizer
from unrolled.text.tokenizers import tokenizer_class

SHARD_BYTES = 256 << 20
"""Bytes of a shard: one or two seconds of work, which are lost when a process is killed."""

BOUNDARY_WINDOW = 4096
"""Bytes in which a place to split a file is searched."""

CHECK_THREADS = 8
"""Threads that check the shards of a text (zlib releases the interpreter's lock)."""

SplitPoint = tuple[int, int]
"""The index of a file, and the byte offset in it where a shard ends and the next begins."""


def plan_shards(paths: Sequence[Path], sizes: Sequence[int]) -> list[SplitPoint]:
    """Return where shards begin, from the start of the first file on, and where the last one ends: `(len(paths), 0)`."""
    split_points, filled = [(0, 0)], 0
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        compressed = is_compressed(path)
        if filled >= SHARD_BYTES or (filled and compressed and filled + size > SHARD_BYTES):
            split_points.append((index, 0))
            filled = 0
        offset = 0
        while not compressed and filled + size - offset > SHARD_BYTES + SHARD_BYTES // 2:
            boundary = _next_char_boundary(path, offset + SHARD_BYTES - filled)
            if boundary is None:
                break
            offset, filled = boundary, 0
            split_points.append((index, offset))
        filled += size - offset
    return [*split_points, (len(paths), 0)]


def _next_char_boundary(path: Path, offset: int) -> int | None:
    """Return the first offset from `offset` on where a text may be cut: not within a character, a letter with its marks, or a
    `\\r\\n`; None if there is none nearby.

    If the bytes are not UTF-8 and no character starts nearby, that is `offset` itself.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset - 1)
            window = file.read(BOUNDARY_WINDOW)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    for position in range(1, len(window)):
        if position == 9 and all(byte & 0xC0 == 0x80 for byte in window[1:9]):
            return offset
        if window[position] & 0xC0 != 0x80 and window[position - 1 : position + 1] != b"\r\n":
            character = window[position : position + 4].decode("utf-8", "replace")[0]
            if starts_segment(character):
                return offset - 1 + position
    return None


def is_valid_plan(split_points: object, paths: Sequence[Path], sizes: Sequence[int]) -> bool:
    """Return whether a value that was read from the disk is a list of split points of these files."""
    if not isinstance(split_points, list) or len(split_points) < 2 or not all(_is_split_point(point) for point in split_points):
        return False
    is_ascending = all(tuple(first) < tuple(second) for first, second in zip(split_points, split_points[1:], strict=False))
    if not is_ascending or (split_points[0], split_points[-1]) != ([0, 0], [len(paths), 0]):
        return False
    return all(
        offset == 0 or (0 < offset < sizes[file] and not is_compressed(paths[file])) for file, offset in split_points[1:-1]
    )


def _is_split_point(point: object) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(type(number) is int and number >= 0 for number in point)


def shard_slices(split_points: Sequence[SplitPoint], shard: int, paths: Sequence[Path]) -> list[FileSlice]:
    """Return the slices of files that make up a shard."""
    (first, start), (last, stop) = split_points[shard], split_points[shard + 1]
    return [
        FileSlice(paths[file], start if file == first else 0, stop if file == last else None)
        for file in range(first, last + (stop > 0))
    ]


class CountingEncoder(TextEncoder):
    """Counts the ids that an encoder will give whose tokenizer is not fitted yet, but will know every code point or byte.

    Code points or bytes stand for ids. `char_set` collects the code points for the tokenizer. Of the statistics, only
    `num_tokens`, `num_separators`, `wants_separator` and `ends_separated` are valid.
    """

    def __init__(self, options: DataOptions) -> None:
        self.options = options
        self.is_bytes = tokenizer_class(options.tokens).reads_bytes
        self.normalization = "none" if self.is_bytes else options.normalize
        self.char_set = None if self.is_bytes else CharSet()
        has_eos = options.documents != "none"
        self.eos_id = DOCUMENT_SEPARATORS.get(options.documents, -1) if has_eos else None  # -1 is no code point
        self.separator = self.eos_id if self.eos_id is not None or self.is_bytes else LINE_FEED
        self.dtype = np.dtype(np.int64)
        self._reset()

    def _read_chunks(self, file_slice: FileSlice, notes: dict[str, int]) -> Iterator[Chunk]:
        if self.char_set is None and self.options.documents not in DOCUMENT_SEPARATORS and not is_compressed(file_slice.path):
            try:
                stop = file_slice.path.stat().st_size if file_slice.stop is None else file_slice.stop
            except OSError as error:
                raise storage_error(error, file_slice.path, "read") from error
            yield np.broadcast_to(
                np.uint8(0), (stop - file_slice.start,)
            )  # the size of the file is enough: one id for each byte
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


def count(shard: Sequence[FileSlice], options: DataOptions, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return the record of a counted shard: its statistics (`facts`) and its characters (`alphabet`), as JSON values."""
    encoder = CountingEncoder(options) if tokenizer is None else TextEncoder(tokenizer, options)
    for _ in encoder.encode(shard):
        pass
    char_set = encoder.char_set if isinstance(encoder, CountingEncoder) else None
    return {"facts": dataclasses.asdict(encoder.stats), "alphabet": "".join(char_set.chars) if char_set else ""}


def write(shard: Sequence[FileSlice], span: ShardSpan, encoder: TextEncoder, path: Path) -> dict[str, Any]:
    """Write the ids of a shard to their place in the file `path`; return its record: statistics (`facts`) and `crc32`.

    The ids are flushed to the disk. Raises `DataError` if there are more or fewer than were counted.
    """
    crc, remaining = 0, span.size
    try:
        path.touch()
        with open(path, "r+b") as file:
            file.seek(span.offset * encoder.dtype.itemsize)
            for ids in _shard_ids(encoder, shard, span.has_separator):
                remaining -= len(ids)
                if remaining < 0:
                    break
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path.parent, "write the encoded text to") from error
    if remaining:
        raise DataError(TEXT_CHANGED)
    return {"facts": dataclasses.asdict(encoder.stats), "crc32": crc}


def _shard_ids(encoder: TextEncoder, shard: Sequence[FileSlice], has_separator: bool) -> Iterator[Any]:
    if has_separator:
        yield np.array([encoder.separator], dtype=encoder.dtype)
    yield from encoder.encode(shard)


def corrupt_shards(path: Path, shard_index: Sequence[Any], itemsize: int) -> list[int]:
    """Return the numbers of the shards in `path` that differ from `shard_index` (`offset`, `size` in ids, `crc32` of each).

    Raises `ValueError` if the shards of the index do not follow one another.
    """
    ends = [0, *(shard["offset"] + shard["size"] for shard in shard_index)]
    if [shard["offset"] for shard in shard_index] != ends[:-1] or not all(shard["size"] >= 0 for shard in shard_index):
        raise ValueError("shards")

    def is_corrupt(shard: Any) -> bool:
        return bool(checksum(path, shard["offset"] * itemsize, shard["size"] * itemsize) != shard["crc32"])

    if not path.exists():
        return list(range(len(shard_index)))

    with ThreadPoolExecutor(min(CHECK_THREADS, os.cpu_count() or 1)) as threads:
        return [number for number, corrupt in enumerate(threads.map(is_corrupt, shard_index)) if corrupt]


def stats_from(content: dict[str, Any]) -> ShardStats:
    """Return the statistics in a record of `count` or `write`."""
    return ShardStats(**content["facts"])


def write_checked_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file atomically, with a digest of its content."""
    write_atomic(path, to_checked_json(content))


def read_checked_json(path: Path) -> dict[str, Any] | None:
    """Return the content of a file that `write_checked_json` wrote; None if it is missing or damaged."""
    try:
        return from_checked_json(path.read_bytes())
    except (OSError, ValueError):
        return None
