"""Which text it is: a digest of its contents, which a large text that nobody touched need not be read for again.

A text is known by its contents alone. Reading gigabytes only to find that they are what they were takes longer than anything
else at the start; so for large texts the digest is remembered under all that the system says of the files (where they are,
size, times of the last change of contents and of anything else, which no program can set) and a look into them. Whatever
differs, all is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from unrolled.atomic_io import TMP_MARK, file_lock, make_dir, write_atomic
from unrolled.errors import StorageError
from unrolled.text.text_files import fingerprint, is_stdin_buffer

MIN_CACHED_BYTES = 256 << 20
"""Bytes from which on a digest is remembered: less is read in half a second."""

MIN_AGE_SECONDS = 2.0
"""Seconds for which a file must have been left alone: clocks of file systems are coarse, and a change may share its time."""

NUM_PROBES, PROBE_BYTES = 64, 1 << 14
"""How many places of a file are looked into, and the bytes at each of them."""


def cached_fingerprint(paths: Sequence[Path], cache: Path) -> str:
    """Return `fingerprint(paths)`, read or remembered in the folder `cache`. Raises `StorageError` if they cannot be read."""
    started = time.time()
    try:
        stats = [os.stat(path) for path in paths]
        unmodified = all(started - max(stat.st_mtime, stat.st_ctime) > MIN_AGE_SECONDS for stat in stats)
        is_large = sum(stat.st_size for stat in stats) >= MIN_CACHED_BYTES and not any(
            is_stdin_buffer(path, cache) for path in paths
        )
        cache_file = cache / "seen" / stat_signature(paths) if unmodified and is_large else None
    except OSError:
        cache_file = None
    if cache_file is None:
        return fingerprint(paths)
    return _read_cached(cache_file) or _compute_and_cache(paths, cache_file)


def _read_cached(cache_file: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        digest, checksum = cache_file.read_text("ascii").split(" ")
        if checksum == _checksum(digest, cache_file.name):
            return digest
    return None


def _compute_and_cache(paths: Sequence[Path], cache_file: Path) -> str:
    """Read the files and remember their digest. Of those who want to know at the same time one reads; the others wait."""
    lock = cache_file.with_name(f"{cache_file.name}{TMP_MARK}lock")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, StorageError):  # it is only a memory
            make_dir(cache_file.parent)
            stack.enter_context(file_lock(lock, blocking=True))
        digest = _read_cached(cache_file) or fingerprint(paths)
        with contextlib.suppress(OSError, StorageError):
            if stat_signature(paths) == cache_file.name:
                write_atomic(cache_file, f"{digest} {_checksum(digest, cache_file.name)}".encode())
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
    return digest


def stat_signature(paths: Sequence[Path]) -> str:
    """Return a digest of what the system says of the files, and of a few places in each."""
    entries = []
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            stat, probe_hash = os.fstat(file.fileno()), hashlib.blake2b(digest_size=16)
            for probe in range(NUM_PROBES):
                file.seek(max(0, stat.st_size - PROBE_BYTES) * probe // (NUM_PROBES - 1))
                probe_hash.update(file.read(PROBE_BYTES))
        times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev]
        entries.append([os.path.abspath(path), *times, probe_hash.hexdigest()])
    return hashlib.blake2b(json.dumps(entries).encode(), digest_size=16).hexdigest()


def _checksum(digest: str, name: str) -> str:
    return hashlib.blake2b(f"{name} {digest}".encode(), digest_size=16).hexdigest()
