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
from unrolled.tables.cell_values import Cell, is_empty
from unrolled.tables.columns import COLUMN_TYPES, Column
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.spec import TableSpec
from unrolled.tables.table_files import Table
from unrolled.tables.type_inference import InferredType, PairProfile, infer_types, parse_column
from unrolled.text.batching import IGNORE_INDEX, MAX_ROW_LENGTH, WindowCursor

Array = npt.NDArray[Any]

MAX_STEPS = 8192
"""Steps a row may have where all of it must be seen at once; labels beside long rows are learned in pieces."""

MAX_FITTED_ROWS = 20_000
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
    num_targets: int
    carry_state: bool = False
    loss_weight: float = 1.0

    @property
    def batch_size(self) -> int:
        """Number of rows side by side."""
        return len(self.lengths)

    def arrays(self) -> dict[str, Array]:
        """Return what a network learns from, by name."""
        return {"source": self.source, "lengths": self.lengths, "target": self.target}


class PairDataset:
    """Encoded rows: `source[i]` and `target[i]` are arrays. `left_out` counts rows with an empty cell; `lines` are where."""

    def __init__(self, spec: TableSpec) -> None:
        self.spec = spec
        self.source = RaggedArray(np.int32 if spec.source.tensor_kind == "ids" else np.float32)
        self.target = RaggedArray(np.int32 if spec.dims.target_tensor_kind == "ids" else np.float32)
        self.skipped_rows: list[int] = []
        self.num_read = self.num_examples = 0

    def add(self, line: int, source: Cell, target: Cell) -> None:
        """Encode a row and keep it."""
        self.num_read += 1
        if is_empty(source.value) or is_empty(target.value):
            self.skipped_rows.append(line)
            return
        inputs, targets = encode_source(self.spec, source), self.spec.encode_target(target)
        if len(inputs) == 0 or len(targets) == 0:
            self.skipped_rows.append(line)
            return
        self.spec.check_aligned(inputs, targets, source)
        is_aligned = self.spec.mode.output == "aligned"
        num_steps = max(len(inputs), len(targets))
        if num_steps > MAX_STEPS and not is_aligned:
            raise DataError(
                f"{source.location}: {num_steps:,} steps, and at most {MAX_STEPS:,} can be learned at once. "
                "Cut the row into shorter ones."
            )
        for start in range(0, len(inputs), MAX_ROW_LENGTH if is_aligned else len(inputs)):
            stop = start + MAX_ROW_LENGTH if is_aligned else None
            self.source.append(inputs[start:stop])
            self.target.append(targets[start:stop])
            self.num_examples += 1

    def finalize(self) -> PairDataset:
        """Make the rows readable. Raises `DataError` if there are none."""
        self.source.finalize()
        self.target.finalize()
        if len(self) == 0:
            raise DataError("The table has no row in which both columns hold something.")
        return self

    def __len__(self) -> int:
        return len(self.source)

    def collate(self, index: npt.NDArray[np.int64]) -> PairBatch:
        """Lay the rows of `index` side by side."""
        target = [self.target[int(i)] for i in index]
        is_numeric = self.spec.dims.target_tensor_kind == "floats"
        targets = [row.astype(np.float32) if is_numeric else _ignore_unknown(self.spec, row) for row in target]
        padded = pad_arrays(targets, 0 if is_numeric else IGNORE_INDEX)
        num_targets = len(index) if is_numeric else int((padded != IGNORE_INDEX).sum()) + self.eos_per_row * len(index)
        sources = self.collate_sources(self.spec, [self.source[int(i)] for i in index])
        return PairBatch(sources["source"], sources["lengths"], padded, np.asarray(index), num_targets)

    @property
    def eos_per_row(self) -> int:
        """Ends that a row has beside its targets: one, if it is written and not always of the same length."""
        return int(self.spec.mode.output == "generated" and not self.spec.dims.target_length)

    @staticmethod
    def collate_sources(spec: TableSpec, rows: list[Array]) -> dict[str, Array]:
        """Return sources side by side, padded, and their lengths."""
        as_ids = spec.source.tensor_kind == "ids"
        padded = pad_arrays([row.astype(np.int64) if as_ids else row.astype(np.float32) for row in rows], 0)
        return {"source": padded, "lengths": np.array([len(row) for row in rows], dtype=np.int64)}


def _ignore_unknown(spec: TableSpec, row: Array) -> Array:
    """Return target ids in which labels that training never saw are not looked at."""
    ids = row.astype(np.int64)
    unk_id = getattr(spec.target, "unk_id", None)
    is_labeled = spec.target.kind in ("label", "labels")
    return np.where(ids == unk_id, IGNORE_INDEX, ids) if is_labeled else ids


def encode_source(spec: TableSpec, cell: Cell) -> Array:
    """Return a source cell as an array with time first: a picture is one step."""
    array = spec.source.encode(cell)
    return array[None] if spec.source.tensor_kind == "image" else array


def pad_arrays(rows: list[Array], fill_value: float) -> Array:
    """Lay arrays `(N_i, ...)` side by side as `(T, B, ...)`, T the longest."""
    longest = max(len(row) for row in rows)
    padded = np.full((longest, len(rows), *rows[0].shape[1:]), fill_value, dtype=rows[0].dtype)
    for column, row in enumerate(rows):
        padded[: len(row), column] = row
    return padded


