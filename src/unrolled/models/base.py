"""What trained models of texts and of tables have in common."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.checkpoints.model_file import ModelFile
from unrolled.nn.device import select_device
from unrolled.nn.kernels.select import choose_kernel
from unrolled.nn.sequence_model import Network
from unrolled.options import MachineOptions

if TYPE_CHECKING:
    from unrolled.training.launch import TrainResult


class TrainedModel:
    """What `Model` and `TableModel` have in common.

    Attributes:
        path: The model file.
        run: The run folder, or None if the file is not in one.
        result: The `TrainResult`, if this object comes from `train` or `train_table`; `result.stop_signal` is the number of
            the signal that stopped the training, 0 after `stop_after`, or None if the budget was used up.
        history: Facts about the training that are stored in the model file, such as `val_nats`.
        machine: Device, number format and threads.
        kernels: Name of the implementation of the recurrent layers.
        parameters: Number of parameters.
        network: The `torch.nn.Module`.
    """

    network: Network

    def __init__(self, path: Path, model_file: ModelFile, machine: MachineOptions | None = None) -> None:
        from unrolled.analysis.notebook import NotebookRun

        self.path, self.history = path, model_file.history
        self.result: TrainResult | None = None
        options = machine or MachineOptions()
        device_config = select_device(options)
        network = model_file.model.to(device_config.device).eval()
        self.machine, self.kernels = choose_kernel(network, device_config, options)
        self.parameters = sum(weight.numel() for weight in network.parameters())
        run_dir = self.path.parent
        self.run = NotebookRun(run_dir) if (run_dir / "config.json").is_file() else None

    def info(self) -> dict[str, Any]:
        """Return what the model is, by name: network, tokens or columns, facts of its training, and the verdict.

        Example:
            >>> model.info()["kind"]
            'text'
        """
        options = self.network.options
        values = {field.name: (getattr(options, field.name), field.default) for field in dataclasses.fields(options)}
        history = dict(self.history)
        return {
            "path": str(self.path),
            **self._kind_facts(),
            "network": f"{options.layers}x{options.hidden} {options.cell}",
            "parameters": self.parameters,
            "options": {name: value for name, (value, default) in values.items() if value != default},
            "diagnosis": history.pop("diagnosis", None),
            "training": {name: value for name, value in history.items() if value is not None},
        }

    def _kind_facts(self) -> dict[str, Any]:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        from unrolled.analysis.notebook import facts_table

        nats = self.history.get("val_nats")
        loss = [("validation loss", f"{nats:.4f} nats")] if isinstance(nats, float) else []
        return facts_table([("model", repr(self)), ("parameters", f"{self.parameters:,}"), *loss], self.run)
