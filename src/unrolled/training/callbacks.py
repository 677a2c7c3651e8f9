"""The state of a training, its progress, and the callback that receives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import Any, Self

from unrolled.training.schedule import BudgetUsed

LOG_EVERY = 10
"""Steps between two records of training in metrics.jsonl; where a training stops, there is one more."""


def is_record_of_stop(record: dict[str, Any]) -> bool:
    """Return whether a record of metrics was written since the training stopped, and not after `LOG_EVERY` steps."""
    step = record.get("step")
    return record.get("event") == "train" and isinstance(step, int) and step % LOG_EVERY != 0


@dataclass
class TrainerState:
    """What a trainer must remember, apart from tensors, to go on exactly where it stopped: a part of every checkpoint.

    `best_nats` is the lowest validation loss, in nats per loss unit. `cursor` is the position in the batches. `first_nats` is
    the training loss of the first steps. `rollbacks` counts how often training diverged and went back: each halves the learning
    rate. `evals_without_progress` counts the evaluations since the lowest validation loss. `logit_scale` is the result of the
    last calibration.
    """

    used: BudgetUsed = field(default_factory=BudgetUsed)
    cursor: dict[str, int] = field(default_factory=dict)
    evals: int = 0
    last_eval_step: int = 0
    best_nats: float | None = None
    best_step: int = 0
    train_nats: float | None = None
    first_nats: float | None = None
    evals_without_progress: int = 0
    rollbacks: int = 0
    logit_scale: float = 1.0

    @staticmethod
    def from_json(value: dict[str, Any]) -> TrainerState:
        """Build the state from the JSON value of a checkpoint."""
        return TrainerState(**{**value, "used": BudgetUsed(**value["used"])})


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


class ProgressCallback:
    """Receives the progress of a training: a progress bar, a notebook, a test. This one does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Called after every step. Calling `progress` waits for the device."""

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Called after every validation."""
