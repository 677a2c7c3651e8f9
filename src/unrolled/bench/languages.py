"""What a state can hold: every cell and a small Transformer on formal languages, trained on short strings, tested on long ones.

All have two layers and about as many parameters as an LSTM of `LSTM_UNITS` units, and learn in the same way for the same time:
seconds of one processor, so that other work on the machine changes little. The clock runs while a step is taken, not while
strings are made.

A count must be exact at lengths that were never seen, and small errors of a step add up. So forget gates of memories that are
added to start almost open, `FORGET_BIAS`, and weights are noisy while a model learns: noise drives gates into saturation, where
what a step adds and what another subtracts are equal (Jim, Giles and Horne 1996). A model that has not learned with noise is
trained again without, and the better of the two counts.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import statistics
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.atomic_io import write_atomic
from unrolled.bench.peers import RotaryTransformer
from unrolled.bench.process import Worker
from unrolled.datasets.formal_languages import LANGUAGES, TRAIN_LENGTHS, UNSCORED, LabeledString
from unrolled.display import plural
from unrolled.errors import UsageError, did_you_mean
from unrolled.network_shapes import HARD_SIGMOID_CELLS
from unrolled.nn.cells import CELLS, GatedCell, LSTMCell, SLSTMCell
from unrolled.nn.cells.matrix_memory import MatrixMemoryCell, num_heads
from unrolled.nn.kernels.extension import usable_processors
from unrolled.nn.kernels.select import set_kernel
from unrolled.nn.stack import Stack
from unrolled.options import BenchOptions
from unrolled.views.svg_curves import accuracy_svg

logger = logging.getLogger(__name__)

TRANSFORMER = "transformer"
"""The model that is no cell, for comparison."""

DEFAULT_SECONDS, QUICK_SHARE = 8.0, 0.125
LSTM_UNITS = 32
NUM_LAYERS = 2
BATCH_SIZE = 32
TEST_LENGTHS = (40, 64, 128, 256)
LONG_LENGTH = 1000
NUM_TEST_STRINGS = 128
PEAK_LR, WARMUP, DECAY_FROM = 1e-2, 0.02, 0.5
"""The learning rate, and the shares of the time in which it rises to it and from which on it falls to zero."""

WEIGHT_NOISE, LEARNED_AT = 0.15, 0.99
"""Standard deviation of what is added to every weight for a step, for its gradients alone; and the accuracy on other strings of
40 symbols below which a model has not learned a language with noise: then it is trained again without."""

FORGET_BIAS = (24.0, 1.0)
"""Initial biases of forget gates, evenly spaced over the units or heads: of cells whose input gate is another gate."""

FIRST_LENGTH, ADVANCE_AT, FULL_LENGTH_AT = 6, 0.95, 0.5
"""Curriculum: the longest string at first; the accuracy at which it grows by one; the share of the time at which it is full."""

IGNORED = -100

Job = tuple[str, str, float, int, Sequence[int]]
"""The arguments of `measure`."""


class SequenceTagger(nn.Module):
    """Embedding, two residual layers of a cell, and a linear layer: a label for each symbol."""

    def __init__(self, cell: str, num_symbols: int, num_labels: int, units: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, units)
        self.stack = Stack([CELLS[cell](units, units) for _ in range(NUM_LAYERS)], residual=True)
        self.head = nn.Linear(units, num_labels)

    def cells(self) -> list[GatedCell]:
        """Return the cells, the first layer first."""
        return [cast(GatedCell, layer.cell) for layer in self.stack.layer_list()]

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits `(T, B, labels)` for ids `(T, B)`."""
        ys, _ = self.stack.unroll(self.embedding(ids), self.stack.initial_state(ids.shape[1]))
        return cast(Tensor, self.head(ys))


