"""Defaults for texts: units, batch, dropout and optimizer, chosen from the text, the budget and the speed of this machine.

The rules are those that did best in the runs of benchmarks/LOG.md, over several texts and budgets. A setting that was given, by
a flag, a preset or a file, is never touched.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

from unrolled.display import plural
from unrolled.nn.language_model import parameter_count
from unrolled.options import ModelOptions, TrainingOptions, TrainRequest
from unrolled.text.batching import fit_batch_shape
from unrolled.training.schedule import make_budget

RECIPE_OPTIONS = tuple(
    field.name for kind in (ModelOptions, TrainingOptions) for field in dataclasses.fields(kind) if field.metadata["by_recipe"]
)
"""The settings that the recipe chooses."""

MeasureThroughput = Callable[[TrainRequest], float]
"""Measures the training speed of a request in tokens per second."""

UNITS_BY_TOKENS = ((0.0, 128), (6e5, 256), (3e7, 384), (8e7, 512))
"""Units per layer, by the tokens that 256 units can read in the budget: the last threshold that is reached counts."""

SMALL_TEXT_TOKENS = 60_000
"""For shorter texts, the smallest width is used: a larger one would only memorize the text."""

LARGE_TEXT_TOKENS = 3_000_000
"""With fewer tokens, a network has at most the second largest width: 30 minutes of tinyshakespeare ended at 1.354 nats with
512 units, and at 1.339 with 384 and less dropout (LOG.md: one run of each)."""

STEP_VALUE = {"adamw": 1.0, "muon": 1.8}
"""The progress of one step of an optimizer, in steps of AdamW."""

DROPOUT_BY_PRESSURE = ((3.5, 0.0), (16.0, 0.08), (160.0, 0.3), (400.0, 0.5))
TOKEN_DROPOUT_BY_PRESSURE = ((3.5, 0.0), (16.0, 0.025), (160.0, 0.12), (400.0, 0.3))
"""Dropout of units and of tokens by the pressure to memorize (see `pressure`); between the points, linear in its logarithm. A
model with temperature scaling needs less than half of the dropout at 15 passes; the points beyond follow from one run of 77
passes (LOG.md)."""

RESET_PROB_BY_PRESSURE = ((3.5, 0.03), (10.0, 0.015))
"""Probability of resetting the state of a batch column, in the same way: resets harm a model that has time to learn long
contexts."""

BATCH_SIZE, WIDE_UNITS, WIDE_BATCH_SIZE = 32, 384, 64
"""Batch columns of each process. From `WIDE_UNITS` units on there are more: large products use the processor better, and the
optimizer's share of a step is smaller."""

BASE_LR, MAX_LR_SCALE = 8e-3, 2.0
"""Peak learning rate of one process. With several, it grows with the square root of the total batch, up to `MAX_LR_SCALE`
times: measured for up to four times the batch (benchmarks/LOG.md)."""


@dataclass(frozen=True)
class TextStats:
    """What the recipe needs to know about a text: tokens per epoch and the size of the vocabulary."""

    tokens: int
    vocab_size: int


