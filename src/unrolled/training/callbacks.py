"""What training reports while it runs: its progress, and the callback that receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class Progress:
    """The progress of a training. Losses are in nats per `loss_unit`, `seconds` and `eta` in seconds of training."""

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
    loss_unit: str = "character"

    def to_record(self) -> dict[str, Any]:
        """Return the line of metrics.jsonl; what the budget and the task say is left out."""
        values = {name: value for name, value in asdict(self).items() if name not in ("fraction", "eta", "loss_unit")}
        return {"event": "train", **values}


class ProgressCallback(Protocol):
    """Receives the progress of a training: a progress bar, a notebook, a test."""

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Is called after every step. Calling `progress` waits for the device."""
        ...

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Is called after every validation."""
        ...


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