@dataclass
class Encoder:
    """The symbols and labels of a language as numbers, in the order in which strings of all lengths have them."""

    symbols: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str) -> Encoder:
        """Return the encoder of a language."""
        rng, encoder = random.Random(0), cls()
        for _ in range(300):
            made = LANGUAGES[name].make(rng, rng.randint(*TRAIN_LENGTHS))
            for symbol in made.symbols:
                encoder.symbols.setdefault(symbol, len(encoder.symbols))
            for label in made.labels:
                if label != UNSCORED:
                    encoder.labels.setdefault(label, len(encoder.labels))
        return encoder

    def batch(self, strings: Sequence[LabeledString]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, labels (`IGNORED`: none) and what is scored, each `(T, B)`; shorter strings are padded at their ends."""
        shape = (max(len(made.symbols) for made in strings), len(strings))
        ids, labels, scored = np.zeros(shape, np.int64), np.full(shape, IGNORED), np.zeros(shape, bool)
        for row, made in enumerate(strings):
            ids[: len(made.symbols), row] = [self.symbols[symbol] for symbol in made.symbols]
            labels[: len(made.labels), row] = [self.labels.get(label, IGNORED) for label in made.labels]
            scored[made.scored, row] = True
        return torch.from_numpy(ids), torch.from_numpy(labels), torch.from_numpy(scored)


def build(model: str, encoder: Encoder, seed: int) -> nn.Module:
    """Return the network of a cell, or the Transformer, whose number of parameters is nearest to that of the LSTM."""
    sizes = len(encoder.symbols), len(encoder.labels)

    def make(name: str, units: int) -> nn.Module:
        return RotaryTransformer(*sizes, units, NUM_LAYERS) if name == TRANSFORMER else SequenceTagger(name, *sizes, units)

    def distance(units: int) -> int:
        return abs(_num_parameters(make(model, units)) - target)

    with torch.random.fork_rng(devices=[]):
        target = _num_parameters(make("lstm", LSTM_UNITS))
        units = min(range(8, 4 * LSTM_UNITS, 4), key=distance)
        torch.manual_seed(seed)
        network = make(model, units)
    if isinstance(network, SequenceTagger):
        for cell in network.cells():
            open_forget_gates(cell)
        set_kernel(cast(Any, network), "auto")
    return network


def _num_parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


@torch.no_grad()
def open_forget_gates(cell: GatedCell) -> None:
    """Set the biases of the forget gates to `FORGET_BIAS`, if the cell has such gates apart from its input gates."""
    if isinstance(cell, MatrixMemoryCell):
        biases = cell.bias_gates[: num_heads(cell.hidden_size)]
    elif isinstance(cell, LSTMCell | SLSTMCell):
        biases = cell.bias[cell.hidden_size : 2 * cell.hidden_size]
    else:
        return
    biases.copy_(torch.linspace(*FORGET_BIAS, len(biases)))


@dataclass
class Curriculum:
    """Which lengths are trained on: up to `longest`, which grows with the accuracy and, at the latest, with the time."""

    rng: random.Random
    longest: float = FIRST_LENGTH
    accuracy: float = 0.0

    def draw_length(self, progress: float) -> int:
        """Return the longer of two random lengths, after a share `progress` of the time: short strings show no drift."""
        shortest, limit = TRAIN_LENGTHS
        self.longest = min(limit, max(self.longest, shortest + (limit - shortest) * progress / FULL_LENGTH_AT))
        return max(self.rng.randint(shortest, int(self.longest)) for _ in range(2))

    def record(self, length: int, correct: float) -> None:
        """Take note of the share of right answers at a length."""
        self.accuracy = 0.9 * self.accuracy + 0.1 * correct
        if self.accuracy > ADVANCE_AT and length > self.longest - 4:
            self.longest, self.accuracy = self.longest + 1, self.accuracy - 0.01


def take_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, ids: Tensor, labels: Tensor, noise: float, generator: torch.Generator
) -> Tensor:
    """Take a step with the gradients at weights to which noise of this deviation is added; return the logits."""
    weights = list(network.parameters())
    clean = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=noise)
    logits: Tensor = network(ids)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    nn.utils.clip_grad_norm_(weights, 1.0)
    with torch.no_grad():
        for weight, value in zip(weights, clean, strict=True):
            weight.copy_(value)
    optimizer.step()
    return logits


def train(network: nn.Module, language: str, encoder: Encoder, seconds: float, seed: int, noise: float) -> int:
    """Train for `seconds` of processor time on strings of 3 to 40 symbols, short ones first; return the number of steps."""
    optimizer = torch.optim.Adam(network.parameters(), lr=PEAK_LR, betas=(0.9, 0.99), fused=True)
    rng, generator, elapsed, steps = random.Random(seed), torch.Generator().manual_seed(seed), 0.0, 0
    curriculum = Curriculum(rng)
    while elapsed < seconds:
        progress = elapsed / seconds
        length = curriculum.draw_length(progress)
        ids, labels, scored = encoder.batch([LANGUAGES[language].make(rng, length) for _ in range(BATCH_SIZE)])
        for group in optimizer.param_groups:
            group["lr"] = PEAK_LR * min(1.0, progress / WARMUP + 0.01, (1 - progress) / (1 - DECAY_FROM))
        started = time.process_time()
        logits = take_step(network, optimizer, ids, labels, noise, generator)
        elapsed, steps = elapsed + time.process_time() - started, steps + 1
        curriculum.record(length, float((logits.argmax(-1) == labels)[scored].float().mean()))
    return steps


@torch.no_grad()
def accuracy_at(network: nn.Module, language: str, encoder: Encoder, length: int, part: str = "") -> float:
    """Return the share of scored positions that are right, in strings of about `length`, the same for every network."""
    rng, right, total = random.Random(f"{language} {length}{part}"), 0, 0
    strings = [LANGUAGES[language].make(rng, length) for _ in range(NUM_TEST_STRINGS)]
    for first in range(0, len(strings), 32):
        ids, labels, scored = encoder.batch(strings[first : first + 32])
        matches = (network(ids).argmax(-1) == labels)[scored]
        right, total = right + int(matches.sum()), total + matches.numel()
    return right / total


def measure(language: str, model: str, seconds: float, seed: int, lengths: Sequence[int]) -> dict[str, Any]:
    """Train one model on one language; return its accuracy at each length, its size, and the noise and steps it had.

    A model that has not learned the language with noise is trained again without; the better on other strings counts.
    """
    encoder, best = Encoder.of(language), -1.0
    for noise in (WEIGHT_NOISE, 0.0):
        network = build(model, encoder, seed)
        steps = train(network, language, encoder, seconds, seed, noise)
        network.eval()
        learned = accuracy_at(network, language, encoder, TRAIN_LENGTHS[1], "validation")
        if learned > best:
            best, chosen, facts = learned, network, {"noise": noise, "steps": steps}
        if learned >= LEARNED_AT:
            break
    accuracy = {length: accuracy_at(chosen, language, encoder, length) for length in lengths}
    return {"parameters": _num_parameters(chosen), "accuracy": accuracy} | facts


def compare(
    languages: Sequence[str],
    models: Sequence[str],
    seconds: float,
    seeds: Sequence[int],
    lengths: Sequence[int],
    processes: int = 1,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each language and model: medians over seeds of the accuracy at each length."""
    pairs = list(itertools.product(languages, models))
    all_runs = measure_all(
        [(language, model, seconds, seed, lengths) for language, model in pairs for seed in seeds], processes
    )
    for language, model in pairs:
        runs = list(itertools.islice(all_runs, len(seeds)))
        accuracy = {length: statistics.median(run["accuracy"][length] for run in runs) for length in lengths}
        facts = {"language": language, "model": model, "parameters": runs[0]["parameters"]}
        facts |= {key: statistics.median(run[key] for run in runs) for key in ("steps", "noise")}
        yield facts | {"accuracy": accuracy}


def measure_all(jobs: Sequence[Job], processes: int) -> Iterator[dict[str, Any]]:
    """Yield what `measure` returns for each job, in their order: in this process, or in several at once."""
    if processes > 1:
        with ThreadPoolExecutor(processes) as pool, ExitStack() as stack:
            idle: SimpleQueue[Worker] = SimpleQueue()
            for _ in range(processes):
                idle.put(stack.enter_context(Worker("languages", f"from {__name__} import serve; serve()")))

            def ask(job: Job) -> dict[str, Any]:
                worker = idle.get()
                try:
                    answer: dict[str, Any] = json.loads(worker.ask(json.dumps(job)))
                finally:
                    idle.put(worker)
                return answer | {"accuracy": {int(length): value for length, value in answer["accuracy"].items()}}

            yield from pool.map(ask, jobs)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # these networks are too small for more, and a second thread would count twice
    try:
        yield from (measure(*job) for job in jobs)
    finally:
        torch.set_num_threads(threads)


def serve() -> None:
    """Answer each job on standard input with a line of JSON: what a process of `measure_all` does."""
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(measure(*json.loads(line))), flush=True)


