"""Training speed of this machine, measured on a few steps with random tokens."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch

from unrolled.nn.device import DeviceConfig
from unrolled.nn.kernels.select import set_kernel
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, TrainingOptions
from unrolled.text.batching import AnyBatch, Batch
from unrolled.training.train_step import TrainStep

WARMUP_STEPS = 2
"""Steps before the clock starts: the first ones prepare memory and code."""

MAX_SECONDS = 1.0
"""Seconds after which no further step is taken, however few there were."""


def measure_throughput(
    vocab_size: int,
    model_options: ModelOptions,
    options: TrainingOptions,
    machine: DeviceConfig,
    seconds: float = 0.25,
    kernels: str = "auto",
) -> float:
    """Return the tokens per second of training: the median over steps that take about `seconds` in all.

    With several processes, the batch columns of this one are measured, and the others are assumed to be as fast.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RecurrentLM(vocab_size, model_options).to(machine.device)
    set_kernel(model, kernels, machine.dtype)
    rng = np.random.default_rng(0)
    batch_size = -(-options.batch // machine.world_size)
    ids = rng.integers(vocab_size, size=(2, options.bptt, batch_size))
    batch = Batch(ids[0], ids[1], None, True, ids[0].size)
    train_step = TrainStep(model.train(), machine, options, batch_size)
    return machine.world_size * batch.num_targets / statistics.median(time_steps(train_step, itertools.repeat(batch), seconds))


def time_steps(train_step: TrainStep, batches: Iterator[AnyBatch], seconds: float = 0.25) -> list[float]:
    """Return how long each of some steps took, in all about `seconds`, those that warm up left out."""
    timings: list[float] = []
    while not timings or (sum(timings) < MAX_SECONDS and (len(timings) < WARMUP_STEPS + 4 or sum(timings) < seconds)):
        started = time.perf_counter()
        loss, _ = train_step.step(next(batches), 0.0, len(timings))
        float(loss)  # waits for a GPU
        timings.append(time.perf_counter() - started)
    return timings[WARMUP_STEPS:] or timings[-1:]
