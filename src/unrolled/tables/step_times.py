"""Times of the steps of series: what they are sorted by, and those that follow the last one."""

from __future__ import annotations

import calendar
import datetime
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unrolled.tables.cell_values import Array, to_number

Key = float | datetime.datetime
Reader = Callable[[Any], Key | None]

MAX_COMPARED_TIMES = 100
"""The last times of a series, whose distances say when the next steps are."""

_CLOCK = r"(?:[T ]+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,6})\d*)?)?)?"
_ISO = re.compile(rf"(?P<year>\d{{4}})-(?P<month>\d{{1,2}})(?:-(?P<day>\d{{1,2}}){_CLOCK})?")
_OTHER_DATE = re.compile(
    rf"(?P<first>\d{{1,2}})(?P<separator>[./-])(?P<second_part>\d{{1,2}})(?P=separator)(?P<year>\d{{4}}){_CLOCK}"
    r"(?: *(?P<half>[AaPp])\.?[Mm]\.?)?"
)
_CLOCK_WITH_SECONDS = re.compile(r"[T ]\d{1,2}:\d\d:\d\d")
_SPACE_BEFORE_ZONE = re.compile(r" (?=[+-]\d\d:?\d\d$|UTC$|Z$)")


def _number(time: Any) -> float | None:
    number = to_number(time) if isinstance(time, str) else time
    if isinstance(number, int | float | np.number) and not isinstance(number, bool) and np.isfinite(number):
        return float(number)
    return None


def _iso(time: Any) -> datetime.datetime | None:
    """Return an ISO date, also of a month, or with hours of one digit; in UTC if it has an offset from it."""
    text = time.isoformat() if isinstance(time, datetime.date) else time.strip() if isinstance(time, str) else ""
    if found := _ISO.fullmatch(text):
        return _datetime(found, found["month"], found["day"] or "1")
    try:
        date = _date_with_zone(text)
        return date.astimezone(datetime.UTC) if date.tzinfo else date
    except (ValueError, OverflowError):
        return None


def _date_with_zone(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", text).replace("UTC", "Z"))


def _day_first(time: Any) -> datetime.datetime | None:
    found = _OTHER_DATE.fullmatch(time.strip()) if isinstance(time, str) else None
    return found and _datetime(found, found["second_part"], found["first"])


def _month_first(time: Any) -> datetime.datetime | None:
    found = _OTHER_DATE.fullmatch(time.strip()) if isinstance(time, str) and "." not in time.split(" ")[0] else None
    return found and _datetime(found, found["first"], found["second_part"])


def _datetime(found: re.Match[str], month: str, day: str) -> datetime.datetime | None:
    """Return the date of a match, or None if there is no such date."""
    groups = found.groupdict()
    hour = int(groups["hour"] or 0)
    if (half := groups.get("half")) is not None:
        hour = hour % 12 + (12 if half in "Pp" else 0)
    clock = (hour, int(groups["minute"] or 0), int(groups["second"] or 0), int((groups["fraction"] or "0").ljust(6, "0")))
    try:
        return datetime.datetime(int(groups["year"]), int(month), int(day), *clock)
    except ValueError:
        return None


FORMATS: tuple[Reader, ...] = (_number, _iso, _day_first, _month_first)


def time_keys(times: Sequence[Any]) -> list[Key] | int:
    """Return what times are sorted by; or, if they cannot be ordered, the index of the first that does not fit the others.

    They are all numbers, all ISO dates, or all dates such as 31.12.2024 or 12/31/2024, of which one has a day after the 12th.

    Example:
        >>> time_keys(["2024-01-01 9:00", "2024-01-01 10:00"])[0] < time_keys(["2024-01-01 10:00"])[0]
        True
        >>> time_keys(["1/2/2024", "1/3/2024"])  # days of January, or the first day of two months
        0
    """
    return _read_times(times)[1]


def _read_times(times: Sequence[Any]) -> tuple[Reader, list[Key] | int]:
    """Return the format of times and what they are in it, or the index of the first that does not fit."""
    fitting: list[tuple[Reader, list[Key]]] = []
    num_fitting = 0
    for read in FORMATS:
        keys: list[Key] = []
        for key in map(read, times):
            if key is None or _has_zone(key) != _has_zone((keys or [key])[0]):
                break
            keys.append(key)
        num_fitting = max(num_fitting, len(keys))
        if len(keys) == len(times):
            fitting.append((read, keys))
    if not fitting or any(keys != fitting[0][1] for _, keys in fitting[1:]):
        return _number, 0 if fitting else num_fitting
    return fitting[0]


def _has_zone(key: Key) -> bool:
    return isinstance(key, datetime.datetime) and key.tzinfo is not None


def to_seconds(keys: Sequence[Key]) -> Array:
    """Return dates in seconds since 1970, those without a zone as if they were of UTC; nothing for numbers.

    Example:
        >>> to_seconds(time_keys(["1970-01-01 00:01", "1970-01-02"])).tolist()
        [60.0, 86400.0]
    """
    dates = [key if key.tzinfo else key.replace(tzinfo=datetime.UTC) for key in keys if isinstance(key, datetime.datetime)]
    return np.array([date.timestamp() for date in dates])


def follows_clock(keys: Sequence[Any]) -> bool:
    """Return whether dates are in order, but for hours that occur twice, as where the clocks are set back at the end of summer.

    Example:
        >>> follows_clock(time_keys(["2024-10-27 02:00", "2024-10-27 02:30", "2024-10-27 02:00", "2024-10-27 02:30"]))
        True
    """
    if not all(isinstance(key, datetime.datetime) and not key.tzinfo for key in keys):
        return False
    steps = [later - earlier for earlier, later in itertools.pairwise(keys)]
    back = [place for place, step in enumerate(steps) if step <= datetime.timedelta(0)]
    hour, month = datetime.timedelta(hours=1), datetime.timedelta(days=30)
    is_rare = all(keys[later] - keys[earlier] > month for earlier, later in itertools.pairwise(back))
    return bool(back) and is_rare and all(place > 0 and steps[place] == steps[place - 1] - hour for place in back)


def time_positions(times: Sequence[Any]) -> tuple[str, list[float]]:
    """Return what times are, `number`, `date` or `UTC` (dates with an offset from it), and where they are on an axis: numbers,
    or seconds since 1970; an empty kind and no places if they are no times.

    Example:
        >>> time_positions(["1970-01-02", "1970-01-03 00:00:30"])
        ('date', [86400.0, 172830.0])
    """
    _, keys = _read_times([_compact_date(time) for time in times])
    if not times or isinstance(keys, int):
        return "", []
    if not isinstance(keys[0], datetime.datetime):
        return "number", [key for key in keys if isinstance(key, float)]
    return "UTC" if _has_zone(keys[0]) else "date", to_seconds(keys).tolist()


def next_times(times: Sequence[Any], count: int) -> list[Any]:
    """Return the times after the last of `times`, written like it; none if the times have no equal distances, also in months.

    Example:
        >>> next_times(["2024-01-31", "2024-02-01"], 2), next_times(["1960-11", "1960-12"], 1), next_times([1, 3, 4], 2)
        (['2024-02-02', '2024-02-03'], ['1961-01'], [])
    """
    read, keys = _read_times([_compact_date(time) for time in times])
    if len(times) < 2 or isinstance(keys, int):
        return []
    recent = keys[-MAX_COMPARED_TIMES:]
    try:
        if isinstance(recent[-1], datetime.datetime):
            dates = [key for key in recent if isinstance(key, datetime.datetime)]
            return [_written_like(times[-1], date, read) for date in next_dates(dates, count)]
    except (OverflowError, ValueError):  # after the year 9999
        return []
    numbers = np.array(recent, dtype=np.float64)
    steps = np.diff(numbers)
    if not np.allclose(steps, steps[0], rtol=1e-9, atol=0):
        return []
    return [_plain(float(numbers[-1]) + float(steps[-1]) * number) for number in range(1, count + 1)]


def _compact_date(time: Any) -> Any:
    """Return 20240131 as an ISO date, which has other days after it than as a number."""
    text = str(time)
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"(19|20)\d\d(0[1-9]|1[0-2])([0-2]\d|3[01])", text) else time


