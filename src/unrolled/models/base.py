"""What trained models of texts and of tables have in common."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from unrolled.checkpoints.run_dir import is_run_dir
from unrolled.checkpoints.run_summary import loss_curve
from unrolled.display import loss_text
from unrolled.errors import UsageError
from unrolled.exchange.export_options import ExportOptions
from unrolled.flag_names import in_terms_of_caller
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import ExportKwargs, ReportKwargs
from unrolled.option_rules import refuse_unused
from unrolled.options import ModelOptions, ReportOptions, from_dict

if TYPE_CHECKING:
    from unrolled.analysis.notebook import NotebookRun
    from unrolled.analysis.report_data import WrittenReport
    from unrolled.exchange.export_job import ExportResult
    from unrolled.nn.device import DeviceConfig
    from unrolled.training.launch import TrainResult


MAX_PATH_CHARS = 1024
"""A longer text is not taken for the name of a file."""

METHODS_ELSEWHERE = {
    "generate": "sample(prompt, length=...) of a model of texts draws a text",
    "predict_proba": "predictions(values) has probabilities",
    "classes_": "spec.target.labels has the labels",
    "score": "evaluate(table) has the metrics, such as the accuracy, next to baselines",
    "fit": "unrolled.train and unrolled.train_table return a trained model; their resume= goes on with one",
    "train": "unrolled.train and unrolled.train_table train; their resume= goes on with a run, init_from= starts from a model",
    "eval": "it is always in evaluation mode; evaluate() returns the loss or the metrics",
    "num_parameters": "parameters is their number, and network is the torch.nn.Module",
    "config": "info() returns what it is",
    "device": "machine.device is the one that it computes on",
    "plot": "loss_curve() has the losses by step, and pandas.DataFrame(model.loss_curve()).plot(x='step') draws them",
    "save": "it is saved already, as the file path; export() writes other formats",
    "save_pretrained": "it is saved already, as the file path; export() writes other formats",
    "from_pretrained": "unrolled.load(path) and unrolled.load_table(path) return a model",
    "summary": "info() returns what it is",
    "state_dict": "network is the torch.nn.Module",
    "forward": "network is the torch.nn.Module; trace(text) returns all activations",
    "to": "unrolled.load(path, device=...) chooses the device",
    "perplexity": "evaluate() returns the loss, nats per character, of which exp is the perplexity",
    "log_history": "loss_curve() has the losses by step",
}
"""What other libraries have as methods of a model, and what is here instead, for texts and tables."""


class TrainedModel(ABC):
    """What `Model` and `TableModel` have in common.

    Attributes:
        path: The model file.
        run: The run folder, or None if the file is not in one.
        result: The `TrainResult`, if this object comes from `train` or `train_table`; `result.stop_signal` is the number of
            the signal that stopped the training, 0 after `stop_after`, or None if the budget was used up.
        history: Facts about the training that are stored in the model file, such as `val_nats`; `loss_curve()` has the losses
            by step.
        machine: Device, number format and threads of the network.
        kernels: Name of the implementation of the recurrent layers of the network.
        parameters: Number of parameters.
        network: The `torch.nn.Module`.
    """

    machine: DeviceConfig
    kernels: str
    _unused_in_report: tuple[str, ...] = ()
    _methods_elsewhere: ClassVar[Mapping[str, str]] = METHODS_ELSEWHERE

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
            "diagnosis": in_terms_of_caller(history.pop("diagnosis", None) or "") or None,
            "training": {name: value for name, value in history.items() if value is not None},
        }

    def loss_curve(self) -> list[dict[str, float | None]]:
        """Return the losses during the training, in the order of its steps.

        Returns:
            A dictionary for each step that was recorded, every ten steps and at each validation: `step`, `epochs`, `seconds`,
            `train_nats`, `val_nats`, `lr`, `gradient_norm` and `tokens_per_second`, as in `metrics.jsonl`; None if a value was
            not measured at that step. `pandas.DataFrame(model.loss_curve()).plot(x="step")` draws them.

        Raises:
            UsageError: The model file is not in a run folder.

        Example:
            >>> model.loss_curve()[-1]["step"]
            30
        """
        if self.run is None:
            raise UsageError(f"{self.path} is not in a run folder, where the losses of its training are: load the run folder.")
        return loss_curve(self.run.metrics.read())

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

    @keyword_arguments(ExportOptions)
    def export(self, **options: Unpack[ExportKwargs]) -> ExportResult:
        """Export the model as a program or file that needs no unrolled; it is run and compared with the model before.

        Returns:
            An ExportResult: `files`, the content by the path that was written, `checks` and `facts`.

        Raises:
            UsageError: The model has no form in this format, a setting has no effect in it, or a file exists.

        Example:
            >>> [str(path) for path in model.export(to="card", force=True).files]
            ['README.md']
        """
        from unrolled.exchange.export_file import export_file

        return export_file(self.path, from_dict(ExportOptions, options, "export"), options)

    if not TYPE_CHECKING:  # type checkers know the attributes

        def __getattr__(self, name: str) -> Any:
            hint = f": {self._methods_elsewhere[name]}" if name in self._methods_elsewhere else ""
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'{hint}", name=name, obj=self)

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
