"""How training is looked at: what it tells of itself, to whom, and when its model is validated and writes a sample."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from unrolled.training.schedule import Budget

EVAL_FRACTIONS = (0.02, 0.05, *(n / 10 for n in range(1, 11)))
"""Shares of the budget after which the model is validated and writes a sample: early ones show it learning to write."""

SHORT_EVAL_FRACTIONS = (0.04, 0.15, 0.35, 0.6, 0.8, 0.92, 1.0)
"""The same for a short budget, of which looking may take no more than a twentieth."""

SHORT_BUDGET_SECONDS = 100.0
"""Seconds up to which a budget is short."""

MAX_MINUTES_BETWEEN_EVALS = 5.0
"""Long runs are validated at least so often."""


@dataclass(frozen=True)
class Progress:
    """What a person wants to know while it runs. Rates are symbols a second; `eta` is in seconds of training."""

    step: int
    fraction: float
    epochs: float
    seconds: float
    eta: float
    tokens_per_second: float
    lr: float
    train_nats: float | None
    gradient_norm: float | None
    best_nats: float | None


class ProgressCallback(Protocol):
    """Who watches: the console, a notebook, a test."""

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Is called after every step; asking for the status costs a little."""
        ...

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Is called after every validation."""
        ...


class NullProgress:
    """Shows nothing. A context manager, as the views of training are that extend it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Is called after every step."""

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Is called after every validation."""


class NullProgress:
    """A `ProgressCallback` that does nothing; a base class for others."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Called after every step."""

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Called after every validation."""

    def on_message(self, message: str) -> None:
        """Called with a message for the user."""


@dataclass(frozen=True)
class EvalHooks:
    """How the loop looks at its model: `evaluate` and `sample(check) -> text`; None if not wanted.

    `evaluate(check, sharpness)` returns nats a character, and the sharpness at which they are lowest: what the scores of a
    model that is kept are multiplied by. It begins from that of the look before. Both call `check` now and then, which raises
    `Interrupted` when a stop was asked for.
    """

    evaluate: Callable[[Callable[[], None], float], tuple[float, float]] | None
    sample: Callable[[Callable[[], None]], str] | None


def eval_fractions(budget: Budget) -> list[float]:
    """Return the shares of a budget after which the model is looked at, the last of them 1."""
    if budget.unit != "seconds":
        return sorted(EVAL_FRACTIONS)
    num_intervals = round(budget.total / 60 / MAX_MINUTES_BETWEEN_EVALS)
    return sorted(
        {
            *(SHORT_EVAL_FRACTIONS if budget.total <= SHORT_BUDGET_SECONDS else EVAL_FRACTIONS),
            *((n + 1) / num_intervals for n in range(num_intervals)),
        }
    )
