"""The figures of a large text that no other command prints: encoding, memory, scoring, counting.

    python benchmarks/figures.py [--megabytes 1024]
    python benchmarks/figures.py --scoring RUN TEXT

Encoding is timed on one core, on ASCII text made here; memory is the peak of a fresh process that trains on that text for
fifteen seconds. With --scoring, a model scores a text, between two stretches of a loop that takes a step a symbol, and n-grams
up to 20 are counted in the text. The last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import unrolled
from unrolled.evaluation.ngram import loss_by_order
from unrolled.options import DataOptions
from unrolled.text.corpus import open_corpus

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


def scoring(run: str, name: str) -> dict[str, float]:
    """Return symbols a second of scoring a text and of a loop of single steps, and the seconds of counting n-grams in it."""
    model = unrolled.load(run)
    text = Path(name).read_text("utf-8")
    before = stepping(model, text)
    started = time.perf_counter()
    read = model.scoring(name)
    read.top_lines(10)
    rate = read.totals.num_tokens / (time.perf_counter() - started)
    steps = (before + stepping(model, text)) / 2
    ids = model.tokenizer.encode_lossy(model.tokenizer.code_points(text))[0]
    cut = len(ids) * 9 // 10
    started = time.perf_counter()
    for _ in loss_by_order(ids[:cut], ids[cut:], model.tokenizer.vocab_size, range(1, 21)):
        pass
    counting = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"scored_a_second": rate, "steps_a_second": steps, "ratio": rate / steps, "ngram_seconds": counting, "peak_mb": peak}


def stepping(model: unrolled.Model, text: str, count: int = 3000) -> float:
    """Return the symbols a second that are scored by a loop of single steps."""
    ids = model.tokenizer.encode_lossy(model.tokenizer.code_points(text[:count]))[0].tolist()
    state, logits, total = model.network.initial_state(1), None, 0.0
    started = time.perf_counter()
    with torch.inference_mode():
        for symbol in ids:
            if logits is not None:
                total -= float(logits.log_softmax(-1)[0, symbol])
            logits, state = model.network.step(torch.tensor([symbol]), state)
    return len(ids) / (time.perf_counter() - started)


def main() -> None:
    """Measure all, print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--scoring", nargs=2, metavar=("RUN", "TEXT"))
    arguments = parser.parse_args()
    if arguments.scoring:
        print(json.dumps(scoring(*arguments.scoring)))
        return
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
