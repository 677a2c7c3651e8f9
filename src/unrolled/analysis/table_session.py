"""A trained table model with its device and run, and the rows to evaluate it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unrolled.checkpoints.model_file import TableModelFile
from unrolled.checkpoints.run_dir import Run
from unrolled.display import Displayed
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.predictor import Prediction, Predictor, evaluate_predictions
from unrolled.nn.device import DeviceConfig
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.spec import TableSpec
from unrolled.tables.table_files import is_builtin_table, open_table


@dataclass(frozen=True)
class EvaluatedRows:
    """Rows with known targets, their predictions and metrics."""

    sources: list[Cell]
    truths: list[Cell]
    predictions: list[Prediction]
    report: MetricReport


@dataclass(frozen=True, repr=False)
class TableSession(Displayed):
    """A table model, its device, and its run folder, if there is one."""

    path: Path
    saved: TableModelFile
    machine: DeviceConfig
    run: Run | None

    @property
    def facts(self) -> Mapping[str, object]:
        """What is displayed."""
        return {"path": self.path, "model": self.description}

    @property
    def spec(self) -> TableSpec:
        """The source and target columns."""
        return self.saved.spec

    @property
    def name(self) -> str:
        """The name of the run, or of the model file."""
        return self.path.stem if self.run is None else self.run.path.resolve().name

    @property
    def run_path(self) -> Path | None:
        """The run folder, if there is one."""
        return None if self.run is None else self.run.path

    @property
    def description(self) -> str:
        """A short description of columns and layers."""
        spec, options = self.spec, self.saved.model.options
        num_parameters = sum(weight.numel() for weight in self.saved.model.parameters())
        columns = f"{spec.source.name}:{spec.source.kind} to {spec.target.name}:{spec.target.kind}"
        return f"{columns}, {options.layers} x {options.hidden} {options.cell.upper()}, {num_parameters:,} parameters"

    def predictor(self, options: PredictOptions) -> Predictor:
        """Return a predictor for rows."""
        return Predictor(self.saved.model, self.spec, self.machine, options)

    def load_cells(self, table_name: str | None) -> tuple[list[Cell], list[Cell]]:
        """Return source and target cells of a table (None: the run's validation rows, or a built-in table's test rows)."""
        if table_name is None:
            if self.run is None:
                raise UsageError(f"{self.path} is a model without its run folder: name the table to evaluate it on.")
            from unrolled.training.resume import load_request  # not at the top: predicting needs no training code
            from unrolled.training.tasks.table import TableTask

            request, origin = load_request(self.run)
            if not any(is_builtin_table(name) for name in request.inputs):
                held_out_rows = TableTask.reopen(request, origin, self.saved).validation_cells
                if not held_out_rows:
                    raise DataError("The run has no validation rows: name a table to evaluate it on.")
                return [row[0] for row in held_out_rows], [row[1] for row in held_out_rows]
            table_name = request.inputs[0]
        columns = (self.spec.source.name, self.spec.target.name)
        table = open_table(table_name, split="test")
        rows = [row for _, row in table.iter_cells(columns) if not self.spec.has_missing(*row)]
        if not rows:
            raise DataError(f"{table.name} has no row in which both columns are filled in.")
        return [row[0] for row in rows], [row[1] for row in rows]

    def evaluate(self, table_name: str | None, options: PredictOptions) -> EvaluatedRows:
        """Predict rows with known targets, and compute the metrics."""
        sources, truths = self.load_cells(table_name)
        predictions = list(self.predictor(options).predict_iter(sources))
        return EvaluatedRows(sources, truths, predictions, evaluate_predictions(self.spec, sources, truths, predictions))
