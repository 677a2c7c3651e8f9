"""The files of a folder that is learned: without runs of this program, hidden folders, and those of package managers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from unrolled.display import plural
from unrolled.errors import StorageError

OTHER_PROGRAMS = frozenset(("node_modules", "__pycache__", "site-packages"))
"""Folders of installed and compiled code."""

MAX_NAMES = 5
"""Folders that are left out and named."""


@dataclass(frozen=True)
class FolderFiles:
    """The files in a folder and in those below it, sorted, and the folders that were left out."""

    folder: Path
    files: list[Path]
    left_out: list[Path]

    @property
    def note(self) -> str:
        """A sentence about the folders that were left out, or an empty one."""
        if not self.left_out:
            return ""
        names = ", ".join(str(path.relative_to(self.folder)) for path in self.left_out[:MAX_NAMES])
        more = f" and {len(self.left_out) - MAX_NAMES:,} more" if len(self.left_out) > MAX_NAMES else ""
        count = plural(len(self.left_out), "folder")
        return f"{self.folder}: {count} left out (runs, hidden, or of other programs; name one to read it): {names}{more}"


def files_in(folder: Path) -> FolderFiles:
    """Return the files in a folder and in those below it, without hidden ones. A folder that is named itself is always read.

    Raises `StorageError` for a folder that cannot be listed: its files would be missing without a word.
    """
    files: list[Path] = []
    left_out: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        below = [(Path(parent) / name, name) for name in sorted(folders)]
        passed_over = [path for path, name in below if _is_left_out(path, name)]
        left_out += passed_over
        folders[:] = [name for path, name in below if path not in passed_over]
        files += [path for name in names if not name.startswith(".") and (path := Path(parent) / name).is_file()]
    return FolderFiles(folder, sorted(files), left_out)


def _refuse(error: OSError) -> NoReturn:
    raise StorageError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error


def _is_left_out(path: Path, name: str) -> bool:
    is_run = (path / "config.json").is_file() and (path / "checkpoints").is_dir()
    is_environment = (path / "pyvenv.cfg").is_file() or (path / "conda-meta").is_dir()
    return name.startswith(".") or name in OTHER_PROGRAMS or is_run or is_environment
