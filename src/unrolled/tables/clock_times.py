"""Times of a day without a date: they go on after midnight, in the order in which they were written."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Sequence

DAY = datetime.timedelta(days=1)


def unwrapped(clocks: Sequence[datetime.datetime]) -> list[datetime.datetime] | int:
    """Return times of one day as times of the days that follow each other, in the order of the times or, if they go down, in
    the opposite one; or, if they are in neither order, the index of the first that is out of it.

    A step back of more than half a day is a midnight.

    Example:
        >>> nine, noon, evening = (datetime.datetime(1970, 1, 1, hour) for hour in (9, 12, 23))
        >>> [time.day for time in unwrapped([evening, nine])], [time.day for time in unwrapped([noon, nine])]
        ([1, 2], [1, 1])
        >>> unwrapped([nine, evening, noon, evening])
        2
    """
    forward = _going_on(clocks)
    if not isinstance(forward, int):
        return forward
    backward = _going_on(clocks[::-1])
    return forward if isinstance(backward, int) else backward[::-1]


def _going_on(clocks: Sequence[datetime.datetime]) -> list[datetime.datetime] | int:
    day, found = datetime.timedelta(0), list(clocks[:1])
    for index, (earlier, later) in enumerate(itertools.pairwise(clocks), 1):
        if earlier > later:
            if earlier - later < DAY / 2:
                return index
            day += DAY
        found.append(later + day)
    return found


def count_midnights(clocks: Sequence[datetime.datetime]) -> int:
    """Return how many midnights there are between the first and the last of `unwrapped` times."""
    return (max(clocks).date() - min(clocks).date()).days if clocks else 0
