"""What to train for a table when nobody says: width, rows a batch, dropout, and how often the rows are read.

The rules are those that did best in the runs of benchmarks/LOG.md, over the tables there. A setting that was given, by a
flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.options import BUDGETS, TrainRequest
from unrolled.tables.spec import PairShape
from unrolled.training.recipe import fill, passes, share
from unrolled.training.schedule import make_budget

NARROW, WIDE, SMALL = 128, 256, 3e4
"""Units a layer: the wide ones for rows of so many steps in all, read and written, that can be read `WORTH_WIDE` times."""

WORTH_WIDE = 4.0
"""In less, a narrow network gets further: dates after 45 s are right at 97% with 128 units, at 80% with 256 (LOG.md)."""

FEW_ROWS = 20_000

ENOUGH = ((0.0, 40.0), (2e6, 25.0))
"""Passes over the rows after which more time brings little, by the rows' targets; if no budget is given, it ends there,

or where the pressure to learn by heart (see `DROPOUTS`) reaches `MOST_PRESSURE`: then the rows are the limit, and not the time.
"""
MOST_PRESSURE = 300.0

DROPOUTS = ((5.0, 0.1), (20.0, 0.3), (50.0, 0.4), (200.0, 0.5))
HIDING = ((5.0, 0.02), (50.0, 0.1), (200.0, 0.2))
"""Shares of units, and of symbols, silenced, by the pressure to learn by heart: passes times the root of the weights a target.

Straight lines over its logarithm between the points.
"""

SMOOTHING = 0.1
RATES = ((0.0, 2e-3), (2e5, 4e-3))
"""Learning rate, by the steps of the training rows: few rows are learned by heart before a high one has settled."""


@dataclass(frozen=True)
class Rows:
    """What the recipe knows of a table's training rows: how many, and the steps read and written in all."""

    rows: int
    read: int
    targets: int


def choose_pairs(
    request: TrainRequest,
    shape: PairShape,
    rows: Rows,
    pace: Callable[[TrainRequest], float],
    weights: Callable[[TrainRequest], int],
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    `pace` measures the targets a second, `weights` counts the weights that a request would train.
    """
    steps, picture = rows.read + rows.targets, bool(shape.picture)
    rate = RATES[0][1] if picture else reached(RATES, steps)
    few = rows.rows < FEW_ROWS or picture
    request = fill(request, lr=rate, optimiser="adamw", batch=16 if rows.rows < 2000 else 32 if few else 64)
    request = fill(request, hidden=NARROW if picture or steps < SMALL else WIDE, reset_probability=0.0)
    request = fill(request, label_smoothing=SMOOTHING if shape.target_form == "symbols" and not shape.written else 0.0)
    budget = make_budget(request.training, rows.targets)
    if budget.unit == "seconds":
        request, epochs, why = _within(request, budget.total, rows, pace, weights)
    else:
        step = min(1.0, request.training.batch / rows.rows)
        epochs = budget.total * step if budget.unit == "steps" else budget.total / rows.targets
        why = f"{budget.total:,.0f} steps" if budget.unit == "steps" else f"{epochs:.3g} epochs"
    weight = epochs * math.sqrt(weights(request) / rows.targets)
    request = fill(request, dropout=share(DROPOUTS, weight), symbol_dropout=share(HIDING, weight))
    model, training = request.model, request.training
    return request, (
        f"{model.layers} layers of {model.hidden} units, dropout {model.dropout:g} (of symbols {model.symbol_dropout:g}), "
        f"{training.batch} rows a batch, {training.optimiser}: in {why} the table is {passes(epochs)}"
    )


def _within(
    request: TrainRequest,
    seconds: float,
    rows: Rows,
    pace: Callable[[TrainRequest], float],
    weights: Callable[[TrainRequest], int],
) -> tuple[TrainRequest, float, str]:
    """Return the request as it fits a budget of time, how often it reads the rows, and why."""
    rate = pace(request)
    if rate * seconds / rows.targets < WORTH_WIDE and request.model.hidden == WIDE:
        request = fill(request, hidden=NARROW)
        rate = pace(request)
    epochs = rate * seconds / rows.targets
    most = min(reached(ENOUGH, rows.targets), MOST_PRESSURE / math.sqrt(weights(request) / rows.targets))
    if request.given & set(BUDGETS) or epochs <= most:
        return request, epochs, f"{seconds / 60:.3g} min at {rate:,.0f} targets/s"
    training = dataclasses.replace(request.training, minutes=None, epochs=round(most, 1))
    return dataclasses.replace(request, training=training), most, f"less than {seconds / 60:.3g} min"


def reached(lines: tuple[tuple[float, float], ...], at: float) -> float:
    """Return the value of the last line whose bound is reached."""
    return [value for least, value in lines if at >= least][-1]
