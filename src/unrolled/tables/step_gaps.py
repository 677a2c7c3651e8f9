"""Whether the steps of series are at one distance, and which are missing between others."""

from __future__ import annotations

import datetime
import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from unrolled.display import agree, plural
from unrolled.tables.step_times import Key

MAX_EVEN_STEP = datetime.timedelta(days=27)
"""Months are longer, and of different lengths."""

MIN_COMMON_SHARE, MIN_STEP_SHARE, MIN_MISSING_SHARE, MIN_STEPS = 0.5, 0.1, 0.02, 2
"""Shares of equal distances: of the usual one, in whose multiples steps are missing, and of another one that is reported; the
share of missing steps from which they are reported; and the least distances of a series that show it."""


def steps_note(series: Sequence[Sequence[Key]], name: str) -> str:
    """Return a sentence about the times of series, in order, that are at several distances, or missing between others; or an
    empty one. Weekends of daily series are not missing.

    Example:
        >>> print(steps_note([[0.0, 1.0, 2.0, 5.0, 6.0]], "t"))
        't': 2 steps are missing between the others, which are 1 apart; for gaps in their place, add rows with an empty value
        >>> print(steps_note([[0.0, 1.0, 2.0, 3.0], [0.0, 7.0, 14.0]], "t"))
        't': some steps are 1 apart, and others 7: each counts as one step
    """
    num_missing = num_steps = 0
    found = Counter[Any]()
    for keys in series:
        steps: list[Any] = [later - earlier for earlier, later in itertools.pairwise(keys)]  # type: ignore[operator]
        usual = [(step, count) for step, count in Counter(steps).most_common(2) if count >= MIN_STEP_SHARE * len(steps)]
        is_even = usual and not (isinstance(usual[0][0], datetime.timedelta) and usual[0][0] > MAX_EVEN_STEP)
        step, count = usual[0] if is_even else (None, 0)
        if not step or count < MIN_COMMON_SHARE * len(steps) or len(steps) < MIN_STEPS:
            continue
        num_steps, found[step] = num_steps + len(keys), found[step] + len(keys)
        found.update({other: count for other, count in usual[1:] if other and other < step})
        num_missing += _count_missing(keys, step)
    if len(found) > 1:
        distances = list(map(_spoken, sorted(found)))
        return f"'{name}': some steps are {distances[0]} apart, and others {', '.join(distances[1:4])}: each counts as one step"
    if not num_missing or num_missing < MIN_MISSING_SHARE * num_steps:
        return ""
    missing = f"{plural(num_missing, 'step')} {agree(num_missing, 'are')} missing between the others"
    apart = f"which are {_spoken(next(iter(found)))} apart"
    return f"'{name}': {missing}, {apart}; for gaps in their place, add rows with an empty value"


def _count_missing(keys: Sequence[Any], step: Any) -> int:
    """Return how many times are missing in distances that are several times the usual one."""
    pairs = ((earlier, later - earlier) for earlier, later in itertools.pairwise(keys))
    gaps = [(key, int(gap // step)) for key, gap in pairs if not gap % step and gap // step <= len(keys)]
    return sum(_is_expected(key, step * number) for key, count in gaps for number in range(1, count))


def _is_expected(key: Any, distance: Any) -> bool:
    """Return whether a time after `key` is no day of a weekend."""
    is_daily = isinstance(distance, datetime.timedelta) and distance % datetime.timedelta(days=1) == datetime.timedelta()
    return not is_daily or (key + distance).weekday() < 5


def _spoken(step: Any) -> str:
    """Return a distance of times in words."""
    if not isinstance(step, datetime.timedelta):
        return f"{step:g}"
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    name, size = next(((name, size) for name, size in units if step.total_seconds() % size == 0), units[-1])
    return f"{step.total_seconds() / size:g} {name}{'s' * (step.total_seconds() != size)}"