def next_dates(dates: Sequence[datetime.datetime], count: int) -> list[datetime.datetime]:
    """Return the dates after the last one at equal distances, in months or in time; none if they have not."""
    months = [12 * date.year + date.month for date in dates]
    is_end = all(date.day == _days_of(month) for date, month in zip(dates, months, strict=True))
    is_even = {later - earlier for earlier, later in itertools.pairwise(months)} == {months[-1] - months[-2]}
    if is_even and months[-1] > months[-2] and len({(is_end or date.day, date.time()) for date in dates}) == 1:
        following = [months[-1] + (months[-1] - months[-2]) * number for number in range(1, count + 1)]
        return [_in_month(dates[-1], month, is_end) for month in following]
    step = dates[-1] - dates[-2]
    if any(later - earlier != step for earlier, later in itertools.pairwise(dates)):
        return []
    return [dates[-1] + step * number for number in range(1, count + 1)]


def _in_month(date: datetime.datetime, month: int, is_end: bool) -> datetime.datetime:
    days = _days_of(month)
    return date.replace(year=(month - 1) // 12, month=(month - 1) % 12 + 1, day=days if is_end else min(date.day, days))


def _days_of(month: int) -> int:
    """Return the days of a month, counted from the year 0."""
    return calendar.monthrange((month - 1) // 12, (month - 1) % 12 + 1)[1]


def _written_like(time: Any, date: datetime.datetime, read: Reader) -> str | int:
    """Return a date as another time is written."""
    text = str(time).strip()
    if text.isdigit():
        return int(f"{date:%Y%m%d}")
    if read is _iso and ":" in text:
        date = date.astimezone(_date_with_zone(text).tzinfo) if date.tzinfo else date
        has_seconds = date.second or date.microsecond or _CLOCK_WITH_SECONDS.search(text)
        return date.isoformat(sep=" " if " " in text else "T", timespec="auto" if has_seconds else "minutes")
    if read is _iso:
        return f"{date:%Y-%m-%d}"[: 7 if len(text) < 8 else 10]
    [found] = _OTHER_DATE.finditer(text)
    day = found["separator"].join(("%d", "%m", "%Y") if read is _day_first else ("%m", "%d", "%Y"))
    clock = f" {'%I' if found['half'] else '%H'}:%M{':%S' if found['second'] else ''}" if found["hour"] else ""
    return date.strftime(day + clock + (" %p" if found["half"] else ""))


def _plain(number: float) -> float | int:
    return int(number) if number.is_integer() else float(f"{number:.12g}")
