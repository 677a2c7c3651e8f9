"""Lanes of a stream with carried state, or padded rows of short documents; seeded, endless, resumable.

`Lanes` cuts the text into B contiguous lanes that are read side by side, a chunk of T steps at a time; the state of the
model is carried from chunk to chunk. A lane that reaches the start of the next one simply reads on, so every symbol is
used in every epoch and only the end of the whole text breaks a lane: there it starts from zero at the beginning again.
`Rows` lays short documents side by side, each from zero, grouped by length so that little is padded.

Both own a cursor of a few integers from which they go on exactly.
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

IGNORED = -1
"""Target of a step whose output is not looked at."""

LONGEST_ROW = 1024
"""Longer documents are read as streams: their steps would be backpropagated through, and kept, all at once."""


@dataclass(frozen=True)
class Batch:
    """One chunk, time first: `inputs`, `targets` `(T, B)`, ids; `targets` is `IGNORED` where nothing is to be predicted.

    `resets` is `(T, B)`, true where the state is zero before the step, or None if nowhere. With `carried` the state of the
    batch before goes on; without, every row starts from zero. `symbols` counts the targets that are not ignored, and `weight`
    multiplies the loss: other than 1 where the batch is one process's part of a larger one.
    """

    inputs: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    resets: npt.NDArray[np.bool_] | None
    carried: bool
    symbols: int
    weight: float = 1.0

    @property
    def rows(self) -> int:
        """Number of lanes or rows side by side."""
        return int(self.inputs.shape[1])

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a network learns from, by name; `resets` only where there are some."""
        resets = {} if self.resets is None else {"resets": self.resets}
        return {"inputs": self.inputs, "targets": self.targets, **resets}


