"""What to train when nobody says: width, lanes, dropout and optimiser, from the text, the budget and the speed of this machine.

The rules are those that did best in the runs of benchmarks/LOG.md, over several texts and budgets. A setting that was given, by
a flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unrolled.options import TrainRequest
from unrolled.training.schedule import make_budget

CHOSEN = ("hidden", "dropout", "optimiser")
"""The settings that the recipe chooses."""

Pace = Callable[[TrainRequest], float]
"""Measures the symbols a second that a request would train."""

WIDTHS = ((0.0, 128), (6e5, 256), (3e7, 384), (8e7, 512))
"""Units a layer, by the symbols that can be read in the budget at 256 units: the last line that is reached."""

SMALL_TEXT = 60_000
"""Symbols below which more than the least units only learn the text by heart."""

WORTH = {"adamw": 1.0, "muon": 1.8}
"""What a step of an optimiser teaches, in steps of AdamW."""

DROPOUTS = ((0.0, 0.0), (2.0, 0.05), (5.0, 0.15), (8.0, 0.25), (20.0, 0.35), (60.0, 0.5))
"""Share of units silenced, by how often the text is read; straight lines in the logarithm between."""


@dataclass(frozen=True)
class Text:
    """What the recipe knows of a text: `symbols` an epoch, and how many `kinds` there are."""

    symbols: int
    kinds: int


def choose(request: TrainRequest, text: Text, pace: Pace) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    `pace` is asked only for a budget in minutes: one in steps or epochs makes the same run on every machine.
    """
    if request.given.issuperset(CHOSEN):
        return request, ""
    budget = make_budget(request.training, text.symbols)
    if budget.unit == "seconds":
        candidates = [_with(request, hidden=256, optimiser=name) for name in WORTH]
        rates = {candidate.training.optimiser: pace(candidate) for candidate in candidates}
        best = max(rates, key=lambda name: rates[name] * WORTH.get(name, 1.0))
        request = _with(request, optimiser=best, hidden=width(rates[best] * budget.total, text.symbols))
        rate = pace(request)
        reads, why = rate * budget.total, f"{budget.total / 60:.3g} minutes at {rate:,.0f} symbols/s"
    else:
        lanes = request.training.batch * request.training.bptt
        reads = budget.total * lanes if budget.unit == "steps" else budget.total
        request = _with(request, optimiser="muon", hidden=width(reads, text.symbols))
        why = f"{budget.total:,.0f} {budget.unit}"
    epochs = reads / text.symbols
    request = _with(request, dropout=dropout(epochs))
    model, training = request.model, request.training
    read = f"read {epochs:.2g} times" if epochs >= 1 else f"{epochs:.0%} read"
    return request, (
        f"{model.layers} layers of {model.hidden} units, dropout {model.dropout:g}, {training.batch} lanes of "
        f"{training.bptt} steps, {training.optimiser}: in {why} the text is {read}"
    )


def width(reads: float, symbols: int) -> int:
    """Return the units a layer for `reads` symbols read (at 256 units), of a text of `symbols`."""
    if symbols < SMALL_TEXT:
        return WIDTHS[0][1]
    return [units for least, units in WIDTHS if reads >= least][-1]


def dropout(epochs: float) -> float:
    """Return the share of units to silence if the text is read `epochs` times, in steps of 0.01."""
    points = [(math.log(1 + least), share) for least, share in DROPOUTS]
    at = math.log(1 + epochs)
    for (left, low), (right, high) in zip(points[:-1], points[1:], strict=True):
        if at < right:
            return round(low + (high - low) * (at - left) / (right - left), 2)
    return points[-1][1]


def _with(request: TrainRequest, **values: Any) -> TrainRequest:
    """Return the request with `values` set, but for those that were given."""
    model = {name: value for name, value in values.items() if name not in request.given and hasattr(request.model, name)}
    training = {name: value for name, value in values.items() if name not in request.given and hasattr(request.training, name)}
    return dataclasses.replace(
        request,
        model=dataclasses.replace(request.model, **model),
        training=dataclasses.replace(request.training, **training),
    )
