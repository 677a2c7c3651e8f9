"""Long tables, one row per step, as tables with one row per series: `--group-by` and `--order-by`."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.display import agree, plural
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import (
    MISSING_IN_NUMBERS,
    Array,
    Cell,
    has_decimal_comma,
    is_missing,
    parse_text,
    to_number,
    with_decimal_points,
)
from unrolled.tables.known_covariates import Covariate, count_known, unknown_note
from unrolled.tables.numeric_columns import Notation
from unrolled.tables.source_columns import split_source
from unrolled.tables.step_arrays import NO_COVARIATES, NO_TIMES, StepArray, StepTexts, are_numbers, number_or_gap
from unrolled.tables.step_notation import with_plain_numbers
from unrolled.tables.step_times import follows_clock, next_times, time_keys, to_seconds
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import NumberedRows

MAX_STEP_LABELS = 10
"""Distinct whole numbers, at most, for a column of numbers to be labels of the steps."""

FIRST_SERIAL, LAST_SERIAL = 20_000, 80_000
"""Days since 1900 of dates from 1954 to 2119, as Excel stores them."""

_DATE_NAME = re.compile("date|datum|day|time|zeit|fecha|jour", re.IGNORECASE)


@dataclass(frozen=True)
class LongFormat:
    """How a long table is read: the columns that name the series, and the time of a step; None: one series, in file order.

    The `covariates` of a forecast are known in advance: the last rows of a series, in which the source is empty, are the
    steps to forecast. The `examples` are two consecutive times of the training table: their distance is that of a series that
    has only one step. The `notations` are those of columns whose numbers are not written plainly.
    """

    group_by: str | None = None
    order_by: str | None = None
    covariates: tuple[Covariate, ...] = ()
    examples: tuple[Any, ...] = ()
    notations: Mapping[str, Notation] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the format as it is stored in a model file."""
        known = {"covariates": [each.to_json() for each in self.covariates]} if self.covariates else {}
        examples = {"examples": list(map(_as_json, self.examples))} if self.examples else {}
        notations = {name: notation.to_dict() for name, notation in self.notations.items()}
        written = {"notations": notations} if notations else {}
        return {"group_by": self.group_by, "order_by": self.order_by, **known, **examples, **written}

    @staticmethod
    def from_json(value: Any) -> LongFormat | None:
        """Build the format that `to_json` described; None for None."""
        if value is None:
            return None
        covariates = tuple(map(Covariate.from_json, value.get("covariates", ())))
        notations = {name: Notation.from_dict(written) for name, written in value.get("notations", {}).items()}
        return LongFormat(value["group_by"], value["order_by"], covariates, tuple(value.get("examples", ())), notations)


@dataclass
class _Series:
    """The rows of one series: its name, line numbers, times, of dates in seconds too, the values of each column, and the
    covariates; with these, the first `num_known` steps have values, and those after them are to be forecast."""

    name: str
    lines: list[int]
    times: list[Any]
    columns: list[list[Any]]
    seconds: Array = field(default_factory=lambda: NO_TIMES)
    covariates: Array = field(default_factory=lambda: NO_COVARIATES)
    num_known: int | None = None


def _as_json(time: Any) -> Any:
    """Return a time as it is stored: dates of frames as ISO dates."""
    return time.isoformat() if isinstance(time, datetime.date) else time.item() if isinstance(time, np.generic) else time


def column_list(names: str, table: Table) -> list[str]:
    """Return the columns that `A,B,C` means: one, if a column has that very name."""
    columns = [table.find_column(name) for name in split_source(names, table)]
    if len(set(columns)) < len(columns):
        raise UsageError(f"'{names}' names a column twice: name each once.")
    return columns


