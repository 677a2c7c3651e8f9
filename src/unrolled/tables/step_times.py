"""Times of the steps of series: what they are sorted by, and those that follow the last one."""

from __future__ import annotations

import calendar
import datetime
import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unrolled.tables.cell_values import Array, to_number
from unrolled.tables.date_formats import PATTERNS, expand, read_date, read_iso, written_like

Key = float | datetime.datetime
Reader = Callable[[Any], Key | None]
Reading = tuple[re.Pattern[str] | None, list[Key]]
"""The pattern of times that are no numbers and not ISO, and what they are in it."""

MIN_ORDERED_TIMES = 8
"""Times, at least, whose order shows in which format they are."""

MIN_SPAN_RATIO = 20
"""How much shorter the time between the first and the last is with the right part as the year of two digits."""

MAX_COMPARED_TIMES = 100
"""The last times of a series, whose distances say when the next steps are."""

MIN_USUAL_SHARE = 0.9
"""Share of these distances that must be equal. It is above 4/5, so that series of working days have no usual distance."""


def _number(time: Any) -> float | None:
    number = to_number(time) if isinstance(time, str) else time
    if isinstance(number, int | float | np.number) and not isinstance(number, bool) and np.isfinite(number):
        return float(number)
    return None


FORMATS: tuple[tuple[Reader, re.Pattern[str] | None], ...] = (
    (_number, None), (read_iso, None), *((functools.partial(read_date, pattern), pattern) for pattern in PATTERNS)
)  # fmt: skip
"""How times are read, and the pattern of those that are no numbers and not ISO."""


def time_keys(times: Sequence[Any]) -> list[Key] | int:
    """Return what times are sorted by; or, if they cannot be ordered, the index of the first that does not fit the others.

    They are all numbers, all ISO dates, or all dates of one of the `PATTERNS`. What is the day and what the month, or the year
    of two digits, is shown by a day after the 12th, or by many times that are in order in one way only.

    Example:
        >>> time_keys(["2024-01-01 9:00", "2024-01-01 10:00"])[0] < time_keys(["2024-01-01 10:00"])[0]
        True
        >>> time_keys(["1/2/2024", "1/3/2024"])  # days of January, or the first day of two months
        0
    """
    return _read_times(times)[1]


def _read_times(times: Sequence[Any]) -> tuple[re.Pattern[str] | None, list[Key] | int]:
    """Return the pattern of times and what they are in it, or the index of the first that does not fit."""
    fitting: list[Reading] = []
    num_fitting, times = 0, expand(list(times))
    for read, pattern in FORMATS:
        keys: list[Key] = []
        for key in map(read, times):
            if key is None or _has_zone(key) != _has_zone((keys or [key])[0]):
                break
            keys.append(key)
        num_fitting = max(num_fitting, len(keys))
        if len(keys) == len(times):
            fitting.append((pattern, keys))
    fitting = [found for number, found in enumerate(fitting) if found[1] not in [keys for _, keys in fitting[:number]]]
    if len(fitting) > 1:
        fitting = _likely(times, fitting)
    return fitting[0] if len(fitting) == 1 else (None, 0 if fitting else num_fitting)


def _likely(times: Sequence[Any], fitting: list[Reading]) -> list[Reading]:
    """Return the readings of times in which they are in order; of two-digit years, the one in which they are close together."""
    if len(times) < MIN_ORDERED_TIMES:
        return fitting
    ordered = [found for found in fitting if _is_ordered(found[1])] or fitting
    if any(re.search(r"\d{4}", str(time)) for time in times):
        return ordered
    spans = [_span(keys) for _, keys in ordered]
    shortest = min(spans)
    close = [found for found, span in zip(ordered, spans, strict=True) if span < MIN_SPAN_RATIO * shortest]
    return close if len(close) == 1 else ordered


def _span(keys: Sequence[Any]) -> Any:
    return max(keys) - min(keys)


def _is_ordered(keys: Sequence[Any]) -> bool:
    pairs = list(itertools.pairwise(keys))
    return all(first <= second for first, second in pairs) or all(first >= second for first, second in pairs)


def _has_zone(key: Key) -> bool:
    return isinstance(key, datetime.datetime) and key.tzinfo is not None


