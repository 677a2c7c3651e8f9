"""A trained table model with its device and run, and the rows to evaluate it on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.analysis.linear_baseline import with_linear_baseline
from unrolled.checkpoints.model_file import TableModelFile
from unrolled.checkpoints.run_dir import Run
from unrolled.display import Displayed
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.predictor import Prediction, Predictor, evaluate_predictions, headline_error
from unrolled.nn.device import DeviceConfig
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.frames import is_frame, table_of_frame
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.row_tally import RowTally
from unrolled.tables.spec import TableSpec
from unrolled.tables.table_files import Table, is_builtin_table, open_table, open_table_or_lines

if TYPE_CHECKING:
    from unrolled.training.tasks.table import TableTask

logger = logging.getLogger(__name__)

MAX_ERROR_ROWS = 20_000
"""With more rows than this, the standard error is not measured: it takes twenty evaluations, and is small."""


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

    def predictor(self, options: PredictOptions, tally: RowTally | None = None) -> Predictor:
        """Return a predictor for rows."""
        return Predictor(self.saved.model, self.spec, self.machine, options, tally)

    def load_cells(
        self, table_name: Any, split: str | None = None, header: str | None = None, encoding: str | None = None
    ) -> tuple[list[Cell], list[Cell], str]:
        """Return source and target cells, and the name of their split.

        Args:
            table_name: A table, or a frame; None: that of the run.
            split: `validation` or `test` of the run's table (default: test rows, or validation rows if there are none); `all`
                of another table.
            header: How the columns of another table are named (see `TableFormat`).
            encoding: The encoding of another table that is not UTF-8.
        """
        if table_name is not None and split not in (None, "all"):
            raise UsageError(f"--split {split} is of the run's own table: leave out {table_name}, or --split.")
        if table_name is None:
            if self.run is None:
                raise UsageError(f"{self.path} is a model without its run folder: name the table to evaluate it on.")
            from unrolled.checkpoints.run_data import load_request  # not at the top: predicting needs no training code
            from unrolled.training.tasks.table import TableTask

            request, origin = load_request(self.run)
            is_builtin = any(is_builtin_table(name) for name in request.inputs)
            if not is_builtin or split == "validation":
                return _held_out_cells(TableTask.reopen(request, origin, self.saved), split)
            table_name, split = request.inputs[0], "test"
        table = (
            table_of_frame(table_name)
            if is_frame(table_name)
            else open_table(table_name, "test", self.spec.table_format(header, encoding), stdin=True)
        )
        rows = self._read_rows(table)
        return [row[0] for row in rows], [row[1] for row in rows], split or "all"

    def training_cells(self) -> list[tuple[Cell, Cell]]:
        """Return the source and target cells of the run's training rows. Raises `DataError` if its table is gone or changed."""
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: its training rows are not known.")
        from unrolled.checkpoints.run_data import load_request
        from unrolled.training.tasks.table import TableTask

        return TableTask.reopen(*load_request(self.run), self.saved).training_cells()

    def open_sources(self, name: Any, header: str | None = None, encoding: str | None = None) -> tuple[Table, str]:
        """Return a table or frame to predict, and its source column; where that is a text, plain lines will do.

        What was found out about the file is logged.
        """
        format, source = self.spec.table_format(header, encoding), self.spec.source
        if is_frame(name):
            table = table_of_frame(name)
        elif source.kind == "text":
            table = open_table_or_lines(name, source.name, format)
        else:
            table = open_table(name, "test", format, stdin=True)
        for note in table.notes:
            logger.info(note)
        return table, table.find_column(source.name)

    def iter_sources(self, name: Any, header: str | None = None, encoding: str | None = None) -> Iterator[Cell]:
        """Yield the source cells of a table or frame that are not empty; it needs no target. None: the run's held-out rows."""
        if name is None:
            yield from self.load_cells(None)[0]
            return
        table, column = self.open_sources(name, header, encoding)
        for line, row in table.rows():
            cell = table.cell(line, row, column)
            if not self.spec.source.is_missing(cell.value):
                yield cell

    def _read_rows(self, table: Table) -> list[tuple[Cell, ...]]:
        """Return the cells of the rows that can be evaluated, and log how many others there are."""
        for note in table.notes:
            logger.info(note)
        rows, tally = [], RowTally()
        for _, row in table.iter_cells((self.spec.source.name, self.spec.target.name)):
            if self.spec.has_missing(*row):
                tally.num_empty += 1
                continue
            tally.num_rows += 1
            try:
                if all(map(len, self.spec.encode_row(*row))):
                    rows.append(row)
            except DataError as error:
                tally.unreadable.add(error)
                continue
            for column, cell in zip((self.spec.source, self.spec.target), row, strict=True):
                tally.add_cell(column, cell)
        tally.unreadable.require_few(tally.num_rows)
        if not rows:
            raise DataError(f"{table.name} has no row in which both columns are filled in.")
        for message in tally.messages("are left out"):
            logger.info(message)
        return rows

    def evaluate(self, table_name: Any, options: PredictOptions, split: str | None = None) -> EvaluatedRows:
        """Predict rows with known targets (see `load_cells`), and compute the metrics."""
        sources, truths, split = self.load_cells(table_name, split, options.header, options.encoding)
        predictor = self.predictor(options)
        predictions = list(predictor.predict_iter(sources))
        if (note := predictor.length_note()) is not None:
            logger.info(note)
        report = evaluate_predictions(self.spec, sources, truths, predictions)
        if self.run is not None:
            report = with_linear_baseline(report, self.spec, self.training_cells, sources, truths, predictions)
        error = headline_error(self.spec, sources, truths, predictions) if len(sources) <= MAX_ERROR_ROWS else None
        return EvaluatedRows(sources, truths, predictions, dataclasses.replace(report, standard_error=error, split=split))


def _held_out_cells(task: TableTask, split: str | None) -> tuple[list[Cell], list[Cell], str]:
    """Return the source and target cells of a split of a run's table, and the name of the split."""
    split = split or ("test" if task.test_cells else "validation")
    if split not in ("validation", "test"):
        raise UsageError(f"--split {split} is for texts; of a table the held-out rows are evaluated: validation or test.")
    rows = task.validation_cells if split == "validation" else task.test_cells
    if not rows:
        raise DataError(f"The run has no {split} rows: name a table to evaluate it on.")
    return [row[0] for row in rows], [row[1] for row in rows], split
