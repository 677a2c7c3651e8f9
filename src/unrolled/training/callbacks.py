"""How training is looked at: what it tells of itself, to whom, and when its model is validated and writes a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from unrolled.training.schedule import Budget

MILESTONES = (0.02, 0.05, *(n / 10 for n in range(1, 11)))
"""Shares of the budget after which the model is validated and writes a sample: early ones show it learning to write."""

FEWER = (0.04, 0.15, 0.35, 0.6, 0.8, 0.92, 1.0)
"""The same for a short budget, of which looking may take no more than a twentieth."""

SHORT = 100.0
"""Seconds up to which a budget is short."""

MINUTES_BETWEEN = 5.0
"""Long runs are validated at least so often."""


@dataclass(frozen=True)
class Status:
    """What a person wants to know while it runs. Rates are symbols a second; `eta` is in seconds of training."""

    step: int
    progress: float
    epochs: float
    seconds: float
    eta: float
    rate: float
    lr: float
    train_nats: float | None
    gradient_norm: float | None
    best: float | None


class Observer(Protocol):
    """Who watches: the console, a notebook, a test."""

    def stepped(self, status: Callable[[], Status]) -> None:
        """Is called after every step; asking for the status costs a little."""
        ...

    def looked(self, status: Status, val_nats: float | None, sample: str | None) -> None:
        """Is called after every validation."""
        ...

    def note(self, message: str) -> None:
        """Is told what a user should know."""
        ...


@dataclass(frozen=True)
class Looks:
    """How the loop looks at its model: `evaluate` and `sample(check) -> text`; None if not wanted.

    `evaluate(check, sharpness)` returns nats a character, and the sharpness at which they are lowest: what the scores of a
    model that is kept are multiplied by. It begins from that of the look before. Both call `check` now and then, which raises
    `Interrupted` when a stop was asked for.
    """

    evaluate: Callable[[Callable[[], None], float], tuple[float, float]] | None
    sample: Callable[[Callable[[], None]], str] | None


def milestones(budget: Budget) -> list[float]:
    """Return the shares of a budget after which the model is looked at, the last of them 1."""
    if budget.unit != "seconds":
        return sorted(MILESTONES)
    parts = round(budget.total / 60 / MINUTES_BETWEEN)
    return sorted({*(FEWER if budget.total <= SHORT else MILESTONES), *((n + 1) / parts for n in range(parts))})
