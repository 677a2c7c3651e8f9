"""A table's rows as pairs of arrays: read, checked, encoded once, and laid side by side in batches.

Rows whose source or target is empty are left out, and told. Batches group rows of like length, so that little is padded; what
is padded never counts. Order and grouping follow from the seed and the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell, empty
from unrolled.tables.columns import KINDS, Column
from unrolled.tables.ragged import Packed
from unrolled.tables.spec import Task
from unrolled.tables.table_files import Table
from unrolled.tables.type_inference import Chosen, Pair, choose_kinds, parse_column
from unrolled.text.batching import IGNORED, LONGEST_ROW, InWindows

Array = npt.NDArray[Any]

LONGEST = 8192
"""Steps a row may have where all of it must be seen at once; labels beside long rows are learned in pieces."""

LOOKED_AT_NUMBERS = 20_000
"""Rows whose numbers make a mean and a deviation; a larger table has the same ones."""


@dataclass(frozen=True)
class PairBatch:
    """Rows side by side, time first. `source` is ids `(T, B)`, numbers `(T, B, D)`, or pictures `(1, B, H, W, C)`;
    `lengths` `(B,)` its steps.

    `target` is ids `(M, B)`, `IGNORED` beyond a row's end, or numbers `(1, B, D)`. `index` `(B,)` numbers the rows;
    `symbols` counts the targets that are not ignored, and `weight` multiplies the loss (see `batches.Batch`).
    """

    source: Array
    lengths: npt.NDArray[np.int64]
    target: Array
    index: npt.NDArray[np.int64]
    symbols: int
    carried: bool = False
    weight: float = 1.0

    @property
    def rows(self) -> int:
        """Number of rows side by side."""
        return len(self.lengths)

    def arrays(self) -> dict[str, Array]:
        """Return what a network learns from, by name."""
        return {"source": self.source, "lengths": self.lengths, "target": self.target}


class Pairs:
    """Encoded rows: `source[i]` and `target[i]` are arrays. `left_out` counts rows with an empty cell; `lines` are where."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.source = Packed(np.int32 if task.source.form == "symbols" else np.float32)
        self.target = Packed(np.int32 if task.shape.target_form == "symbols" else np.float32)
        self.left_out: list[int] = []
        self.rows_read = self.kept = 0

    def add(self, line: int, source: Cell, target: Cell) -> None:
        """Encode a row and keep it."""
        self.rows_read += 1
        if empty(source.value) or empty(target.value):
            self.left_out.append(line)
            return
        read, written = source_steps(self.task, source), self.task.encode_target(target)
        if len(read) == 0 or len(written) == 0:
            self.left_out.append(line)
            return
        self.task.check_aligned(read, written, source)
        beside = self.task.mode.writes == "beside"
        steps = max(len(read), len(written))
        if steps > LONGEST and not beside:
            raise DataError(
                f"{source.where}: {steps:,} steps, and at most {LONGEST:,} can be learned at once. "
                "Cut the row into shorter ones."
            )
        for start in range(0, len(read), LONGEST_ROW if beside else len(read)):
            stop = start + LONGEST_ROW if beside else None
            self.source.append(read[start:stop])
            self.target.append(written[start:stop])
            self.kept += 1

    def close(self) -> Pairs:
        """Make the rows readable. Raises `DataError` if there are none."""
        self.source.close()
        self.target.close()
        if len(self) == 0:
            raise DataError("The table has no row in which both columns hold something.")
        return self

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, index: npt.NDArray[np.int64]) -> PairBatch:
        """Lay the rows of `index` side by side."""
        target = [self.target[int(i)] for i in index]
        numbers = self.task.shape.target_form == "numbers"
        ready = [row.astype(np.float32) if numbers else _ignoring(self.task, row) for row in target]
        laid = pad(ready, 0 if numbers else IGNORED)
        symbols = len(index) if numbers else int((laid != IGNORED).sum()) + self.ends * len(index)
        read = self.lay_sources(self.task, [self.source[int(i)] for i in index])
        return PairBatch(read["source"], read["lengths"], laid, np.asarray(index), symbols)

    @property
    def ends(self) -> int:
        """Ends that a row has beside its targets: one, if it is written and not always of the same length."""
        return int(self.task.mode.writes == "after" and not self.task.shape.written)

    @staticmethod
    def lay_sources(task: Task, steps: list[Array]) -> dict[str, Array]:
        """Return sources side by side, padded, and their lengths."""
        as_ids = task.source.form == "symbols"
        laid = pad([row.astype(np.int64) if as_ids else row.astype(np.float32) for row in steps], 0)
        return {"source": laid, "lengths": np.array([len(row) for row in steps], dtype=np.int64)}


def _ignoring(task: Task, row: Array) -> Array:
    """Return target ids in which labels that training never saw are not looked at."""
    ids = row.astype(np.int64)
    unknown = getattr(task.target, "unknown", None)
    labelled = task.target.kind in ("label", "labels")
    return np.where(ids == unknown, IGNORED, ids) if labelled else ids


