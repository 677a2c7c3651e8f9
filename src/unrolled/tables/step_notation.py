"""How the numbers of a long table are written, which has one row per step: with units, groups of digits, decimal commas."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from unrolled.tables.cell_values import MISSING_IN_NUMBERS, has_decimal_comma, is_missing, to_number
from unrolled.tables.column_notes import LABELS_OF_STEPS, measure_note, number_note
from unrolled.tables.column_profile import MAX_NUMERIC_LABELS, MAX_PROFILED_ROWS, ColumnProfile
from unrolled.tables.numeric_columns import Notation
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import NumberedRows
from unrolled.tables.type_inference import SAMPLING_STRIDE

_SEVERAL = re.compile(r"\d{3}(?:[ ,]\d{3}){2,}")
"""Three or more numbers of three digits: hardly one in groups."""


def has_single_numbers(table: Table, name: str) -> bool:
    """Return whether nearly all cells of a column are one number, perhaps in groups (`1,250`, `1 250`) or with a unit."""
    profile = _profiles(table, (name,))[0]
    grouped = profile.counts_of("").digit_groups
    return profile.has_numbers(declared=True) and not any(_SEVERAL.fullmatch(groups.example) for groups in grouped)


def decimal_comma_in_lists(table: Table, name: str) -> str:
    """Return a number with a decimal comma from a list of them between blanks, such as `1,5 2,5`; if there is none, nothing."""
    values = (cell.value for _, (cell,) in table.iter_cells((name,))) if table.allows_decimal_commas else ()
    lists = (value.split() for value in values if isinstance(value, str) and "," in value)
    parts = itertools.chain.from_iterable(each for each in lists if len(each) > 1)
    return next(filter(has_decimal_comma, parts), "")


def infer_notations(table: Table, names: Sequence[str], declared: bool) -> tuple[dict[str, Notation], list[str]]:
    """Return how the numbers of columns are written, of those that need it to be read; and sentences about all columns.

    Args:
        table: The long table.
        names: Columns that may be of numbers.
        declared: Whether they were said to be.
    """
    profiles = _profiles(table, names)
    notations, notes = dict[str, Notation](), list[str]()
    for profile in profiles:
        numbers, is_number = profile.numbers(declared), profile.has_numbers(declared)
        notes.append(number_note(profile, "number" if is_number else LABELS_OF_STEPS, declared))
        if not is_number and not declared and len(profile.value_counts) > MAX_NUMERIC_LABELS:
            notes[-1] = notes[-1] or measure_note(profile, f"read as {LABELS_OF_STEPS}")
        notation = Notation(
            numbers.has_decimal_commas(), numbers.unit, numbers.group_sign(declared), numbers.are_parentheses_negative(declared)
        )
        if is_number and (notation != Notation() or table.allows_decimal_commas):
            notations[profile.name] = notation
    return notations, [*filter(None, notes)]


def _profiles(table: Table, names: Sequence[str]) -> list[ColumnProfile]:
    profiles = [ColumnProfile(name, table.allows_decimal_commas) for name in names]
    for number, (_, cells) in enumerate(table.iter_cells(tuple(names))):
        if number >= MAX_PROFILED_ROWS and number % SAMPLING_STRIDE:
            continue
        for profile, cell in zip(profiles, cells, strict=True):
            if not is_missing(cell.value, MISSING_IN_NUMBERS):
                profile.add(cell)
    return profiles


def with_plain_numbers(table: Table, notations: Mapping[str, Notation]) -> Table:
    """Return a table in whose columns what is a number in their notation is one; anything else is as it was."""
    known = {table.find_column(name): notation for name, notation in notations.items() if table.matching_columns(name)}

    def plain(line: int, row: dict[str, Any], name: str, notation: Notation) -> Any:
        value = notation.plain(table.cell(line, row, name), True).value
        number = to_number(value) if isinstance(value, str) else None
        return value if number is None else number

    def rows() -> NumberedRows:
        for line, row in table.rows():
            yield line, row | {name: plain(line, row, name, notation) for name, notation in known.items()}

    return dataclasses.replace(table, rows=rows) if known else table
