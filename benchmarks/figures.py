"""The figures of a large text that no other command prints: encoding and memory.

    python benchmarks/figures.py [--megabytes 1024]

Encoding is timed on one core, on ASCII text made here; memory is the peak of a fresh process that trains on that text for
fifteen seconds. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    """Measure all, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNROLLED_CACHE"] = str(Path(folder) / "cache")
        text = Path(folder) / "text.txt"
        with open(text, "w", encoding="ascii") as file:
            for _ in range(arguments.megabytes):
                file.write(LINE * ((1 << 20) // len(LINE)))
        figures = encoding(text) | memory(text)
    for name, value in figures.items():
        print(f"{name:<40} {value:,.1f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
