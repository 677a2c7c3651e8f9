"""Times of steps in several columns, such as `date,time`, `year,month,day` or `date,hour`: one time, and its parts again."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unrolled.errors import DataError
from unrolled.tables.cell_values import is_missing, to_number
from unrolled.tables.date_formats import CLOCK, DateFormat, month_of, plain_texts
from unrolled.tables.step_times import read_times

Part = int | datetime.datetime
_CLOCK_DIGITS = re.compile(r"(?P<hour>\d?\d)(?P<minute>[0-5]\d)(?P<second>[0-5]\d)?")
_RANGES = {"hour": (0, 24), "minute": (0, 59), "second": (0, 59)}
FIRST_YEAR, LAST_YEAR = 1800, 2199
LAST_MONTH, LAST_QUARTER, LAST_WEEK, LAST_DAY, LAST_DAY_OF_YEAR, LAST_HOUR = 12, 4, 53, 31, 366, 24

SHORT_CLOCK = 4
"""Digits of hours and minutes."""


class JoinedTime(str):
    """A time as ISO 8601 writes it, with the cells it was read from, `parts`, and the `columns` that write others like them."""

    parts: tuple[Any, ...] = ()
    columns: TimeColumns | None = None

    def cells_of(self, time: str) -> tuple[Any, ...]:
        """Return the cells of another time, which is written as this one, each as the one of this time is written."""
        return self.columns.write(datetime.datetime.fromisoformat(time), self.parts) if self.columns is not None else (time,)


@dataclass(frozen=True)
class TimeColumns:
    """What the columns of times have: `date` (in a format), `year`, `month`, `quarter`, `week`, `day`, `day of the year`,
    `hour`, `minute`, `second` or `clock`, with whether hours go from 1 to 24."""

    kinds: tuple[str, ...]
    format: DateFormat | None = None
    has_hour_24: bool = False

    def write(self, date: datetime.datetime, like: Sequence[Any]) -> tuple[Any, ...]:
        """Return the cells of a time, each as the one of another time is written."""
        is_24 = self.has_hour_24 and date.hour == 0
        day = date - datetime.timedelta(days=1) if is_24 else date
        return tuple(self._write_part(kind, day, cell, is_24) for kind, cell in zip(self.kinds, like, strict=True))

    def _write_part(self, kind: str, date: datetime.datetime, like: Any, is_24: bool) -> Any:
        text = str(plain_texts([like])[0])
        if kind == "date":
            return self.format.write(date, text) if self.format is not None else f"{date:%Y-%m-%d}"
        if kind == "clock":
            return CLOCK.write(date, text) if ":" in text else _like_digits(f"{date:%H%M%S}", text, like)
        if kind == "month" and not text.isdigit():
            return _MONTH_NAME.write(date, text)
        week = date.isocalendar()
        numbers = {
            "year": week.year if "week" in self.kinds else date.year, "quarter": (date.month + 2) // 3, "week": week.week,
            "day of the year": date.timetuple().tm_yday, "hour": LAST_HOUR if is_24 else date.hour,
        }  # fmt: skip
        number = numbers[kind] if kind in numbers else getattr(date, kind)
        return f"{number:0{len(text)}}" if text.startswith("0") and len(text) > 1 and isinstance(like, str) else number


def _like_digits(digits: str, text: str, like: Any) -> Any:
    """Return the digits of a time of the day as a number, or with zeros where another one has them."""
    digits = digits if len(text) > SHORT_CLOCK else digits[:SHORT_CLOCK]
    return digits if isinstance(like, str) and len(text) >= SHORT_CLOCK else int(digits)


_MONTH_NAME = DateFormat(r"(?P<name>[A-Za-z]{3,9})\.?")


def join_times(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[JoinedTime]:
    """Return the times whose parts are in several columns; where they are no time, the parts between blanks.

    Args:
        names: The columns.
        rows: Their cells.

    Raises `DataError` if the columns are not those of a time, whatever their order is.
    """
    complete = [row for row in rows if not any(map(is_missing, row))]
    for order in (range(len(names)), range(len(names) - 1, -1, -1)):
        found = _kinds([names[i] for i in order], [[row[i] for row in complete] for i in order])
        if found is None:
            continue
        kinds, format, dates = found
        columns = TimeColumns(tuple(kinds[order.index(i)] for i in range(len(names))), format)
        return _joined(columns, rows, complete, dates)
    raise DataError(
        f"'{','.join(names)}' are no parts of a time: name a column of dates and one of times of the day or hours "
        "(--order-by date,time), or whole numbers, the longest part first (--order-by year,month,day,hour)."
    )


def _kinds(
    names: Sequence[str], columns: Sequence[Sequence[Any]]
) -> tuple[list[str], DateFormat | None, list[datetime.datetime]] | None:
    """Return what columns are, the longest part first, with format and values of one of dates; None if they are no time."""
    first = _whole(columns[0])
    if first is not None and all(FIRST_YEAR <= year <= LAST_YEAR for year in first):
        kinds = ["year", *_parts_of_years(names[1:], columns[1:])]
        return (kinds, None, []) if len(kinds) == len(names) else None
    format, keys = read_times(columns[0])
    dates = [] if isinstance(keys, int) else [key for key in keys if isinstance(key, datetime.datetime) and not key.tzinfo]
    if format is CLOCK or len(dates) < len(columns[0]):
        return None
    kinds = ["date", *_parts_of_days(columns[1:])]
    return (kinds, format, dates) if len(kinds) == len(names) else None


def _parts_of_years(names: Sequence[str], columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return the parts that follow a year, as many as fit."""
    months = _months(columns[0])
    numbers = months or _whole(columns[0])
    if not numbers or min(numbers) < 1 or max(numbers) > LAST_DAY_OF_YEAR:
        return []
    initial, highest = names[0].strip().lower()[:1], max(numbers)
    if initial in ("q", "t") and highest <= LAST_QUARTER:
        return ["quarter"]
    if initial in ("w", "k", "s") and highest <= LAST_WEEK:
        return ["week"]
    if highest > LAST_MONTH:
        return ["day of the year", *_parts_of_days(columns[1:])] if highest > LAST_WEEK else ["week"]
    days = _whole(columns[1]) if len(columns) > 1 else None
    if not days or min(days) < 1 or max(days) > LAST_DAY:
        return ["month"]
    return ["month", "day", *_parts_of_days(columns[2:])]


