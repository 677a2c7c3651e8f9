"""A trained model of a table, and the rows that it can be asked about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unrolled.checkpoints.model_file import SavedPairs
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.metric_report import Report
from unrolled.evaluation.predictor import Answer, Answerer, judge
from unrolled.nn.device import Machine
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell, empty
from unrolled.tables.pair_batching import cells
from unrolled.tables.spec import Task
from unrolled.tables.table_files import is_builtin_table, open_table
from unrolled.training.resume import saved_request
from unrolled.training.tasks.table import reopen_rows


@dataclass(frozen=True)
class Judged:
    """Rows whose truth is known, with what was answered, and the metrics of it."""

    sources: list[Cell]
    truths: list[Cell]
    answers: list[Answer]
    report: Report


@dataclass(frozen=True)
class RowSubject:
    """A model of two columns, where it runs, and the run it came from, if that is there."""

    path: Path
    saved: SavedPairs
    machine: Machine
    run: Run | None

    @property
    def task(self) -> Task:
        """The two columns."""
        return self.saved.task

    @property
    def name(self) -> str:
        """What it is called: its run, or its file."""
        return self.path.stem if self.run is None else self.run.path.resolve().name

    @property
    def shape(self) -> str:
        """Its columns and layers in a few words."""
        task, options = self.task, self.saved.model.options
        count = sum(weight.numel() for weight in self.saved.model.parameters())
        columns = f"{task.source.name}:{task.source.kind} to {task.target.name}:{task.target.kind}"
        return f"{columns}, {options.layers} x {options.hidden} {options.cell.upper()}, {count:,} parameters"

    def answerer(self, options: PredictOptions) -> Answerer:
        """Return what answers rows."""
        return Answerer(self.saved.model, self.task, self.machine, options)

    def rows(self, name: str | None) -> tuple[list[Cell], list[Cell]]:
        """Return source and target cells of a table, or of the rows that the run held out (of a built-in table: its test)."""
        if name is None:
            if self.run is None:
                raise UsageError(f"{self.path} is a model without its run folder: name the table to evaluate it on.")
            request, origin = saved_request(self.run)
            if not any(is_builtin_table(given) for given in request.inputs):
                shown = reopen_rows(request, origin, self.saved, lambda note: None).shown
                if not shown:
                    raise DataError("The run held no rows out: name a table to evaluate it on.")
                return [row[0] for row in shown], [row[1] for row in shown]
            name = request.inputs[0]
        columns = (self.task.source.name, self.task.target.name)
        table = open_table(name, part="test")
        for column in columns:
            table.require(column)
        rows = [row for _, row in cells(table, columns) if not any(empty(cell.value) for cell in row)]
        if not rows:
            raise DataError(f"{table.name} has no row in which both columns hold something.")
        return [row[0] for row in rows], [row[1] for row in rows]

    def judged(self, name: str | None, options: PredictOptions) -> Judged:
        """Answer rows whose truth is known."""
        sources, truths = self.rows(name)
        answers = list(self.answerer(options).stream(sources))
        return Judged(sources, truths, answers, judge(self.task, sources, truths, answers))
