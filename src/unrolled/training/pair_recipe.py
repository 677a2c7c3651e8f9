"""What to train for a table when nobody says: width, rows a batch, dropout, and how often the rows are read.

The rules are those that did best in the runs of benchmarks/LOG.md, over the tables there. A setting that was given, by a
flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.data.task import PairShape
from unrolled.options import BUDGETS, TrainRequest
from unrolled.training.recipe import passes
from unrolled.training.schedule import make_budget

WIDTHS = ((0.0, 128), (3e5, 256))
"""Units a layer, by the steps of the training rows, read and written: the last line that is reached."""

ENOUGH = ((0.0, 60.0), (2e4, 40.0), (2e6, 25.0))
"""Passes over the rows after which more time brings little, by the rows' targets; if no budget is given, it ends there."""

DROPOUTS = ((2.0, 0.1), (10.0, 0.3), (40.0, 0.4))
HIDING = ((2.0, 0.02), (20.0, 0.1))
"""Shares of units, and of symbols, silenced, by passes over the rows; straight lines over its logarithm between the points."""

SMOOTHING = 0.1
RATE = 4e-3
"""Learning rate of tables: attention and convolutions want half of what recurrent layers of a text bear."""


@dataclass(frozen=True)
class Rows:
    """What the recipe knows of a table's training rows: how many, and the steps read and written in all."""

    rows: int
    read: int
    targets: int


def choose_pairs(
    request: TrainRequest, shape: PairShape, rows: Rows, pace: Callable[[TrainRequest], float]
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why."""
    steps = rows.read + rows.targets
    request = _with(request, hidden=[units for least, units in WIDTHS if steps >= least][-1], optimiser="adamw", lr=RATE)
    small = rows.rows < 2000
    request = _with(request, batch=16 if small else 32 if rows.rows < 20_000 else 64, reset_probability=0.0)
    request = _with(request, label_smoothing=SMOOTHING if shape.target_form == "symbols" and not shape.written else 0.0)
    budget = make_budget(request.training, rows.targets)
    if budget.unit == "seconds":
        rate = pace(request)
        epochs = rate * budget.total / rows.targets
        most = [passes for least, passes in ENOUGH if rows.targets >= least][-1]
        why = f"{budget.total / 60:.3g} min at {rate:,.0f} targets/s"
        if not request.given & set(BUDGETS) and epochs > most:
            request = dataclasses.replace(request, training=dataclasses.replace(request.training, minutes=None, epochs=most))
            epochs, why = most, f"less than {budget.total / 60:.3g} min"
    else:
        per_step = rows.targets * min(1.0, request.training.batch / rows.rows)
        epochs = budget.total * per_step / rows.targets if budget.unit == "steps" else budget.total / rows.targets
        why = f"{budget.total:,.0f} steps" if budget.unit == "steps" else f"{epochs:.3g} epochs"
    request = _with(request, dropout=along(DROPOUTS, epochs), symbol_dropout=along(HIDING, epochs))
    model, training = request.model, request.training
    return request, (
        f"{model.layers} layers of {model.hidden} units, dropout {model.dropout:g} (of symbols {model.symbol_dropout:g}), "
        f"{training.batch} rows a batch, {training.optimiser}: in {why} the table is {passes(epochs)}"
    )


def along(points: tuple[tuple[float, float], ...], at: float) -> float:
    """Return the value that `points` give at `at`, by straight lines over its logarithm, rounded to two digits."""
    if at <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in zip(points[:-1], points[1:], strict=True):
        if at < right:
            return round(low + (high - low) * math.log(at / left) / math.log(right / left), 2)
    return points[-1][1]


def _with(request: TrainRequest, **values: object) -> TrainRequest:
    """Return the request with `values` set, but for those that were given."""
    parts = {}
    for name in ("model", "training", "pair"):
        part = getattr(request, name)
        own = {key: value for key, value in values.items() if hasattr(part, key) and key not in request.given}
        parts[name] = dataclasses.replace(part, **own)
    return dataclasses.replace(request, **parts)
