"""The built-in text: the source code of Python's standard library, which every machine has."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from unrolled.errors import DataError

PREFIX = "builtin:"


def python_sources() -> list[Path]:
    """Return the files of Python's standard library, sorted: about ten million characters of ASCII code.

    Tests, installed packages and the few files with other characters, which would enlarge the vocabulary, are left out.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    excluded = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = set(subfolders) - excluded  # not entered: installed packages may have many thousand files
        paths += [Path(folder, name) for name in names if name.endswith(".py")]
    files = [path for path in sorted(paths) if path.read_bytes().isascii()]
    if not files:
        raise DataError(f"The built-in corpus needs the source files of Python's library, and {root} has none.")
    return files
