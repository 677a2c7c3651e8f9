"""What a training is made of: a text, or a table's two columns. The trainer sees neither, only batches and functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from unrolled.checkpoints.model_file import ModelFile
from unrolled.nn.device import DeviceConfig
from unrolled.nn.sequence_model import Network
from unrolled.options import TrainingOptions, TrainRequest
from unrolled.text.batching import BatchSource

StopCheck = Callable[[], None]


class TrainingTask(Protocol):
    """What the job asks of a text or a table."""

    loss_unit: str
    """What a loss is of."""

    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        """Fill in what was not given, and say why."""
        ...

    def throughput(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Measure the targets a second that a request would train here."""
        ...

    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Measure how long a step of a request takes here."""
        ...

    def build_model(self, request: TrainRequest) -> Network:
        """Draw a new network."""
        ...

    def batches(self, options: TrainingOptions) -> BatchSource:
        """Return the training part, endlessly."""
        ...

    def model_file(self, model: Any, history: dict[str, Any], logit_scale: float = 1.0) -> ModelFile:
        """Return a network as it is kept in a file, its scores multiplied by `sharpness`."""
        ...

    def matches(self, model_file: ModelFile) -> bool:
        """Return whether a saved model has the symbols and columns of this material."""
        ...

    def evaluate(
        self, model: Any, machine: DeviceConfig, request: TrainRequest, check: StopCheck, logit_scale: float
    ) -> tuple[float | None, float]:
        """Return the validation loss in nats per unit (None without validation data), and the best scale of the logits.

        The search for that scale starts from `logit_scale`, the result of the previous evaluation.
        """
        ...

    def sample(self, model: Any, machine: DeviceConfig, length: int, check: StopCheck) -> str | None:
        """Return a sample of about `length` tokens that shows what the model has learned so far; None for no sample."""
        ...

    def final_eval(
        self, model: Any, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float
    ) -> tuple[float | None, str]:
        """Return the loss of the model that is kept, on more than the looks saw, and what came of it in words."""
        ...

    @property
    def tokens_per_character(self) -> float:
        """Targets a unit of the loss that is told."""
        ...

    @property
    def origin(self) -> dict[str, Any]:
        """What a run remembers of where it came from, to know it again."""
        ...
