"""Files that clients send to be learned from: each in a folder of its own, whose name is its id."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from unrolled.atomic_io import storage_error
from unrolled.server.http_errors import ApiError

WORK_FOLDER = ".server"
"""Folder among the runs with uploaded files, pasted texts and what trainings print."""

UNUSED_SECONDS = 24 * 3600
"""Age of an upload, in seconds, from which it is removed if no run has learned from it."""

UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
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

    def new(self, name: str) -> tuple[str, Path]:
        """Return the id of a new upload, and where its content goes: a file whose name ends as `name` does."""
        self.remove_unused()
        upload_id = "upload-" + secrets.token_hex(8)
        base = UNUSUAL.sub("-", name.replace("\\", "/").rpartition("/")[2])[-80:].strip(".-") or "text.txt"
        folder = self.work_folder / upload_id
        folder.mkdir()
        return upload_id, folder / base

    def remove_unused(self) -> None:
        """Remove the uploads of a day ago that no run has learned from: a run needs its text to go on."""
        with contextlib.suppress(OSError):
            before = time.time() - UNUSED_SECONDS
            old = [
                path
                for path in (self.folder / WORK_FOLDER).iterdir()
                if _ID.fullmatch(path.name) and path.stat().st_mtime < before
            ]
            used = (
                {
                    name
                    for config in self.folder.glob("*/config.json")
                    for name in _ID.findall(config.read_text("utf-8", "replace"))
                }
                if old
                else set()
            )
            for path in old:
                if path.name not in used:
                    shutil.rmtree(path, ignore_errors=True)
