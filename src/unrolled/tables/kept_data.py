"""Training data that are Python objects, kept in the cache, so that a run can be continued and evaluated later."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unrolled.atomic_io import make_dir, write_atomic
from unrolled.text.corpus import cache_folder

FRAME_NAME, KEPT_TABLE = "the data frame", "table.jsonl"
"""How messages name a table that is a Python object, and its file in the cache."""


def keep(name: str, content: str) -> str:
    """Write a text to the cache, as a file `name` under the hash of its content; return the path."""
    data = content.encode("utf-8", "replace")
    folder = _folder() / hashlib.blake2b(data, digest_size=16).hexdigest()
    if not (folder / name).is_file():
        make_dir(folder)
        write_atomic(folder / name, data)
    return str(folder / name)


def shown_name(path: Path) -> str:
    """Return the name of a table in messages: its path, or for a frame that is kept in the cache, that it is one."""
    return FRAME_NAME if path.name == KEPT_TABLE and path.parent.parent == _folder() else str(path)


def _folder() -> Path:
    return cache_folder() / "data"
