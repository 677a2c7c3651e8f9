"""Series split in time, as batches with carried state for training and as blocks with their history for evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.padding import pad_arrays
from unrolled.tables.pair_batching import PairBatch, PairDataset
from unrolled.tables.row_splits import split_rows
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_arrays import SeriesName
from unrolled.text.batching import IGNORE_INDEX, WindowCursor
from unrolled.text.splitting import MIN_TABLE_ROWS, HeldOutFractions

MIN_DRAWN_SERIES = 10
"""With fewer series than this, each is split in time: whole ones would be too large a part."""

MIN_HELD_OUT_STEPS = 4
"""Steps of a part that is held out, at least."""

HISTORY_STEPS = 4096
"""Steps before a block, at most, that the network reads to come into the right state; they have no part in the metrics."""

BLOCK_STEPS = 4096
"""Held-out steps are evaluated in blocks of so many at most."""

MAX_ORIGINS = 256
"""Steps of each split, at most, from which a forecast is made to evaluate it."""

TRAIN, VALIDATION, TEST = range(3)


class Part(NamedTuple):
    """Steps `start` to before `stop` of the series `row`, in one split; the training steps of the series are before `known`."""

    row: int
    start: int
    stop: int
    known: int


def split_in_time(lengths: list[int], fractions: HeldOutFractions) -> tuple[list[Part], list[Part], list[Part]]:
    """Return the training, validation and test steps of each series: the first, then the next, then the last ones.

    A series that is too short to be divided is for training.
    """
    splits: tuple[list[Part], list[Part], list[Part]] = ([], [], [])
    for row, length in enumerate(lengths):
        num_test, num_validation = (int(round(length * fraction)) for fraction in (fractions.test, fractions.validation))
        num_test, num_validation = (n if n >= MIN_HELD_OUT_STEPS else 0 for n in (num_test, num_validation))
        first, second = length - num_test - num_validation, length - num_test
        for split, (start, stop) in enumerate(((0, first), (first, second), (second, length))):
            if stop > start:
                splits[split].append(Part(row, start, stop, first))
    return splits


def split_series(
    pairs: PairDataset, options: DataOptions, seed: int, has_validation: bool, is_drawn: bool
) -> tuple[list[Part], list[Part], list[Part]]:
    """Return the steps of each split: whole series that are drawn, or, for a forecast and few series, parts in time."""
    lengths = pairs.source.lengths.tolist()
    is_large = len(lengths) > MIN_TABLE_ROWS
    if options.split_by == "time" or not is_drawn or (len(lengths) < MIN_DRAWN_SERIES and not has_validation):
        fractions = HeldOutFractions.choose(options, sum(lengths) > MIN_TABLE_ROWS)
        return split_in_time(lengths, HeldOutFractions(0.0, fractions.test) if has_validation else fractions)
    drawn = split_rows(pairs, options, seed, has_validation, not is_large)
    train, validation, test = (
        [Part(row, 0, lengths[row], lengths[row]) for row in rows.tolist()]
        for rows in (drawn.train, drawn.validation, drawn.test)
    )
    return train, validation, test


def blocks(parts: list[Part]) -> list[Part]:
    """Return parts divided into blocks of at most `BLOCK_STEPS` steps."""
    return [
        part._replace(start=start, stop=min(part.stop, start + BLOCK_STEPS))
        for part in parts
        for start in range(part.start, part.stop, BLOCK_STEPS)
    ]


class _Lengths(NamedTuple):
    """The steps of each part, with or without its history."""

    lengths: npt.NDArray[np.int64]


class SeriesRows:
    """Parts of series as rows of batches: `collate` makes padded batches of parts, each with its history before it.

    It has what the evaluation of a table needs of its `PairDataset`: `source`, `target` (their lengths), `skipped_cells` and
    `collate`.
    """

    eos_per_row = 0

    def __init__(self, spec: TableSpec, pairs: PairDataset, parts: list[Part]) -> None:
        self.spec, self.pairs, self.parts = spec, pairs, parts
        self.label_weights: Array | None = None
        self.skipped_cells = pairs.skipped_cells
        steps = [(part.stop - max(0, part.start - HISTORY_STEPS), part.stop - part.start) for part in parts]
        lengths = np.array(steps, dtype=np.int64).reshape(-1, 2).T
        self.source, self.target = _Lengths(lengths[0]), _Lengths(lengths[1])

    def __len__(self) -> int:
        return len(self.parts)

    def count(self, index: npt.NDArray[np.int64]) -> int:
        """Return how many rows of the table, which are steps, these blocks have."""
        return sum(self.parts[row].stop - self.parts[row].start for row in index.tolist())

    @property
    def row_lengths(self) -> npt.NDArray[np.int64]:
        """The steps of each part with its history and its targets."""
        return self.source.lengths + self.target.lengths

    def steps(self, part: Part, history: int = HISTORY_STEPS) -> tuple[Array, Array]:
        """Return the inputs `(N, size)` of a part with up to `history` steps before it, and the targets, ignored before it.

        The target of a forecast is the next step, which is in the part.
        """
        spec, raw = self.spec, self.pairs.source[part.row]
        first = max(0, part.start - history)
        known = part.known - first if part.known > first else part.stop - first
        source = self.pairs.series[part.row].part(raw, first, part.stop, spec.ahead and 1)
        inputs = spec.source.to_inputs(source, known) if isinstance(spec.source, NumbersColumn) else source
        if isinstance(spec.target, NumbersColumn):
            values = source if spec.horizon else self.pairs.target[part.row][first : part.stop]
            targets = spec.target.to_targets(values, known)
            targets[: part.start - first] = np.nan
            if spec.horizon:
                targets = np.concatenate([targets[1:], np.full_like(targets[:1], np.nan)])
        else:
            targets = self.pairs.target[part.row][first : part.stop].astype(np.int64)
            targets[targets == spec.target.unk_id] = IGNORE_INDEX
            targets[: part.start - first] = IGNORE_INDEX
        return inputs, targets

    def collate(self, index: npt.NDArray[np.int64]) -> PairBatch:
        """Return the parts `index` as a batch, padded at the end."""
        rows = [self.steps(self.parts[int(i)]) for i in index]
        fill = np.nan if self.spec.dims.target_tensor_kind == "floats" else IGNORE_INDEX
        inputs, targets = pad_arrays([row[0] for row in rows], 0), pad_arrays([row[1] for row in rows], fill)
        lengths = np.array([len(row[0]) for row in rows], dtype=np.int64)
        return PairBatch(inputs, lengths, targets, np.asarray(index), count_targets(targets), label_weights=self.label_weights)

    def held_out_cells(self, parts: list[Part], name: str) -> list[tuple[Cell, Cell]]:
        """Return source and target cells of parts: a block with its history and the truth of the block; or, of a forecast,
        the known steps before an origin and those after it."""
        if self.spec.horizon:
            return self._forecast_cells(parts, name)
        cells = []
        for part in blocks(parts):
            first = max(0, part.start - HISTORY_STEPS)
            target = self.pairs.target[part.row][part.start : part.stop]
            labels = self.spec.target.labels
            truth = target if not labels else [labels[i] if i < len(labels) else "" for i in target.tolist()]
            series = self.pairs.series[part.row]
            source = Cell(series.part(self.pairs.source[part.row], first, part.stop), name)
            if isinstance(truth, list):
                cells += [(source, Cell(truth, name))] if any(truth) else []
            elif not np.isnan(truth).all():
                cells.append((source, Cell(series.part(self.pairs.target[part.row], part.start, part.stop), name)))
        return cells

    def _forecast_cells(self, parts: list[Part], name: str) -> list[tuple[Cell, Cell]]:
        horizon, origins = self.spec.horizon, []
        for part in parts:
            first = max(part.start, min(part.stop - 1, horizon)) if part.start == 0 else part.start
            last = max(first, part.stop - horizon)
            origins += [(part, origin) for origin in range(first, last + 1, horizon)]
        if len(origins) > MAX_ORIGINS:
            origins = [origins[i] for i in np.linspace(0, len(origins) - 1, MAX_ORIGINS).astype(int)]
        cells = []
        for part, origin in origins:
            raw = self.pairs.source[part.row]
            stop = min(part.stop, origin + horizon)
            if origin > 0 and not np.isnan(raw[origin:stop]).all():
                cells.append(forecast_cells(self.spec, self.pairs.series[part.row], raw, origin, stop, name))
        return cells


def forecast_cells(spec: TableSpec, series: SeriesName, values: Array, origin: int, stop: int, name: str) -> tuple[Cell, Cell]:
    """Return the steps of a series before `origin`, as many as are read, and those from it to before `stop`."""
    history = series.part(values, max(0, origin - HISTORY_STEPS), origin, spec.ahead)
    return Cell(history, name), Cell(series.part(values, origin, stop), name)


def count_targets(targets: Array) -> int:
    """Return how many targets of a batch count: numbers that are no gaps, or ids that are not ignored."""
    return int((~np.isnan(targets)).sum()) if targets.dtype.kind == "f" else int((targets != IGNORE_INDEX).sum())


class SeriesBatches(WindowCursor):
    """Endless batches of training parts, one after the other in B columns with carried state; the state is zero at each
    beginning of a part, and of a column."""

    def __init__(self, rows: SeriesRows, parts: list[Part], batch_size: int, seq_len: int, label_weights: Array | None) -> None:
        steps = [rows.steps(part, history=0) for part in parts]
        self._inputs = np.concatenate([inputs for inputs, _ in steps])
        self._targets = np.concatenate([targets for _, targets in steps])
        self._begins = np.zeros(len(self._inputs), dtype=bool)
        self._begins[np.cumsum([0, *(len(inputs) for inputs, _ in steps[:-1])])] = True
        self.tokens_per_epoch = count_targets(self._targets)
        if not self.tokens_per_epoch:
            raise DataError(
                "The training steps have no target: each is missing, or each series has one step and nothing to forecast."
            )
        self.batch_size = max(1, min(batch_size, len(self._inputs) // 2))
        self._length = -(-len(self._inputs) // self.batch_size)
        self.seq_len = min(seq_len, self._length)
        self._starts = np.linspace(0, len(self._inputs) - self._length, self.batch_size).astype(np.int64)
        self._label_weights = label_weights

    def __iter__(self) -> Iterator[PairBatch]:
        while True:
            while self._batch_in_window * self.seq_len < self._length:
                offset = self._batch_in_window * self.seq_len
                self._batch_in_window += 1
                yield self._batch(offset)
            self._epoch, self._batch_in_window = self._epoch + 1, 0

    def _batch(self, offset: int) -> PairBatch:
        steps = np.arange(offset, min(offset + self.seq_len, self._length))
        places = steps[:, None] + self._starts
        resets = self._begins[places] | (steps == 0)[:, None]
        targets = self._targets[places]
        lengths = np.full(self.batch_size, len(steps), dtype=np.int64)
        return PairBatch(
            self._inputs[places], lengths, targets, np.arange(self.batch_size), count_targets(targets),
            carry_state=True, label_weights=self._label_weights, resets=resets,
        )  # fmt: skip


def evaluation_cells(spec: TableSpec, rows: Sequence[tuple[Cell, ...]], name: str) -> list[tuple[Cell, Cell]]:
    """Return the cells that a model of series is evaluated on, of the rows of another table: all steps of each series."""
    pairs = PairDataset(spec)
    for number, row in enumerate(rows, 1):
        pairs.add(number, row[0], row[1])
    pairs.finalize()
    parts, _, _ = split_in_time(pairs.source.lengths.tolist(), HeldOutFractions(0.0, 0.0))
    return SeriesRows(spec, pairs, parts).held_out_cells(parts, name)
