"""Tables of series that were not named as such: one row per step (long), or one column per step (wide).

Neither is silently read as single values: the message names the settings that read it as series.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import operator
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.datasets.tables import Row
from unrolled.errors import DataError
from unrolled.tables.cell_values import MISSING_IN_NUMBERS, is_missing, to_number
from unrolled.tables.column import Column
from unrolled.tables.date_formats import DATE_FORMATS
from unrolled.tables.entities import are_entity_tags
from unrolled.tables.json_files import nested_value
from unrolled.tables.step_times import time_keys
from unrolled.tables.table_files import Table

MAX_EXAMINED_ROWS = 5000
MIN_NEIGHBORS, MAX_NEIGHBOR_RATIO, MAX_SORTED_SHARE = 200, 1.0, 0.9
"""Adjacent rows that are similar, as steps are: of so many with one label, the mean squared difference is at most this
share of the variance, where independent rows have 2; and not nearly all differences have one sign, as in a sorted column."""

MIN_STEPS, MIN_SERIES = 3, 2
"""Rows of one series, on average, and series, for a table to be one of series."""

MAX_DISTINCT_TIMES = 0.7
"""Distinct times per row: a number that no other row has is that of the row."""

MIN_WIDE_COLUMNS = 8
"""Columns of numbers, numbered one after the other, that are a series."""

MIN_UNNAMED_COLUMNS = 16
"""The same, for columns that have no name but their number: fewer may be any numbers."""

_NUMBERED = re.compile(r"(.*?)([0-9]+)")


def note_of_series(table: Table, sources: Sequence[Column], target: Column) -> str | None:
    """Return a note if rows look like steps of series, and are read as single ones; or None.

    Raises:
        DataError: The source has single steps: numbers of a series, or words with tags of entities.
    """
    is_number, note, name = all(column.kind == "number" for column in sources), None, sources[0].name
    if len(sources) == 1 and is_number:
        note = refuse_series(table, name, target.name)
    elif len(sources) == 1:
        refuse_tagged_words(table, name, target.name, target.labels)
    if is_number and note is None and target.kind in ("label", "number"):
        note = neighbors_note(table, [column.name for column in sources], target.name)
    return note


def refuse_series(table: Table, source: str, target: str) -> str | None:
    """Raise `DataError` if a column of single numbers is part of series that the rows belong to.

    Returns:
        A note, if rows are steps of series, and the target differs between the steps; else None.
    """
    if table.builtin is not None:
        return None
    columns = _wide_columns(table.columns, source) or _dated_columns(table.columns, source)
    if columns and _are_numbers(table, columns):
        raise DataError(
            f"{table.name} has series in the columns {columns[0]} to {columns[-1]}, and '{source}' is a single step: write "
            f'each as a list, one object per line ({{"series": [1.5, 2, ...], "{target}": ...}}), with --source '
            f"series:numbers, or say {source}:number."
        )
    with contextlib.closing(table.rows()) as rows:
        examined = [row for _, row in itertools.islice(rows, MAX_EXAMINED_ROWS)]
    others = [column for column in table.columns if column not in (source, target)]
    for series_id in others:
        groups = _group(examined, series_id)
        if len(groups) < MIN_SERIES or len(examined) < MIN_STEPS * len(groups):
            continue
        time = next((column for column in others if column != series_id and _increases(groups, column)), None)
        if time is None:
            continue
        if all(len({str(row.get(target)) for row in group}) == 1 for group in groups):
            raise DataError(
                f"{table.name} has one row per step of a series ('{series_id}' names the series, '{time}' the step), and "
                f"single values of '{source}' do not show it: add --group-by {series_id} --order-by {time}, or say "
                f"{source}:number."
            )
        return (
            f"each row is learned independently, although '{series_id}' and '{time}' look like a series and its steps "
            f"(--group-by {series_id} --order-by {time})"
        )
    return None


def neighbors_note(table: Table, sources: Sequence[str], target: str) -> str | None:
    """Return a note if adjacent rows of a table are similar, as steps of a series are, also among rows of one label.

    Spikes do not decide: numbers are compared by their ranks.
    """
    if table.builtin is not None:
        return None
    with contextlib.closing(table.rows()) as rows:
        examined = [row for _, row in itertools.islice(rows, MAX_EXAMINED_ROWS)]
    labels = np.array([str(row.get(target)) for row in examined])
    if len(set(labels.tolist())) > len(labels) / MIN_STEPS:  # numbers
        labels[:] = ""
    is_alike = labels[1:] == labels[:-1]
    if is_alike.sum() < MIN_NEIGHBORS:
        return None
    ratios = [_neighbor_ratio([_number(row.get(source)) for row in examined], labels, is_alike) for source in sources]
    if np.median(ratios) > MAX_NEIGHBOR_RATIO:
        return None
    return (
        "each row is learned independently, although adjacent rows are similar, as steps of a series are: if they are, say "
        f"--source {sources[0]}:numbers{',...' if len(sources) > 1 else ''}, or name their time with --order-by"
    )


def _neighbor_ratio(values: list[float | None], labels: npt.NDArray[Any], is_alike: npt.NDArray[Any]) -> float:
    """Return the mean squared difference of neighbors divided by the variance among rows of one label, in ranks."""
    numbers = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    ranks = np.unique(numbers, return_inverse=True)[1].reshape(-1).astype(np.float64)
    differences = np.diff(ranks)[is_alike]
    spread = sum(
        float(np.square(part - part.mean()).sum()) for part in (ranks[labels == label] for label in set(labels.tolist()))
    )
    if spread == 0 or abs(np.sign(differences).mean()) > MAX_SORTED_SHARE:
        return math.inf
    return float(np.square(differences).mean()) / (spread / len(ranks))


def refuse_tagged_words(table: Table, source: str, target: str, labels: Sequence[str]) -> None:
    """Raise `DataError` if the rows are single words with tags of entities, which need the sentence that the words are of."""
    if "O" not in labels or not are_entity_tags(labels):
        return
    with contextlib.closing(table.rows()) as rows:
        examined = [nested_value(row, source) for _, row in itertools.islice(rows, MAX_EXAMINED_ROWS)]
    if all(isinstance(value, str) and len(value.split()) < 2 for value in examined if not is_missing(value)):
        raise DataError(
            f"'{target}' of {table.name} has tags of entities, one word per row, and a word alone does not show its sentence: "
            f"add --group-by with the column that names the sentence, or say {source}:label."
        )


def _wide_columns(names: Sequence[str], source: str) -> list[str]:
    """Return the columns that are numbered one after the other as `source` is, if they are many."""
    if (parts := _NUMBERED.fullmatch(source)) is None:
        return []
    prefix, numbers = parts[1], {}
    for name in names:
        if (other := _NUMBERED.fullmatch(name)) is not None and other[1] == prefix:
            numbers[int(other[2])] = name
    first = last = int(parts[2])
    while first - 1 in numbers:
        first -= 1
    while last + 1 in numbers:
        last += 1
    is_long = last - first + 1 >= (MIN_WIDE_COLUMNS if prefix else MIN_UNNAMED_COLUMNS)
    return [numbers[number] for number in range(first, last + 1)] if is_long else []


def _dated_columns(names: Sequence[str], source: str) -> list[str]:
    """Return the columns side by side with `source` that are named by dates which go on, as of one series, if they are many."""
    place = names.index(source) if source in names else len(names)
    first, last = place, place - 1
    while first and _is_date(names[first - 1]):
        first -= 1
    while last + 1 < len(names) and _is_date(names[last + 1]):
        last += 1
    found = list(names[first : last + 1]) if first <= place <= last and _is_date(source) else []
    keys = time_keys(found)
    is_series = len(found) >= MIN_WIDE_COLUMNS and not isinstance(keys, int) and all(map(operator.lt, keys, keys[1:]))
    return found if is_series else []


def _is_date(name: str) -> bool:
    return any(format.read(name) is not None for format in DATE_FORMATS)


def _are_numbers(table: Table, columns: Sequence[str]) -> bool:
    """Return whether nearly all values in columns are numbers, in the first rows; the first or last may be a label."""
    with contextlib.closing(table.rows()) as rows:
        cells = [row[column] for _, row in itertools.islice(rows, 100) for column in columns[1:-1]]
    cells = [cell for cell in cells if not is_missing(cell, MISSING_IN_NUMBERS)]
    return len(cells) > 0 and sum(_number(cell) is not None for cell in cells) >= 0.95 * len(cells)


def _group(rows: Sequence[Row], column: str) -> list[list[Row]]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        value = row.get(column)
        if isinstance(value, str | int | float) and str(value).strip():
            groups[str(value)].append(row)
    return list(groups.values())


def _increases(groups: Sequence[Sequence[Row]], column: str) -> bool:
    """Return whether a column is a time: its values increase in each series, and series have times in common."""
    keys = time_keys([row.get(column) for group in groups for row in group])
    if isinstance(keys, int):
        return False
    left, times = iter(keys), set(keys)
    for group in groups:
        own: list[Any] = list(itertools.islice(left, len(group)))
        if any(first >= second for first, second in itertools.pairwise(own)):
            return False
    return len(times) <= MAX_DISTINCT_TIMES * len(keys)


def _number(value: Any) -> float | None:
    return to_number(value) if isinstance(value, str) else float(value) if isinstance(value, int | float) else None
