"""Shards: where a large text is cut, and what is known of each piece.

A shard is some 256 MB of consecutive files. A file that is not compressed is cut where a character begins, and never within
a `\\r\\n`; a compressed one is never cut; small ones are gathered. A shard is counted first, so that it is known where its ids
belong, and then written there, into the one `ids.bin` of the text, with a CRC-32 of its own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
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
from unrolled.text.text_encoder import CountingEncoder, FileSlice, ShardSpan, ShardStats, TextEncoder
from unrolled.text.text_files import CHUNK_BYTES, is_compressed
from unrolled.text.tokenizer import Tokenizer

SHARD_BYTES = 256 << 20
"""Bytes of a shard: a second or two of work, which is what is lost when a process is killed."""

TEXT_CHANGED = "The text changed while it was read. Run again once nothing writes to it."
CHECK_THREADS = 8
"""Threads that check the shards of a text: zlib lets others run meanwhile."""

SplitPoint = tuple[int, int]
"""The number of a file, and the byte in it before which a shard ends and the next begins."""


def plan_shards(paths: Sequence[Path], sizes: Sequence[int]) -> list[SplitPoint]:
    """Return where shards begin, from the first file's start, and where the last one ends, behind the last file."""
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
    """Return the first place from `near` on that is within no character and no `\\r\\n`; None if the file ends before.

    In what is no UTF-8 at all, where there may be none, that is `near`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset - 1)
            window = file.read(9)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    for position in range(1, len(window)):
        if window[position] & 0xC0 != 0x80 and window[position - 1 : position + 1] != b"\r\n":
            return offset - 1 + position
    return offset if len(window) == 9 else None


def is_valid_plan(split_points: object, paths: Sequence[Path], sizes: Sequence[int]) -> bool:
    """Return whether something that was read from a disk are cuts of these files."""
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
    """Return the parts of files that a shard is made of."""
    (first, start), (last, stop) = split_points[shard], split_points[shard + 1]
    return [
        FileSlice(paths[file], start if file == first else 0, stop if file == last else None)
        for file in range(first, last + (stop > 0))
    ]


def count(shard: Sequence[FileSlice], options: DataOptions, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return the `facts` of a shard that say where ids belong, and its `alphabet`, in the form that is kept of them."""
    encoder = CountingEncoder(options) if tokenizer is None else TextEncoder(tokenizer, options)
    for _ in encoder.encode(shard):
        pass
    char_set = encoder.char_set if isinstance(encoder, CountingEncoder) else None
    return {"facts": dataclasses.asdict(encoder.stats), "alphabet": "".join(char_set.chars) if char_set else ""}


def write(shard: Sequence[FileSlice], span: ShardSpan, encoder: TextEncoder, path: Path) -> dict[str, Any]:
    """Write the ids of a shard to their place in the file `path`; return its `facts` and its `crc32`.

    They are on the disk before this returns. Raises `DataError` if there are not as many as were counted.
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
    """Return the numbers of the shards in `path` that are not what `index` says: `offset`, `size` in ids, `crc32` of each.

    Raises `ValueError` if they do not lie one after the other.
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


def checksum(path: Path, start: int = 0, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of `size` bytes of it."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while chunk := file.read(CHUNK_BYTES if size is None else min(CHUNK_BYTES, size)):
            size = None if size is None else size - len(chunk)
            crc = zlib.crc32(chunk, crc)
    return crc


def stats_from(content: dict[str, Any]) -> ShardStats:
    """Return the facts in what `count` and `write` return."""
    return ShardStats(**content["facts"])


def digest(content: dict[str, Any]) -> str:
    """Return a digest of what is to be kept as JSON."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def write_checked_json(path: Path, content: dict[str, Any]) -> None:
    """Write a small file, whole or not at all, that `kept` knows to be undamaged."""
    write_atomic(path, json.dumps(content | {"digest": digest(content)}).encode())


def read_checked_json(path: Path) -> dict[str, Any] | None:
    """Return what was kept in `path`; None if nothing or something else is there."""
    try:
        content = json.loads(path.read_bytes())
        expected = content.pop("digest")
        return content if expected == digest(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
