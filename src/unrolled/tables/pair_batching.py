"""A table's rows as pairs of arrays: read, checked, encoded once, and collated into padded batches.

Rows whose source or target is empty are left out and counted. Batches group rows of similar length, so that there is little
padding; padding never counts in the loss. Order and grouping follow from the seed and the epoch.
"""

from __future__ import annotations

import functools
import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import agree
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.column import Column
from unrolled.tables.ngrams import choose_buckets, count_ngrams
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.padding import pad_arrays, pad_ngrams, pad_sources, source_arrays
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.row_tally import UnreadableRows, imputed_messages, left_out_messages, missing_by_column
from unrolled.tables.source_columns import EncodedSource
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_arrays import SeriesName
from unrolled.tables.table_files import Table
from unrolled.text.batching import IGNORE_INDEX, MAX_ROW_LENGTH, WindowCursor


@dataclass(frozen=True)
class PairBatch:
    """A padded batch, time first. `source` is ids `(T, B)`, numbers `(T, B, D)`, or images `(1, B, H, W, C)`, and `lengths`
    `(B,)` its steps; `target` is ids `(M, B)`, `IGNORE_INDEX` after the end of a row, or numbers `(1, B, D)`.

    `others` are the same, steps and lengths, of each other source column, if there are several.
    `label_weights` `(V,)`, if there are any, multiply the loss of each label. Of series, `resets` `(T, B)` is true where
    another one begins, and `target` has numbers `(T, B, D)`, NaN where they do not count.

    `index` `(B,)` are the numbers of the rows, `num_targets` counts the targets that are not ignored, and `loss_weight`
    multiplies the loss (see `text.batching.Batch`).
    """

    source: Array
    lengths: npt.NDArray[np.int64]
    target: Array
    index: npt.NDArray[np.int64]
    num_targets: int
    carry_state: bool = False
    loss_weight: float = 1.0
    label_weights: Array | None = None
    resets: Array | None = None
    others: tuple[tuple[Array, npt.NDArray[np.int64]], ...] = ()
    ngrams: Array | None = None
    """Rows of the classifier of n-grams, `(K, B)`, padded with their number."""

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return len(self.lengths)

    def arrays(self) -> dict[str, Array]:
        """Return the arrays that a network is trained on, by name."""
        arrays = source_arrays([(self.source, self.lengths), *self.others]) | {"target": self.target}
        more = {"label_weights": self.label_weights, "resets": self.resets, "ngrams": self.ngrams}
        return arrays | {name: array for name, array in more.items() if array is not None}


