"""A file that grows, read line by line as `tail -F` does: it may not exist yet, be replaced by another, or be cut."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from unrolled.atomic_io import storage_error
from unrolled.errors import DataError

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.2
"""Seconds between two checks of the file."""

READ_BYTES = 1 << 20
MAX_PARTIAL_BYTES = 1 << 20
"""A line that is longer is passed on in parts."""

WARMUP_BYTES = 1 << 20
"""Bytes before the end of a file that are read first, so that what is open there is known."""


class FollowedFile:
    """The lines that are appended to a file from now on.

    Args:
        path: The file. It may not exist yet; it is then read from its start.
        from_start: Whether a file that is there already is read from its start, not from its end.
        should_stop: Asked between two looks; the lines end when it returns True.

    `num_rotations` counts how often another file came into its place, `num_truncations` how often it became shorter,
    `num_undecodable` lines that were not UTF-8.
    """

    def __init__(self, path: Path, from_start: bool = False, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.path, self._from_start, self._should_stop = path, from_start, should_stop
        self.num_rotations = self.num_truncations = self.num_undecodable = 0
        self._partial = b""
        self._file: BinaryIO | None = None
        if path.is_dir():
            raise DataError(f"{path} is a folder, and a file is expected: name a file in it.")

    def earlier_lines(self) -> list[str]:
        """Open the file if it is there; return its last lines before the point from where `batches` goes on."""
        self._open()
        if self._file is None or self._from_start:
            return []
        end = os.fstat(self._file.fileno()).st_size
        start = max(0, end - WARMUP_BYTES)
        self._file.seek(start)
        data = self._file.read(end - start)
        if start:
            data = data.partition(b"\n")[2]
        lines, _, self._partial = data.rpartition(b"\n")
        return self._decode(lines.split(b"\n")) if lines else []

    def batches(self) -> Iterator[list[str]]:
        """Yield lists of new lines as they come, without their ends, until `should_stop`."""
        if self._file is None:
            logger.info(f"waiting for {self.path}, which is not there yet") if not self.path.exists() else None
        pause = threading.Event()
        while not self._should_stop():
            lines = self._read()
            if lines:
                yield lines
            else:
                pause.wait(POLL_SECONDS)
        self.close()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self._file = open(self.path, "rb", buffering=0)
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self.path, "read") from error

    def _read(self) -> list[str]:
        """Return the lines that were completed since the last check."""
        if self._file is None:
            self._open()
            if self._file is None:
                return []
        try:
            size = os.fstat(self._file.fileno()).st_size
            if size < self._file.tell():
                return self._truncated()
            data = self._file.read(READ_BYTES)
        except OSError as error:
            raise storage_error(error, self.path, "read") from error
        if not data:
            return self._rotated()
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > MAX_PARTIAL_BYTES:
            lines, self._partial = [*lines, self._partial], b""
        return self._decode(lines)

    def _truncated(self) -> list[str]:
        """Go on at the start of a file that became shorter; return the line that was left without its end."""
        self.num_truncations += 1
        logger.info(f"{self.path} became shorter: it is read from its start")
        if self._file is not None:
            self._file.seek(0)
        return self._take_partial()

    def _rotated(self) -> list[str]:
        """Open the file that is now in the place of the one that was read to its end, if it is another one."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return []  # moved away; the next one is not there yet
        except OSError as error:
            raise storage_error(error, self.path, "read") from error
        if self._file is None:
            return []
        before = os.fstat(self._file.fileno())
        if (now.st_ino, now.st_dev) == (before.st_ino, before.st_dev):
            return []
        if before.st_size > self._file.tell():
            return []  # written to after it was moved: read first
        self.close()
        self.num_rotations += 1
        logger.info(f"{self.path} is another file now: it is read from its start")
        self._open()
        return self._take_partial()

    def _take_partial(self) -> list[str]:
        partial, self._partial = self._partial, b""
        return self._decode([partial]) if partial else []

    def _decode(self, lines: list[bytes]) -> list[str]:
        decoded = []
        for line in lines:
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError:
                self.num_undecodable += 1
                text = line.decode("utf-8", "replace")
            decoded.append(text.removesuffix("\r").replace("\r", "\n").replace("\n", " "))
        return decoded
