"""How fast this machine trains: a few steps of the very kind that are to come, on symbols drawn at random."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch

from unrolled.nn.device import Machine
from unrolled.nn.kernels import use
from unrolled.nn.language_model import SequenceModel
from unrolled.options import ModelOptions, TrainingOptions
from unrolled.text.batching import AnyBatch, Batch
from unrolled.training.train_step import Learner

WARM_UP = 2
"""Steps before the clock starts: the first ones prepare memory and code."""


LONGEST = 1.0
"""Seconds after which no further step is taken, however few there were."""


def measure(
    symbols: int, shape: ModelOptions, options: TrainingOptions, machine: Machine, seconds: float = 0.25, kernels: str = "auto"
) -> float:
    """Return the symbols that a training step learns from in a second: the median of the steps of some `seconds`.

    Among several ranks, a step is measured on this one's lanes, and all are taken to be as fast.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SequenceModel(symbols, shape).to(machine.device)
    use(model, kernels, machine.dtype)
    draw = np.random.default_rng(0)
    lanes = -(-options.batch // machine.ranks)
    ids = draw.integers(symbols, size=(2, options.bptt, lanes))
    batch = Batch(ids[0], ids[1], None, True, ids[0].size)
    learner = Learner(model.train(), machine, options, lanes)
    return machine.ranks * batch.symbols / statistics.median(timed(learner, itertools.repeat(batch), seconds))


def timed(learner: Learner, batches: Iterator[AnyBatch], seconds: float = 0.25) -> list[float]:
    """Return how long each of some steps took, in all about `seconds`, those that warm up left out."""
    timings: list[float] = []
    while not timings or (sum(timings) < LONGEST and (len(timings) < WARM_UP + 4 or sum(timings) < seconds)):
        started = time.perf_counter()
        loss, _ = learner.step(next(batches), 0.0, len(timings))
        float(loss)  # waits for a GPU
        timings.append(time.perf_counter() - started)
    return timings[WARM_UP:] or timings[-1:]
