"""The number of threads follows the machine: fewer next to a busy program, all of them again when it has ended."""

from __future__ import annotations

import pytest

from unrolled.training.thread_control import LONGEST_WAIT, ThreadControl


class Machine:
    """A machine of some cores, some of which another program uses; `speed` is of a step with a number of threads."""

    def __init__(self, cores: int) -> None:
        self.cores, self.busy, self.seconds = cores, 0, 0.0

    def speed(self, threads: int) -> float:
        """Every thread waits for those that share a core: with them, a step has the speed of half a thread each."""
        return threads * (1.0 if threads <= self.cores - self.busy else 0.4)

    def run(self, control: ThreadControl, seconds: float) -> float:
        """Train for some seconds; return the work that was done a second."""
        work, end = 0.0, self.seconds + seconds
        while self.seconds < end:
            speed = self.speed(control.threads)
            duration = 0.1 / speed
            self.seconds += duration
            work += 0.1
            control.record(0.1, duration)
        return work / seconds


@pytest.mark.parametrize("cores", [2, 3, 8])
def test_a_quiet_machine_is_used_whole(cores: int) -> None:
    machine = Machine(cores)
    control = ThreadControl(cores, clock=lambda: machine.seconds)
    machine.run(control, 30)
    assert control.threads == cores
    assert machine.run(control, 60) >= 0.99 * cores


@pytest.mark.parametrize("cores", [2, 3, 8])
@pytest.mark.parametrize("busy", [1, 2])
def test_beside_busy_programs_it_is_as_fast_as_the_best_number_of_threads(cores: int, busy: int) -> None:
    machine = Machine(cores)
    control = ThreadControl(cores, clock=lambda: machine.seconds)
    machine.run(control, 30)
    machine.busy = min(busy, cores - 1)
    machine.run(control, 3 * LONGEST_WAIT)
    best = max(machine.speed(threads) for threads in range(1, cores + 1))
    assert machine.run(control, 60) >= 0.95 * best
    machine.busy = 0
    machine.run(control, 3 * LONGEST_WAIT)
    assert machine.run(control, 60) >= 0.98 * cores, "all threads again when the others have ended"


def test_a_busy_program_is_noticed_within_a_few_steps() -> None:
    machine = Machine(2)
    control = ThreadControl(2, clock=lambda: machine.seconds)
    machine.run(control, 30)
    machine.busy = 1
    machine.run(control, 1)
    assert control.threads == 1


def test_one_thread_is_left_alone() -> None:
    control = ThreadControl(1, clock=lambda: 0.0)
    for seconds in (0.1, 5.0, 0.1, 0.0):
        control.record(1.0, seconds)
        assert control.threads == 1
