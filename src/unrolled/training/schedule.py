"""How far the budget is spent, and the learning rate that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unrolled.options import TrainingOptions

WARMUP_SHARE = 0.1
"""The warm-up never takes more than this share of a small budget."""


@dataclass
class Spent:
    """What training has used so far; seconds are of training alone, without start-up, validation and saving."""

    steps: int = 0
    seconds: float = 0.0
    symbols: int = 0


@dataclass(frozen=True)
class Budget:
    """How much training there is: so many seconds, symbols or steps."""

    unit: Literal["seconds", "symbols", "steps"]
    total: float

    def progress(self, spent: Spent) -> float:
        """Return the share of the budget that is spent; 1 or more is the end."""
        return float(getattr(spent, self.unit)) / self.total


def make_budget(options: TrainingOptions, symbols: int) -> Budget:
    """Return the budget that `options` name, for a text of `symbols` an epoch."""
    if options.steps is not None:
        return Budget("steps", options.steps)
    if options.epochs is not None:
        return Budget("symbols", options.epochs * symbols)
    return Budget("seconds", 60 * (options.minutes or 3.0))


def learning_rate(options: TrainingOptions, spent: Spent, progress: float, symbols: int) -> float:
    """Return the rate of the next step: warm-up, then the schedule; `linear` ends at zero exactly when the budget does."""
    warm = 1.0
    if options.warmup:
        warm = min(1.0, max((spent.steps + 1) / options.warmup, progress / WARMUP_SHARE))
    if options.schedule == "linear":
        return options.lr * warm * max(0.0, 1 - progress)
    if options.schedule == "decay":
        beyond = int(spent.symbols / symbols - options.decay_after) + 1 if spent.symbols >= options.decay_after * symbols else 0
        return options.lr * warm * options.decay**beyond
    return options.lr * warm