def choose_text_options(
    request: TrainRequest, stats: TextStats, measure: MeasureThroughput, world_size: int = 1
) -> tuple[TrainRequest, str]:
    """Return the request with what was not given filled in, and a sentence that says what was chosen and why.

    With `world_size` processes, each has the batch that one process would have, unless the batch was given.
    `measure` is called only for a budget in minutes: one in steps or epochs gives the same run on every machine.
    """
    if request.explicit.issuperset(RECIPE_OPTIONS):
        return request, ""
    request = fill_defaults(request, batch=BATCH_SIZE * world_size)
    if "batch" not in request.explicit:
        request = fill_defaults(request, lr=BASE_LR * min(world_size**0.5, MAX_LR_SCALE))
    budget = make_budget(request.training, stats.tokens)
    if budget.unit == "seconds":
        candidates = [fill_defaults(_set_units(request, 256, world_size), optimizer=name) for name in STEP_VALUE]
        throughputs = {candidate.training.optimizer: measure(candidate) for candidate in candidates}
        best = max(throughputs, key=lambda name: throughputs[name] * STEP_VALUE.get(name, 1.0))
        request = _set_units(
            fill_defaults(request, optimizer=best), choose_units(throughputs[best] * budget.total, stats.tokens), world_size
        )
        throughput = measure(request)
        tokens_read, why = throughput * budget.total, f"{budget.total / 60:.3g} min at {throughput:,.0f} tokens/s"
    else:
        tokens_per_step = math.prod(fit_batch_shape(stats.tokens + 1, request.training.batch, request.training.bptt))
        tokens_read = budget.total * tokens_per_step if budget.unit == "steps" else budget.total
        request = _set_units(fill_defaults(request, optimizer="muon"), choose_units(tokens_read, stats.tokens), world_size)
        why = plural(round(budget.total), budget.unit.removesuffix("s"))
    epochs = tokens_read / stats.tokens
    overfit_pressure = pressure(epochs, parameter_count(stats.vocab_size, request.model), stats.tokens)
    request = fill_defaults(
        request,
        dropout=interpolate(DROPOUT_BY_PRESSURE, overfit_pressure),
        token_dropout=interpolate(TOKEN_DROPOUT_BY_PRESSURE, overfit_pressure),
        state_reset_prob=interpolate(RESET_PROB_BY_PRESSURE, overfit_pressure),
    )
    model, training = request.model, request.training
    batch, steps = training.batch, training.bptt
    if request.data.documents == "none":
        batch, steps = fit_batch_shape(stats.tokens + 1, batch, steps)
    return request, (
        f"{plural(model.layers, 'layer')} of {plural(model.hidden, 'unit')}, "
        f"dropout {model.dropout:g} (of tokens {model.token_dropout:g}), "
        f"batch {batch} of {plural(steps, 'step')}, {training.optimizer}: in {why} the text is {describe_epochs(epochs)}"
    )


def describe_epochs(epochs: float) -> str:
    """Return in words how often a text is read."""
    if 1 <= epochs < 1.05:
        return "read once"
    if epochs >= 1:
        return f"read {epochs:.2g} times" if epochs < 99.5 else f"read {epochs:,.0f} times"
    return f"{epochs:.0%} read" if epochs >= 0.01 else "less than 1% read"


def choose_units(tokens_read: float, text_tokens: int) -> int:
    """Return the hidden units for a number of tokens that can be read (at 256 units), and a text of a number of tokens."""
    if text_tokens < SMALL_TEXT_TOKENS:
        return UNITS_BY_TOKENS[0][1]
    widths = UNITS_BY_TOKENS if text_tokens >= LARGE_TEXT_TOKENS else UNITS_BY_TOKENS[:-1]
    return [units for threshold, units in widths if tokens_read >= threshold][-1]


def pressure(epochs: float, parameters: int, tokens: int) -> float:
    """Return the pressure to memorize: epochs times the square root of the number of weights per token of the text."""
    return epochs * math.sqrt(parameters / tokens)


def interpolate(points: tuple[tuple[float, float], ...], x: float) -> float:
    """Return the value at the pressure `x` between `points` of (pressure, value): linear in the logarithm, and rounded."""
    if x <= points[0][0]:
        return points[0][1]
    for (left, low), (right, high) in zip(points[:-1], points[1:], strict=True):
        if x < right:
            value = low + (high - low) * math.log(x / left) / math.log(right / left)
            return round(value, 2 if value >= 0.1 else 3)
    return points[-1][1]


def threshold_value(points: tuple[tuple[float, float], ...], x: float) -> float:
    """Return the value of the last threshold that is reached."""
    return [value for threshold, value in points if x >= threshold][-1]


def _set_units(request: TrainRequest, units: int, world_size: int) -> TrainRequest:
    # a residual layer is as wide as the embedding
    is_width_fixed = request.model.residual and request.model.embedding is not None
    request = request if is_width_fixed else fill_defaults(request, hidden=units)
    return fill_defaults(request, batch=WIDE_BATCH_SIZE * world_size) if request.model.hidden >= WIDE_UNITS else request


def fill_defaults(request: TrainRequest, **values: object) -> TrainRequest:
    """Return the request with `values` set, but for those that were given."""
    parts = {}
    for name in ("model", "training", "pair"):
        part = getattr(request, name)
        changes = {key: value for key, value in values.items() if hasattr(part, key) and key not in request.explicit}
        parts[name] = dataclasses.replace(part, **changes)
    return dataclasses.replace(request, **parts)
