"""Files that clients send to be learned from: each in a folder of its own, whose name is its id."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from unrolled.atomic_io import TMP_MARK, commit_dir, storage_error
from unrolled.server.http_errors import ApiError
from unrolled.server.ids import to_id
from unrolled.server.limits import BODY_SECONDS

WORK_FOLDER = ".server"
"""Folder among the runs with uploaded files, pasted texts and what trainings print."""

UNUSED_SECONDS = 24 * 3600
"""Age of an upload, in seconds, from which it is removed if no run has learned from it."""

ABANDONED_SECONDS = 2 * BODY_SECONDS
"""Seconds without a byte after which an upload is one of a server that was killed: a living one gives up sooner."""

_ID = re.compile("upload-[0-9a-f]{16}")


class Uploads:
    """The uploads to a folder of runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.remove_unused()

    @property
    def work_folder(self) -> Path:
        """The folder of uploads and outputs; it is made when it is first needed."""
        path = self.folder / WORK_FOLDER
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, path, "make") from error
        return path

    def path(self, upload_id: str) -> Path:
        """Return the file of an upload. Raises `ApiError` 404 if there is none."""
        folder = self.folder / WORK_FOLDER / upload_id
        files = sorted(folder.iterdir()) if _ID.fullmatch(upload_id) and folder.is_dir() else []
        if len(files) != 1:
            raise ApiError(404, "There is no upload with this id: send the file again.", "upload", "upload_not_found")
        with contextlib.suppress(OSError):
            os.utime(folder)  # a training is about to begin: not old until its run says that it is used
        return files[0]

    @contextlib.contextmanager
    def receive(self, name: str) -> Iterator[Path]:
        """Yield where the content of a new upload goes: a file whose name ends as `name` does. Without `keep` it is removed."""
        self.remove_unused()
        base = to_id(name.replace("\\", "/").rpartition("/")[2][-80:], "text.txt")
        prefix = f"upload-{secrets.token_hex(8)}{TMP_MARK}"
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self.work_folder))
        try:
            yield folder / base
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def keep(self, path: Path) -> str:
        """Make a file of `receive`, which is complete, an upload; return its id."""
        upload_id = path.parent.name.partition(TMP_MARK)[0]
        commit_dir(path.parent, self.work_folder / upload_id)
        return upload_id

    def remove(self, upload_id: str) -> None:
        """Remove an upload that nothing can be learned from."""
        shutil.rmtree(self.folder / WORK_FOLDER / upload_id, ignore_errors=True)

    def remove_unused(self) -> None:
        """Remove the uploads of a day ago that no run has learned from, and what killed servers have left of others.

        A run needs its text to go on.
        """
        with contextlib.suppress(OSError):
            folders = {path: _last_change(path) for path in (self.folder / WORK_FOLDER).glob("upload-*")}
            now = time.time()
            half = [path for path, changed in folders.items() if TMP_MARK in path.name and changed < now - ABANDONED_SECONDS]
            old = [path for path in folders if _ID.fullmatch(path.name) and path.stat().st_mtime < now - UNUSED_SECONDS]
            used = self._used() if old else set()
            for path in (*half, *(path for path in old if path.name not in used)):
                shutil.rmtree(path, ignore_errors=True)

    def _used(self) -> set[str]:
        """Return the uploads that runs have learned from."""
        configs = self.folder.glob("*/config.json")
        return {name for config in configs for name in _ID.findall(config.read_text("utf-8", "replace"))}


def _last_change(folder: Path) -> float:
    """Return when a folder or a file in it was changed last; it may be removed meanwhile."""
    with contextlib.suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return 0.0
