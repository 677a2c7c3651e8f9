"""What a model of a table predicts from what: two columns, and the mode that follows from them. Stored in the model file."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.cell_values import Array, Cell, is_empty, is_missing
from unrolled.tables.column import Column
from unrolled.tables.columns import COLUMN_TYPES, column_from_json, column_to_json
from unrolled.tables.modes import Mode, mode_of
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import FIRST_ROW, TableFormat
from unrolled.tables.text_column import TOKEN_KINDS
from unrolled.tables.type_inference import InferredType, PairProfile, infer_types

logger = logging.getLogger(__name__)

MAX_STEPS = 8192
"""Maximum steps of a row that must be in one batch; longer rows with a label per step are split."""


@dataclass(frozen=True)
class ModelDims:
    """What a network needs to know of its two columns: kinds of tensors and sizes, no names.

    `source_size` and `target_size` are numbers of ids (with `unk_id`), or of floats; `image_shape` is (H, W, C) of a source
    that is an image, else empty. `target_length` is the number of steps of a target that always has the same number (an
    image), `target_row_length` how many of them make one row of it; both are 0 for others.
    """

    mode: Mode
    source_tensor_kind: str
    source_size: int
    image_shape: tuple[int, ...]
    target_tensor_kind: str
    target_size: int
    target_length: int
    target_row_length: int


@dataclass(frozen=True)
class TableSpec:
    """Source and target column. `train_stats` describes the training rows, for baselines: see `Column.baseline_stats`.

    Of two labels, the second is predicted if its probability is at least `threshold` (None: if it is the larger one).
    `header` is how the columns of a file without one are named (see `TableFormat`); a row has at most `max_length` steps.
    """

    source: Column
    target: Column
    train_stats: dict[str, Any] = field(default_factory=dict)
    header: str = FIRST_ROW
    max_length: int | None = None
    threshold: float | None = None

    @property
    def mode(self) -> Mode:
        """The mode of the two columns."""
        return mode_of(self.source, self.target)

    @property
    def dims(self) -> ModelDims:
        """What a network needs to know."""
        source, target = self.source, self.target
        return ModelDims(
            self.mode, source.tensor_kind, source.size, source.shape,
            target.target_tensor_kind, target.target_size, target.target_length, target.target_row_length,
        )  # fmt: skip

    def table_format(self, header: str | None, encoding: str | None) -> TableFormat:
        """Return how a file is read, its columns named as those of the training table unless `header` says otherwise."""
        return TableFormat(header, encoding, self.header)

    @property
    def step_limit(self) -> int:
        """The most steps of a row: `max_length`, or `MAX_STEPS`."""
        return self.max_length or MAX_STEPS

    def cut_source(self, steps: Array, training: bool = False) -> Array:
        """Return the first steps of a source that is too long.

        A source with a label per step is only cut for training, and only to `max_length`; an image is never cut.
        """
        if self.mode.output == "aligned":
            return steps[: self.max_length] if training else steps
        return steps if self.source.tensor_kind == "image" else steps[: self.step_limit]

    def has_missing(self, source: Cell, target: Cell) -> bool:
        """Return whether a row is left out, since one of its cells has no value."""
        return self.source.is_missing(source.value) or self.target.is_missing(target.value)

    def encode_row(self, source: Cell, target: Cell) -> tuple[Array, Array]:
        """Return the arrays of a row. Raises `DataError`, with the location, if one of its cells cannot be read."""
        inputs, targets = self.source.encode_source(source), self.target.encode_target(target)
        if len(inputs) and len(targets):
            self.check_aligned(inputs, targets, source)
        return inputs, targets

    def check_aligned(self, source: Array, target: Array, cell: Cell) -> None:
        """Raise `DataError` if a target of one label per step does not have as many labels as the source has steps."""
        if self.mode.output == "aligned" and len(source) != len(target):
            is_composed = isinstance(cell.value, str) and len(cell.value) == len(target) and self.source.normalization != "none"
            raise DataError(
                f"{cell.location}: '{self.source.name}' has {len(source):,} steps and '{self.target.name}' {len(target):,} "
                f"labels: each step needs one{'; --normalize none reads the source as it is' if is_composed else ''}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as it is stored in a model file."""
        return {
            "source": column_to_json(self.source), "target": column_to_json(self.target), "train_stats": self.train_stats,
            "header": self.header, "max_length": self.max_length, "threshold": self.threshold,
        }  # fmt: skip

    @staticmethod
    def from_json(value: Any) -> TableSpec:
        """Build the spec that `to_json` described. Raises `ModelError` or `UsageError` for anything else."""
        header, max_length = str(value.get("header", FIRST_ROW)), value.get("max_length")
        threshold = value.get("threshold")
        spec = TableSpec(
            column_from_json(value["source"]), column_from_json(value["target"]), dict(value["train_stats"]), header,
            None if max_length is None else int(max_length), None if threshold is None else float(threshold),
        )  # fmt: skip
        _ = spec.mode
        return spec


