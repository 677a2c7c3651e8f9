"""Times of the steps of series: what they are sorted by, and those that follow the last one."""

from __future__ import annotations

import calendar
import datetime
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from unrolled.tables.cell_values import Array, to_number
from unrolled.tables.clock_times import unwrapped
from unrolled.tables.date_formats import (
    CLOCK,
    DATE_FORMATS,
    LIKELY_DIGITS,
    SURE_DIGITS,
    DateFormat,
    lacks_year,
    language_formats,
    plain_texts,
)
from unrolled.tables.month_names import languages_of

_WORD = re.compile(r"[^\W\d_][^\s\d.,/’'-]*\.?")

Key = float | datetime.datetime
Reading = tuple[DateFormat | None, list[Key]]
"""The format of times, None if they are numbers, and what they are in it."""

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


def time_keys(times: Sequence[Any]) -> list[Key] | int:
    """Return what times are sorted by; or, if they cannot be ordered, the index of the first that does not fit the others.

    They are all numbers, or all dates of one of the `DATE_FORMATS`, `SURE_DIGITS` or `LIKELY_DIGITS`. What is the day and what
    the month, or the year of two digits, is shown by a day after the 12th, or by many times that are in order in one way only.

    Example:
        >>> time_keys(["2024-01-01 9:00", "2024-01-01 10:00"])[0] < time_keys(["2024-01-01 10:00"])[0]
        True
        >>> time_keys(["1/2/2024", "1/3/2024"])  # days of January, or the first day of two months
        0
    """
    return read_times(times)[1]


def series_keys(series: Sequence[Sequence[Any]]) -> list[list[Key]] | tuple[int, int]:
    """Return what the times of each of several series are sorted by, all in one format; or, if they cannot be ordered, the
    series and the index in it of the first time that does not fit.

    Times of a day without a date go on after midnight, in the order of each series.

    Example:
        >>> [key.day for key in series_keys([["22:00", "23:00", "0:00"]])[0]]
        [1, 1, 2]
    """
    format, keys = read_times(list(itertools.chain.from_iterable(series)))
    ends = list(itertools.accumulate(map(len, series)))
    if isinstance(keys, int):
        place = next((place for place, end in enumerate(ends) if keys < end), 0)
        return place, keys - (ends[place] - len(series[place]))
    parts = [keys[end - len(each) : end] for each, end in zip(series, ends, strict=True)]
    for place, own in enumerate(parts if format is CLOCK else ()):
        clocks = unwrapped([key for key in own if isinstance(key, datetime.datetime)])
        if isinstance(clocks, int):
            return place, clocks
        parts[place] = [*clocks]
    return parts


def read_times(times: Sequence[Any]) -> tuple[DateFormat | None, list[Key] | int]:
    """Return the format of times, None of numbers, and what they are in it, or the index of the first that does not fit."""
    fitting, num_fitting = list[Reading](), 0
    digits = plain_texts(times)
    for sure in SURE_DIGITS if times else ():
        if len(keys := _read_all(sure.read, digits)) == len(times):
            return sure, keys
    readers: list[tuple[DateFormat | None, Callable[[Any], Key | None], Sequence[Any]]] = [(None, _number, times)]
    readers += [(format, format.read, digits) for format in LIKELY_DIGITS]
    readers += [(format, format.read, times) for format in (*DATE_FORMATS, CLOCK)]
    for number, (format, read, values) in enumerate(itertools.chain(readers, _readers_of_names(times, fitting))):
        keys = _read_all(read, values)
        num_fitting = max(num_fitting, len(keys) if number < len(readers) else 0)
        if len(keys) == len(times) and keys not in [others for _, others in fitting]:
            fitting.append((format, keys))
    if lacks_year(times):
        return None, 0
    if len(fitting) > 1 and fitting[0][0] is None:
        fitting = _more_even(fitting)
    if len(fitting) > 1:
        fitting = _likely(times, fitting)
    return fitting[0] if len(fitting) == 1 else (None, 0 if fitting else num_fitting)