def source_steps(task: Task, cell: Cell) -> Array:
    """Return a source cell as an array with time first: a picture is one step."""
    array = task.source.encode(cell)
    return array[None] if task.source.form == "picture" else array


def pad(rows: list[Array], filling: float) -> Array:
    """Lay arrays `(N_i, ...)` side by side as `(T, B, ...)`, T the longest."""
    longest = max(len(row) for row in rows)
    laid = np.full((longest, len(rows), *rows[0].shape[1:]), filling, dtype=rows[0].dtype)
    for column, row in enumerate(rows):
        laid[: len(row), column] = row
    return laid


class PairBatches(InWindows):
    """Endless batches of the rows `index`, of at most `batch` rows and about `batch * steps` steps; seeded, resumable."""

    WINDOW = 64
    """Batches whose rows are sorted by length together."""

    def __init__(self, pairs: Pairs, index: npt.NDArray[np.int64], batch: int, steps: int, seed: int) -> None:
        self.batch, self.steps = min(batch, len(index)), steps
        self._pairs, self._index, self._seed = pairs, index, seed
        written = pairs.target.lengths[index]
        self._lengths = np.maximum(pairs.source.lengths[index], written)
        self.symbols = int(written.sum()) + pairs.ends * len(index)
        if pairs.task.shape.target_form == "numbers":
            self.symbols = len(index)

    def __iter__(self) -> Iterator[PairBatch]:
        size = self.batch * self.WINDOW
        while True:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._index))
            while self._window * size < len(order):
                chosen = order[self._window * size : (self._window + 1) * size]
                groups = grouped(chosen, self._lengths, self.batch, self.batch * self.steps)
                turns = np.random.default_rng([self._seed, self._epoch, 1 + self._window]).permutation(len(groups))
                while self._batch_in_window < len(groups):
                    group = groups[int(turns[self._batch_in_window])]
                    self._batch_in_window += 1
                    yield self._pairs.batch(self._index[group])
                self._window, self._batch_in_window = self._window + 1, 0
            self._epoch, self._window = self._epoch + 1, 0


def grouped(
    chosen: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], rows: int, steps: int
) -> list[npt.NDArray[np.int64]]:
    """Cut numbers of rows, sorted by length, into groups of at most `rows`, and of `steps` with what padding adds."""
    ordered = chosen[np.argsort(lengths[chosen], kind="stable")]
    groups, first = [], 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or at - first >= rows or (at + 1 - first) * lengths[ordered[at]] > steps:
            groups.append(ordered[first:at])
            first = at
    return groups


def cells(table: Table, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
    """Yield `(line, cells)` of some columns of a table."""
    for line, row in table.rows():
        yield line, tuple(Cell(row[column], table.name, line, table.folder) for column in columns)


def find_task(table: Table, source: str, target: str, tokens: str | None = None) -> tuple[Task, str]:
    """Look through a table; return what is to be learned from its two columns, and a sentence about them.

    `tokens` says what a symbol of a text is, where the column itself does not.
    """
    said = (parse_column(source, "source"), parse_column(target, "target"))
    names = tuple(name if name in table.columns else spec for (name, _), spec in zip(said, (source, target), strict=True))
    kinds = tuple(None if name == spec else kind for name, spec, (_, kind) in zip(names, (source, target), said, strict=True))
    for name in names:
        table.require(name)
    pair = Pair(*names)
    for _, (one, other) in cells(table, names):
        if not empty(one.value) and not empty(other.value):
            pair.add(one, other)
    if pair.source.rows == 0:
        raise DataError(f"{table.name} has no row in which both '{names[0]}' and '{names[1]}' hold something.")
    chosen = choose_kinds(pair, (kinds[0], kinds[1]), tokens)
    task = Task(_fit(table, names, 0, chosen[0]), _fit(table, names, 1, chosen[1]))
    return task, f"{task.source.describe()} -> {task.target.describe()}: {task.mode.name}"


def _fit(table: Table, names: tuple[str, ...], at: int, chosen: Chosen) -> Column:
    how = {"tokens": chosen.tokens, "spaces": chosen.spaces, "split": chosen.split, "read": at == 0}
    limit = LOOKED_AT_NUMBERS if chosen.kind in ("frames", "vector", "image", "number") else None

    def column() -> Iterator[Cell]:
        count = 0
        for _, row in cells(table, names):
            if any(empty(cell.value) for cell in row):
                continue
            yield row[at]
            count += 1
            if count == limit:
                return

    return KINDS[chosen.kind].fit(names[at], column(), how)


def read_pairs(table: Table, task: Task, check: Callable[[], None] = lambda: None) -> Pairs:
    """Encode all rows of a table for a task; its columns must be there. `check` is called now and then, and may raise."""
    names = (task.source.name, task.target.name)
    for name in names:
        table.require(name)
    pairs = Pairs(task)
    for count, (line, (source, target)) in enumerate(cells(table, names)):
        if count % 1024 == 0:
            check()
        pairs.add(line, source, target)
    return pairs.close()