class PairLoader(WindowCursor):
    """Endless batches of the rows `index`, of at most `batch` rows and about `batch * steps` steps; seeded, resumable."""

    BATCHES_PER_WINDOW = 64
    """Batches whose rows are sorted by length together."""

    def __init__(self, dataset: PairDataset, index: npt.NDArray[np.int64], batch_size: int, seq_len: int, seed: int) -> None:
        self.batch_size, self.seq_len = min(batch_size, len(index)), seq_len
        self._dataset, self._index, self._seed = dataset, index, seed
        target_lengths = dataset.target.lengths[index]
        self._lengths = np.maximum(dataset.source.lengths[index], target_lengths)
        self.tokens_per_epoch = int(target_lengths.sum()) + dataset.eos_per_row * len(index)
        if dataset.spec.dims.target_tensor_kind == "floats":
            self.tokens_per_epoch = len(index)

    def __iter__(self) -> Iterator[PairBatch]:
        window_size = self.batch_size * self.BATCHES_PER_WINDOW
        while True:
            order = np.random.default_rng([self._seed, self._epoch]).permutation(len(self._index))
            while self._window * window_size < len(order):
                window = order[self._window * window_size : (self._window + 1) * window_size]
                groups = bucket_by_length(window, self._lengths, self.batch_size, self.batch_size * self.seq_len)
                batch_order = np.random.default_rng([self._seed, self._epoch, 1 + self._window]).permutation(len(groups))
                while self._batch_in_window < len(groups):
                    group = groups[int(batch_order[self._batch_in_window])]
                    self._batch_in_window += 1
                    yield self._dataset.collate(self._index[group])
                self._window, self._batch_in_window = self._window + 1, 0
            self._epoch, self._window = self._epoch + 1, 0


def bucket_by_length(
    index: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64], max_rows: int, max_steps: int
) -> list[npt.NDArray[np.int64]]:
    """Cut numbers of rows, sorted by length, into groups of at most `rows`, and of `steps` with what padding adds."""
    ordered = index[np.argsort(lengths[index], kind="stable")]
    groups, start = [], 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or end - start >= max_rows or (end + 1 - start) * lengths[ordered[end]] > max_steps:
            groups.append(ordered[start:end])
            start = end
    return groups


def iter_cells(table: Table, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
    """Yield `(line, cells)` of some columns of a table."""
    for line, row in table.rows():
        yield line, tuple(Cell(row[column], table.name, line, table.folder) for column in columns)


def infer_spec(table: Table, source: str, target: str, tokens: str | None = None) -> tuple[TableSpec, str]:
    """Look through a table; return what is to be learned from its two columns, and a sentence about them.

    `tokens` says what a symbol of a text is, where the column itself does not.
    """
    declared = (parse_column(source, "source"), parse_column(target, "target"))
    names = tuple(
        name if name in table.columns else column_spec
        for (name, _), column_spec in zip(declared, (source, target), strict=True)
    )
    kinds = tuple(
        None if name == column_spec else kind
        for name, column_spec, (_, kind) in zip(names, (source, target), declared, strict=True)
    )
    for name in names:
        table.require_column(name)
    profile = PairProfile(*names)
    for _, (source_cell, target_cell) in iter_cells(table, names):
        if not is_empty(source_cell.value) and not is_empty(target_cell.value):
            profile.add(source_cell, target_cell)
    if profile.source.num_rows == 0:
        raise DataError(f"{table.name} has no row in which both '{names[0]}' and '{names[1]}' hold something.")
    types = infer_types(profile, (kinds[0], kinds[1]), tokens)
    table_spec = TableSpec(_fit_column(table, names, 0, types[0]), _fit_column(table, names, 1, types[1]))
    return table_spec, f"{table_spec.source.describe()} -> {table_spec.target.describe()}: {table_spec.mode.name}"


def _fit_column(table: Table, names: tuple[str, ...], position: int, inferred: InferredType) -> Column:
    config = {"tokens": inferred.tokens, "spaces": inferred.spaces, "split": inferred.split, "read": position == 0}
    limit = MAX_FITTED_ROWS if inferred.kind in ("frames", "vector", "image", "number") else None

    def column_cells() -> Iterator[Cell]:
        count = 0
        for _, row in iter_cells(table, names):
            if any(is_empty(cell.value) for cell in row):
                continue
            yield row[position]
            count += 1
            if count == limit:
                return

    return COLUMN_TYPES[inferred.kind].fit(names[position], column_cells(), config)


def read_pairs(table: Table, spec: TableSpec, check: Callable[[], None] = lambda: None) -> PairDataset:
    """Encode all rows of a table for a task; its columns must be there. `check` is called now and then, and may raise."""
    names = (spec.source.name, spec.target.name)
    for name in names:
        table.require_column(name)
    dataset = PairDataset(spec)
    for count, (line, (source, target)) in enumerate(iter_cells(table, names)):
        if count % 1024 == 0:
            check()
        dataset.add(line, source, target)
    return dataset.finalize()
