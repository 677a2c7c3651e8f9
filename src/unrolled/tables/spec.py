"""What a model of a table predicts from what: two columns, and the mode that follows from them. Stored in the model file."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.cell_values import (
    BLANKS,
    MISSING_IN_NUMBERS,
    NAMES_OF_MISSING_VALUES,
    PUNCTUATION_MARKS,
    Array,
    Cell,
    is_empty,
    is_missing,
)
from unrolled.tables.column import Column
from unrolled.tables.column_profile import ColumnProfile
from unrolled.tables.columns import COLUMN_TYPES, column_from_json, column_to_json
from unrolled.tables.long_table import LongFormat
from unrolled.tables.model_dims import ModelDims
from unrolled.tables.modes import Mode, mode_of
from unrolled.tables.ngrams import hash_ngrams
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.source_columns import (
    EncodedSource,
    SourceDims,
    infer_source_types,
    join_cells,
    median_of_numbers,
    split_source,
)
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import FIRST_ROW, TableFormat
from unrolled.tables.text_column import TextColumn, is_token_kind, token_kinds
from unrolled.tables.type_inference import InferredType, PairProfile, infer_types
from unrolled.text.tokenizers import TOKENIZERS

logger = logging.getLogger(__name__)

OPTIONAL_KINDS = ("number", "text", "label")
"""Kinds of which one of several source columns may have no value in a row: see `TableSpec.is_replaced`."""

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
    whole series.
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

    @property
    def sources(self) -> tuple[Column, ...]:
        """All source columns: the main one, then the others."""
        return (self.source, *self.others)

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
    def dims(self) -> ModelDims:
        """What a network needs to know."""
        source, target = self.source, self.target
        return ModelDims(
            self.mode, source.tensor_kind, source.size, source.shape,
            target.target_tensor_kind, target.target_size, target.target_length, target.target_row_length,
            tuple(SourceDims.of(column, column.name in self.aligned) for column in self.others), self.is_stream,
            *((target.loss, target.quantiles) if isinstance(target, NumbersColumn) else ("mse", ())),
            source.ngram_buckets if self.labels_one_text else 0,
        )  # fmt: skip

    @property
    def labels_one_text(self) -> bool:
        """Whether one label is predicted from one text."""
        return self.source.kind == "text" and not self.others and self.target.kind == "label"

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

    def table_format(self, header: str | None, encoding: str | None) -> TableFormat:
        """Return how a file is read, its columns named as those of the training table unless `header` says otherwise."""
        return TableFormat(header, encoding, self.header)

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
        return EncodedSource(steps, tuple(others), source.ngrams)

    def has_missing(self, source: Cell, target: Cell) -> bool:
        """Return whether a row is left out, since one of its cells has no value."""
        return self.is_source_missing(source) or self.target.is_missing(target.value)

    def is_source_missing(self, source: Cell) -> bool:
        """Return whether a source has no value: of several columns, all are missing, or one that cannot be replaced."""
        return bool(self._needed_columns(source))

    def columns_left_out(self, source: Cell, target: Cell) -> list[str]:
        """Return the names of the columns of a row that has no value where it needs one."""
        return [*self._needed_columns(source), *([self.target.name] if self.target.is_missing(target.value) else [])]

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
        return EncodedSource(arrays[0], tuple(arrays[1:]), self._ngrams(source, arrays[0]))

    def _ngrams(self, cell: Cell, steps: Array) -> Array | None:
        """Return the hashed n-grams of a text, of the steps that are read of it, if the model has a classifier of them."""
        column = self.source
        if not isinstance(column, TextColumn) or not column.ngram_buckets:
            return None
        is_cut = len(steps) > self.step_limit
        return hash_ngrams(column.text_of_steps(cell, steps[: self.step_limit]) if is_cut else column.read_text(cell))

    def encode_row(self, source: Cell, target: Cell) -> tuple[EncodedSource, Array]:
        """Return the arrays of a row. Raises `DataError`, with the location, if one of its cells cannot be read."""
        inputs, targets = self.encode_source(source), self.target.encode_target(target)
        if len(inputs) and len(targets):
            self.check_aligned(inputs.steps, targets, source)
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
            **({} if self.long is None else {"long": self.long.to_json()}),
            **({"others": list(map(column_to_json, self.others)), "medians": self.medians, "aligned": self.aligned}
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
        )  # fmt: skip
        _ = spec.mode
        return spec


def infer_spec(
    table: Table, source: str, target: str, tokens: str | None = None, normalization: str = "nfc"
) -> tuple[TableSpec, str]:
    """Read a table; return the spec of its columns `source` and `target` (NAME or NAME:KIND), and a sentence about it.

    `source` may be several columns (see `split_source`). `tokens` says what one token of a text is, where the column itself
    does not; `normalization` is the form of texts.
    """
    declared = [*(_find_declared(table, name, "source") for name in split_source(source, table))]
    declared.append(_find_declared(table, target, "target"))
    names, kinds = tuple(name for name, _ in declared), tuple(kind for _, kind in declared)
    _require_different(names)
    missing = [MISSING_IN_NUMBERS if kind is None or not _keeps_na(kind) else frozenset[str]() for kind in kinds]
    profiles = _profile_pairs(table, names, missing, normalization)
    if len(profiles) == 1:
        inferred, main, aligned = [*infer_types(profiles[0], (kinds[0], kinds[1]), tokens)], 0, [0]
    else:
        sources, target_type, main, aligned = infer_source_types(profiles, kinds[:-1], kinds[-1], tokens)
        inferred = [*sources, target_type]
    profiled = [*(profile.source for profile in profiles), profiles[main].target]
    for position, (column, column_type, kind) in enumerate(zip(profiled, inferred, kinds, strict=True)):
        if kind is None:
            missing[position] = _missing_names(column_type.kind, column)
        if note := column.number_note(column_type.kind, kind is not None):
            logger.info(note)
    is_optional = [len(profiles) > 1 and column_type.kind in OPTIONAL_KINDS for column_type in inferred[:-1]] + [False]

    def cells(position: int) -> Iterator[Cell]:
        required = [index == position or not optional for index, optional in enumerate(is_optional)]
        return (row[position] for row in _complete_rows(table, names, missing, required))

    columns = []
    for position, (name, column_type) in enumerate(zip(names, inferred, strict=True)):
        columns.append(_fit_column(name, cells(position), column_type, position < len(profiles), normalization))
        columns[-1].missing_names = missing[position]
    spec = _joined_spec(columns, main, cells)
    spec = dataclasses.replace(spec, aligned=tuple(columns[index].name for index in aligned if index != main))
    described = " + ".join(column.describe() for column in columns[:-1])
    return spec, f"{described} -> {spec.target.describe()}: {spec.mode.name}"


def _profile_pairs(
    table: Table, names: tuple[str, ...], missing: list[frozenset[str]], normalization: str
) -> list[PairProfile]:
    """Return the profile of each source with the target, over the rows in which both have a value."""
    profiles = [PairProfile(name, names[-1], table.allows_decimal_commas, normalization) for name in names[:-1]]
    for _, (*sources, target) in table.iter_cells(names):
        if is_missing(target.value, missing[-1]):
            continue
        for profile, source, no_values in zip(profiles, sources, missing, strict=False):
            if not is_missing(source.value, no_values):
                profile.add(source, target)
    for profile in profiles:
        if profile.source.num_rows == 0:
            pair = f"both '{profile.source.name}' and '{names[-1]}'"
            raise DataError(f"{table.name} has no row in which {pair} have a value.")
    return profiles


def _find_declared(table: Table, column_spec: str, role: str) -> tuple[str, str | None]:
    """Return the column of the table that NAME or NAME:KIND means, and its kind; the whole of it may be a name."""
    name, kind = parse_column(column_spec, role)
    if not table.matching_columns(name):
        name, kind = column_spec, None
    return table.find_column(name), kind


def _require_different(names: tuple[str, ...]) -> None:
    """Raise `UsageError` if a column is both source and target, or a source twice."""
    if names[-1] in names[:-1]:
        raise UsageError(f"'{names[-1]}' is both the source and the target: name two different columns.")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UsageError(f"'{name}' is named twice in --source: name each column once.")


def _joined_spec(columns: list[Column], main: int, numbers: Callable[[int], Iterator[Cell]]) -> TableSpec:
    """Return the spec of the source columns and the target; of several sources, with the medians of those that are numbers."""
    *sources, target = columns
    others = tuple(column for column in sources if column is not sources[main])
    medians = {
        column.name: median_of_numbers(column, numbers(position))
        for position, column in enumerate(sources)
        if others and isinstance(column, NumberColumn)
    }
    return TableSpec(sources[main], target, others=others, medians=medians)


def parse_column(column_spec: str, role: str) -> tuple[str, str | None]:
    """Return name and kind of `NAME` or `NAME:KIND`, the value of the option `--role`."""
    for rule in (kind for kind in TOKENIZERS if TOKENIZERS[kind].argument_name and f":{kind}:" in column_spec):
        name, marker, argument = column_spec.partition(f":{rule}:")
        return name, marker[1:] + argument
    name, colon, kind = column_spec.rpartition(":")
    if not colon:
        return column_spec, None
    kinds = (*COLUMN_TYPES, *token_kinds())
    if kind not in kinds:
        hint = did_you_mean(kind, kinds) or "."
        raise UsageError(f"--{role} {column_spec}: there is no kind '{kind}'{hint} Kinds: {', '.join(kinds)}.")
    return name, kind


def _keeps_na(kind: str) -> bool:
    """Return whether a column that was said to be of this kind keeps `NA` as a value."""
    return is_token_kind(kind) or COLUMN_TYPES[kind].may_keep_na


def _missing_names(kind: str, profile: ColumnProfile) -> frozenset[str]:
    """Return the names of missing values in a column of an inferred kind.

    `?` may be a text, and a label among punctuation; `.` is one among words, as in tags of parts of speech."""
    if kind == "label" and profile.has_punctuation():
        return NAMES_OF_MISSING_VALUES - PUNCTUATION_MARKS
    if kind == "label" and not profile.has_numbers():
        return MISSING_IN_NUMBERS - {"."}
    return NAMES_OF_MISSING_VALUES if kind != "label" and _keeps_na(kind) else MISSING_IN_NUMBERS


def _complete_rows(
    table: Table, names: tuple[str, ...], missing: list[frozenset[str]], required: list[bool]
) -> Iterator[tuple[Cell, ...]]:
    """Yield the cells of the rows in which no `required` cell is missing."""
    for _, row in table.iter_cells(names):
        if not any(
            needed and is_missing(cell.value, no_values) for needed, no_values, cell in zip(required, missing, row, strict=True)
        ):
            yield row


def _fit_column(name: str, cells: Iterator[Cell], inferred: InferredType, is_source: bool, normalization: str) -> Column:
    config = {**dataclasses.asdict(inferred), "is_source": is_source, "normalize": normalization}
    column_type = COLUMN_TYPES[inferred.kind]
    return column_type.fit(name, itertools.islice(cells, column_type.max_fitted_rows), config)
