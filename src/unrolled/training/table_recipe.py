"""What to train for a table when nobody says: width, rows a batch, dropout, and how often the rows are read.

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
from unrolled.training.recipe import describe_epochs, fill_defaults, interpolate
from unrolled.training.schedule import make_budget

NARROW_UNITS, WIDE_UNITS, MIN_WIDE_STEPS = 128, 256, 3e4
"""Units a layer: the wide ones for rows of so many steps in all, read and written, that can be read `WORTH_WIDE` times."""

MIN_WIDE_EPOCHS = 4.0
"""In less, a narrow network gets further: dates after 45 s are right at 97% with 128 units, at 80% with 256 (LOG.md)."""

MIN_LARGE_TABLE_ROWS = 20_000

MAX_EPOCHS_BY_TARGETS = ((0.0, 40.0), (2e6, 25.0))
"""Passes over the rows after which more time brings little, by the rows' targets; if no budget is given, it ends there,

or where the pressure to learn by heart (see `DROPOUTS`) reaches `MOST_PRESSURE`: then the rows are the limit, and not the time.
"""
MAX_PRESSURE, MAX_WORD_PRESSURE = 300.0, 100.0
"""The lower one is for texts of words that get one label: on TREC, the lowest validation loss was after 5 of 8 epochs."""

MIN_NGRAM_STEPS = 500
"""Steps at least where one text gets one label: on few rows, so many take seconds, and the n-grams are not learned in less."""

DROPOUT_BY_PRESSURE = ((5.0, 0.1), (20.0, 0.3), (50.0, 0.4), (200.0, 0.5))
TOKEN_DROPOUT_BY_PRESSURE = ((5.0, 0.02), (50.0, 0.1), (200.0, 0.2))
"""Dropout of units and of tokens by the pressure to memorize: epochs times the square root of the weights per target.

Straight lines over its logarithm between the points.
"""

LABEL_SMOOTHING = 0.1
LR_BY_STEPS = ((0.0, 2e-3), (2e5, 4e-3))
"""Learning rate, by the steps of the training rows: few rows are learned by heart before a high one has settled."""


@dataclass(frozen=True)
class TableStats:
    """What the recipe knows of a table's training rows: how many, the steps read and written in all, and if they are words."""

    rows: int
    source_steps: int
    targets: int
    has_words: bool = False


def choose_table_options(
    request: TrainRequest,
    shape: ModelDims,
    stats: TableStats,
    measure: Callable[[TrainRequest], float],
    count_parameters: Callable[[TrainRequest], int],
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    `pace` measures the targets a second, `weights` counts the weights that a request would train.
    """
    steps, is_image = stats.source_steps + stats.targets, bool(shape.image_shape)
    lr = LR_BY_STEPS[0][1] if is_image else threshold_value(LR_BY_STEPS, steps)
    is_small = stats.rows < MIN_LARGE_TABLE_ROWS or is_image
    request = fill_defaults(request, lr=lr, optimizer="adamw", batch=16 if stats.rows < 2000 else 32 if is_small else 64)
    request = fill_defaults(
        request, hidden=NARROW_UNITS if is_image or steps < MIN_WIDE_STEPS else WIDE_UNITS, state_reset_prob=0.0
    )
    request = fill_defaults(
        request, label_smoothing=LABEL_SMOOTHING if shape.target_tensor_kind == "ids" and not shape.target_length else 0.0
    )
    budget = make_budget(request.training, stats.targets)
    if budget.unit == "seconds":
        request, epochs, why = _fit_time_budget(
            request, budget.total, stats, measure, lambda request: _max_epochs(request, shape, stats, count_parameters)
        )
    else:
        epochs_per_step = min(1.0, request.training.batch / stats.rows)
        epochs = budget.total * epochs_per_step if budget.unit == "steps" else budget.total / stats.targets
        why = plural(round(budget.total), "step") if budget.unit == "steps" else f"{epochs:.3g} epochs"
    overfit_pressure = epochs * math.sqrt(count_parameters(request) / stats.targets)
    request = fill_defaults(
        request,
        dropout=interpolate(DROPOUT_BY_PRESSURE, overfit_pressure),
        token_dropout=interpolate(TOKEN_DROPOUT_BY_PRESSURE, overfit_pressure),
    )
    model, training = request.model, request.training
    return request, (
        f"{plural(model.layers, 'layer')} of {plural(model.hidden, 'unit')}, "
        f"dropout {model.dropout:g} (of tokens {model.token_dropout:g}), "
        f"{training.batch} rows a batch, {training.optimizer}: in {why} the table is {describe_epochs(epochs)}"
    )


def _max_epochs(
    request: TrainRequest, shape: ModelDims, stats: TableStats, count_parameters: Callable[[TrainRequest], int]
) -> float:
    """Return the passes over the rows after which more time brings little."""
    labels_text = bool(shape.ngram_buckets)
    max_pressure = MAX_WORD_PRESSURE if labels_text and stats.has_words else MAX_PRESSURE
    max_epochs = min(
        threshold_value(MAX_EPOCHS_BY_TARGETS, stats.targets),
        max_pressure / math.sqrt(count_parameters(request) / stats.targets),
    )
    return max(max_epochs, MIN_NGRAM_STEPS * min(1.0, request.training.batch / stats.rows)) if labels_text else max_epochs


def _fit_time_budget(
    request: TrainRequest,
    seconds: float,
    stats: TableStats,
    measure: Callable[[TrainRequest], float],
    limit: Callable[[TrainRequest], float],
) -> tuple[TrainRequest, float, str]:
    """Return the request as it fits a budget of time, how often it reads the rows (`limit`: at most), and why."""
    throughput = measure(request)
    if throughput * seconds / stats.targets < MIN_WIDE_EPOCHS and request.model.hidden == WIDE_UNITS:
        request = fill_defaults(request, hidden=NARROW_UNITS)
        throughput = measure(request)
    epochs, max_epochs = throughput * seconds / stats.targets, limit(request)
    if request.explicit & set(BUDGET_OPTIONS) or epochs <= max_epochs:
        return request, epochs, f"{seconds / 60:.3g} min at {throughput:,.0f} targets/s"
    training = dataclasses.replace(request.training, minutes=None, epochs=round(max_epochs, 1))
    return dataclasses.replace(request, training=training), max_epochs, f"less than {seconds / 60:.3g} min"


def threshold_value(points: tuple[tuple[float, float], ...], x: float) -> float:
    """Return the value of the last line whose bound is reached."""
    return [value for threshold, value in points if x >= threshold][-1]