def infer_spec(
    table: Table, source: str, target: str, tokens: str | None = None, normalization: str = "nfc"
) -> tuple[TableSpec, str]:
    """Read a table; return the spec of its columns `source` and `target` (NAME or NAME:KIND), and a sentence about it.

    `tokens` says what one token of a text is, where the column itself does not; `normalization` is the form of texts.
    """
    declared = (parse_column(source, "source"), parse_column(target, "target"))
    names = tuple(
        name if table.matching_columns(name) else column_spec
        for (name, _), column_spec in zip(declared, (source, target), strict=True)
    )
    kinds = tuple(
        None if name == column_spec else kind
        for name, column_spec, (_, kind) in zip(names, (source, target), declared, strict=True)
    )
    names = tuple(map(table.find_column, names))
    if names[0] == names[1]:
        raise UsageError(f"'{names[0]}' is both the source and the target: name two different columns.")
    keeps_na = tuple(kind is not None and _keeps_na(kind) for kind in kinds)
    profile = PairProfile(names[0], names[1], table.allows_decimal_commas, normalization)
    for source_cell, target_cell in _complete_rows(table, names, keeps_na):
        profile.add(source_cell, target_cell)
    if profile.source.num_rows == 0:
        raise DataError(f"{table.name} has no row in which both '{names[0]}' and '{names[1]}' have a value.")
    types = infer_types(profile, (kinds[0], kinds[1]), tokens)
    for column, inferred in zip((profile.source, profile.target), types, strict=True):
        declared_kind = kinds[column is profile.target]
        if note := column.number_note(inferred.kind, inferred.decimal_comma, declared_kind is not None):
            logger.info(note)
    config = {"normalize": normalization}
    columns = (_fit_column(table, names, position, types[position], keeps_na, config) for position in (0, 1))
    spec = TableSpec(next(columns), next(columns))
    return spec, f"{spec.source.describe()} -> {spec.target.describe()}: {spec.mode.name}"


def parse_column(column_spec: str, role: str) -> tuple[str, str | None]:
    """Return name and kind of `NAME` or `NAME:KIND`, the value of the option `--role`."""
    name, colon, kind = column_spec.rpartition(":")
    if not colon:
        return column_spec, None
    kinds = (*COLUMN_TYPES, *TOKEN_KINDS)
    if kind not in kinds:
        hint = did_you_mean(kind, kinds) or "."
        raise UsageError(f"--{role} {column_spec}: there is no kind '{kind}'{hint} Kinds: {', '.join(kinds)}.")
    return name, kind


def _keeps_na(kind: str) -> bool:
    """Return whether a column that was said to be of this kind keeps `NA` as a value."""
    return kind in TOKEN_KINDS or COLUMN_TYPES[kind].may_keep_na


def _complete_rows(table: Table, names: tuple[str, ...], keeps_na: tuple[bool, ...]) -> Iterator[tuple[Cell, ...]]:
    """Yield the cells of the rows in which no cell is missing."""
    tests = [is_empty if keeps else is_missing for keeps in keeps_na]
    for _, row in table.iter_cells(names):
        if not any(test(cell.value) for test, cell in zip(tests, row, strict=True)):
            yield row


def _fit_column(
    table: Table,
    names: tuple[str, ...],
    position: int,
    inferred: InferredType,
    keeps_na: tuple[bool, ...],
    config: dict[str, Any],
) -> Column:
    config = {**dataclasses.asdict(inferred), "is_source": position == 0, **config}
    column_type = COLUMN_TYPES[inferred.kind]

    rows = itertools.islice(_complete_rows(table, names, keeps_na), column_type.max_fitted_rows)
    column = column_type.fit(names[position], (row[position] for row in rows), config)
    column.keeps_na = keeps_na[position]
    return column
