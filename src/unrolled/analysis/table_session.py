"""A trained table model with its device and run, and the rows to evaluate it on."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.analysis.learned_baselines import with_learned_baseline
from unrolled.checkpoints.model_file import TableModelFile
from unrolled.checkpoints.run_dir import Run, model_name
from unrolled.datasets.tables import is_builtin_table
from unrolled.display import Displayed, agree, plural, shell_argument
from unrolled.errors import DataError, UnrolledError, UsageError
from unrolled.evaluation.predictor import Prediction, Predictor, evaluate_predictions, headline_error
from unrolled.nn.device import DeviceConfig
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.frames import is_table, table_of_frame
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.row_tally import RowTally
from unrolled.tables.series_rows import evaluation_cells
from unrolled.tables.series_spec import group_sources, group_table
from unrolled.tables.source_columns import join_cells
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_arrays import FILE_SUFFIXES
from unrolled.tables.table_files import Table, open_table, open_table_or_lines, table_of_values
from unrolled.tables.table_format import path_of_table
from unrolled.text.text_files import existing_file

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
    """A table model, its device, and its run folder, if there is one; without `cell_files`, sources may not name files."""

    path: Path
    saved: TableModelFile
    machine: DeviceConfig
    run: Run | None
    cell_files: bool = True

    @property
    def facts(self) -> Mapping[str, object]:
        return {"path": self.path, "model": self.description}

    @property
    def spec(self) -> TableSpec:
        """The source and target columns."""
        return self.saved.spec

    @property
    def name(self) -> str:
        """The name of the run, or of the model file."""
        return model_name(self.path, self.run)

    @property
    def run_path(self) -> Path | None:
        """The run folder, if there is one."""
        return None if self.run is None else self.run.path

    @property
    def description(self) -> str:
        """A short description of columns and layers."""
        spec, options = self.spec, self.saved.model.options
        num_parameters = sum(weight.numel() for weight in self.saved.model.parameters())
        known = f" with {', '.join(each.name for each in spec.known_covariates)}" if spec.known_covariates else ""
        columns = (
            f"{spec.mode_text} of {spec.source_name}{known}" if spec.horizon else spec.columns_text.replace(" -> ", " to ")
        )
        return f"{columns}, {options.layers} x {options.hidden} {options.cell.upper()}, {num_parameters:,} parameters"

    def predictor(self, options: PredictOptions, tally: RowTally | None = None) -> Predictor:
        """Return a predictor for rows."""
        return Predictor(self.saved.model, self.spec, self.machine, options, tally)

    def load_cells(
        self,
        table_name: Any,
        split: str | None = None,
        header: str | None = None,
        encoding: str | None = None,
        unknown: str = "keep",
    ) -> tuple[list[Cell], list[Cell], str]:
        """Return source and target cells, and the name of their split.

        Args:
            table_name: A table, or a frame; None: that of the run.
            split: `validation` or `test` of the run's table (default: test rows, or validation rows if there are none); `all`
                of another table.
            header: How the columns of another table are named (see `TableFormat`).
            encoding: The encoding of another table that is not UTF-8.
            unknown: Whether symbols that the model does not know are an error, `refuse`, or not, `keep`.
        """
        if table_name is not None and split not in (None, "all"):
            raise UsageError(f"--split {split} is of the run's own table: leave out {table_name}, or --split.")
        if table_name is None:
            if self.run is None:
                raise UsageError(f"{self.path} is a model without its run folder: name the table to evaluate it on.")
            from unrolled.checkpoints.run_data import load_request  # not at the top: predicting needs no training code
            from unrolled.training.tasks.series import reopen_table_task

            request, origin = load_request(self.run)
            is_builtin = any(is_builtin_table(name) for name in request.inputs)
            if not is_builtin or split == "validation":
                return _held_out_cells(reopen_table_task(request, origin, self.saved), split)
            table_name, split = request.inputs[0], "test"
        if not is_table(table_name):
            table_name = path_of_table(table_name)
        table = (
            table_of_frame(table_name)
            if is_table(table_name)
            else open_table(table_name, "test", self.spec.table_format(header, encoding), stdin=True)
        )
        if not is_table(table_name) and (note := self._trained_note(table, table_name)):
            logger.info(note)
        rows: Sequence[tuple[Cell, Cell]] = self._read_rows(group_table(table, self.spec), unknown)
        if self.spec.is_stream:
            rows = evaluation_cells(self.spec, rows, table.name)
        return [row[0] for row in rows], [row[1] for row in rows], split or "all"

    def training_cells(self) -> list[tuple[Cell, Cell]]:
        """Return the source and target cells of the run's training rows. Raises `DataError` if its table is gone or changed."""
        if self.run is None:
            raise UsageError(f"{self.path} is a model without its run folder: its training rows are not known.")
        from unrolled.checkpoints.run_data import load_request
        from unrolled.training.tasks.series import reopen_table_task

        return reopen_table_task(*load_request(self.run), self.saved).training_cells()

    def _trained_note(self, table: Table, name: str) -> str:
        """Return how many rows of a table were trained on if it is that of the run, else an empty text."""
        if self.run is None or table.builtin is not None or name == "-":
            return ""
        from unrolled.checkpoints.run_data import load_request  # not at the top: predicting needs no training code
        from unrolled.training.tasks.series import reopen_table_task

        try:
            request, origin = load_request(self.run)
            if table.digest() != origin["content_hash"]:
                return ""
            task = reopen_table_task(dataclasses.replace(request, inputs=(name,)), origin, self.saved)
        except UnrolledError:  # the files of the run are not needed to evaluate another table
            return ""
        trained, num_all, noun = task.trained_share
        return (
            f"{trained:,} of the {plural(num_all, noun)} of {table.name} {agree(trained, 'were')} trained on: these are not "
            f"the figures of new {noun}s; those of its held-out {noun}s: unrolled eval {shell_argument(self.run.path)}"
        )

    def open_sources(
        self, name: Any, header: str | None = None, encoding: str | None = None, with_target: bool = False
    ) -> tuple[Table, tuple[str, ...]]:
        """Return a table or frame to predict, and its source columns; where there is only one, a text, plain lines will do.
        A table of series has its target only `with_target`.

        What was found out about the file is logged.
        """
        format, source = self.spec.table_format(header, encoding), self.spec.source
        if not is_table(name):
            name = path_of_table(name)
        if is_table(name):
            table = table_of_frame(name)
        elif source.kind == "numbers" and self.spec.long is None and name.lower().endswith(FILE_SUFFIXES):
            existing_file(name)
            table = table_of_values(source.name, [name])
        elif source.kind == "text" and not self.spec.others:
            table = open_table_or_lines(name, source.name, format)
        else:
            table = open_table(name, "test", format, stdin=True)
        table = group_sources(self.readable_table(table), self.spec, with_target)
        for note in table.notes:
            logger.info(note)
        return table, self.spec.find_sources(table)

    def readable_table(self, table: Table) -> Table:
        """Return a table whose cells may name files only if those of this session may."""
        return table if self.cell_files else table.without_cell_files()

    def iter_rows(
        self, name: Any, header: str | None = None, encoding: str | None = None
    ) -> Iterator[tuple[Cell, Cell | None]]:
        """Yield the source cells of a table or frame that are not missing, each with its target, or None where it has none.

        None: the run's held-out rows.
        """
        if name is None:
            sources, truths, _ = self.load_cells(None)
            yield from zip(sources, truths, strict=True)
            return
        table, columns = self.open_sources(name, header, encoding, with_target=True)
        targets, target = table.matching_columns(self.spec.target.name), self.spec.target
        for line, row in table.rows():
            cell = join_cells([table.cell(line, row, column) for column in columns])
            truth = table.cell(line, row, targets[0]) if len(targets) == 1 else None
            if not self.spec.is_source_missing(cell):
                yield cell, None if truth is None or target.is_missing(truth.value) else truth

    def _read_rows(self, table: Table, unknown: str = "keep") -> list[tuple[Cell, Cell]]:
        """Return the cells of the rows that can be evaluated, and log how many others there are."""
        for note in table.notes:
            logger.info(note)
        rows, tally = [], RowTally(self.spec.medians, unknown)
        for _, row in self.spec.iter_cells(table):
            if self.spec.has_missing(*row):
                tally.num_empty += 1
                continue
            tally.num_rows += 1
            try:
                if all(len(part) for part in self.spec.encode_row(*row)):
                    rows.append(row)
            except DataError as error:
                tally.unreadable.add(error)
                continue
            tally.add_row((*self.spec.sources, self.spec.target), (row[0], *row[0].others, row[1]))
        tally.unreadable.require_few(tally.num_rows)
        if not rows:
            raise DataError(f"{table.name} has no row in which all columns are filled in.")
        for message in tally.messages("are left out"):
            logger.info(message)
        return rows

    def evaluate(self, table_name: Any, options: PredictOptions, split: str | None = None) -> EvaluatedRows:
        """Predict rows with known targets (see `load_cells`), and compute the metrics."""
        sources, truths, split = self.load_cells(table_name, split, options.header, options.encoding, options.unknown)
        predictor = self.predictor(options)
        predictions = list(predictor.predict_iter(sources))
        if (note := predictor.length_note()) is not None:
            logger.info(note)
        report = evaluate_predictions(self.spec, sources, truths, predictions)
        if self.run is not None:
            report = with_learned_baseline(report, self.spec, self.training_cells, sources, truths, predictions)
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