def group_steps(table: Table, format: LongFormat, names: Sequence[str], horizon: int = 0) -> Table:
    """Return a table with one row per series, read once. Its columns are the series' name, the `names` and the target's values.

    Args:
        table: The long table.
        format: The columns of the series and of the time.
        names: Columns to keep, each a name, or several joined by commas, which become frames.
        horizon: Steps that are to be forecast; a series of a single step has their times, too.

    A column of numbers becomes a `StepArray`, one of texts `StepTexts`. Raises `DataError` for a time that cannot be ordered,
    or a text in a column of numbers.
    """
    table = with_plain_numbers(table, format.notations)
    group_by = None if format.group_by is None else table.find_column(format.group_by)
    order_by = None if format.order_by is None else table.find_column(format.order_by)
    parts = {name: column_list(name, table) for name in names}
    known = [table.find_column(each.name) for each in format.covariates]
    columns = tuple(dict.fromkeys([*([group_by] if group_by else []), *parts]))

    @functools.cache
    def read() -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
        flat = [column for part in parts.values() for column in part]
        series, notes = _read_series(table, group_by, order_by, [*flat, *known])
        comma = table.allows_decimal_commas
        kinds = [are_numbers((group.columns[i] for group in series.values()), comma) for i in range(len(flat))]
        for group in series.values() if order_by and horizon else ():
            _go_on(group, format.examples, horizon)
        notes += _read_covariates(table, series, format.covariates, len(flat))
        rows, odd = [], dict[str, list[str]]()
        for key, group in series.items():
            row: dict[str, Any] = {group_by: key} if group_by else {}
            row |= {name: _cell_value(table, group, flat, part, kinds, odd) for name, part in parts.items()}
            rows.append((group.lines[0], row))
        num_steps = sum(len(group.lines[: group.num_known]) for group in series.values())
        num_empty = sum(all(_is_empty(row[name]) for name in parts) for _, row in rows)
        if num_empty:
            notes.append(f"{num_empty:,} of {len(rows):,} series {agree(num_empty, 'have')} no number")
        for name, found in odd.items():
            notes += [f"'{name}': {plural(len(found), 'value')} read as a gap; the first: {found[0]}"] if found else []
        return rows, [f"{table.name}: {plural(num_steps, 'step')} of {len(series):,} series", *notes]

    def rows() -> NumberedRows:
        yield from read()[0]

    return dataclasses.replace(table, columns=columns, rows=rows, notes=(*table.notes, *read()[1]))


def _read_series(
    table: Table, group_by: str | None, order_by: str | None, columns: list[str]
) -> tuple[dict[Any, _Series], list[str]]:
    """Return the series by name, each ordered by time; and sentences about rows that were out of order, or had no name.

    A row without a name belongs to the series of the row above, as in tables that name each sentence once.
    """
    series: dict[Any, _Series] = {}
    last_key, num_unnamed = "", 0
    wanted = tuple(name for name in (group_by, order_by) if name is not None) + tuple(columns)
    for line, cells in table.iter_cells(wanted):
        values = [cell.value for cell in cells]
        key = parse_text(cells[0]).strip() if group_by and not is_missing(values[0]) else last_key
        num_unnamed += bool(group_by) and is_missing(values[0]) and bool(last_key)
        last_key = key
        time = _plain_time(table, cells[1 if group_by else 0]) if order_by else None
        group = series.setdefault(key, _Series(key, [], [], [[] for _ in columns]))
        group.lines.append(line)
        group.times.append(time)
        for column, value in zip(group.columns, values[len(wanted) - len(columns) :], strict=True):
            column.append(value)
    if not series:
        raise DataError(f"{table.name} has no rows.")
    notes = _sort(table, list(series.values()), order_by) if order_by else []
    if num_unnamed:
        notes.append(f"{num_unnamed:,} rows without '{group_by}' belong to the series of the row above")
    return series, notes


def _plain_time(table: Table, cell: Cell) -> Any:
    """Return the time in a cell; a number with a decimal comma, where the table has such, with a point."""
    is_comma = table.allows_decimal_commas and isinstance(cell.value, str) and has_decimal_comma(cell.value)
    return with_decimal_points(cell).value if is_comma else cell.value