class PairDataset:
    """Encoded rows: `source[i]` and `target[i]` are arrays; `others[k][i]` are those of other source columns.

    A number that is missing in one of several source columns is NaN; `collate` has its median instead, which is that of the
    training rows (see `fit_medians`). `skipped_rows` are the lines of rows with an empty cell, `skipped_cells` counts these by
    column; `missing_names` are `NA` and the like that such rows have. Of rows that are too long, `cut_rows` are cut and
    `left_out_rows` are left out. For each other row, `source_keys` and `target_keys` have a hash of what was encoded,
    `folded_keys` one of a text without regard to case and blanks (else 0), `read_rows` its place among the `num_read` rows
    that were read, and `pieces_per_row` how many encoded rows it is.
    `series` are the names and times of rows that are series. `base_ids` are what a language model reads too; they are no part
    of batches, and `base_logits` has what the classifier of its states said of rows that were evaluated.
    """

    def __init__(self, spec: TableSpec) -> None:
        self.spec = spec
        self.source, *self.others = (RaggedArray(_stored_dtype(column, column.tensor_kind)) for column in spec.sources)
        self.ngrams = RaggedArray(np.uint32) if spec.dims.ngram_buckets else None
        self.base_ids = (
            None if spec.dims.base is None else RaggedArray(np.int32 if spec.dims.base.vocab_size >> 16 else np.uint16)
        )
        self.base_logits: dict[int, Any] = {}
        self.target = RaggedArray(_stored_dtype(spec.target, spec.dims.target_tensor_kind))
        self.imputed: Counter[str] = Counter()
        self.skipped_rows: list[int] = []
        self.skipped_cells: Counter[str] = Counter()
        self.cut_rows: list[int] = []
        self.left_out_rows: list[int] = []
        self.label_weights: Array | None = None
        self.missing_names: set[str] = set()
        self.series, self.unreadable = list[SeriesName](), UnreadableRows()
        self.num_read = 0
        self._row_values = array("Q"), array("Q"), array("q"), array("q"), array("Q")

    def add(self, line: int, source: Cell, target: Cell) -> None:
        """Encode a row and append it."""
        self.num_read += 1
        if self.spec.has_missing(source, target):
            self.skipped_rows.append(line)
            self.skipped_cells.update(self.spec.columns_left_out(source, target))
            self.missing_names |= self.spec.missing_names(source, target)
            return
        try:
            inputs, targets = self.spec.encode_row(source, target)
        except DataError as error:
            self.unreadable.add(error)
            return
        if len(inputs) == 0 or len(targets) == 0:
            self.skipped_rows.append(line)
            return
        inputs, targets = self._limit_length(line, source, inputs, targets)
        if len(targets) == 0:
            return
        if self.spec.others:
            missing = self.spec.missing_columns(source)
            self.imputed.update(missing)
            inputs = _without_medians(self.spec, inputs, missing)
        self._append(inputs, targets, self._folded_key(source))
        if self.spec.is_stream:
            self.series.append(SeriesName.of(source))

    def _folded_key(self, source: Cell) -> int:
        """Return a hash of a text without regard to case and blanks, or 0 for other sources."""
        column = self.spec.source
        if column.kind != "text" or self.spec.others:
            return 0
        folded = " ".join(column.read_text(source).casefold().split()).encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(folded, digest_size=8).digest(), "little")

    def _append(self, inputs: EncodedSource, targets: Array, folded_key: int) -> None:
        """Append an encoded row; a long one with a label per step, as several."""
        is_aligned, steps = self.spec.mode.output == "aligned" and not self.spec.is_stream, inputs.steps
        pieces = -(-len(steps) // MAX_ROW_LENGTH) if is_aligned else 1
        keys = (_content_key(steps, *inputs.others), _content_key(targets), self.num_read - 1, pieces, folded_key)
        for row_values, value in zip(self._row_values, keys, strict=True):
            row_values.append(value)
        for start in range(0, len(steps), MAX_ROW_LENGTH if is_aligned else len(steps)):
            stop = start + MAX_ROW_LENGTH if is_aligned else None
            self.source.append(steps[start:stop])
            if self.ngrams is not None and inputs.ngrams is not None:
                self.ngrams.append(inputs.ngrams)
            if self.base_ids is not None and inputs.base_ids is not None:
                self.base_ids.append(inputs.base_ids)
            for column, other, values in zip(self.spec.others, self.others, inputs.others, strict=True):
                other.append(values[start:stop] if column.name in self.spec.aligned else values)
            self.target.append(targets[start:stop])

    def _limit_length(self, line: int, cell: Cell, inputs: EncodedSource, targets: Array) -> tuple[EncodedSource, Array]:
        """Return a row that is not too long: its source cut (synced: both), or no target if that one is too long.

        Without a `max_length`, a row with a label per step is not cut, since it is split.
        """
        is_aligned, limit = self.spec.mode.output == "aligned", self.spec.step_limit
        if is_aligned:
            targets = targets[: self.spec.max_length]
        elif len(targets) > limit and self.spec.dims.target_length:
            raise DataError(f"{cell.location}: an image of {len(targets):,} steps, and at most {limit:,} can be learned.")
        elif len(targets) > limit:
            self.left_out_rows.append(line)
            return inputs, targets[:0]
        cut = self.spec.cut_source(inputs, training=True)
        if cut.num_steps < inputs.num_steps:
            self.cut_rows.append(line)
        return cut, targets

    def length_notes(self) -> list[str]:
        """Return a message about rows that are too long."""
        notes = []
        for lines, what in (
            (self.cut_rows, f"cut to the first {self.spec.step_limit:,} steps"),
            (self.left_out_rows, f"left out, since the target has more than {self.spec.step_limit:,} steps"),
        ):
            if lines:
                rows = f"{len(lines):,} of {self.num_read:,} rows {agree(len(lines), 'are')}"
                notes.append(f"{rows} {what}: line {first_lines(lines)} (see --max-length)")
        return notes

    def finalize(self) -> PairDataset:
        """Make the rows ready to be read. Raises `DataError` if there are none, or more than half have a cell with an error."""
        for arrays in (self.source, *self.others, self.target, self.ngrams, self.base_ids):
            if arrays is not None:
                arrays.finalize()
        self.source_keys, self.target_keys, self.read_rows, self.pieces_per_row, self.folded_keys = map(
            np.array, self._row_values
        )
        self.unreadable.require_few(self.num_read - len(self.skipped_rows))
        if len(self) == 0:
            if notes := self.length_notes():
                raise DataError(f"No row is left: {notes[-1]}.")
            raise DataError("The table has no row in which both columns have a value.")
        return self

    def __len__(self) -> int:
        return len(self.source)

    def count(self, index: npt.NDArray[np.int64]) -> int:
        """Return how many rows of the table these rows are."""
        return len(index)

    def encoded_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the numbers of the encoded rows that these rows of the table are, in their order."""
        pieces = self.pieces_per_row
        first = np.cumsum(pieces) - pieces
        offsets = np.arange(pieces[rows].sum()) - np.repeat(np.cumsum(pieces[rows]) - pieces[rows], pieces[rows])
        encoded: npt.NDArray[np.int64] = np.repeat(first[rows], pieces[rows]) + offsets
        return encoded

    def collate(self, index: npt.NDArray[np.int64]) -> PairBatch:
        """Return the rows `index` as a batch."""
        is_numeric = self.spec.dims.target_tensor_kind == "floats"
        targets = [self.spec.target.loss_targets(self.target[int(i)]) for i in index]
        padded = pad_arrays(targets, 0 if is_numeric else IGNORE_INDEX)
        num_targets = len(index) if is_numeric else int((padded != IGNORE_INDEX).sum()) + self.eos_per_row * len(index)
        rows = [self._encoded_source(int(i)) for i in index]
        (source, lengths), *others = pad_sources(self.spec, rows)
        ngrams = None if self.ngrams is None else pad_ngrams([self.ngrams[int(i)] for i in index], self.spec.dims.ngram_buckets)
        return PairBatch(
            source, lengths, padded, np.asarray(index), num_targets,
            label_weights=self.label_weights, others=tuple(others), ngrams=ngrams,
        )  # fmt: skip

    def _encoded_source(self, row: int) -> EncodedSource:
        """Return the arrays of a row, with the medians of its missing numbers."""
        arrays = [self.source[row], *(other[row] for other in self.others)]
        for place, column in enumerate(self.spec.sources if self.imputed else ()):
            if column.name in self.spec.medians and np.isnan(arrays[place]).any():
                arrays[place] = self.spec.encoded_missing(column)
        return EncodedSource(arrays[0], tuple(arrays[1:]))

    def fit_medians(self, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        """Return the medians of the columns of numbers in these rows, the training rows; of a column with none, as it was."""
        medians = dict(self.spec.medians)
        for column, arrays in zip(self.spec.sources, (self.source, *self.others), strict=True):
            if isinstance(column, NumberColumn) and column.name in medians:
                values = np.array([arrays[row][0, 0] for row in rows.tolist()], dtype=np.float64)
                values = values[~np.isnan(values)]
                if len(values):
                    median = column.unscale(np.array([[np.median(values)]]))[0, 0]
                    medians[column.name] = float(f"{median:.6g}")  # float32 holds no more
        return medians

    @functools.cached_property
    def row_lengths(self) -> npt.NDArray[np.int64]:
        """The most steps that a row has in a source or in the target, `(R,)`; the rows are complete."""
        lengths: npt.NDArray[np.int64] = np.max([arrays.lengths for arrays in (self.source, *self.others, self.target)], 0)
        return lengths

    def choose_ngram_buckets(self, rows: npt.NDArray[np.int64]) -> None:
        """Choose the size of a classifier of n-grams, if there is one, by how many different ones the rows `rows` have."""
        if (ngrams := self.ngrams) is not None:
            num_ngrams = count_ngrams(ngrams[row] for row in rows.tolist())
            self.spec.source.ngram_buckets = choose_buckets(num_ngrams, self.spec.target.size)

    def left_out_messages(self) -> list[str]:
        """Return sentences about the rows that are left out."""
        columns = missing_by_column(self.skipped_cells) if self.spec.others else ""
        names = " and ".join(map(repr, sorted(self.missing_names)))
        na_note = f"; {names} {agree(len(self.missing_names), 'are')} read as empty, except with COLUMN:text or COLUMN:label"
        details = f"{columns}: line {first_lines(self.skipped_rows)}{na_note if names else ''}"
        return left_out_messages(len(self.skipped_rows), self.unreadable, self.num_read, "are left out", details)

    def imputed_messages(self) -> list[str]:
        """Return sentences about the rows that have no value in one of several source columns, and what is read for it."""
        return imputed_messages(self.imputed, self.spec.medians, self.num_read)

    @property
    def eos_per_row(self) -> int:
        """1 if an end of sequence follows the targets of a row: if they are generated, and their number varies; else 0."""
        return int(self.spec.mode.output == "generated" and not self.spec.dims.target_length)


def balanced_weights(targets: Iterable[Array], spec: TableSpec) -> Array:
    """Return weights `(V,)` of labels that make all count the same in the rows whose target ids are given; their mean is 1."""
    size = spec.dims.target_size
    counts = np.zeros(size, dtype=np.int64)
    for ids in targets:
        counts += np.bincount(ids, minlength=size)[:size]
    counts[spec.target.unk_id] = 0
    weights: Array = np.divide(counts.sum(), (counts > 0).sum() * counts, out=np.zeros(size), where=counts > 0)
    return weights.astype(np.float32)


def _stored_dtype(column: Column, tensor_kind: str) -> np.dtype[Any]:
    return column.array_dtype or np.dtype(np.int32 if tensor_kind == "ids" else np.float32)


def _without_medians(spec: TableSpec, inputs: EncodedSource, missing: list[str]) -> EncodedSource:
    """Return encoded sources with NaN for the missing numbers: the median of the training rows is not known yet."""
    arrays = (inputs.steps, *inputs.others)
    steps, *others = (
        np.full_like(array, np.nan) if column.name in missing and column.name in spec.medians else array
        for column, array in zip(spec.sources, arrays, strict=True)
    )
    return EncodedSource(steps, tuple(others))


def _content_key(*arrays: Array) -> int:
    """Return a hash of encoded cells."""
    content = b"|".join(np.ascontiguousarray(values).tobytes() for values in arrays)
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def first_lines(lines: list[int]) -> str:
    """Return the first line numbers of a list, for messages."""
    return ", ".join(f"{line:,}" for line in lines[:5]) + (", ..." if len(lines) > 5 else "")


class PairLoader(WindowCursor):
    """Endless batches of the rows `index`: at most `batch_size` rows, about `batch_size * seq_len` steps; seeded, resumable."""

    BATCHES_PER_WINDOW = 64
    """Number of batches whose rows are sorted by length together."""

    def __init__(self, dataset: PairDataset, index: npt.NDArray[np.int64], batch_size: int, seq_len: int, seed: int) -> None:
        self.batch_size, self.seq_len = min(batch_size, len(index)), seq_len
        self._dataset, self._index, self._seed = dataset, index, seed
        target_lengths = dataset.target.lengths[index]
        self._lengths = dataset.row_lengths[index]
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
    """Sort the rows `index` by length and split them into groups of at most `max_rows` rows and `max_steps` padded steps."""
    ordered = index[np.argsort(lengths[index], kind="stable")]
    groups, start = [], 0
    for end in range(1, len(ordered) + 1):
        if end == len(ordered) or end - start >= max_rows or (end + 1 - start) * lengths[ordered[end]] > max_steps:
            groups.append(ordered[start:end])
            start = end
    return groups


def read_pairs(table: Table, spec: TableSpec) -> PairDataset:
    """Encode all rows of a table, which must have the columns of `spec`."""
    dataset = PairDataset(spec)
    for line, (source, target) in spec.iter_cells(table):
        dataset.add(line, source, target)
    return dataset.finalize()
