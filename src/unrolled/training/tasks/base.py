"""The interface between the trainer and the data: a text, or two columns of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from unrolled.checkpoints.model_file import ModelFile
from unrolled.nn.device import DeviceConfig
from unrolled.nn.sequence_model import Network
from unrolled.options import TrainingOptions, TrainRequest
from unrolled.text.batching import BatchSource

StopCheck = Callable[[], None]


@dataclass(frozen=True)
class FinalEvaluation:
    """Losses of the saved model in nats per loss unit, and a diagnosis in words.

    `test_nats` is the loss on the test split, which is not used for model selection, with its standard error; `test_summary` is
    the same in words. They are None and empty where there is no test split; `val_nats` is None without a validation split.
    """

    val_nats: float | None
    diagnosis: str
    test_nats: float | None = None
    test_standard_error: float | None = None
    test_summary: str = ""


class TrainingTask(ABC):
    """Data, model and evaluation of one kind of training (a task, as in fairseq)."""

    @property
    @abstractmethod
    def loss_unit(self) -> str:
        """What the loss is measured per: `character`, `target` or `number`."""

    @abstractmethod
    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        """Fill in the settings that were not given, and log what was chosen and why."""

    @abstractmethod
    def throughput(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Measure the training speed of a request on this machine, in targets per second."""

    @abstractmethod
    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Measure the seconds per step of a request on this machine."""

    @abstractmethod
    def depends_on_threads(self, machine: DeviceConfig, kernels: str) -> bool:
        """Return whether the bits of the weights depend on the number of threads."""

    @abstractmethod
    def baseline_losses(self, limit: int) -> dict[str, float]:
        """Return the losses of simple models on at most `limit` validation tokens or rows, by name, in the unit of `evaluate`.

        They are shown next to the loss of the training, so only those that are known within a second are here.
        """

    @abstractmethod
    def build_model(self, request: TrainRequest) -> Network:
        """Return a new model with random weights."""

    @abstractmethod
    def batches(self, options: TrainingOptions) -> BatchSource:
        """Return the batches of the training data."""

    @abstractmethod
    def model_file(self, model: Any, history: dict[str, Any], logit_scale: float = 1.0) -> ModelFile:
        """Return the content of a model file, the logits of a text model multiplied by `logit_scale`."""

    @abstractmethod
    def matches(self, model_file: ModelFile) -> bool:
        """Return whether a saved model has the tokens or columns of this data."""

    @abstractmethod
    def evaluate(
        self, model: Any, machine: DeviceConfig, request: TrainRequest, check: StopCheck, logit_scale: float
    ) -> tuple[float | None, float]:
        """Return the validation loss in nats per unit (None without validation data), and the best scale of the logits.

        The search for that scale starts from `logit_scale`, the result of the previous evaluation. `check` is called between
        batches and may raise, to stop.
        """

    @abstractmethod
    def sample(self, model: Any, machine: DeviceConfig, length: int, check: StopCheck) -> str | None:
        """Return a sample of about `length` tokens that shows what the model has learned so far; None for no sample."""

    @abstractmethod
    def final_eval(self, model: Any, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float) -> FinalEvaluation:
        """Evaluate the saved model on more data than during training, and on the test split.

        Args:
            model: The model of the run folder, on the device of `machine`.
            machine: Device, number format and threads.
            limit: `--eval-tokens`: tokens or rows of a split that are read at least.
            best_fraction: Fraction of the steps after which the model was the best, 0 to 1.
            epochs: Passes over the training split.
        """

    def complete(self, model_file: Any) -> Any:
        """Return the model file with what the final evaluation chose, besides the loss."""
        return model_file

    @property
    def tokens_per_character(self) -> float:
        """Targets per loss unit."""
        return 1.0

    @property
    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Content hash and cache key of the data, which a resume compares."""


@dataclass(frozen=True)
class TrainingSetup:
    """What is trained, and how: all settings, the data, the network, the device, and the kernel of the recurrent layers."""

    request: TrainRequest
    task: TrainingTask
    model: Network
    machine: DeviceConfig
    kernels: str
