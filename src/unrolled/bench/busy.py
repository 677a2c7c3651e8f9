"""`unrolled bench busy`: training steps while other programs keep processors busy."""

from __future__ import annotations

import contextlib
import logging
import statistics
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from unrolled.bench.process import BenchProcess

logger = logging.getLogger(__name__)

SHAPE = {"layers": 2, "hidden": 256, "batch": 32, "bptt": 64}
"""The training step that is compared."""

MAX_NEIGHBORS = 2
"""Busy processes at most."""

ROUND_SECONDS, SETTLE_SECONDS = 1.0, 3.0
"""How long a round is, and how long each contender runs before its rounds, so that it has found its number of threads."""

CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours": ("our step", {"optimizer": "adamw", "threads_follow": True}),
    "ours, all threads": ("our step", {"optimizer": "adamw"}),
    "ours, 1 thread": ("our step", {"optimizer": "adamw", "threads": 1}),
    "nn.LSTM": ("peer step", {"autocast": False}),
    "nn.LSTM, 1 thread": ("peer step", {"autocast": False, "threads": 1}),
}
"""A contender's workload and its parameters. Ours takes as many threads as are fastest, all there are, or one."""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep `count` processors busy with processes that do nothing but compute, inside a `with` block."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def training_steps(rounds: int) -> list[dict[str, Any]]:
    """Return one row per number of busy processes: characters per second of each contender, and its share of the speed without
    them."""
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        processes = {
            name: stack.enter_context(BenchProcess(workload, **SHAPE, **parameters))
            for name, (workload, parameters) in CONTENDERS.items()
        }
        for neighbors in range(MAX_NEIGHBORS + 1):
            with busy_processes(neighbors):
                speeds = _measure(processes, rounds)
            quiet = rows[0]["characters_per_second"] if rows else speeds
            shares = {name: speed / quiet[name] for name, speed in speeds.items()}
            rows.append({"busy_processes": neighbors, "characters_per_second": speeds, "share_of_quiet": shares})
            summary = ", ".join(f"{name} {speed:,.0f} ({shares[name]:.0%})" for name, speed in speeds.items())
            logger.info(f"busy processes: {neighbors}; characters/s (share of the speed with none): {summary}")
    return rows


def _measure(processes: dict[str, BenchProcess], rounds: int) -> dict[str, float]:
    """Return the characters per second of each contender: medians over rounds that are taken in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in processes}
    counts = {}
    for name, process in processes.items():
        step = process.round()
        step = process.round(max(1, round(SETTLE_SECONDS / step)))
        counts[name] = max(1, round(ROUND_SECONDS / step))
    for _ in range(rounds):
        for name, process in processes.items():
            seconds[name].append(process.round(counts[name]))
    return {name: process.work / statistics.median(seconds[name]) for name, process in processes.items()}
