"""What a trainer must remember, apart from tensors, to go on exactly where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from unrolled.training.schedule import BudgetUsed

LOG_EVERY = 10
"""Steps between two records of training in metrics.jsonl; where a training stops, there is one more."""


def is_record_of_stop(record: dict[str, Any]) -> bool:
    """Return whether a record of metrics was written since the training stopped, and not after `LOG_EVERY` steps."""
    step = record.get("step")
    return record.get("event") == "train" and isinstance(step, int) and step % LOG_EVERY != 0


@dataclass
class TrainerState:
    """The state of the loop, saved in every checkpoint. `best_nats` is the lowest validation loss, in nats per loss unit.

    `cursor` is the position in the batches. `first_nats` is the training loss of the first steps. `rollbacks` counts how often
    training diverged and went back: each halves the learning rate. `evals_without_progress` counts the evaluations since the
    lowest validation loss. `logit_scale` is the result of the last calibration.
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
