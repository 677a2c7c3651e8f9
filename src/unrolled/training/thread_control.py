"""How many threads a training step uses while other programs use the machine too.

All threads of a step wait for each other thousands of times a second, so one that shares its core with another program slows
all of them: with a second busy process on two cores, two threads were slower than one (benchmarks/LOG.md). This module measures
steps and goes to fewer threads while that is faster. It may only be used where results have the same bits for any number of
threads, which the native kernels promise (docs/kernels.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable

SLOWDOWN = 0.8
"""A step slower than this share of the usual speed makes the next ones try fewer threads."""

GAIN = 1.05
"""Another number of threads is kept if it is faster by this factor."""

SMOOTHING = 0.3
"""Weight of the last step in the speed that is remembered."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 16.0
"""Seconds until another number of threads is tried again: doubled each time it was not faster, up to the longest."""


class ThreadControl:
    """Chooses the number of threads of each step, from 1 to `max_threads`, by the speed of the steps before.

    Use `threads` for a step, and call `record` after it. A trial is one step with another number of threads: one fewer or half
    of them when a step was slow, and from time to time one more, one fewer or half. The faster number is kept. `clock` returns
    seconds.
    """

    def __init__(self, max_threads: int, threads: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.max_threads, self._clock = max_threads, clock
        self._kept = threads or max_threads
        self._trials: list[int] = []  # numbers to try, the next one last
        self._speed = 0.0  # of the steps with the number that is kept; 0: none was measured
        self._is_slow = False  # the last step was slow, and fewer threads did not help
        self._wait, self._next_trial, self._num_trials = FIRST_WAIT, clock() + FIRST_WAIT, 0

    @property
    def threads(self) -> int:
        """The number of threads to use for the next step."""
        return self._trials[-1] if self._trials else self._kept

    def record(self, work: float, seconds: float) -> None:
        """Record the speed of a step: `work` tokens with `threads`."""
        if self.max_threads == 1 or work <= 0 or seconds <= 0:
            return
        speed = work / seconds
        if self._trials:
            self._judge_trial(self._trials.pop(), speed)
            return
        was_slow, self._is_slow = self._is_slow, speed < SLOWDOWN * self._speed
        if self._is_slow and not was_slow:
            self._speed, self._trials = speed, self._fewer()
            return
        self._speed = (1 - SMOOTHING) * self._speed + SMOOTHING * speed if self._speed else speed
        if self._clock() >= self._next_trial:
            more = [self._kept + 1] if self._kept < self.max_threads else []
            candidates = more + self._fewer()[::-1]
            self._trials = [candidates[self._num_trials % len(candidates)]]
            self._num_trials += 1

    def _fewer(self) -> list[int]:
        """Return the smaller numbers to try, the next one last."""
        return sorted({number for number in (self._kept - 1, self._kept // 2) if number >= 1})

    def _judge_trial(self, threads: int, speed: float) -> None:
        if speed > GAIN * self._speed:
            self._kept, self._speed, self._wait, self._num_trials = threads, speed, FIRST_WAIT, 0
            self._trials.clear()
        elif not self._trials:
            self._wait = min(LONGEST_WAIT, 2 * self._wait)
        self._next_trial = self._clock() + self._wait