def _parts_of_days(columns: Sequence[Sequence[Any]]) -> list[str]:
    """Return the parts that follow a day, as many as fit: the time of the day, or hours, minutes and seconds."""
    if len(columns) == 1 and all(isinstance(text, str) and CLOCK.read(text) for text in columns[0]):
        return ["clock"]
    numbers = [_whole(column) or [] for column in columns]
    kinds = []
    for (kind, (low, high)), values in zip(_RANGES.items(), numbers, strict=False):
        if not values or min(values) < low or max(values) > high:
            break
        kinds.append(kind)
    if len(columns) == 1 and not kinds and all(_CLOCK_DIGITS.fullmatch(_clock_digits(cell)) for cell in columns[0]):
        return ["clock"]
    return kinds


def _clock_digits(cell: Any) -> str:
    """Return the digits of a time of the day, with the zeros that a number does not have: 30 is half past midnight."""
    text = str(plain_texts([cell])[0])
    text = text.removesuffix(".0")
    return text.zfill(4) if text.isdigit() else text


def _whole(column: Sequence[Any]) -> list[int] | None:
    """Return a column of whole numbers; None if there is another value."""
    numbers = [to_number(value) if isinstance(value, str) else value for value in column]
    whole = [
        int(number)
        for number in numbers
        if isinstance(number, int | float) and not isinstance(number, bool) and float(number).is_integer()
    ]
    return whole if len(whole) == len(numbers) else None


def _months(column: Sequence[Any]) -> list[int] | None:
    """Return the months that English names are; None if there is another value."""
    months = [month_of(name.strip().rstrip(".")) if isinstance(name, str) else 0 for name in column]
    return months if all(months) else None


def _joined(
    columns: TimeColumns,
    rows: Sequence[tuple[Any, ...]],
    complete: Sequence[tuple[Any, ...]],
    dates: Sequence[datetime.datetime],
) -> list[JoinedTime]:
    hours = [row[columns.kinds.index("hour")] for row in complete] if "hour" in columns.kinds else []
    numbers = _whole(hours) or [0]
    has_hour_24 = min(numbers) > 0 and max(numbers) == LAST_HOUR
    columns = TimeColumns(columns.kinds, columns.format, has_hour_24)
    times, left = [], iter(dates)
    for row in rows:
        is_complete = not any(map(is_missing, row))
        try:
            date = _date(columns.kinds, row, next(left) if dates and is_complete else None)
            time = JoinedTime(date.isoformat(sep=" ", timespec="auto" if date.second or date.microsecond else "minutes"))
        except (ValueError, OverflowError, KeyError):
            time = JoinedTime(" ".join(map(str, row)))
        time.parts, time.columns = row, columns
        times.append(time)
    return times


def _date(kinds: Sequence[str], row: Sequence[Any], date: datetime.datetime | None) -> datetime.datetime:
    """Return the time of a row. Raises `ValueError` if there is no such."""
    parts = dict(zip(kinds, row, strict=True))
    number = {
        kind: (_months([cell]) or _whole([cell]) or [0])[0] for kind, cell in parts.items() if kind not in ("date", "clock")
    }
    if date is None and "week" in number:
        date = datetime.datetime.fromisocalendar(number["year"], number["week"], 1)
    elif date is None and "day of the year" in number:
        date = datetime.datetime(number["year"], 1, 1) + datetime.timedelta(days=number["day of the year"] - 1)
        if date.year != number["year"]:
            raise ValueError("There is no such day in this year.")
    elif date is None:
        month = 3 * number["quarter"] - 2 if "quarter" in number else number["month"]
        date = datetime.datetime(number["year"], month, number.get("day", 1))
    date += datetime.timedelta(**{f"{kind}s": number[kind] for kind in _RANGES if kind in number})
    if "clock" in parts:
        clock = CLOCK.read(str(parts["clock"]))
        if clock is None:
            found = _CLOCK_DIGITS.fullmatch(_clock_digits(parts["clock"]))
            hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second")) if found else (25, 0, 0)
            if hour > LAST_HOUR:
                raise ValueError("There is no such hour.")
            return date + datetime.timedelta(hours=hour, minutes=minute, seconds=second)
        date += clock - datetime.datetime(1970, 1, 1)
    return date
