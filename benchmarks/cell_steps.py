"""Training steps of every cell: against its own `step` in a loop, and against our LSTM, in alternating runs.

python benchmarks/cell_steps.py [--cells mingru,slstm] [--precision float32] [--hidden 256] [--rounds 5]

2 layers, 32 columns of 64 steps, 96 tokens, AdamW, one thread, processor time. In each round every contender takes a few steps;
the ratios of a round are of steps taken within seconds of each other, and their medians are printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

from unrolled.bench.workloads import UnrolledStep
from unrolled.nn.cells import CELLS


def seconds_of(step: Callable[[], None], count: int) -> float:
    """Return the processor seconds of one step."""
    started = time.process_time()
    for _ in range(count):
        step()
    return (time.process_time() - started) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    shape: dict[str, Any] = {
        "layers": 2,
        "hidden": arguments.hidden,
        "batch": 32,
        "bptt": 64,
        "optimizer": "adamw",
        "threads": 1,
    }
    shape["precision"] = arguments.precision
    lstm = UnrolledStep(**shape)
    lstm()
    print(f"{'cell':<24} kernels    precision  ms       times its loop  times our LSTM ({lstm.kernels})", flush=True)
    for cell in arguments.cells.split(","):
        ours, loop = UnrolledStep(**shape, cell=cell), UnrolledStep(**shape, cell=cell, kernels="reference")
        ours()
        loop()
        rounds = [[seconds_of(ours, 3), seconds_of(loop, 1), seconds_of(lstm, 3)] for _ in range(arguments.rounds)]
        ms = 1000 * statistics.median(ours_seconds for ours_seconds, _, _ in rounds)
        ratios = [statistics.median(row[index] / row[0] for row in rounds) for index in (1, 2)]
        print(f"{cell:<24} {ours.kernels:<10} {ours.precision:<10} {ms:<8.1f} {ratios[0]:<15.2f} {ratios[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
