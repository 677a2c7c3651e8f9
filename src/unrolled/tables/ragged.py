"""Many arrays of different lengths as one: appended to, then read by number. What is large lies in a file, not in memory."""

from __future__ import annotations

import os
import tempfile
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import storage_error
from unrolled.errors import StorageError

Array = npt.NDArray[Any]

IN_MEMORY = 64 << 20
"""Bytes up to which the arrays stay in memory."""

PIECE = 1 << 20


class Packed:
    """Arrays `(N_i, ...)` of one type and trailing shape, N_i free: `append`, `close`, then `packed[i]` and `lengths`."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._tail: tuple[int, ...] | None = None
        self._waiting: list[Array] = []
        self._waiting_bytes = 0
        self._pieces: list[Array] = []
        self._bytes = 0
        self._file: Any = None
        self._starts: list[Array] = []
        self._counts: list[int] = []
        self._items: Array = np.empty(0, dtype=self._dtype)
        self.starts: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)

    def append(self, array: Array) -> None:
        """Add an array behind the others."""
        self._tail = array.shape[1:]
        self._waiting.append(np.ascontiguousarray(array, dtype=self._dtype))
        self._counts.append(len(array))
        self._waiting_bytes += self._waiting[-1].nbytes
        if self._waiting_bytes > PIECE or len(self._counts) >= 1 << 16:
            self._flush()

    def _flush(self) -> None:
        if not self._counts:
            return
        piece = np.concatenate(self._waiting)
        self._starts.append(np.array(self._counts, dtype=np.int64))
        self._waiting, self._counts, self._waiting_bytes = [], [], 0
        self._bytes += piece.nbytes
        if self._file is None and self._bytes <= IN_MEMORY:
            self._pieces.append(piece)
            return
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(prefix="unrolled-rows-", delete=False)
                weakref.finalize(self, _remove, self._file.name)
                for earlier in self._pieces:
                    self._file.write(earlier.data)
                self._pieces = []
            self._file.write(piece.data)  # numpy's own `tofile` is silent about a disk that is full
        except OSError as error:
            raise storage_error(error, Path(tempfile.gettempdir()), "keep the rows in") from error

    def close(self) -> None:
        """Make what was appended readable."""
        self._flush()
        counts = np.concatenate(self._starts) if self._starts else np.zeros(0, dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)])
        tail = self._tail or ()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise storage_error(error, Path(tempfile.gettempdir()), "keep the rows in") from error
            self._items = np.memmap(self._file.name, dtype=self._dtype, mode="r").reshape(-1, *tail)
        elif self._pieces:
            self._items = np.concatenate(self._pieces).reshape(-1, *tail)
        if len(self._items) != self.starts[-1]:
            raise StorageError(f"The rows kept in {tempfile.gettempdir()} are not whole: is the disk full?")

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The length of every array, `(R,)`."""
        return np.diff(self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> Array:
        return self._items[self.starts[index] : self.starts[index + 1]]


def _remove(name: str) -> None:
    if os.path.exists(name):
        os.unlink(name)
