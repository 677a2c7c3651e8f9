"""What to train when nobody says: width, lanes, dropout and optimiser, from the text, the budget and the speed of this machine.

The rules are those that did best in the runs of benchmarks/LOG.md, over several texts and budgets. A setting that was given, by
a flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.nn.language_model import parameter_count
from unrolled.options import ModelOptions, TrainingOptions, TrainRequest
from unrolled.training.schedule import make_budget

CHOSEN = tuple(
    field.name for kind in (ModelOptions, TrainingOptions) for field in dataclasses.fields(kind) if field.metadata["chosen"]
)
"""The settings that the recipe chooses."""

Pace = Callable[[TrainRequest], float]
"""Measures the symbols a second that a request would train."""

WIDTHS = ((0.0, 128), (6e5, 256), (3e7, 384), (8e7, 512))
"""Units a layer, by the symbols that can be read in the budget at 256 units: the last line that is reached."""

SMALL_TEXT = 60_000
"""Symbols below which more than the least units only learn the text by heart."""

LARGE_TEXT = 3_000_000
"""Symbols below which a network gets no more than the last width but one: 30 minutes of tinyshakespeare ended at 1.354 nats
with 512 units and at 1.339 with 384, which were silenced less (LOG.md: one run of each)."""

WORTH = {"adamw": 1.0, "muon": 1.8}
"""What a step of an optimiser teaches, in steps of AdamW."""

DROPOUTS = ((3.5, 0.0), (16.0, 0.08), (160.0, 0.3), (400.0, 0.5))
SYMBOL_DROPOUTS = ((3.5, 0.0), (16.0, 0.025), (160.0, 0.12), (400.0, 0.3))
"""Shares of units, and of symbols, silenced, by the pressure to learn by heart (see `pressure`); straight lines over its
logarithm between the points. With its sharpness fitted a model needs less than half of
the dropout at 15 passes; what is beyond was drawn through one run of 77 (LOG.md)."""

RESETS = ((3.5, 0.03), (10.0, 0.015))
"""Chance of a lane to start from zero, in the same way: it costs a network that has time to learn long contexts."""

LANES, WIDE, MANY_LANES = 32, 384, 64
"""Lanes of each process. From WIDE units on, more: their products fill the processor better, and the optimiser's share of a
step is less."""

RATE, MOST_FASTER = 8e-3, 2.0
"""The highest learning rate of one process; that of several grows with the root of their lanes, twofold at most: tried up to
four times the lanes (LOG.md)."""


@dataclass(frozen=True)
class Text:
    """What the recipe knows of a text: `symbols` an epoch, and how many `kinds` there are."""

    symbols: int
    kinds: int


def choose(request: TrainRequest, text: Text, pace: Pace, ranks: int = 1) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    `ranks` are the processes that train together: each has as many lanes as one alone would have, unless they were given.
    `pace` is asked only for a budget in minutes: one in steps or epochs makes the same run on every machine.
    """
    if request.given.issuperset(CHOSEN):
        return request, ""
    request = fill(request, batch=LANES * ranks)
    if "batch" not in request.given:
        request = fill(request, lr=RATE * min(ranks**0.5, MOST_FASTER))
    budget = make_budget(request.training, text.symbols)
    if budget.unit == "seconds":
        candidates = [fill(_sized(request, 256, ranks), optimiser=name) for name in WORTH]
        rates = {candidate.training.optimiser: pace(candidate) for candidate in candidates}
        best = max(rates, key=lambda name: rates[name] * WORTH.get(name, 1.0))
        request = _sized(fill(request, optimiser=best), width(rates[best] * budget.total, text.symbols), ranks)
        rate = pace(request)
        reads, why = rate * budget.total, f"{budget.total / 60:.3g} min at {rate:,.0f} symbols/s"
    else:
        lanes = request.training.batch * request.training.bptt
        reads = budget.total * lanes if budget.unit == "steps" else budget.total
        request = _sized(fill(request, optimiser="muon"), width(reads, text.symbols), ranks)
        why = f"{budget.total:,.0f} {budget.unit}"
    epochs = reads / text.symbols
    weight = pressure(epochs, parameter_count(text.kinds, request.model), text.symbols)
    request = fill(
        request,
        dropout=share(DROPOUTS, weight),
        symbol_dropout=share(SYMBOL_DROPOUTS, weight),
        reset_probability=share(RESETS, weight),
    )
    model, training = request.model, request.training
    return request, (
        f"{model.layers} layers of {model.hidden} units, dropout {model.dropout:g} (of symbols {model.symbol_dropout:g}), "
        f"{training.batch} lanes of {training.bptt} steps, {training.optimiser}: in {why} the text is {passes(epochs)}"
    )


def passes(epochs: float) -> str:
    """Return in words how often a text is read."""
    if epochs >= 1:
        return f"read {epochs:.2g} times" if epochs < 99.5 else f"read {epochs:,.0f} times"
    return f"{epochs:.0%} read" if epochs >= 0.01 else "less than 1% read"


def width(reads: float, symbols: int) -> int:
    """Return the units a layer for `reads` symbols read (at 256 units), of a text of `symbols`."""
    if symbols < SMALL_TEXT:
        return WIDTHS[0][1]
    widths = WIDTHS if symbols >= LARGE_TEXT else WIDTHS[:-1]
    return [units for least, units in widths if reads >= least][-1]


def pressure(epochs: float, parameters: int, symbols: int) -> float:
    """Return how much a network is pressed to learn by heart: how often it reads, times the root of its weights a symbol."""
    return epochs * math.sqrt(parameters / symbols)


def share(points: tuple[tuple[float, float], ...], weight: float) -> float:
    """Return the share that `points` of (pressure, share) give at `weight`, rounded to two digits."""
    if weight <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in zip(points[:-1], points[1:], strict=True):
        if weight < right:
            between = low + (high - low) * math.log(weight / left) / math.log(right / left)
            return round(between, 2 if between >= 0.1 else 3)
    return points[-1][1]


def _sized(request: TrainRequest, units: int, ranks: int) -> TrainRequest:
    fixed = request.model.residual and request.model.embedding is not None  # a residual layer is as wide as the embedding
    request = request if fixed else fill(request, hidden=units)
    return fill(request, batch=MANY_LANES * ranks) if request.model.hidden >= WIDE else request


def fill(request: TrainRequest, **values: object) -> TrainRequest:
    """Return the request with `values` set, but for those that were given."""
    parts = {}
    for name in ("model", "training", "pair"):
        part = getattr(request, name)
        own = {key: value for key, value in values.items() if hasattr(part, key) and key not in request.given}
        parts[name] = dataclasses.replace(part, **own)
    return dataclasses.replace(request, **parts)
