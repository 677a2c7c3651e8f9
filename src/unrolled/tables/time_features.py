"""Inputs that say where in the hour, the day, the week and the year a step is, as the calendar has it for its time.

What returns with the calendar is then read, and need not be remembered. It is known for the steps of a forecast, too.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence

import numpy as np

from unrolled.tables.cell_values import Array
from unrolled.tables.step_times import MAX_COMPARED_TIMES, next_dates

HOUR, DAY, WEEK, YEAR = 3600.0, 86400.0, 7 * 86400.0, 365.2425 * 86400.0
CYCLES = {"hour": HOUR, "day": DAY, "week": WEEK, "year": YEAR}
"""Seconds of each cycle."""

WEEKDAYS = 7
MIN_CYCLES, MIN_STEPS_OF_CYCLE = 3, 4
"""A cycle is read if the training steps have it so many times at least, and a step is at most one part in so many of it."""

FIRST_WEEKDAY = 3
"""The first of January 1970 was a Thursday; weeks begin on Monday."""


def find_cycles(series: Sequence[Array]) -> tuple[str, ...]:
    """Return the cycles that the steps of series, at `seconds` since 1970, go through several times, in several steps.

    Example:
        >>> find_cycles([np.arange(24 * 30) * 3600.0])  # thirty days by the hour
        ('day', 'week')
    """
    steps = [float(np.median(np.diff(seconds))) for seconds in series if len(seconds) > 1]
    if not steps:
        return ()
    step, span = float(np.median(steps)), max(float(seconds[-1] - seconds[0]) for seconds in series if len(seconds))
    return tuple(
        name for name, cycle in CYCLES.items() if 0 < step * MIN_STEPS_OF_CYCLE <= cycle and span + step >= MIN_CYCLES * cycle
    )


def num_time_features(cycles: Sequence[str]) -> int:
    """Return how many numbers `time_features` has for each step.

    Example:
        >>> num_time_features(("day", "week"))
        9
    """
    return sum(WEEKDAYS if cycle == "week" else 2 for cycle in cycles)


def time_features(seconds: Array, cycles: Sequence[str]) -> Array:
    """Return the place of times `(T,)`, in seconds since 1970, in each cycle, float32 `(T, F)`.

    Of an hour, a day and a year it is the sine and the cosine of the angle; of a week, one of seven numbers is 1.

    Example:
        >>> time_features(np.array([6 * 3600.0]), ("day", "week")).round(3)  # a Thursday, at six
        array([[1., 0., 0., 0., 0., 1., 0., 0., 0.]], dtype=float32)
    """
    parts = [np.zeros((len(seconds), 0))]
    for cycle in cycles:
        if cycle == "week":
            parts.append(np.eye(WEEKDAYS)[(np.floor(seconds / DAY).astype(np.int64) + FIRST_WEEKDAY) % WEEKDAYS])
            continue
        angle = 2 * math.pi * np.mod(seconds / CYCLES[cycle], 1.0)
        parts.append(np.stack([np.sin(angle), np.cos(angle)], axis=1))
    return np.concatenate(parts, axis=1).astype(np.float32)


def next_seconds(seconds: Array, count: int) -> Array:
    """Return the times `(count,)` after the last of `seconds`: in equal distances, also in months; else in their usual one.

    Example:
        >>> next_seconds(np.array([0.0, 60.0, 120.0]), 2)
        array([180., 240.])
    """
    start = datetime.datetime(1970, 1, 1)
    recent = [start + datetime.timedelta(seconds=time) for time in np.asarray(seconds)[-MAX_COMPARED_TIMES:].tolist()]
    try:
        following = next_dates(recent, count) if len(recent) > 1 else []
    except (OverflowError, ValueError):  # after the year 9999
        following = []
    if following:
        return np.array([(date - start).total_seconds() for date in following])
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return np.asarray(seconds[-1] + step * np.arange(1, count + 1), dtype=np.float64)
