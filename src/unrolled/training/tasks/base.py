"""What a training is made of: a text, or a table's two columns. The trainer sees neither, only batches and functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from unrolled.checkpoints.model_file import Saved
from unrolled.nn.device import Machine
from unrolled.nn.sequence_model import Network
from unrolled.options import TrainingOptions, TrainRequest
from unrolled.text.batching import Batches

Note = Callable[[str], None]
Check = Callable[[], None]


class Material(Protocol):
    """What the job asks of a text or a table."""

    unit: str
    """What a loss is of."""

    def complete(self, request: TrainRequest, machine: Machine, note: Note) -> TrainRequest:
        """Fill in what was not given, and say why."""
        ...

    def pace(self, request: TrainRequest, machine: Machine) -> float:
        """Measure the targets a second that a request would train here."""
        ...

    def step_seconds(self, request: TrainRequest, machine: Machine) -> float:
        """Measure how long a step of a request takes here."""
        ...

    def network(self, request: TrainRequest) -> Network:
        """Draw a new network."""
        ...

    def batches(self, options: TrainingOptions) -> Batches:
        """Return the training part, endlessly."""
        ...

    def saved(self, model: Any, history: dict[str, Any], sharpness: float = 1.0) -> Saved:
        """Return a network as it is kept in a file, its scores multiplied by `sharpness`."""
        ...

    def fits(self, saved: Saved) -> bool:
        """Return whether a saved model has the symbols and columns of this material."""
        ...

    def evaluator(
        self, model: Any, machine: Machine, options: TrainRequest
    ) -> Callable[[Check, float], tuple[float, float]] | None:
        """Return what `Looks` evaluates a network with, on the validation part; None if there is none."""
        ...

    def sampler(self, model: Any, machine: Machine, length: int) -> Callable[[Check], str] | None:
        """Return a function that shows what the model can do by now; None for nothing."""
        ...

    def judge(self, model: Any, machine: Machine, limit: int, best_at: float, epochs: float) -> tuple[float | None, str]:
        """Return the loss of the model that is kept, on more than the looks saw, and what came of it in words."""
        ...

    @property
    def symbols_per_character(self) -> float:
        """Targets a unit of the loss that is told."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """What a run remembers of where it came from, to know it again."""
        ...
