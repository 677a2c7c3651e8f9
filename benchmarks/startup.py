"""Time to the first character and peak memory of `unrolled sample RUN --length 20`, for several installations in turn.

    python benchmarks/startup.py RUN OLD/.venv/bin/python NEW/.venv/bin/python [NEW/.venv/bin/python:none]

Each process is whole: it starts, imports, loads, draws, ends. `:none` behind an interpreter switches the native kernels off, as
without a compiler. The installations alternate; medians of 9 rounds, and each one's ratio to the first. Needs Linux or macOS.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 9


def run_once(interpreter: str, run: str) -> tuple[float, float]:
    """Return the seconds until the first character is there, and the peak resident memory in megabytes."""
    python, _, instructions = interpreter.partition(":")
    environment = os.environ | ({"UNROLLED_INSTRUCTIONS": instructions} if instructions else {})
    command = [python, "-m", "unrolled", "sample", run, "--length", "20"]
    start = time.perf_counter()
    read_end, write_end = os.pipe()
    process = subprocess.Popen(command, stdout=write_end, env=environment)
    os.close(write_end)
    with os.fdopen(read_end, "rb", buffering=0) as output:
        output.read(1)
        seconds = time.perf_counter() - start
        while output.read(4096):
            pass
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: wait status {status}")
    return seconds, usage.ru_maxrss / (1024 if sys.platform == "linux" else 1 << 20)


def main(run: str, interpreters: list[str]) -> None:
    """Print a line for each interpreter."""
    results: dict[str, list[tuple[float, float]]] = {interpreter: [] for interpreter in interpreters}
    for measured in range(-1, ROUNDS):  # the first round only warms the caches of the disk
        for interpreter in interpreters:
            result = run_once(interpreter, run)
            if measured >= 0:
                results[interpreter].append(result)
    medians = {name: tuple(map(statistics.median, zip(*rows, strict=True))) for name, rows in results.items()}
    base = medians[interpreters[0]]
    for name, (seconds, megabytes) in medians.items():
        ratios = f"{base[0] / seconds:.1f} times faster, {megabytes / base[1]:.2f} of the memory"
        print(f"{seconds:.3f} s, {megabytes:.0f} MB, {ratios}  {name}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
