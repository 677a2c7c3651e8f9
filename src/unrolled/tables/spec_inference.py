"""The columns of a table that source and target name, with their kinds as the cells show them, as a spec."""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator

from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.cell_values import (
    MISSING_IN_NUMBERS,
    MISSING_ONLY_IN_NUMBERS,
    NAMES_OF_MISSING_VALUES,
    PUNCTUATION_MARKS,
    Cell,
    is_missing,
)
from unrolled.tables.column import Column
from unrolled.tables.column_notes import column_notes
from unrolled.tables.column_profile import ColumnProfile
from unrolled.tables.columns import COLUMN_TYPES
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.source_columns import infer_source_types, median_of_numbers, split_source
from unrolled.tables.spec import TableSpec
from unrolled.tables.table_files import Table
from unrolled.tables.text_column import is_token_kind, token_kinds
from unrolled.tables.type_inference import InferredType, PairProfile, infer_types
from unrolled.text.tokenizers import TOKENIZERS

logger = logging.getLogger(__name__)

OPTIONAL_KINDS = ("number", "text", "label")
"""Kinds of which one of several source columns may have no value in a row: see `TableSpec.is_replaced`."""


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
        for note in column_notes(column, column_type.kind, kind is not None, position == len(profiles)):
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
    """Return the column of the table that NAME or NAME:KIND means, and its kind."""
    name, kind = parse_column(column_spec, role, table)
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
    return TableSpec(sources[main], target, others=others, medians=medians, main_position=main)


def parse_column(column_spec: str, role: str, table: Table | None = None) -> tuple[str, str | None]:
    """Return name and kind of `NAME` or `NAME:KIND`, the value of the option `--role`; the whole of it may be a name.

    Raises `UsageError` for a kind that does not exist, unless a column of the `table` has the whole name.
    """
    name, kind = split_kind(column_spec)
    if table is not None and (
        column_spec in table.columns or (not table.matching_columns(name) and table.matching_columns(column_spec))
    ):
        return column_spec, None
    given, kinds = column_spec.rpartition(":")[2], (*COLUMN_TYPES, *token_kinds())
    if kind is None and given != column_spec and given[:1].isalpha():  # else a part of the name, as in `Unnamed: 0`
        hint = did_you_mean(given, kinds) or "."
        raise UsageError(f"--{role} {column_spec}: there is no kind '{given}'{hint} Kinds: {', '.join(kinds)}.")
    return name, kind


def split_kind(column_spec: str) -> tuple[str, str | None]:
    """Return name and kind of `NAME` or `NAME:KIND`. What is no kind is a part of the name.

    Example:
        >>> split_kind("title:text"), split_kind("a:b"), split_kind("smiles:regex:C|N")
        (('title', 'text'), ('a:b', None), ('smiles', 'regex:C|N'))
    """
    for rule in (kind for kind in TOKENIZERS if TOKENIZERS[kind].argument_name and f":{kind}:" in column_spec):
        name, marker, argument = column_spec.partition(f":{rule}:")
        return name, marker[1:] + argument
    name, colon, kind = column_spec.rpartition(":")
    return (name, kind) if colon and kind in (*COLUMN_TYPES, *token_kinds()) else (column_spec, None)


def _keeps_na(kind: str) -> bool:
    """Return whether a column that was said to be of this kind keeps `NA` as a value."""
    return is_token_kind(kind) or COLUMN_TYPES[kind].may_keep_na


def _missing_names(kind: str, profile: ColumnProfile) -> frozenset[str]:
    """Return the names of missing values in a column of an inferred kind.

    `?` may be a text, and a label among punctuation; `.` and `:` are among words, as in tags of parts of speech."""
    if kind == "label" and profile.has_punctuation():
        return NAMES_OF_MISSING_VALUES - PUNCTUATION_MARKS
    if kind == "label" and not profile.has_numbers():
        return MISSING_IN_NUMBERS - MISSING_ONLY_IN_NUMBERS
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