def _sort(table: Table, series: Sequence[_Series], order_by: str) -> list[str]:
    """Sort the rows of each series by time; return sentences about rows that have another place than before, and about rows at
    the time of another one."""
    keys = time_keys([time for group in series for time in group.times])
    if isinstance(keys, int):
        line, time = [pair for group in series for pair in zip(group.lines, group.times, strict=True)][keys]
        raise DataError(
            f"{table.name}, line {line:,}: '{order_by}' is {str(time)[:40]!r}, and the times of a table are all numbers, all "
            "ISO dates, such as 2024-03-31 or 2024-03-31T18:00, or all dates such as 31.03.2024, 3/31/24 6:00 PM (one of them "
            "after the 12th, which tells days from months), 31-Mar-2024 or 2024Q1. If the rows are in order, leave --order-by "
            "out."
        )
    notes = [_serial_note(order_by, series[0].times[0], keys)]
    num_moved = num_repeated = num_clock = 0
    left = iter(keys)
    for group in series:
        own: list[Any] = list(itertools.islice(left, len(group.times)))
        repeated = len(own) - len(set(own))
        group.seconds = to_seconds(own)
        if repeated and follows_clock(own):
            num_clock += repeated
            continue
        order, num_repeated = sorted(range(len(own)), key=own.__getitem__), num_repeated + repeated
        group.seconds = group.seconds[order] if len(group.seconds) else group.seconds
        if moved := sum(i != place for place, i in enumerate(order)):
            num_moved += moved
            group.lines, group.times = [group.lines[i] for i in order], [group.times[i] for i in order]
            group.columns = [[column[i] for i in order] for column in group.columns]
    if num_moved:
        notes.append(f"{num_moved:,} rows were not in the order of '{order_by}', and were sorted")
    if num_clock:
        notes.append(
            f"{num_clock:,} rows have the same '{order_by}' as another row, as where clocks are set back by an hour: they stay "
            "in the order of the file"
        )
    if num_repeated:
        notes.append(
            f"{num_repeated:,} rows have the same '{order_by}' as another row of their series, and are steps of their own: if "
            "they are of other series, --group-by names these"
        )
    return [*filter(None, notes)]


def _serial_note(order_by: str, time: Any, keys: Sequence[Any]) -> str:
    """Return a sentence about times that are days since 1900, as Excel stores dates, or an empty one."""
    is_serial = all(isinstance(key, float) and FIRST_SERIAL <= key < LAST_SERIAL for key in keys)
    if not is_serial or not _DATE_NAME.search(order_by):
        return ""
    date = datetime.datetime(1899, 12, 30) + datetime.timedelta(days=int(keys[0]))
    return (
        f"'{order_by}' is a number, such as {time}; if it is {date:%Y-%m-%d}, as Excel stores dates, write these, of which the "
        "calendar is read"
    )


def _read_covariates(table: Table, series: dict[Any, _Series], covariates: Sequence[Covariate], num_values: int) -> list[str]:
    """Encode what is known in advance of series, whose columns are `num_values` of values, and then those of covariates.

    Leaves out series in which no step has a value to forecast from. Returns sentences about these, and about the steps to come.
    """
    if not covariates:
        return []
    num_ahead, num_series = 0, len(series)
    for key, group in list(series.items()):
        known = group.num_known = count_known(group.columns[:num_values])
        num_ahead += len(group.lines) - known
        cell = Cell(StepArray.make(np.zeros(0), group.lines), table.name)
        parts = [
            covariate.encode(values, cell, known, table.allows_decimal_commas)
            for covariate, values in zip(covariates, group.columns[num_values:], strict=True)
        ]
        group.covariates = np.concatenate(parts, axis=1)
        if not known:
            del series[key]
    if not series:
        raise DataError(f"{table.name} has no step with a value to forecast from.")
    every = zip(*(group.columns[num_values:] for group in series.values()), strict=True)
    notes = unknown_note(covariates, [list(itertools.chain.from_iterable(columns)) for columns in every])
    if num_ahead:
        notes.append(
            f"{plural(num_ahead, 'row')} after the last values {agree(num_ahead, 'are')} of steps that are not known yet"
        )
    if num_empty := num_series - len(series):
        notes.append(f"{num_empty:,} of {num_series:,} series {agree(num_empty, 'have')} no values, and cannot be forecast")
    return notes


def _go_on(group: _Series, examples: tuple[Any, ...], count: int) -> None:
    """Append the next `count` times to those of a series with a single step, at the distance between the `examples`."""
    if len(group.times) == 1:
        group.times = [*group.times, *next_times(group.times, count, examples)]
        keys = time_keys(group.times)
        group.seconds = group.seconds if isinstance(keys, int) else to_seconds(keys)