def to_seconds(keys: Sequence[Key]) -> Array:
    """Return dates in seconds since 1970 on their own clock, as they are written, whatever their offset from UTC is; nothing
    for numbers.

    Example:
        >>> to_seconds(time_keys(["1970-01-01 00:01", "1970-01-02"])).tolist()
        [60.0, 86400.0]
        >>> to_seconds(time_keys(["1970-01-01T08:00+02:00"])).tolist()  # eight o'clock
        [28800.0]
    """
    dates = [key.replace(tzinfo=datetime.UTC) for key in keys if isinstance(key, datetime.datetime)]
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
    _, keys = _read_times(times)
    if not times or isinstance(keys, int):
        return "", []
    if not isinstance(keys[0], datetime.datetime):
        return "number", [key for key in keys if isinstance(key, float)]
    if not _has_zone(keys[0]):
        return "date", to_seconds(keys).tolist()
    return "UTC", [key.timestamp() for key in keys if isinstance(key, datetime.datetime)]


def next_times(times: Sequence[Any], count: int, examples: Sequence[Any] = ()) -> list[Any]:
    """Return the times after the last of `times`, written like it; none if the times have no usual distance, also in months.

    Args:
        times: In order.
        count: How many are wanted.
        examples: Two times of another series, whose distance is that of a series of one step.

    Example:
        >>> next_times(["2024-01-31", "2024-02-01"], 2), next_times(["1960-11", "1960-12"], 1), next_times([1, 3, 4], 2)
        (['2024-02-02', '2024-02-03'], ['1961-01'], [])
        >>> next_times([7], 2, [3, 5])
        [9, 11]
    """
    pattern, keys = _read_times(times)
    if not times or isinstance(keys, int):
        return []
    recent = keys[-MAX_COMPARED_TIMES:]
    try:
        if len(recent) == 1 and len(examples) == 2:
            recent = [_before(recent[0], _read_times(examples)[1]), *recent]
        if len(recent) < 2:
            return []
        if isinstance(recent[-1], datetime.datetime):
            dates = [key for key in recent if isinstance(key, datetime.datetime)]
            return [written_like(times[-1], date, pattern) for date in next_dates(dates, count)]
    except (OverflowError, ValueError, TypeError):  # after the year 9999, or times of another kind
        return []
    steps = np.diff(np.array(recent, dtype=np.float64))
    if _usual([f"{step:.6g}" for step in steps.tolist()]) is None:
        return []
    last, step = float(recent[-1]), float(np.median(steps))
    return [_plain(last + step * number) for number in range(1, count + 1)]


def _before(key: Key, examples: Any) -> Any:
    """Return the time before one: the last of two `examples` is as long after the other. Raises `TypeError` for others."""
    first, last = examples
    if not isinstance(key, datetime.datetime):
        return key - (last - first)
    if not isinstance(first, datetime.datetime):
        raise TypeError("a date is none of these numbers")
    months = 12 * (last.year - first.year) + last.month - first.month
    if months and next_dates([first, last], 1) != [last + (last - first)]:  # the months have different lengths
        is_end = key.day == _days_of(12 * key.year + key.month)
        return _in_month(key, 12 * key.year + key.month - months, is_end)
    return key - (last - first)


def next_dates(dates: Sequence[datetime.datetime], count: int) -> list[datetime.datetime]:
    """Return the dates after the last one at the usual distance, in months or in time; none if there is none.

    Times with an offset from UTC have it in time, as hours do, or on their clocks, as midnights do.
    """
    months = [12 * date.year + date.month for date in dates]
    is_end = all(date.day == _days_of(month) for date, month in zip(dates, months, strict=True))
    is_even = {later - earlier for earlier, later in itertools.pairwise(months)} == {months[-1] - months[-2]}
    if is_even and months[-1] > months[-2] and len({(is_end or date.day, date.time()) for date in dates}) == 1:
        following = [months[-1] + (months[-1] - months[-2]) * number for number in range(1, count + 1)]
        return [_in_month(dates[-1], month, is_end) for month in following]
    for clocks in (list(dates), [date.replace(tzinfo=None) for date in dates]):
        step = _usual([later - earlier for earlier, later in itertools.pairwise(clocks)])
        if step is not None:
            return [dates[-1] + step * number for number in range(1, count + 1)]
    return []


def _usual(steps: Sequence[Any]) -> Any:
    """Return the distance that nearly all steps have, such as all but one at a gap or where clocks are changed; None if
    there is none."""
    step, count = Counter(steps).most_common(1)[0] if steps else (None, 0)
    return step if count >= MIN_USUAL_SHARE * len(steps) and count else None


def _in_month(date: datetime.datetime, month: int, is_end: bool) -> datetime.datetime:
    days = _days_of(month)
    return date.replace(year=(month - 1) // 12, month=(month - 1) % 12 + 1, day=days if is_end else min(date.day, days))


def _days_of(month: int) -> int:
    """Return the days of a month, counted from the year 0."""
    return calendar.monthrange((month - 1) // 12, (month - 1) % 12 + 1)[1]


def _plain(number: float) -> float | int:
    return int(number) if number.is_integer() else float(f"{number:.12g}")
