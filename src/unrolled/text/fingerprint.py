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

from unrolled.atomic_io import PARTIAL, claim, make_folder, write_bytes
from unrolled.errors import StorageError
from unrolled.text.text_files import fingerprint, is_spooled

LARGE = 256 << 20
"""Bytes from which on a digest is remembered: less is read in half a second."""

SETTLED = 2.0
"""Seconds for which a file must have been left alone: clocks of file systems are coarse, and a change may share its time."""

LOOKS, LOOK = 64, 1 << 14
"""How many places of a file are looked into, and the bytes at each of them."""


def identity(paths: Sequence[Path], cache: Path) -> str:
    """Return `fingerprint(paths)`, read or remembered in the folder `cache`. Raises `StorageError` if they cannot be read."""
    started = time.time()
    try:
        states = [os.stat(path) for path in paths]
        rests = all(started - max(state.st_mtime, state.st_ctime) > SETTLED for state in states)
        large = sum(state.st_size for state in states) >= LARGE and not any(is_spooled(path, cache) for path in paths)
        seen = cache / "seen" / _sight(paths) if rests and large else None
    except OSError:
        seen = None
    if seen is None:
        return fingerprint(paths)
    return _remembered(seen) or _learned(paths, seen)


def _remembered(seen: Path) -> str | None:
    with contextlib.suppress(OSError, ValueError):
        digest, check = seen.read_text("ascii").split(" ")
        if check == _check(digest, seen.name):
            return digest
    return None


def _learned(paths: Sequence[Path], seen: Path) -> str:
    """Read the files and remember their digest. Of those who want to know at the same time one reads; the others wait."""
    lock = seen.with_name(f"{seen.name}{PARTIAL}lock")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, StorageError):  # it is only a memory
            make_folder(seen.parent)
            stack.enter_context(claim(lock, wait=True))
        digest = _remembered(seen) or fingerprint(paths)
        with contextlib.suppress(OSError, StorageError):
            if _sight(paths) == seen.name:
                write_bytes(seen, f"{digest} {_check(digest, seen.name)}".encode())
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
    return digest


def _sight(paths: Sequence[Path]) -> str:
    """Return a digest of what the system says of the files, and of a few places in each."""
    seen = []
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            state, look = os.fstat(file.fileno()), hashlib.blake2b(digest_size=16)
            for place in range(LOOKS):
                file.seek(max(0, state.st_size - LOOK) * place // (LOOKS - 1))
                look.update(file.read(LOOK))
        times = [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev]
        seen.append([os.path.abspath(path), *times, look.hexdigest()])
    return hashlib.blake2b(json.dumps(seen).encode(), digest_size=16).hexdigest()


def _check(digest: str, name: str) -> str:
    return hashlib.blake2b(f"{name} {digest}".encode(), digest_size=16).hexdigest()