def _cell_value(
    table: Table, group: _Series, flat: list[str], part: list[str], kinds: list[bool], odd: dict[str, list[str]]
) -> Any:
    """Return the values of one or several columns of a series as one cell; add what is no number to `odd`, by column."""
    places = [flat.index(column) for column in part]
    if not all(kinds[place] for place in places):
        if len(part) > 1:
            place = next(place for place in places if not kinds[place])
            values = (v for v in group.columns[place] if not is_missing(v, MISSING_IN_NUMBERS))
            example = next(
                (v for v in values if not isinstance(v, str) or to_number(v, table.allows_decimal_commas) is None), ""
            )
            raise DataError(
                f"'{','.join(part)}' are read side by side as numbers, and '{flat[place]}' has texts, such as {example!r:.40}: "
                "write numbers, all with the same unit or with none, or leave it out."
            )
        texts = StepTexts("" if is_missing(v) else parse_text(Cell(v, table.name)) for v in group.columns[places[0]])
        texts.lines, texts.times = group.lines, group.times
        return texts
    numbers = [
        _numbers(table, group, group.columns[place][: group.num_known], odd.setdefault(flat[place], [])) for place in places
    ]
    steps = np.stack(numbers, axis=1)
    return StepArray.make(steps, group.lines, group.times, group.seconds, group.name, covariates=group.covariates)


def _is_empty(value: Any) -> bool:
    return isinstance(value, StepArray) and bool(np.isnan(value).all())


def _numbers(table: Table, group: _Series, values: list[Any], odd: list[str]) -> list[float]:
    """Return values as numbers, NaN for a gap, and for what is no number; what is wrong with that is added to `odd`."""
    cell, comma = Cell(StepArray.make(np.zeros(0), group.lines), table.name), table.allows_decimal_commas
    numbers = []
    for step, value in enumerate(values):
        try:
            numbers.append(number_or_gap(value, cell, step, comma))
        except DataError as error:
            numbers.append(float("nan"))
            odd.append(str(error))
    return numbers


def step_kind(cells: Sequence[Any]) -> str:
    """Return the kind of a column of grouped cells as a target: what all steps of each series share is one value of the series.

    Numbers and gaps are `number` or `numbers`; texts, and few whole numbers, `label` or `labels`.
    """
    is_text = any(isinstance(cell, list) for cell in cells)
    is_constant = len(cells) > 1 and all(_is_constant(cell) for cell in cells)
    if is_text:
        return "label" if is_constant else "labels"
    values = np.unique(np.concatenate([np.asarray(cell, dtype=np.float64).ravel() for cell in cells]))
    values = values[~np.isnan(values)]
    is_label = len(values) <= MAX_STEP_LABELS and bool((values == np.round(values)).all())
    if any(np.asarray(cell).ndim == 2 and np.asarray(cell).shape[1] > 1 for cell in cells):
        return "numbers"
    return {(True, True): "label", (True, False): "labels", (False, True): "number", (False, False): "numbers"}[
        is_label, is_constant
    ]


def _is_constant(cell: Any) -> bool:
    if isinstance(cell, list):
        return len(set(cell)) == 1
    return bool((np.asarray(cell) == np.asarray(cell)[:1]).all())


def as_target(table: Table, name: str, kind: str) -> Table:
    """Return a grouped table whose column `name` is one value per series, or labels, as `kind` needs it."""
    if kind in ("numbers", "frames"):
        return table

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return value if kind == "labels" else value[0]
        values = np.asarray(value)[:, 0]
        if kind == "labels":
            texts = StepTexts("" if math.isnan(v) else f"{v:.15g}" for v in values.tolist())
            texts.lines, texts.times = value.lines, value.times
            return texts
        return None if math.isnan(values[0]) else f"{values[0]:.15g}" if kind == "label" else float(values[0])

    def rows() -> NumberedRows:
        for line, row in table.rows():
            yield line, row | {name: convert(row[name])}

    return dataclasses.replace(table, rows=rows)
