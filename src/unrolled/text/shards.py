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

from unrolled.atomic_io import storage_error, write_bytes
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.text_encoder import Counter, Encoder, Facts, Part, Place
from unrolled.text.text_files import PIECE, is_packed
from unrolled.text.tokenizer import Vocabulary

SHARD = 256 << 20
"""Bytes of a shard: a second or two of work, which is what is lost when a process is killed."""

CHANGED = "The text changed while it was read. Run again once nothing writes to it."
CHECKERS = 8
"""Threads that check the shards of a text: zlib lets others run meanwhile."""

Cut = tuple[int, int]
"""The number of a file, and the byte in it before which a shard ends and the next begins."""


def plan(paths: Sequence[Path], sizes: Sequence[int]) -> list[Cut]:
    """Return where shards begin, from the first file's start, and where the last one ends, behind the last file."""
    found, filled = [(0, 0)], 0
    for index, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        packed = is_packed(path)
        if filled >= SHARD or (filled and packed and filled + size > SHARD):
            found.append((index, 0))
            filled = 0
        at = 0
        while not packed and filled + size - at > SHARD + SHARD // 2:
            cut = _before_a_character(path, at + SHARD - filled)
            if cut is None:
                break
            at, filled = cut, 0
            found.append((index, at))
        filled += size - at
    return [*found, (len(paths), 0)]


def _before_a_character(path: Path, near: int) -> int | None:
    """Return the first place from `near` on that is within no character and no `\\r\\n`; None if the file ends before.

    In what is no UTF-8 at all, where there may be none, that is `near`.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            file.seek(near - 1)
            around = file.read(9)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    for at in range(1, len(around)):
        if around[at] & 0xC0 != 0x80 and around[at - 1 : at + 1] != b"\r\n":
            return near - 1 + at
    return near if len(around) == 9 else None


def is_plan(cuts: object, paths: Sequence[Path], sizes: Sequence[int]) -> bool:
    """Return whether something that was read from a disk are cuts of these files."""
    if not isinstance(cuts, list) or len(cuts) < 2 or not all(_is_pair(cut) for cut in cuts):
        return False
    rising = all(tuple(first) < tuple(second) for first, second in zip(cuts, cuts[1:], strict=False))
    if not rising or (cuts[0], cuts[-1]) != ([0, 0], [len(paths), 0]):
        return False
    return all(at == 0 or (0 < at < sizes[file] and not is_packed(paths[file])) for file, at in cuts[1:-1])


def _is_pair(cut: object) -> bool:
    return isinstance(cut, list) and len(cut) == 2 and all(type(number) is int and number >= 0 for number in cut)


def parts(cuts: Sequence[Cut], shard: int, paths: Sequence[Path]) -> list[Part]:
    """Return the parts of files that a shard is made of."""
    (first, start), (last, stop) = cuts[shard], cuts[shard + 1]
    return [
        Part(paths[file], start if file == first else 0, stop if file == last else None)
        for file in range(first, last + (stop > 0))
    ]


def count(shard: Sequence[Part], options: DataOptions, vocabulary: Vocabulary | None) -> dict[str, Any]:
    """Return the `facts` of a shard that say where ids belong, and its `alphabet`, in the form that is kept of them."""
    counter = Counter(options) if vocabulary is None else Encoder(vocabulary, options)
    for _ in counter.encode(shard):
        pass
    alphabet = counter.alphabet if isinstance(counter, Counter) else None
    return {"facts": dataclasses.asdict(counter.facts), "alphabet": "".join(alphabet.symbols) if alphabet else ""}


def write(shard: Sequence[Part], place: Place, encoder: Encoder, path: Path) -> dict[str, Any]:
    """Write the ids of a shard to their place in the file `path`; return its `facts` and its `crc32`.

    They are on the disk before this returns. Raises `DataError` if there are not as many as were counted.
    """
    crc, left = 0, place.size
    try:
        path.touch()
        with open(path, "r+b") as file:
            file.seek(place.offset * encoder.dtype.itemsize)
            for ids in _led(encoder, shard, place.led):
                left -= len(ids)
                if left < 0:
                    break
                crc = zlib.crc32(ids.data, crc)
                file.write(ids.data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise storage_error(error, path.parent, "write the encoded text to") from error
    if left:
        raise DataError(CHANGED)
    return {"facts": dataclasses.asdict(encoder.facts), "crc32": crc}


def _led(encoder: Encoder, shard: Sequence[Part], led: bool) -> Iterator[Any]:
    if led:
        yield np.array([encoder.border], dtype=encoder.dtype)
    yield from encoder.encode(shard)


def damaged(path: Path, index: Sequence[Any], itemsize: int) -> list[int]:
    """Return the numbers of the shards in `path` that are not what `index` says: `offset`, `size` in ids, `crc32` of each.

    Raises `ValueError` if they do not lie one after the other.
    """
    ends = [0, *(shard["offset"] + shard["size"] for shard in index)]
    if [shard["offset"] for shard in index] != ends[:-1] or not all(shard["size"] >= 0 for shard in index):
        raise ValueError("shards")

    def is_damaged(shard: Any) -> bool:
        return bool(checksum(path, shard["offset"] * itemsize, shard["size"] * itemsize) != shard["crc32"])

    if not path.exists():
        return list(range(len(index)))

    with ThreadPoolExecutor(min(CHECKERS, os.cpu_count() or 1)) as threads:
        return [number for number, wrong in enumerate(threads.map(is_damaged, index)) if wrong]


def checksum(path: Path, start: int = 0, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of `size` bytes of it."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while piece := file.read(PIECE if size is None else min(PIECE, size)):
            size = None if size is None else size - len(piece)
            crc = zlib.crc32(piece, crc)
    return crc


def facts_of(kept: dict[str, Any]) -> Facts:
    """Return the facts in what `count` and `write` return."""
    return Facts(**kept["facts"])


def digest(content: dict[str, Any]) -> str:
    """Return a digest of what is to be kept as JSON."""
    return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()


def keep(path: Path, content: dict[str, Any]) -> None:
    """Write a small file, whole or not at all, that `kept` knows to be undamaged."""
    write_bytes(path, json.dumps(content | {"digest": digest(content)}).encode())


def kept(path: Path) -> dict[str, Any] | None:
    """Return what was kept in `path`; None if nothing or something else is there."""
    try:
        content = json.loads(path.read_bytes())
        told = content.pop("digest")
        return content if told == digest(content) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