def is_read_by_pages(times: Sequence[Any]) -> bool:
    """Return whether exported pages read times: numbers and dates, but no times of the day alone and no other languages.

    Example:
        >>> is_read_by_pages(["31 Mar 2024"]), is_read_by_pages(["31 mars 2024"]), is_read_by_pages(["18:00"])
        (True, False, False)
    """
    return read_times(times)[0] in (None, *DATE_FORMATS, *SURE_DIGITS, *LIKELY_DIGITS)


def _readers_of_names(
    times: Sequence[Any], fitting: list[Reading]
) -> Iterator[tuple[DateFormat | None, Callable[[Any], Key | None], Sequence[Any]]]:
    """Yield the formats with names of months of other languages, if none is `fitting` until then."""
    if not fitting and all(isinstance(time, str) for time in times):
        words = {word for time in times for word in _WORD.findall(time)}
        for names in languages_of(words):
            for format in language_formats(names):
                yield format, format.read, times


def _read_all(read: Callable[[Any], Key | None], times: Sequence[Any]) -> list[Key]:
    """Return what times are, up to the first that cannot be read or, unlike the others, has an offset from UTC or none."""
    keys: list[Key] = []
    for key in map(read, times):
        if key is None or _has_zone(key) != _has_zone((keys or [key])[0]):
            break
        keys.append(key)
    return keys


def _more_even(fitting: list[Reading]) -> list[Reading]:
    """Return the dates that times may be, if their distances are more equal than those of the numbers, the first reading.

    Where both are as equal, many times are dates if they are a month apart at most.
    """
    number, *dates = fitting
    num_times, least = len(set(number[1])), _even_share(number[1])
    shares = [_even_share(keys) for _, keys in dates]
    for place, (_, keys) in enumerate(dates):
        is_near = _span(keys) <= num_times * datetime.timedelta(days=31) and num_times >= MIN_ORDERED_TIMES
        if shares[place] < least or (shares[place] == least and not is_near):
            shares[place] = 0.0
    best = max(shares)
    return [found for found, share in zip(dates, shares, strict=True) if share == best] if best else [number]


def _even_share(keys: Sequence[Any]) -> float:
    """Return the share of distinct times at the most common distance from the one before, in months if all are of one day."""
    ordered = sorted(set(keys))
    if isinstance(ordered[0], datetime.datetime) and len({(key.day, key.time()) for key in ordered}) == 1:
        ordered = [12.0 * key.year + key.month for key in ordered]
    steps = Counter(
        f"{later - earlier:.6g}" if isinstance(later, float) else later - earlier
        for earlier, later in itertools.pairwise(ordered)
    )
    return max(steps.values(), default=0) / max(1, len(ordered) - 1)


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
    _, keys = read_times(times)
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
    format, keys = read_times(times)
    if not times or isinstance(keys, int):
        return []
    if format is CLOCK:
        clocks = unwrapped([key for key in keys if isinstance(key, datetime.datetime)])
        keys = [] if isinstance(clocks, int) else [*clocks]
    recent = keys[-MAX_COMPARED_TIMES:]
    try:
        if len(recent) == 1 and len(examples) == 2:
            recent = [_before(recent[0], read_times(examples)[1]), *recent]
        if len(recent) < 2:
            return []
        if isinstance(recent[-1], datetime.datetime):
            dates = [key for key in recent if isinstance(key, datetime.datetime)]
            return [_written(date, times, format) for date in next_dates(dates, count)]
    except (OverflowError, ValueError, TypeError):  # after the year 9999, or times of another kind
        return []
    steps = np.diff(np.array(recent, dtype=np.float64))
    if _usual([f"{step:.6g}" for step in steps.tolist()]) is None:
        return []
    last, step = float(recent[-1]), float(np.median(steps))
    return [_plain(last + step * number) for number in range(1, count + 1)]


def _written(date: datetime.datetime, times: Sequence[Any], format: DateFormat | None) -> Any:
    """Return a date as the last of `times` is written; as an ISO date where another one would be read from that."""
    last = plain_texts(times)[-1]
    like = last if isinstance(last, str) else times[-1].isoformat()
    written = format.write(date, like.strip()) if format is not None else date.isoformat()
    if format is CLOCK:
        return written
    return written if format is not None and format.read(str(written)) == date else date.isoformat()


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
