"""The built-in text: the source code of Python's standard library, which every machine has."""

from __future__ import annotations

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
    files = [path for path in sorted(root.rglob("*.py")) if not excluded & set(path.relative_to(root).parts)]
    files = [path for path in files if path.read_bytes().isascii()]
    if not files:
        raise DataError(f"The built-in corpus needs the source files of Python's library, and {root} has none.")
    return files
