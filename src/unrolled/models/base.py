"""What trained models of texts and of tables have in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unrolled.checkpoints.run_dir import is_run_dir
from unrolled.display import loss_text
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import ReportKwargs
from unrolled.option_rules import refuse_unused
from unrolled.options import ModelOptions, ReportOptions, from_dict

if TYPE_CHECKING:
    from unrolled.analysis.notebook import NotebookRun
    from unrolled.analysis.report_data import WrittenReport
    from unrolled.nn.device import DeviceConfig
    from unrolled.training.launch import TrainResult


MAX_PATH_CHARS = 1024
"""A longer text is not taken for the name of a file."""


class TrainedModel(ABC):
    """What `Model` and `TableModel` have in common.

    Attributes:
        path: The model file.
        run: The run folder, or None if the file is not in one.
        result: The `TrainResult`, if this object comes from `train` or `train_table`; `result.stop_signal` is the number of
            the signal that stopped the training, 0 after `stop_after`, or None if the budget was used up.
        history: Facts about the training that are stored in the model file, such as `val_nats`.
        machine: Device, number format and threads of the network.
        kernels: Name of the implementation of the recurrent layers of the network.
        parameters: Number of parameters.
        network: The `torch.nn.Module`.
    """

    machine: DeviceConfig
    kernels: str
    _unused_in_report: tuple[str, ...] = ()

    def __init__(self, path: Path, history: dict[str, Any], parameters: int) -> None:
        self.path, self.history, self.parameters = path, history, parameters
        self.result: TrainResult | None = None

    @cached_property
    def run(self) -> NotebookRun | None:
        """The run folder, or None if the file is not in one."""
        from unrolled.analysis.notebook import NotebookRun

        run_dir = self.path.parent
        return NotebookRun(run_dir) if is_run_dir(run_dir) else None

    def info(self) -> dict[str, Any]:
        """Return what the model is, by name: network, tokens or columns, facts of its training, and the verdict.

        Example:
            >>> model.info()["kind"]
            'text'
        """
        options = self._model_options
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

    @keyword_arguments(ReportOptions)
    def report(self, **options: Unpack[ReportKwargs]) -> WrittenReport:
        """Write the report of the run, an HTML page.

        Returns:
            A WrittenReport: `page_path`, `data` (everything on the page) and `summary()`.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> model.report().page_path.name
            'report.html'
        """
        from unrolled.analysis.report_data import write_report

        settings = from_dict(ReportOptions, options, "report")
        refuse_unused(settings, options, dict.fromkeys(self._unused_in_report, "is for models of texts"))
        return write_report(self.run, self.path, settings, lambda: self._build_report(settings))

    @abstractmethod
    def _build_report(self, settings: ReportOptions) -> dict[str, Any]: ...

    @property
    @abstractmethod
    def _model_options(self) -> ModelOptions: ...

    @property
    @abstractmethod
    def _loss_unit(self) -> str: ...

    @abstractmethod
    def _kind_facts(self) -> dict[str, Any]: ...

    def _repr_html_(self) -> str:
        from unrolled.analysis.notebook import facts_table

        facts = self.info()
        names = ("kind", "tokens", "source", "target", "mode", "network", "parameters", "path", "diagnosis")
        rows = [(name, f"{facts[name]:,}" if name == "parameters" else facts[name]) for name in names if facts.get(name)]
        nats = self.history.get("val_nats")
        if isinstance(nats, float):
            rows.insert(-1 if facts["diagnosis"] else len(rows), ("validation loss", loss_text(nats, self._loss_unit)))
        return facts_table(rows, self.run)
