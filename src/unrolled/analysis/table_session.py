"""A trained model of a table, and the rows that it can be asked about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unrolled.checkpoints.model_file import TableModelFile
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.metric_report import MetricReport
from unrolled.evaluation.predictor import Prediction, Predictor, evaluate_predictions
from unrolled.nn.device import DeviceConfig
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell, is_empty
from unrolled.tables.pair_batching import iter_cells
from unrolled.tables.spec import TableSpec
from unrolled.tables.table_files import is_builtin_table, open_table
from unrolled.training.resume import load_request
from unrolled.training.tasks.table import TableTask


@dataclass(frozen=True)
class EvaluatedRows:
    """Rows whose truth is known, with what was answered, and the metrics of it."""

    sources: list[Cell]
    truths: list[Cell]
    predictions: list[Prediction]
    report: MetricReport


@dataclass(frozen=True)
class TableSession:
    """A model of two columns, where it runs, and the run it came from, if that is there."""

    path: Path
    saved: TableModelFile
    machine: DeviceConfig
    run: Run | None

    @property
    def spec(self) -> TableSpec:
        """The two columns."""
        return self.saved.spec

    @property
    def name(self) -> str:
        """What it is called: its run, or its file."""
        return self.path.stem if self.run is None else self.run.path.resolve().name

    @property
    def description(self) -> str:
        """Its columns and layers in a few words."""
        spec, options = self.spec, self.saved.model.options
        num_parameters = sum(weight.numel() for weight in self.saved.model.parameters())
        columns = f"{spec.source.name}:{spec.source.kind} to {spec.target.name}:{spec.target.kind}"
        return f"{columns}, {options.layers} x {options.hidden} {options.cell.upper()}, {num_parameters:,} parameters"

    def predictor(self, options: PredictOptions) -> Predictor:
        """Return what answers rows."""
        return Predictor(self.saved.model, self.spec, self.machine, options)

    def load_cells(self, table_name: str | None) -> tuple[list[Cell], list[Cell]]:
        """Return source and target cells of a table, or of the rows that the run held out (of a built-in table: its test)."""
        if table_name is None:
            if self.run is None:
                raise UsageError(f"{self.path} is a model without its run folder: name the table to evaluate it on.")
            request, origin = load_request(self.run)
            if not any(is_builtin_table(name) for name in request.inputs):
                held_out_rows = TableTask.reopen(request, origin, self.saved).validation_cells
                if not held_out_rows:
                    raise DataError("The run held no rows out: name a table to evaluate it on.")
                return [row[0] for row in held_out_rows], [row[1] for row in held_out_rows]
            table_name = request.inputs[0]
        columns = (self.spec.source.name, self.spec.target.name)
        table = open_table(table_name, split="test")
        for column in columns:
            table.require_column(column)
        rows = [row for _, row in iter_cells(table, columns) if not any(is_empty(cell.value) for cell in row)]
        if not rows:
            raise DataError(f"{table.name} has no row in which both columns hold something.")
        return [row[0] for row in rows], [row[1] for row in rows]

    def evaluate(self, table_name: str | None, options: PredictOptions) -> EvaluatedRows:
        """Answer rows whose truth is known."""
        sources, truths = self.load_cells(table_name)
        predictions = list(self.predictor(options).predict_iter(sources))
        return EvaluatedRows(sources, truths, predictions, evaluate_predictions(self.spec, sources, truths, predictions))
