"""Batches of a text: columns of one stream with carried state, or padded rows of short documents. Endless and resumable.

`StreamBatches` reads the text in B columns, from B evenly spaced positions, T steps per batch; the state of the model is
carried from batch to batch. A column that reaches the start of the next one reads on, so every token is used in every epoch;
only at the end of the text a column goes back to its start, with a zero state. `DocumentBatches` pads short documents, each
from a zero state, grouped by length so that there is little padding.

Both have a cursor of a few integers from which they resume exactly.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Ids

IGNORE_INDEX = -1
"""Target of a step that has no loss."""

MAX_ROW_LENGTH = 1024
"""Longer documents are read as a stream: all steps of a row are kept for backpropagation at the same time."""


@dataclass(frozen=True)
class Batch:
    """Ids of T steps and B columns, time first: `inputs` and `targets` `(T, B)`; ignored targets are `IGNORE_INDEX`.

    `resets` is `(T, B)`, true where the state is set to zero before the step, or None for nowhere. With `carry_state` the
    state goes on from the previous batch, else every column starts from zero. `num_targets` counts the targets that are not
    ignored. `loss_weight` multiplies the loss; it is not 1 if the batch is one process's part of a larger one.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    resets: npt.NDArray[np.bool_] | None
    carry_state: bool
    num_targets: int
    loss_weight: float = 1.0

    @property
    def batch_size(self) -> int:
        """Number of columns."""
        return int(self.inputs.shape[1])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that a model is trained on, by name; `resets` only if there are any."""
        resets = {} if self.resets is None else {"resets": self.resets}
        return {"inputs": self.inputs, "targets": self.targets, **resets}


class AnyBatch(Protocol):
    """A batch of text or of table rows, as the trainer uses it."""

    @property
    def batch_size(self) -> int:
        """Number of columns or rows."""
        ...

    @property
    def num_targets(self) -> int:
        """Number of targets."""
        ...

    @property
    def carry_state(self) -> bool:
        """Whether the state goes on from the previous batch."""
        ...

    @property
    def loss_weight(self) -> float:
        """Factor of the loss."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that a model is trained on, by name."""
        ...