def num_processes(models: Sequence[str], num_jobs: int) -> int:
    """Return how many processes take the jobs: one on each processor, or none but this if it alone has a cell of `models`."""
    if any(model != TRANSFORMER and not CELLS[model].__module__.startswith("unrolled.") for model in models):
        return 1
    return min(usable_processors(), num_jobs)


def format_table(rows: Sequence[dict[str, Any]], length: int) -> str:
    """Return the accuracy at one length as a table: a line for each model, a column for each language."""
    languages, models = (list(dict.fromkeys(row[key] for row in rows)) for key in ("language", "model"))
    cells = {(row["model"], row["language"]): f"{row['accuracy'][length]:.2f}" for row in rows}
    width = max(map(len, models))
    lines = [" ".join([f"{f'length {length}':<{width}}", *languages])]
    for model in models:
        values = (f"{cells[model, language]:>{len(language)}}" for language in languages)
        lines.append(" ".join([f"{model:<{width}}", *values]))
    return "\n".join(lines)


def run_languages(options: BenchOptions) -> list[dict[str, Any]]:
    """Return the rows of `compare` for the languages and cells of `options`; log a line each and a table; draw the picture.

    Raises `UsageError` for a language or a cell that does not exist.
    """
    languages = choose("--languages", options.languages, LANGUAGES)
    models = choose("--cells", options.cells, (*CELLS, TRANSFORMER))
    seconds = (options.seconds or DEFAULT_SECONDS) * (QUICK_SHARE if options.quick else 1)
    lengths = TEST_LENGTHS if options.quick else (*TEST_LENGTHS, LONG_LENGTH)
    seeds = range(options.seed, options.seed + options.seeds)
    num_trainings = len(languages) * len(models) * len(seeds)
    processes = num_processes(models, num_trainings)
    logger.info(f"{plural(num_trainings, 'model')} to train, {processes} at a time")
    logger.info(
        f"accuracy at {', '.join(map(str, lengths))} symbols, after {seconds:g} s of one processor "
        f"(as long again without noise for a model that is below {LEARNED_AT} at {TRAIN_LENGTHS[1]}), median of {len(seeds)}"
    )
    rows = []
    for row in compare(languages, models, seconds, seeds, lengths, processes):
        rows.append(row)
        accuracy = "  ".join(f"{value:.3f}" for value in row["accuracy"].values())
        facts = f"{row['parameters']:>7,} parameters, {row['steps']:,} steps{'' if row['noise'] else ' without noise'}"
        logger.info(f"  {row['language']:<18} {row['model']:<24} {accuracy}  {facts}")
    logger.info(format_table(rows, TEST_LENGTHS[-1]))
    if options.svg:
        panels: dict[str, dict[str, dict[int, float]]] = {language: {} for language in languages}
        for row in rows:
            panels[row["language"]][row["model"]] = row["accuracy"]
        write_atomic(Path(options.svg), accuracy_svg(panels).encode())
    return rows


def choose(flag: str, names: str | None, known: Collection[str]) -> list[str]:
    """Return the names that a flag lists, separated by commas; if there are none, all but the cells with hard sigmoids, which
    are for imported models. Raises `UsageError` for an unknown one."""
    usual = [name for name in known if name not in HARD_SIGMOID_CELLS.values()]
    chosen = usual if names is None else list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in known:
            hint = did_you_mean(name, known) or "."
            raise UsageError(f"{flag} has {name!r}, which is not known{hint} It takes names of: {', '.join(known)}.")
    return chosen
