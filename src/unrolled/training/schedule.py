"""The training budget, and what depends on the fraction of it that is used: the learning rate and the times of evaluations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unrolled.options import TrainingOptions

MAX_WARMUP_FRACTION = 0.1
"""Warm-up takes at most this fraction of the budget."""


EVAL_FRACTIONS = (0.02, 0.05, *(n / 10 for n in range(1, 11)))
"""Fractions of the budget after which the model is evaluated and samples: the early ones show how it learns to write."""

SHORT_EVAL_FRACTIONS = (0.04, 0.15, 0.35, 0.6, 0.8, 0.92, 1.0)
"""The same for a short budget: evaluations may take at most 5% of it."""

SHORT_BUDGET_SECONDS = 100.0
"""Budgets of at most this many seconds are short."""

MAX_MINUTES_BETWEEN_EVALS = 5.0
"""In long runs, the maximum minutes of training between two evaluations."""


@dataclass
class BudgetUsed:
    """What training has used so far. `seconds` are those of training steps only, without start-up, evaluation and saving."""

    steps: int = 0
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Budget:
    """The length of a training, in seconds, tokens or steps."""

    unit: Literal["seconds", "tokens", "steps"]
    total: float

    def progress(self, used: BudgetUsed) -> float:
        """Return the fraction of the budget that is used; training ends at 1."""
        return float(getattr(used, self.unit)) / self.total


def make_budget(options: TrainingOptions, tokens_per_epoch: int) -> Budget:
    """Return the budget of `options`, for data of `tokens_per_epoch` tokens."""
    if options.steps is not None:
        return Budget("steps", options.steps)
    if options.epochs is not None:
        return Budget("tokens", options.epochs * tokens_per_epoch)
    return Budget("seconds", 60 * (options.minutes or 3.0))


def learning_rate(options: TrainingOptions, used: BudgetUsed, progress: float, tokens_per_epoch: int) -> float:
    """Return the learning rate of the next step: warm-up, then the schedule. `linear` reaches zero at the end of the budget.

    Args:
        options: Peak learning rate, schedule and warm-up.
        used: Steps and tokens so far.
        progress: Fraction of the budget that is used, 0 to 1.
        tokens_per_epoch: Tokens of a pass over the training split, which the schedule `decay` counts.
    """
    warmup = 1.0
    if options.warmup:
        warmup = min(1.0, max((used.steps + 1) / options.warmup, progress / MAX_WARMUP_FRACTION))
    if options.schedule == "linear":
        return options.lr * warmup * max(0.0, 1 - progress)
    if options.schedule == "decay":
        decay_epochs = (
            int(used.tokens / tokens_per_epoch - options.decay_after) + 1
            if used.tokens >= options.decay_after * tokens_per_epoch
            else 0
        )
        return options.lr * warmup * options.decay**decay_epochs
    return options.lr * warmup


def eval_fractions(budget: Budget) -> list[float]:
    """Return the fractions of a budget after which the model is evaluated; the last is 1."""
    if budget.unit != "seconds":
        return sorted(EVAL_FRACTIONS)
    num_intervals = round(budget.total / 60 / MAX_MINUTES_BETWEEN_EVALS)
    return sorted(
        {
            *(SHORT_EVAL_FRACTIONS if budget.total <= SHORT_BUDGET_SECONDS else EVAL_FRACTIONS),
            *((n + 1) / num_intervals for n in range(num_intervals)),
        }
    )
