"""Many arrays of different lengths in one buffer: append, then read by index. A large buffer is a temporary file."""

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
from unrolled.tables.cell_values import Array

MAX_MEMORY_BYTES = 64 << 20
"""A larger buffer is written to a file."""

FLUSH_BYTES = 1 << 20


class RaggedArray:
    """Arrays `(N_i, ...)` of one dtype and trailing shape: `append` them, then `finalize`, then read `[i]` and `lengths`."""

    def __init__(self, dtype: npt.DTypeLike) -> None:
        self._dtype = np.dtype(dtype)
        self._item_shape: tuple[int, ...] | None = None
        self._pending: list[Array] = []
        self._pending_bytes = 0
        self._chunks: list[Array] = []
        self._num_bytes = 0
        self._file: Any = None
        self._flushed_lengths: list[Array] = []
        self._pending_lengths: list[int] = []
        self._values: Array = np.empty(0, dtype=self._dtype)
        self.offsets: npt.NDArray[np.int64] = np.zeros(1, dtype=np.int64)

    def append(self, array: Array) -> None:
        """Append an array."""
        self._item_shape = array.shape[1:]
        self._pending.append(np.ascontiguousarray(array, dtype=self._dtype))
        self._pending_lengths.append(len(array))
        self._pending_bytes += self._pending[-1].nbytes
        if self._pending_bytes > FLUSH_BYTES or len(self._pending_lengths) >= 1 << 16:
            self._flush()

    def _flush(self) -> None:
        if not self._pending_lengths:
            return
        chunk = np.concatenate(self._pending)
        self._flushed_lengths.append(np.array(self._pending_lengths, dtype=np.int64))
        self._pending, self._pending_lengths, self._pending_bytes = [], [], 0
        self._num_bytes += chunk.nbytes
        if self._file is None and self._num_bytes <= MAX_MEMORY_BYTES:
            self._chunks.append(chunk)
            return
        try:
            if self._file is None:
                self._file = tempfile.NamedTemporaryFile(prefix="unrolled-rows-", delete=False)
                weakref.finalize(self, _remove, self._file.name)
                for earlier_chunk in self._chunks:
                    self._file.write(earlier_chunk.data)
                self._chunks = []
            self._file.write(chunk.data)  # numpy's `tofile` ignores a full disk
        except OSError as error:
            raise storage_error(error, Path(tempfile.gettempdir()), "keep the rows in") from error

    def finalize(self) -> None:
        """Make the arrays readable. Raises `StorageError` if they could not be written."""
        self._flush()
        lengths = np.concatenate(self._flushed_lengths) if self._flushed_lengths else np.zeros(0, dtype=np.int64)
        self.offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        item_shape = self._item_shape or ()
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                raise storage_error(error, Path(tempfile.gettempdir()), "keep the rows in") from error
            self._values = np.memmap(self._file.name, dtype=self._dtype, mode="r").reshape(-1, *item_shape)
        elif self._chunks:
            self._values = np.concatenate(self._chunks).reshape(-1, *item_shape)
        if len(self._values) != self.offsets[-1]:
            raise StorageError(f"The rows kept in {tempfile.gettempdir()} are incomplete: is the disk full?")

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """The length of each array, `(R,)`."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Array:
        return self._values[self.offsets[index] : self.offsets[index + 1]]


def _remove(name: str) -> None:
    if os.path.exists(name):
        os.unlink(name)
