"""Defaults for tables: width, rows per batch, dropout, and passes over the rows.

The rules are those that did best in the runs of benchmarks/LOG.md, over the tables there. A setting that was given, by a
flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.display import plural
from unrolled.options import BUDGET_OPTIONS, TrainRequest
from unrolled.tables.model_dims import ModelDims
from unrolled.training.recipe import describe_epochs, fill_defaults, interpolate, threshold_value
from unrolled.training.schedule import make_budget

NARROW_UNITS, WIDE_UNITS, MIN_WIDE_STEPS = 128, 256, 3e4
"""Units per layer: `WIDE_UNITS` for tables of at least `MIN_WIDE_STEPS` source and target steps that can be read
`MIN_WIDE_EPOCHS` times."""

MIN_WIDE_EPOCHS = 4.0
"""With fewer passes, a narrow network learns more: after 45 s, 97% of `builtin:dates` are right with 128 units, 80% with 256
(LOG.md)."""

MIN_LARGE_TABLE_ROWS = 20_000

MAX_EPOCHS_BY_TARGETS = ((0.0, 40.0), (2e6, 25.0))
"""Passes over the rows after which more time brings little, by the number of targets. Without a budget, training ends there,
or where the pressure to memorize (see `DROPOUT_BY_PRESSURE`) reaches `MAX_PRESSURE`: then the rows are the limit, not the time.
"""
MAX_PRESSURE, MAX_WORD_PRESSURE = 300.0, 100.0
"""The lower one is for texts of words with one label: on TREC, the lowest validation loss was after 5 of 8 epochs."""

DROPOUT_BY_PRESSURE = ((5.0, 0.1), (20.0, 0.3), (50.0, 0.4), (200.0, 0.5))
TOKEN_DROPOUT_BY_PRESSURE = ((5.0, 0.02), (50.0, 0.1), (200.0, 0.2))
"""Dropout of units and of tokens by the pressure to memorize, which is epochs times the square root of the weights per target;
between the points, linear in its logarithm. Numbers are learned without: their error is squared, and what dropout does to the
scale of the outputs is not the same in training and after it. The solubility of molecules had an rmse of 1.35 with it, and of
0.66 without (LOG.md).
"""

LABEL_SMOOTHING = 0.1
LR_BY_STEPS = ((0.0, 2e-3), (2e5, 4e-3))
"""Learning rate by the number of steps in the training rows: a few rows are memorized before a high rate has settled."""


@dataclass(frozen=True)
class TableStats:
    """What the recipe needs to know about a table's training rows: how many, their source steps and targets, and whether they
    are words."""

    rows: int
    source_steps: int
    targets: int
    has_words: bool = False


def choose_table_options(
    request: TrainRequest,
    dims: ModelDims,
    stats: TableStats,
    measure: Callable[[TrainRequest], float],
    count_parameters: Callable[[TrainRequest], int],
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    `measure` returns the targets per second of a request, `count_parameters` the parameters that it would train.
    """
    steps, is_image = stats.source_steps + stats.targets, bool(dims.image_shape)
    lr = LR_BY_STEPS[0][1] if is_image else threshold_value(LR_BY_STEPS, steps)
    is_small = stats.rows < MIN_LARGE_TABLE_ROWS or is_image
    request = fill_defaults(request, lr=lr, optimizer="adamw", batch=16 if stats.rows < 2000 else 32 if is_small else 64)
    request = fill_defaults(
        request, hidden=NARROW_UNITS if is_image or steps < MIN_WIDE_STEPS else WIDE_UNITS, state_reset_prob=0.0
    )
    request = fill_defaults(
        request, label_smoothing=LABEL_SMOOTHING if dims.target_tensor_kind == "ids" and not dims.target_length else 0.0
    )
    budget = make_budget(request.training, stats.targets)
    if budget.unit == "seconds":
        request, epochs, why = _fit_time_budget(
            request, budget.total, stats, measure, lambda request: _max_epochs(request, dims, stats, count_parameters)
        )
    else:
        epochs_per_step = min(1.0, request.training.batch / stats.rows)
        epochs = budget.total * epochs_per_step if budget.unit == "steps" else budget.total / stats.targets
        why = plural(round(budget.total), "step") if budget.unit == "steps" else f"{epochs:.3g} epochs"
    is_number = dims.target_tensor_kind == "floats"
    overfit_pressure = epochs * math.sqrt(count_parameters(request) / stats.targets)
    request = fill_defaults(
        request,
        dropout=0.0 if is_number else interpolate(DROPOUT_BY_PRESSURE, overfit_pressure),
        token_dropout=0.0 if is_number else interpolate(TOKEN_DROPOUT_BY_PRESSURE, overfit_pressure),
    )
    model, training = request.model, request.training
    return request, (
        f"{plural(model.layers, 'layer')} of {plural(model.hidden, 'unit')}, "
        f"dropout {model.dropout:g} (of tokens {model.token_dropout:g}), "
        f"{training.batch} rows per batch, {training.optimizer}: in {why} the table is {describe_epochs(epochs)}"
    )


def _max_epochs(
    request: TrainRequest, dims: ModelDims, stats: TableStats, count_parameters: Callable[[TrainRequest], int]
) -> float:
    """Return the passes over the rows after which more time brings little."""
    max_pressure = (
        MAX_WORD_PRESSURE if dims.ngram_buckets and stats.has_words and dims.target_tensor_kind == "ids" else MAX_PRESSURE
    )
    return min(
        threshold_value(MAX_EPOCHS_BY_TARGETS, stats.targets),
        max_pressure / math.sqrt(count_parameters(request) / stats.targets),
    )


def _fit_time_budget(
    request: TrainRequest,
    seconds: float,
    stats: TableStats,
    measure: Callable[[TrainRequest], float],
    limit: Callable[[TrainRequest], float],
) -> tuple[TrainRequest, float, str]:
    """Return the request that fits a time budget, its passes over the rows (at most `limit`), and why."""
    throughput = measure(request)
    if throughput * seconds / stats.targets < MIN_WIDE_EPOCHS and request.model.hidden == WIDE_UNITS:
        request = fill_defaults(request, hidden=NARROW_UNITS)
        throughput = measure(request)
    epochs, max_epochs = throughput * seconds / stats.targets, limit(request)
    if request.explicit & set(BUDGET_OPTIONS) or epochs <= max_epochs:
        return request, epochs, f"{seconds / 60:.3g} min at {throughput:,.0f} targets/s"
    training = dataclasses.replace(request.training, minutes=None, epochs=round(max_epochs, 1))
    return dataclasses.replace(request, training=training), max_epochs, f"less than {seconds / 60:.3g} min"
