"""Hashes of text files and of small records: what identifies a text, and what detects a change or damage.

A text is identified by its contents alone (`fingerprint`). Reading gigabytes again only to find them unchanged would be the
longest step of a start, so `cached_fingerprint` stores the fingerprint of a large text under a signature of its files: all
that the system records of them, and a sample of their bytes. When anything differs, the whole text is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from unrolled.atomic_io import TMP_MARK, file_lock, make_dir, storage_error, write_atomic
from unrolled.errors import StorageError
from unrolled.text.compressed_files import CHUNK_BYTES, is_compressed
from unrolled.text.text_files import is_temporary_copy

DAMAGED_AT_ONCE = "The encoded text in {} is damaged as soon as it is written. Check the disk, and run again."
TEXT_CHANGED = "The text changed while it was read. Run again when nothing writes to it."

MIN_CACHED_BYTES = 256 << 20
"""Texts of fewer bytes are hashed every time: that takes less than half a second."""

MIN_AGE_SECONDS = 2.0
"""A fingerprint is stored only if the files are older: file systems have coarse clocks, and a change may keep the time."""

NUM_PROBES, PROBE_BYTES = 64, 1 << 14
"""Places of a file that its signature reads, and bytes read at each."""


def digest(text: str) -> str:
    """Return the 128-bit BLAKE2b hash of a short text, in hexadecimal."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def checksum(path: Path, start: int = 0, size: int | None = None) -> int:
    """Return the CRC-32 of a file, or of `size` bytes of it from `start` on."""
    crc = 0
    with open(path, "rb", buffering=0) as file:
        file.seek(start)
        while chunk := file.read(CHUNK_BYTES if size is None else min(CHUNK_BYTES, size)):
            size = None if size is None else size - len(chunk)
            crc = zlib.crc32(chunk, crc)
    return crc


def to_checked_json(content: dict[str, Any]) -> bytes:
    """Return `content` as JSON that holds its own digest."""
    return json.dumps(content | {"digest": digest(json.dumps(content))}).encode()


def from_checked_json(data: bytes) -> dict[str, Any]:
    """Return the content that `to_checked_json` was given. Raises `ValueError` if the data are anything else."""
    try:
        content: dict[str, Any] = json.loads(data)
        if content.pop("digest") == digest(json.dumps(content)):
            return content
    except (KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise ValueError("The digest does not fit the content.")


def fingerprint(paths: Iterable[Path]) -> str:
    """Return the 160-bit hash of the contents of files, in their order, and of how each is compressed."""
    content_hash = hashlib.blake2b(digest_size=20)
    for path in paths:
        try:
            compression = path.suffix.lower() if is_compressed(path) else ""
            content_hash.update(f"{compression} {path.stat().st_size};".encode())
            with open(path, "rb", buffering=0) as file:
                while chunk := file.read(CHUNK_BYTES):
                    content_hash.update(chunk)
        except OSError as error:
            raise storage_error(error, path, "read") from error
    return content_hash.hexdigest()


def cached_fingerprint(paths: Sequence[Path], cache: Path) -> str:
    """Return `fingerprint(paths)`, computed or taken from the folder `cache`. Raises `StorageError` for unreadable files."""
    started = time.time()
    try:
        stats = [os.stat(path) for path in paths]
        unmodified = all(started - max(stat.st_mtime, stat.st_ctime) > MIN_AGE_SECONDS for stat in stats)
        is_large = sum(stat.st_size for stat in stats) >= MIN_CACHED_BYTES and not any(
            is_temporary_copy(path, cache) for path in paths
        )
        cache_file = cache / "seen" / stat_signature(paths) if unmodified and is_large else None
    except OSError:
        cache_file = None
    if cache_file is None:
        return fingerprint(paths)
    return _read_cached(cache_file) or _compute_and_cache(paths, cache_file)


def _read_cached(cache_file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        content_hash, check = cache_file.read_text("ascii").split(" ")
        if check == digest(f"{cache_file.name} {content_hash}"):
            return content_hash
    return None


def _compute_and_cache(paths: Sequence[Path], cache_file: Path) -> str:
    """Compute the fingerprint and store it. Of several processes that need it at the same time one reads, the others wait."""
    lock = cache_file.with_name(f"{cache_file.name}{TMP_MARK}lock")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, StorageError):  # without the cache, all is read
            make_dir(cache_file.parent)
            stack.enter_context(file_lock(lock, blocking=True))
        content_hash = _read_cached(cache_file) or fingerprint(paths)
        with contextlib.suppress(OSError, StorageError):
            if stat_signature(paths) == cache_file.name:
                write_atomic(cache_file, f"{content_hash} {digest(f'{cache_file.name} {content_hash}')}".encode())
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
    return content_hash


def stat_files(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return size and modification time of each file, to notice writes while a text is read; nothing if one is missing."""
    try:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths)]
    except OSError:
        return []


def stat_signature(paths: Sequence[Path]) -> str:
    """Return a digest of what the system records of files (no program can set `st_ctime`), and of a sample of their bytes."""
    entries = []
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            stat, probe_hash = os.fstat(file.fileno()), hashlib.blake2b(digest_size=16)
            for probe in range(NUM_PROBES):
                file.seek(max(0, stat.st_size - PROBE_BYTES) * probe // (NUM_PROBES - 1))
                probe_hash.update(file.read(PROBE_BYTES))
        times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
        entries.append([os.path.abspath(path), *times, probe_hash.hexdigest()])
    return digest(json.dumps(entries))