class IdReader:
    """Reads slices of the ids `(N,)` of a text. A large text on the disk is read through its file instead of its mapping.

    For each place that is read, the system maps up to two megabytes around it, which count as memory of the process: 100 MB
    for the columns of training and validation, as measured. A read of a hundred bytes takes a microsecond.
    """

    MAX_MAPPED_BYTES = 16 << 20
    """Texts of at most as many bytes are read through the mapping."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._file: int | None = None
        mapping, name = getattr(ids, "_mmap", None), getattr(ids, "filename", None)
        if mapping is not None and name is not None and ids.nbytes > self.MAX_MAPPED_BYTES and hasattr(os, "pread"):
            self._file = os.open(name, os.O_RDONLY)
            self._data_offset = _address(ids) - _address(np.frombuffer(mapping, dtype=np.uint8))
            weakref.finalize(self, os.close, self._file)

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids from `start` to before `stop`, or to the end of the text."""
        stop = min(stop, len(self._ids))
        if self._file is None:
            return self._ids[start:stop]
        size = self._ids.itemsize
        raw = os.pread(self._file, max(0, stop - start) * size, self._data_offset + start * size)
        return np.frombuffer(raw, dtype=self._ids.dtype)

    def inputs_and_targets(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the ids at `positions` `(T, B)` and those after them. Down a column, positions rise or start again at 0."""
        if self._file is None:
            return self._ids[positions].astype(np.int64), self._ids[positions + 1].astype(np.int64)
        inputs, targets = np.empty_like(positions), np.empty_like(positions)
        for column_index, column_positions in enumerate(positions.T):
            bounds = [0, *(np.flatnonzero(np.diff(column_positions) < 0) + 1).tolist(), len(column_positions)]
            for first, last in itertools.pairwise(bounds):
                offsets = column_positions[first:last] - column_positions[first]
                chunk = self.read(int(column_positions[first]), int(column_positions[last - 1]) + 2)
                inputs[first:last, column_index], targets[first:last, column_index] = chunk[offsets], chunk[offsets + 1]
        return inputs, targets


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


class BatchSource(Protocol):
    """An endless source of batches that can resume from a cursor."""

    batch_size: int
    seq_len: int
    tokens_per_epoch: int

    def __iter__(self) -> Iterator[AnyBatch]:
        """Yield batches without end, from the cursor on."""
        ...

    @property
    def cursor(self) -> dict[str, int]:
        """What `seek` needs to resume from here."""
        ...

    def seek(self, cursor: dict[str, int]) -> None:
        """Resume from a cursor that was read earlier."""
        ...


class StreamBatches:
    """Batches of a stream of ids `(N,)`: B columns, T steps.

    Each of the N - 1 pairs of neighboring ids is used once an epoch; no pair joins the end of the text with its start.
    The state is reset before each `eos_id`, from which a document starts; it is None for a text without documents.
    """

    def __init__(self, ids: Ids, batch_size: int, seq_len: int, eos_id: int | None = None) -> None:
        self.batch_size, self.seq_len = fit_batch_shape(len(ids), batch_size, seq_len)
        self.tokens_per_epoch = len(ids) - 1
        self._reader, self._eos_id = IdReader(ids), eos_id
        self._column_starts = np.arange(self.batch_size, dtype=np.int64) * self.tokens_per_epoch // self.batch_size
        self._position = 0

    def select_columns(self, columns: slice) -> None:
        """Read only these columns; other processes read the others."""
        self._column_starts = self._column_starts[columns]

    @property
    def cursor(self) -> dict[str, int]:
        return {"position": self._position}

    def seek(self, cursor: dict[str, int]) -> None:
        self._position = int(cursor["position"])

    def __iter__(self) -> Iterator[Batch]:
        steps = np.arange(self.seq_len, dtype=np.int64)[:, None]
        while True:
            positions = (self._column_starts + self._position + steps) % self.tokens_per_epoch  # (T, B)
            inputs, targets = self._reader.inputs_and_targets(positions)
            resets = positions == 0
            if self._eos_id is not None:
                resets |= inputs == self._eos_id
            carry_state = self._position > 0
            self._position += self.seq_len
            yield Batch(inputs, targets, resets if resets.any() else None, carry_state, targets.size)


def fit_batch_shape(num_tokens: int, batch_size: int, seq_len: int) -> tuple[int, int]:
    """Return batch size and sequence length, made small enough that a batch of a text of `num_tokens` has no token twice."""
    pairs = max(1, num_tokens - 1)
    batch_size = max(1, min(batch_size, pairs // min(seq_len, pairs)))
    return batch_size, min(seq_len, pairs // batch_size)


class WindowCursor:
    """A cursor for rows in a seeded order: the epoch, the window (a set of rows sorted by length), and the batch in it."""

    _epoch = _window = _batch_in_window = 0

    @property
    def cursor(self) -> dict[str, int]:
        """What `seek` needs to resume from here."""
        return {"epoch": self._epoch, "window": self._window, "batch": self._batch_in_window}

    def seek(self, cursor: dict[str, int]) -> None:
        """Resume from a cursor that was read earlier."""
        self._epoch, self._window, self._batch_in_window = cursor["epoch"], cursor["window"], cursor["batch"]


class DocumentBatches(WindowCursor):
    """Batches of short documents, each from a zero state, padded to the longest of the batch.

    `ids` is `EOS d1 EOS d2 ... EOS`. The inputs of a row are `EOS c1 .. cn`, its targets `c1 .. cn EOS`. A batch has about
    `batch_size * seq_len` tokens. The order of the documents is seeded and changes with every epoch. They are drawn from
    blocks of the text, so that memory does not grow with the text.
    """

    BLOCKS_PER_WINDOW = 16

    def __init__(self, ids: Ids, batch_size: int, seq_len: int, eos_id: int, seed: int) -> None:
        self.batch_size, self.seq_len = batch_size, seq_len
        self.tokens_per_epoch = len(ids) - 1
        self._reader, self._eos_id, self._seed = IdReader(ids), eos_id, seed
        self._block_size = int(np.clip(len(ids) // 256, 2048, 65536))

    def __iter__(self) -> Iterator[Batch]:
        while True:
            num_blocks, size = -(-self.tokens_per_epoch // self._block_size), self.BLOCKS_PER_WINDOW
            blocks = np.random.default_rng([self._seed, self._epoch]).permutation(num_blocks)
            windows = [blocks[start : start + size] for start in range(0, num_blocks, size)]
            while self._window < len(windows):
                yield from self._window_batches(windows[self._window])
                self._window, self._batch_in_window = self._window + 1, 0
            self._epoch, self._window = self._epoch + 1, 0

    def _window_batches(self, blocks: npt.NDArray[Any]) -> Iterator[Batch]:
        rng = np.random.default_rng([self._seed, self._epoch, 1 + self._window])
        documents = [document for block in blocks for document in self._documents(int(block) * self._block_size)]
        order = rng.permutation(len(documents))
        order = order[np.argsort([len(documents[i]) for i in order], kind="stable")]
        batches = list(_group_by_size([documents[i] for i in order], self.batch_size * self.seq_len))
        batch_order = rng.permutation(len(batches))
        while self._batch_in_window < len(batches):
            group = batches[int(batch_order[self._batch_in_window])]
            self._batch_in_window += 1
            yield pad_documents(group, self._eos_id)

    def _documents(self, first: int) -> list[Ids]:
        return read_documents(self._reader, self._eos_id, first, min(first + self._block_size, self.tokens_per_epoch))


def read_documents(reader: IdReader, eos_id: int, first: int, last: int) -> list[Ids]:
    """Return the documents that start at position `first` or later but before `last`, each as `EOS c1 .. cn EOS`."""
    chunk = reader.read(first, last + MAX_ROW_LENGTH + 2)
    eos_positions = np.flatnonzero(chunk == eos_id)
    starts = eos_positions[:-1][eos_positions[:-1] < last - first]
    return [chunk[start : stop + 1] for start, stop in zip(starts, eos_positions[1:], strict=False)]


def length_sorted_batches(ids: Ids, eos_id: int, tokens_per_batch: int, max_tokens: int | None = None) -> Iterator[Batch]:
    """Yield every document once in batches of about `tokens_per_batch`, short ones first within each block of the text.

    With `max_tokens`, only about as many tokens are read, from blocks spread evenly over the text.
    """
    reader, num_pairs, block_size = IdReader(ids), len(ids) - 1, 65536
    blocks = np.arange(0, num_pairs, block_size)
    if max_tokens is not None and max_tokens < num_pairs:
        blocks = blocks[np.linspace(0, len(blocks) - 1, max(1, min(len(blocks), max_tokens // block_size))).astype(int)]
    for first in blocks.tolist():
        documents = sorted(read_documents(reader, eos_id, first, min(first + block_size, num_pairs)), key=len)
        for group in _group_by_size(documents, tokens_per_batch):
            yield pad_documents(group, eos_id)


def _group_by_size(documents: list[Ids], tokens_per_batch: int) -> Iterator[list[Ids]]:
    """Split documents that are sorted by length into groups of about `tokens_per_batch`, padding included."""
    group: list[Ids] = []
    for document in documents:
        if group and (len(group) + 1) * (len(document) - 1) > tokens_per_batch:
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def pad_documents(documents: list[Ids], eos_id: int) -> Batch:
    """Return documents `EOS c1 .. cn EOS` as a batch `(T, B)`, T the longest; targets behind the end of a row are ignored."""
    lengths = np.array([len(document) - 1 for document in documents])
    inputs = np.full((lengths.max(), len(documents)), eos_id, dtype=np.int64)
    targets = np.full_like(inputs, IGNORE_INDEX)
    for row, document in enumerate(documents):
        inputs[: lengths[row], row] = document[:-1]
        targets[: lengths[row], row] = document[1:]
    return Batch(inputs, targets, None, carry_state=False, num_targets=int(lengths.sum()))
