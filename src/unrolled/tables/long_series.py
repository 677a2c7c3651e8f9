"""The steps of each series of a long table, in the order of their times."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from unrolled.display import agree, plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, has_decimal_comma, is_missing, parse_text, with_decimal_points
from unrolled.tables.clock_times import count_midnights
from unrolled.tables.date_formats import CLOCK, lacks_year
from unrolled.tables.month_names import has_languages
from unrolled.tables.source_columns import split_source
from unrolled.tables.step_arrays import NO_COVARIATES, NO_TIMES
from unrolled.tables.step_gaps import steps_note
from unrolled.tables.step_times import follows_clock, next_times, series_keys, time_keys, to_seconds
from unrolled.tables.table_files import Table
from unrolled.tables.time_columns import join_times

FIRST_SERIAL, LAST_SERIAL = 20_000, 80_000
"""Days since 1900 of dates from 1954 to 2119, as Excel stores them."""

MAX_FOOTER_SHARE = 0.1
"""Share of the rows, at most, that may be left out at the end, as totals."""

_TOTAL = re.compile(
    r"(?:(?:grand |sub)?totals?|sum|average|mean|summe|gesamt|insgesamt|mittelwert|durchschnitt|somme|moyenne|total général|"
    r"suma|media|promedio|totale|totaal|итого|всего|合計|总计|Σ)\W*$|(?:source|notes?|quelle|fuente|fonte|bron)s?\s*:",
    re.IGNORECASE,
)

_DATE_NAME = re.compile("date|datum|day|time|zeit|fecha|jour", re.IGNORECASE)


@dataclass
class Series:
    """The rows of one series: its name, line numbers, times, of dates in seconds too, the values of each column, and the
    covariates; with these, the first `num_known` steps have values, and those after them are to be forecast."""

    name: str
    lines: list[int]
    times: list[Any]
    columns: list[list[Any]]
    seconds: Array = field(default_factory=lambda: NO_TIMES)
    covariates: Array = field(default_factory=lambda: NO_COVARIATES)
    num_known: int | None = None


@dataclass
class _Row:
    """A row of a long table: its line, the name of its series, its time, and the values of the columns that are read."""

    line: int
    key: Any
    time: Any
    values: list[Any]


def read_series(
    table: Table, group_by: str | None, order_by: str | None, columns: list[str]
) -> tuple[dict[Any, Series], list[str]]:
    """Return the series by name, each ordered by time; and sentences about rows that were out of order, had no name, or are no
    steps, as totals at the end. `order_by` may name several columns, which have parts of a time.

    A row without a name belongs to the series of the row above, as in tables that name each sentence once.
    """
    times = [table.find_column(name) for name in split_source(order_by)] if order_by else []
    rows, num_unnamed = _read_rows(table, group_by, times, columns if times else [*columns, table.columns[0]])
    rows, notes = (rows, []) if times else _without_totals(rows, [row.values.pop() for row in rows])
    if not rows:
        raise DataError(f"{table.name} has no rows.")
    series = _grouped(rows, times)
    if times:
        keys = series_keys([group.times for group in series.values()])
        if isinstance(keys, tuple):
            rows, notes = _without_footer(rows)
            series = _grouped(rows, times)
            keys = series_keys([group.times for group in series.values()])
        if isinstance(keys, tuple):
            group = list(series.values())[keys[0]]
            raise DataError(f"{table.name}, line {group.lines[keys[1]]:,}: {_time_problem(times, group, keys[1])}")
        are_whole = {group_by, *times, *columns} >= set(table.columns)
        notes += _sort(list(series.values()), keys, ",".join(times), are_whole)
    if num_unnamed:
        notes.append(f"{num_unnamed:,} rows without '{group_by}' belong to the series of the row above")
    return series, notes


def _read_rows(table: Table, group_by: str | None, times: Sequence[str], columns: Sequence[str]) -> tuple[list[_Row], int]:
    """Return the rows, and how many have no name of a series."""
    rows, last_key, num_unnamed = list[_Row](), "", 0
    first = 1 if group_by else 0
    for line, cells in table.iter_cells((*filter(None, (group_by,)), *times, *columns)):
        is_named = bool(group_by) and not is_missing(cells[0].value)
        key = parse_text(cells[0]).strip() if is_named else last_key
        num_unnamed += bool(group_by) and not is_named and bool(last_key)
        last_key = key
        parts = tuple(_plain_time(table, cell) for cell in cells[first : first + len(times)])
        time = parts[0] if len(parts) == 1 else parts
        rows.append(_Row(line, key, time, [cell.value for cell in cells[first + len(times) :]]))
    return rows, num_unnamed


def _plain_time(table: Table, cell: Cell) -> Any:
    """Return the time in a cell; a number with a decimal comma, where the table has such, with a point."""
    is_comma = table.allows_decimal_commas and isinstance(cell.value, str) and has_decimal_comma(cell.value)
    return with_decimal_points(cell).value if is_comma else cell.value


def _grouped(rows: Sequence[_Row], times: Sequence[str]) -> dict[Any, Series]:
    """Return the rows of each series, with times in several columns as one."""
    joined: Sequence[Any] = [row.time for row in rows]
    if len(times) > 1:
        joined = join_times(times, [row.time for row in rows])
    series: dict[Any, Series] = {}
    for row, time in zip(rows, joined, strict=True):
        group = series.setdefault(row.key, Series(row.key, [], [], [[] for _ in row.values]))
        group.lines.append(row.line)
        group.times.append(time)
        for column, value in zip(group.columns, row.values, strict=True):
            column.append(value)
    return series


def _without_totals(rows: list[_Row], firsts: Sequence[Any]) -> tuple[list[_Row], list[str]]:
    """Return the rows before totals and sources at the end of a table, which its first cells name, and a sentence about
    these."""
    num_totals = sum(1 for _ in itertools.takewhile(lambda value: is_missing(value) or _is_total(value), reversed(firsts)))
    num_totals = next((count for count in range(num_totals, 0, -1) if _is_total(firsts[-count])), 0)
    return _left_out(rows, num_totals if num_totals < MAX_FOOTER_SHARE * len(rows) else 0, firsts)


def _is_total(value: Any) -> bool:
    return isinstance(value, str) and _TOTAL.match(value.strip()) is not None


def _without_footer(rows: list[_Row]) -> tuple[list[_Row], list[str]]:
    """Return the rows before those at the end of a table whose time is none, as totals, sources and empty rows have it; and a
    sentence about these."""
    times = [row.time[0] if isinstance(row.time, tuple) else row.time for row in rows]
    has_digit_first = str(times[0]).strip()[:1].isdigit()

    def is_footer(time: Any) -> bool:
        text = "" if is_missing(time) else str(time).strip()
        return not any(map(str.isdigit, text)) or (has_digit_first and not text[0].isdigit())

    num_rows = sum(1 for _ in itertools.takewhile(is_footer, reversed(times)))
    return _left_out(rows, num_rows if num_rows < MAX_FOOTER_SHARE * len(rows) else 0, times)


def _left_out(rows: list[_Row], count: int, texts: Sequence[Any]) -> tuple[list[_Row], list[str]]:
    if not count:
        return rows, []
    what = f"{plural(count, 'row')} at the end {agree(count, 'are')} no step and left out, from line {rows[-count].line:,}"
    return rows[:-count], [f"{what}: '{str(texts[-count] or '').strip():.40}'"]


def _time_problem(names: Sequence[str], group: Series, index: int) -> str:
    """Return what is wrong with a time of a series, as a sentence."""
    order_by, time, texts = ",".join(names), group.times[index], [str(each) for each in group.times]
    start = f"'{order_by}' is {str(time)[:40]!r}, and "
    if len(names) > 1:
        return f"{start}there is no such time."
    if lacks_year(texts):
        return f"{start}a day without a year cannot be sorted: add the year or, if the rows are in order, leave --order-by out."
    if CLOCK.read(time) is not None and CLOCK.read(group.times[max(0, index - 1)]) is not None and len(texts) > 1:
        return (
            f"{start}times without a date go on, or back by more than 12 hours after midnight: name the column of the date too "
            "(--order-by date,time), --group-by for several series or, if the rows are in order, leave --order-by out."
        )
    languages = "" if has_languages() else " Names of months that are not English need: pip install 'unrolled[data]'."
    return (
        f"{start}the times of a table are all numbers, all ISO dates, such as 2024-03-31 or 2024-03-31T18:00, or all dates "
        "such as 31.03.2024, 3/31/24 6:00 PM (one of them after the 12th, which tells days from months), 31-Mar-2024 or "
        f"2024Q1.{languages} If the rows are in order, leave --order-by out."
    )


def _sort(series: Sequence[Series], keys: Sequence[Sequence[Any]], order_by: str, are_whole: bool) -> list[str]:
    """Sort the rows of each series by time; return sentences about rows that have another place than before, about rows at the
    time of another one, and about steps that are missing. Of equal rows one is kept, if they are read as a whole."""
    notes = [_serial_note(order_by, series[0].times[0], list(itertools.chain.from_iterable(keys)))]
    num_moved = num_repeated = num_clock = num_equal = 0
    for group, found in zip(series, keys, strict=True):
        own: list[Any] = list(found)
        repeated = len(own) - len(set(own))
        group.seconds = to_seconds(own)
        if repeated and follows_clock(own):
            num_clock += repeated
            continue
        order = sorted(range(len(own)), key=own.__getitem__)
        if repeated and are_whole:
            kept = list({(own[i], *(repr(column[i]) for column in group.columns)): i for i in reversed(order)}.values())[::-1]
            num_equal, repeated, order = num_equal + len(order) - len(kept), repeated - len(order) + len(kept), kept
        num_repeated += repeated
        group.seconds = group.seconds[order] if len(group.seconds) else group.seconds
        moved = sum(later < earlier for earlier, later in itertools.pairwise(order))
        if moved or len(order) < len(own):
            num_moved += sum(i != place for place, i in enumerate(order)) if len(order) == len(own) else 0
            group.lines, group.times = [group.lines[i] for i in order], [group.times[i] for i in order]
            group.columns = [[column[i] for i in order] for column in group.columns]
    num_midnights = max(map(count_midnights, keys)) if CLOCK.read(series[0].times[0]) is not None else 0
    if num_midnights:
        notes.append(f"'{order_by}' has no dates: it goes on for {plural(num_midnights, 'day')} after midnight, in this order")
    if num_moved:
        notes.append(f"{num_moved:,} rows were not in the order of '{order_by}', and were sorted")
    if num_clock:
        rows = f"{plural(num_clock, 'row')} {agree(num_clock, 'have')} the same '{order_by}' as another row"
        notes.append(f"{rows}, as where clocks are set back by an hour: they stay in the order of the file")
    if num_repeated:
        rows = (
            f"{plural(num_repeated, 'row')} {agree(num_repeated, 'have')} the same '{order_by}' as another row of their series"
        )
        are_steps = f"and {agree(num_repeated, 'are')} steps of their own"
        notes.append(f"{rows}, {are_steps}: if they are of other series, --group-by names these")
    if num_equal:
        rows = f"{plural(num_equal, 'row')} left out that {agree(num_equal, 'are')}"
        notes.append(f"{rows} equal to another one at the same time")
    notes.append(steps_note([sorted(found) for found in keys], order_by))
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


def go_on(group: Series, examples: tuple[Any, ...], count: int) -> None:
    """Append the next `count` times to those of a series with a single step, at the distance between the `examples`."""
    if len(group.times) == 1:
        group.times = [*group.times, *next_times(group.times, count, examples)]
        keys = time_keys(group.times)
        group.seconds = group.seconds if isinstance(keys, int) else to_seconds(keys)
