"""The figures of the README that `train --json` and `eval` do not print: encoding, memory, sampling.

    python benchmarks/figures.py RUN [--megabytes 1024]

Encoding is timed on one core, on ASCII text made here; memory is the peak of a fresh process that trains on that text for
fifteen seconds; sampling is the median of three. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from unrolled.api import load
from unrolled.data.corpus import open_corpus
from unrolled.options import DataOptions

LINE = "The quick brown fox jumps over the lazy dog; 0123456789, and THE DOG sleeps on (for now).\n"


def encoding(text: Path) -> dict[str, float]:
    """Return megabytes a second of encoding `text` on one core, and the seconds of opening it a second time."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    timings = []
    for _ in range(2):
        started = time.perf_counter()
        open_corpus([str(text)], DataOptions())
        timings.append(time.perf_counter() - started)
    os.sched_setaffinity(0, cores)
    return {"encoding_mb_per_second": text.stat().st_size / 1e6 / timings[0], "opening_again_seconds": timings[1]}


def memory(text: Path) -> dict[str, float]:
    """Return the peak resident memory, in megabytes, of training on `text` with default settings."""
    command = [sys.executable, "-m", "unrolled", "train", str(text), "--minutes", "0.25", "--out", str(text.parent / "run")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return {"peak_memory_mb": usage.ru_maxrss / 1e3}


def sampling(run: str) -> dict[str, float]:
    """Return characters a second of one stream and of 64."""
    model = load(run)
    rates = {}
    for count, length in ((1, 3000), (64, 300)):
        timings = []
        for _ in range(3):
            started = time.perf_counter()
            list(model.samples(length=length, count=count))
            timings.append(time.perf_counter() - started)
        rates[f"sampling_{count}_characters_per_second"] = count * length / statistics.median(timings)
    return rates


def main() -> None:
    """Measure all, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--megabytes", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNROLLED_CACHE"] = str(Path(folder) / "cache")
        text = Path(folder) / "text.txt"
        with open(text, "w", encoding="ascii") as file:
            for _ in range(arguments.megabytes):
                file.write(LINE * ((1 << 20) // len(LINE)))
        figures = encoding(text) | memory(text) | sampling(arguments.run)
    for name, value in figures.items():
        print(f"{name:<40} {value:,.1f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
