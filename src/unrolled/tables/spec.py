"""What a model of a table predicts from what: two columns, and the mode that follows from them. Stored in the model file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from unrolled.display import agree, plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import BLANKS, Array, Cell, is_empty
from unrolled.tables.column import Column
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.known_covariates import Covariate
from unrolled.tables.long_table import LongFormat
from unrolled.tables.model_dims import BaseDims, ModelDims
from unrolled.tables.modes import Mode, mode_of
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.source_columns import EncodedSource, SourceDims, join_cells
from unrolled.tables.step_arrays import StepArray
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import FIRST_ROW, TableFormat
from unrolled.tables.text_column import TextColumn

MAX_STEPS = 8192
"""Maximum steps of a row that must be in one batch; longer rows with a label per step are split."""


@dataclass(frozen=True)
class TableSpec:
    """Source and target column; `others` are sources too.

    `train_stats` describes the training rows, for baselines: see `Column.baseline_stats`. Of two labels, the second is
    predicted if its probability is at least `threshold` (None: if it is the larger one). `header` is how the columns of a file
    without one are named (see `TableFormat`); a row has at most `max_length` steps. `medians` are, by the name of the column,
    what a row gets that has no number in one of several source columns; `aligned` are the names of the other source columns
    that have one step for each label of the target. `long` is how a table with one row per step is read; None: each row is a
    whole series. `main_position` is that of the main source among the sources in the order in which they were given.
    """

    source: Column
    target: Column
    train_stats: dict[str, Any] = field(default_factory=dict)
    header: str = FIRST_ROW
    max_length: int | None = None
    threshold: float | None = None
    others: tuple[Column, ...] = ()
    medians: dict[str, float] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()
    long: LongFormat | None = None
    main_position: int = 0

    @property
    def sources(self) -> tuple[Column, ...]:
        """All source columns: the main one, then the others."""
        return (self.source, *self.others)

    @property
    def given_sources(self) -> tuple[Column, ...]:
        """All source columns in the order in which they were given."""
        return (*self.others[: self.main_position], self.source, *self.others[self.main_position :])

    @property
    def source_name(self) -> str:
        """The names of all source columns, for people."""
        return ", ".join(column.name for column in self.sources)

    @property
    def columns_text(self) -> str:
        """All columns with their kinds, for people."""
        sources = " + ".join(f"{column.name}:{column.kind}" for column in self.sources)
        return f"{sources} -> {self.target.name}:{self.target.kind}"

    @property
    def mode(self) -> Mode:
        """The mode of the two columns."""
        return mode_of(self.source, self.target)

    @property
    def mode_text(self) -> str:
        """The mode for people; that of a forecast says how far it goes."""
        return f"forecast of {plural(self.horizon, 'step')}" if self.horizon else self.mode.name

    @property
    def dims(self) -> ModelDims:
        """What a network needs to know."""
        source, target = self.source, self.target
        return ModelDims(
            self.mode, source.tensor_kind, source.size, source.shape,
            target.target_tensor_kind, target.target_size, target.target_length, target.target_row_length,
            tuple(SourceDims.of(column, column.name in self.aligned) for column in self.others), self.is_stream,
            *((target.loss, target.quantiles) if isinstance(target, NumbersColumn) else ("mse", ())),
            source.ngram_buckets if self.reads_one_text else 0,
            BaseDims(source.base.tokenizer.vocab_size, source.base.options) if self.labels_one_text and source.base else None,
        )  # fmt: skip

    @property
    def reads_one_text(self) -> bool:
        """Whether one label or one number is predicted from one text."""
        return self.source.kind == "text" and not self.others and self.target.kind in ("label", "number")

    @property
    def labels_each_token(self) -> bool:
        """Whether it gives each token of a text a label."""
        return self.source.kind == "text" and self.target.kind == "labels" and not self.others

    @property
    def labels_one_text(self) -> bool:
        """Whether one label is predicted from one text."""
        return self.reads_one_text and self.target.kind == "label"

    @property
    def loss_unit(self) -> str:
        """What the loss is measured per: `target`, or `number` if it is the loss of numbers, such as their squared error."""
        return "number" if self.target.target_tensor_kind == "floats" else "target"

    @property
    def is_stream(self) -> bool:
        """Whether numbers are read step by step and something is predicted at every step."""
        return self.source.kind == "numbers" and self.mode.output == "aligned"

    @property
    def horizon(self) -> int:
        """Steps of a forecast, or 0."""
        return self.target.horizon if isinstance(self.target, NumbersColumn) else 0

    @property
    def known_covariates(self) -> tuple[Covariate, ...]:
        """What a forecast reads in advance, if there is something."""
        return () if self.long is None else self.long.covariates

    @property
    def ahead(self) -> int:
        """Steps after the known ones of which something is read: those of a forecast with covariates, or none."""
        return self.horizon if self.known_covariates else 0

    def check_ahead(self, cell: Cell) -> None:
        """Raise `DataError` if a series that is to be forecast does not go on with all that is read in advance."""
        series, source = cell.value if isinstance(cell.value, StepArray) else StepArray.make(()), self.source.name
        found = max(0, len(series.covariates) - len(series))
        if found < self.ahead:
            read = ", ".join(f"'{covariate.name}'" for covariate in self.known_covariates)
            where = f"{cell.table_name}, {series.series}" if series.series else cell.table_name
            raise DataError(
                f"{where}: a forecast of {plural(self.ahead, 'step')} reads {read} of each step, and {plural(found, 'row')} "
                f"{agree(found, 'have')} these after the last '{source}': add {self.ahead - found:,} with an empty '{source}'."
            )

    @property
    def row_noun(self) -> str:
        """What an evaluated row is called: of a forecast, it is one forecast; of other series, a part of one."""
        return "forecast" if self.horizon else "part" if self.is_stream else "row"

    def table_format(self, header: str | None, encoding: str | None, cell_files: bool = True) -> TableFormat:
        """Return how a file is read, its columns named as those of the training table unless `header` says otherwise."""
        return TableFormat(header, encoding, self.header, cell_files)

    @property
    def step_limit(self) -> int:
        """The most steps of a row: `max_length`, or `MAX_STEPS`."""
        return self.max_length or MAX_STEPS

    def iter_cells(self, table: Table) -> Iterator[tuple[int, tuple[Cell, Cell]]]:
        """Yield the line, and the source and target cell of each row of a table, which must have all columns."""
        for line, (*sources, target) in table.iter_cells((*(column.name for column in self.sources), self.target.name)):
            yield line, (join_cells(sources), target)

    def find_sources(self, table: Table) -> tuple[str, ...]:
        """Return the source columns of a table. Raises `UsageError` for one that it does not have."""
        return tuple(table.find_column(column.name) for column in self.sources)

    def cut_source(self, source: EncodedSource, training: bool = False) -> EncodedSource:
        """Return the first steps of a source that is too long.

        A source with a label per step is only cut for training, and only to `max_length`; an image is never cut.
        """
        is_main_aligned = self.mode.output == "aligned"

        def cut(column: Column, array: Array) -> Array:
            if column.name in self.aligned or (is_main_aligned and column is self.source):
                return array[: self.max_length] if training else array
            return array if column.tensor_kind == "image" else array[: self.step_limit]

        steps, *others = map(cut, self.sources, (source.steps, *source.others))
        return replace(source, steps=steps, others=tuple(others))

    def has_missing(self, source: Cell, target: Cell) -> bool:
        """Return whether a row is left out, since one of its cells has no value."""
        return self.is_source_missing(source) or self.target.is_missing(target.value)

    def is_source_missing(self, source: Cell) -> bool:
        """Return whether a source has no value: of several columns, all are missing, or one that cannot be replaced."""
        return bool(self._needed_columns(source))

    def columns_left_out(self, source: Cell, target: Cell) -> list[str]:
        """Return the names of the columns of a row that has no value where it needs one."""
        return [*self._needed_columns(source), *([self.target.name] if self.target.is_missing(target.value) else [])]

    def check_target(self, table_name: str, num_empty: int) -> None:
        """Raise `DataError` if there is nothing to learn from the target; `num_empty` rows have no value in it."""
        try:
            self.target.check_target(table_name)
        except DataError as error:
            hint = " If an empty cell is a value too, write one there." if num_empty else ""
            raise DataError(f"{error}{hint}") from error

    def missing_names(self, source: Cell, target: Cell) -> set[str]:
        """Return the texts in a row that are names of missing values, such as `NA`."""
        columns, cells = (*self.sources, self.target), (source, *source.others, target)
        pairs = zip(columns, cells, strict=True)
        return {
            cell.value.strip(BLANKS) for column, cell in pairs if column.is_missing(cell.value) and not is_empty(cell.value)
        }

    def _needed_columns(self, source: Cell) -> list[str]:
        """Return the names of the source columns that have no value in a row, if nothing replaces it, or all lack one."""
        missing = self.missing_columns(source)
        if len(missing) > len(self.others):
            return missing
        return [column.name for column in self.sources if column.name in missing and not self.is_replaced(column)]

    def is_replaced(self, column: Column) -> bool:
        """Return whether a missing value of one of several source columns is replaced, and its row kept: by the median of
        numbers, and by one unknown token or label. A text or label that is read with another step by step has no such."""
        if column.name in self.medians:
            return True
        is_aligned = column.name in self.aligned or (self.mode.output == "aligned" and column is self.source)
        return bool(self.others) and not is_aligned and column.unknown is not None

    def encoded_missing(self, column: Column) -> Array:
        """Return what a missing value of one of several source columns is encoded as."""
        unknown = column.unknown
        return column.encode_source(Cell(self.medians[column.name], "")) if unknown is None else unknown

    def missing_columns(self, source: Cell) -> list[str]:
        """Return the names of the source columns that have no value in a row."""
        cells = zip(self.sources, (source, *source.others), strict=True)
        return [column.name for column, cell in cells if column.is_missing(cell.value)]

    def encode_source(self, source: Cell) -> EncodedSource:
        """Return the arrays of a source cell, with what replaces a missing value of several columns.

        Raises `DataError`, with the location and the column, for a cell that cannot be read.
        """
        missing = self.missing_columns(source) if self.others else []
        arrays = []
        for column, cell in zip(self.sources, (source, *source.others), strict=True):
            try:
                is_replaced = column.name in missing and self.is_replaced(column)
                arrays.append(self.encoded_missing(column) if is_replaced else column.encode_source(cell))
            except DataError as error:
                raise DataError(f"'{column.name}': {error}") if self.others else error from error.__cause__
        for column, array in zip(self.others, arrays[1:], strict=True):
            if column.name in self.aligned and len(array) and len(arrays[0]) and len(array) != len(arrays[0]):
                raise DataError(
                    f"{source.location}: '{column.name}' has {len(array):,} steps and '{self.source.name}' {len(arrays[0]):,}: "
                    "columns that are read step by step together need equally many."
                )
        return EncodedSource(arrays[0], tuple(arrays[1:]), **self._features(source, arrays[0]))

    def _features(self, cell: Cell, steps: Array) -> dict[str, Any]:
        """Return what a linear classifier reads of a text, of the steps that are read of it, if the model has one."""
        column = self.source
        if not isinstance(column, TextColumn) or not column.ngram_buckets:
            return {}
        is_cut = len(steps) > self.step_limit
        return column.features_of(column.text_of_steps(cell, steps[: self.step_limit]) if is_cut else column.read_text(cell))

    def encode_row(self, source: Cell, target: Cell) -> tuple[EncodedSource, Array]:
        """Return the arrays of a row. Raises `DataError`, with the location, if one of its cells cannot be read."""
        inputs, targets = self.encode_source(source), self.target.encode_target(target)
        if len(inputs) and len(targets):
            self.check_aligned(inputs.steps, targets, source)
        return inputs, targets

    def check_aligned(self, source: Array, target: Array, cell: Cell) -> None:
        """Raise `DataError` if a target of one label per step does not have as many labels as the source has steps."""
        if self.mode.output == "aligned" and len(source) != len(target):
            unit = "numbers" if self.target.kind == "numbers" else "labels"
            is_composed = isinstance(cell.value, str) and len(cell.value) == len(target) and self.source.normalization != "none"
            hint = "; --normalize none reads the source as it is" if is_composed else ""
            hint = "; if they are labels of the whole row, keep one" if 4 * len(target) < len(source) else hint
            raise DataError(
                f"{cell.location}: '{self.source.name}' has {len(source):,} steps and '{self.target.name}' {len(target):,} "
                f"{unit}: each step needs one{hint}."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the spec as it is stored in a model file."""
        return {
            "source": column_to_json(self.source), "target": column_to_json(self.target), "train_stats": self.train_stats,
            "header": self.header, "max_length": self.max_length, "threshold": self.threshold,
            **({} if self.long is None else {"long": self.long.to_json()}),
            **({"others": list(map(column_to_json, self.others)), "medians": self.medians, "aligned": self.aligned,
                **({"main_position": self.main_position} if self.main_position else {})}
               if self.others else {}),
        }  # fmt: skip

    @staticmethod
    def from_json(value: Any) -> TableSpec:
        """Build the spec that `to_json` described. Raises `ModelError` or `UsageError` for anything else."""
        header, max_length = str(value.get("header", FIRST_ROW)), value.get("max_length")
        threshold = value.get("threshold")
        spec = TableSpec(
            column_from_json(value["source"]), column_from_json(value["target"]), dict(value["train_stats"]), header,
            None if max_length is None else int(max_length), None if threshold is None else float(threshold),
            tuple(map(column_from_json, value.get("others", []))),
            {str(name): float(median) for name, median in dict(value.get("medians", {})).items()},
            tuple(map(str, value.get("aligned", ()))),
            LongFormat.from_json(value.get("long")),
            int(value.get("main_position", 0)),
        )  # fmt: skip
        _ = spec.mode
        return spec