class AnyBatch(Protocol):
    """What training asks of a batch, whatever it is made of."""

    @property
    def rows(self) -> int:
        """Number of rows side by side."""
        ...

    @property
    def symbols(self) -> int:
        """Number of targets."""
        ...

    @property
    def carried(self) -> bool:
        """Whether the state of the batch before goes on."""
        ...

    @property
    def weight(self) -> float:
        """What the loss is multiplied by."""
        ...

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a network learns from, by name."""
        ...


class Reader:
    """Reads stretches of a text `(N,)`. A large one on the disk is read through its file instead of its mapping.

    Each lane that touches a mapping makes the system map up to two megabytes around it, which count as this process's own:
    100 MB for the lanes of training and validation, measured. A read of a hundred bytes costs a microsecond.
    """

    SMALL = 16 << 20
    """Bytes of a text that may as well be mapped whole."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._file: int | None = None
        mapping, name = getattr(ids, "_mmap", None), getattr(ids, "filename", None)
        if mapping is not None and name is not None and ids.nbytes > self.SMALL and hasattr(os, "pread"):
            self._file = os.open(name, os.O_RDONLY)
            self._first = _address(ids) - _address(np.frombuffer(mapping, dtype=np.uint8))
            weakref.finalize(self, os.close, self._file)

    def read(self, start: int, stop: int) -> Ids:
        """Return the ids from `start` to before `stop`, or to the end of the text."""
        stop = min(stop, len(self._ids))
        if self._file is None:
            return self._ids[start:stop]
        size = self._ids.itemsize
        content = os.pread(self._file, max(0, stop - start) * size, self._first + start * size)
        return np.frombuffer(content, dtype=self._ids.dtype)

    def pairs(self, at: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the ids at positions `(T, B)` and those one further on; down a column, positions rise, or start again."""
        if self._file is None:
            return self._ids[at].astype(np.int64), self._ids[at + 1].astype(np.int64)
        inputs, targets = np.empty_like(at), np.empty_like(at)
        for lane, column in enumerate(at.T):
            cuts = [0, *(np.flatnonzero(np.diff(column) < 0) + 1).tolist(), len(column)]
            for first, last in itertools.pairwise(cuts):
                own = column[first:last] - column[first]
                piece = self.read(int(column[first]), int(column[last - 1]) + 2)
                inputs[first:last, lane], targets[first:last, lane] = piece[own], piece[own + 1]
        return inputs, targets


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


class Batches(Protocol):
    """An endless source of batches that knows where it is."""

    batch: int
    steps: int
    symbols: int

    def __iter__(self) -> Iterator[AnyBatch]:
        """Yield batches for ever, from the cursor on."""
        ...

    @property
    def cursor(self) -> dict[str, int]:
        """What `seek` needs to go on from here."""
        ...

    def seek(self, cursor: dict[str, int]) -> None:
        """Go on from a cursor that was read earlier."""
        ...


class Lanes:
    """B lanes of a stream of ids, T steps a batch.

    `ids` is `(N,)`; each of its N - 1 neighbouring pairs is trained on once an epoch, and no pair crosses the end of the text.
    `end` is the id that documents start from (the state is zero before it), or None for one endless text.
    """

    def __init__(self, ids: Ids, batch: int, steps: int, end: int | None = None) -> None:
        self.batch, self.steps = fit(len(ids), batch, steps)
        self.symbols = len(ids) - 1
        self._reader, self._end = Reader(ids), end
        self._starts = np.arange(self.batch, dtype=np.int64) * self.symbols // self.batch
        self._read = 0

    def keep(self, lanes: slice) -> None:
        """Read these lanes only: the others are another process's."""
        self._starts = self._starts[lanes]

    @property
    def cursor(self) -> dict[str, int]:
        return {"read": self._read}

    def seek(self, cursor: dict[str, int]) -> None:
        self._read = int(cursor["read"])

    def __iter__(self) -> Iterator[Batch]:
        ahead = np.arange(self.steps, dtype=np.int64)[:, None]
        while True:
            at = (self._starts + self._read + ahead) % self.symbols  # (T, B)
            inputs, targets = self._reader.pairs(at)
            resets = at == 0
            if self._end is not None:
                resets |= inputs == self._end
            carried = self._read > 0
            self._read += self.steps
            yield Batch(inputs, targets, resets if resets.any() else None, carried, targets.size)


def fit(size: int, batch: int, steps: int) -> tuple[int, int]:
    """Return batch and steps made small enough for a text of `size` symbols, so that one batch reads no symbol twice."""
    pairs = max(1, size - 1)
    batch = max(1, min(batch, pairs // min(steps, pairs)))
    return batch, min(steps, pairs // batch)


class InWindows:
    """A cursor for rows in a seeded order: the epoch, a window of it, whose rows are sorted by length, and a batch of that."""

    _epoch = _window = _batch_in_window = 0

    @property
    def cursor(self) -> dict[str, int]:
        """What `seek` needs to go on from here."""
        return {"epoch": self._epoch, "window": self._window, "batch": self._batch_in_window}

    def seek(self, cursor: dict[str, int]) -> None:
        """Go on from a cursor that was read earlier."""
        self._epoch, self._window, self._batch_in_window = cursor["epoch"], cursor["window"], cursor["batch"]


class Rows(InWindows):
    """Short documents as rows of a batch, each from zero, padded to the longest row beside it.

    `ids` is `END d1 END d2 ... END`. A row's inputs are `END c1 .. cn` and its targets `c1 .. cn END`. A batch has about
    `batch * steps` symbols. Documents are drawn in a seeded order, other in every epoch, from blocks of the text, so that
    memory does not grow with the text.
    """

    BLOCKS_A_WINDOW = 16

    def __init__(self, ids: Ids, batch: int, steps: int, end: int, seed: int) -> None:
        self.batch, self.steps = batch, steps
        self.symbols = len(ids) - 1
        self._reader, self._end, self._seed = Reader(ids), end, seed
        self._block = int(np.clip(len(ids) // 256, 2048, 65536))

    def __iter__(self) -> Iterator[Batch]:
        while True:
            blocks = np.random.default_rng([self._seed, self._epoch]).permutation(-(-self.symbols // self._block))
            groups = [blocks[at : at + self.BLOCKS_A_WINDOW] for at in range(0, len(blocks), self.BLOCKS_A_WINDOW)]
            while self._window < len(groups):
                yield from self._window_batches(groups[self._window])
                self._window, self._batch_in_window = self._window + 1, 0
            self._epoch, self._window = self._epoch + 1, 0

    def _window_batches(self, blocks: npt.NDArray[Any]) -> Iterator[Batch]:
        random = np.random.default_rng([self._seed, self._epoch, 1 + self._window])
        documents = [document for block in blocks for document in self._documents(int(block) * self._block)]
        order = random.permutation(len(documents))
        order = order[np.argsort([len(documents[i]) for i in order], kind="stable")]
        batches = list(_group([documents[i] for i in order], self.batch * self.steps))
        turns = random.permutation(len(batches))
        while self._batch_in_window < len(batches):
            group = batches[int(turns[self._batch_in_window])]
            self._batch_in_window += 1
            yield pad(group, self._end)

    def _documents(self, first: int) -> list[Ids]:
        return documents_of(self._reader, self._end, first, min(first + self._block, self.symbols))


def documents_of(reader: Reader, end: int, first: int, last: int) -> list[Ids]:
    """Return the documents that start at `first` or later but before `last`, each as `END c1 .. cn END`."""
    piece = reader.read(first, last + LONGEST_ROW + 2)
    ends = np.flatnonzero(piece == end)
    starting = ends[:-1][ends[:-1] < last - first]
    return [piece[start : stop + 1] for start, stop in zip(starting, ends[1:], strict=False)]


def sorted_rows(ids: Ids, end: int, symbols: int, limit: int | None = None) -> Iterator[Batch]:
    """Yield every document once, short ones first within each stretch of text, in batches of about `symbols`.

    With `limit`, only about so many symbols are read, from blocks spread evenly over the text.
    """
    reader, pairs, block = Reader(ids), len(ids) - 1, 65536
    blocks = np.arange(0, pairs, block)
    if limit is not None and limit < pairs:
        blocks = blocks[np.linspace(0, len(blocks) - 1, max(1, min(len(blocks), limit // block))).astype(int)]
    for first in blocks.tolist():
        for group in _group(sorted(documents_of(reader, end, first, min(first + block, pairs)), key=len), symbols):
            yield pad(group, end)


def _group(documents: list[Ids], symbols: int) -> Iterator[list[Ids]]:
    """Cut documents that are sorted by length into groups of about `symbols`, counting what padding adds."""
    group: list[Ids] = []
    for document in documents:
        if group and (len(group) + 1) * (len(document) - 1) > symbols:
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def pad(documents: list[Ids], end: int) -> Batch:
    """Lay documents `END c1 .. cn END` side by side as a batch `(T, B)`, T the longest; what is beyond a row is ignored."""
    lengths = np.array([len(document) - 1 for document in documents])
    inputs = np.full((lengths.max(), len(documents)), end, dtype=np.int64)
    targets = np.full_like(inputs, IGNORED)
    for row, document in enumerate(documents):
        inputs[: lengths[row], row] = document[:-1]
        targets[: lengths[row], row] = document[1:]
    return Batch(inputs, targets, None, carried=False, symbols=int(lengths.sum()))
