"""A table as a training uses it: rows that train, rows held out, batches, and the ways of looking at a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unrolled.checkpoints.model_file import Saved, SavedPairs
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.calibration import calibrate, mean_loss
from unrolled.evaluation.metric_report import Report
from unrolled.evaluation.predictor import Answer, Answerer, judge, learn_baselines
from unrolled.nn.device import Machine
from unrolled.nn.encoder_decoder import PairModel, refuse_options
from unrolled.nn.kernels import use
from unrolled.options import PredictOptions, TrainingOptions, TrainRequest
from unrolled.tables.cell_values import Cell, empty
from unrolled.tables.columns import LabelColumn
from unrolled.tables.pair_batching import PairBatches, Pairs, cells, find_task, read_pairs
from unrolled.tables.spec import Task
from unrolled.tables.table_files import Table, open_table
from unrolled.training.table_recipe import Rows, choose_pairs
from unrolled.training.tasks.base import Check, Note
from unrolled.training.throughput import timed
from unrolled.training.train_step import Learner

HELD_OUT = 10_000
"""Rows held out at most; they are kept as they stand in the table too, to be judged as they will be used."""

JUDGED = 1000
"""Rows held out that are answered at the end of a training."""

SHOWN = 6
WIDEST = 60
"""Characters of a cell in a live sample."""


class TableMaterial:
    """A table's two columns, cut into rows that train and rows held out (or those of another table)."""

    def __init__(self, request: TrainRequest, task: Task | None, note: Note) -> None:
        self.table = _open(request)
        self.shown: list[tuple[Cell, Cell]] = []
        source, target = _columns(request, self.table)
        if task is None:
            note(f"looking at {self.table.name}")
            tokens = request.data.tokens if "tokens" in request.given else None
            task, sentence = find_task(self.table, source, target, tokens)
            note(sentence)
        self.pairs, self.train, self.held = self._read(task, request, note)
        self.validation: Pairs | None = self.pairs
        if request.table.validation is not None:
            table = open_table(request.table.validation, part="test")
            self.validation = read_pairs(table, task)
            self.train, self.held = np.arange(len(self.pairs)), np.arange(len(self.validation))
            self.shown = _first_rows(table, task)
        if len(self.held) == 0:
            self.validation = None
            note("no rows are left for validation: the last model is kept, not the best")
        self._refuse_one_kind(task)
        self.task = Task(task.source, task.target, task.known or learn_baselines(self.pairs, self.train))
        self.pairs.task = self.task
        self._paces: dict[Any, float] = {}

    def _read(
        self, task: Task, request: TrainRequest, note: Note
    ) -> tuple[Pairs, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Encode the rows; each is held out or not by a seeded draw, so that the order of a table does not matter."""
        pairs, draw = Pairs(task), np.random.default_rng([request.training.seed, 2])
        share = 0.0 if request.table.validation else 1 - request.data.train_fraction
        held: list[int] = []
        for line, (source, target) in cells(self.table, (task.source.name, task.target.name)):
            first = pairs.kept
            pairs.add(line, source, target)
            if draw.random() < share and len(held) < HELD_OUT and pairs.kept > first:
                held.extend(range(first, pairs.kept))
                self.shown.append((source, target))
        pairs.close()
        if pairs.left_out:
            lines = ", ".join(str(line) for line in pairs.left_out[:5]) + (", ..." if len(pairs.left_out) > 5 else "")
            note(f"{len(pairs.left_out):,} of {pairs.rows_read:,} rows are left out, a cell being empty: line {lines}")
        if len(held) == len(pairs):
            held = held[1:]
        mask = np.zeros(len(pairs), dtype=bool)
        mask[held] = True
        note(f"{len(pairs) - len(held):,} rows to learn from, {len(held):,} held out")
        return pairs, np.flatnonzero(~mask), np.flatnonzero(mask)

    def _refuse_one_kind(self, task: Task) -> None:
        if isinstance(task.target, LabelColumn) and len(task.target.labels) < 2:
            raise DataError(
                f"Every row of {self.table.name} has the label '{task.target.labels[0]}' in '{task.target.name}': "
                "there is nothing to tell apart."
            )

    def complete(self, request: TrainRequest, machine: Machine, note: Note) -> TrainRequest:
        """Let the recipe fill in what was not given."""
        read = self.pairs.source.lengths[self.train]
        rows = Rows(len(self.train), int(read.sum()), self.batches(request.training).symbols)
        shape = self.task.shape
        request, sentence = choose_pairs(request, shape, rows, lambda wanted: self.pace(wanted, machine), self._weights)
        if sentence:
            note(sentence)
        return request

    def _weights(self, request: TrainRequest) -> int:
        with torch.random.fork_rng(devices=[]):
            return sum(weight.numel() for weight in self.network(request).parameters())

    def pace(self, request: TrainRequest, machine: Machine) -> float:
        """Return the targets a second that a request would train here, measured on rows of the table."""
        key = (request.model, request.training, request.pair, torch.get_num_threads())
        if key not in self._paces:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = self.network(request).to(machine.device)
            use(model, request.machine.kernels, machine.dtype)
            batches = self.batches(request.training)
            taken: list[int] = []

            def counted() -> Any:
                for batch in batches:
                    taken.append(batch.symbols)
                    yield batch

            timings = timed(Learner(model.train(), machine, request.training, batches.batch), counted(), 0.6)
            self._paces[key] = sum(taken[-len(timings) :]) / sum(timings)
        return self._paces[key]

    def step_seconds(self, request: TrainRequest, machine: Machine) -> float:
        """Return how long a step of a request takes here, on the average of the rows."""
        batches = self.batches(request.training)
        return batches.symbols / len(self.train) * batches.batch / self.pace(request, machine)

    def network(self, request: TrainRequest) -> PairModel:
        """Draw a new network."""
        return PairModel(self.task.shape, request.model, request.pair)

    def batches(self, options: TrainingOptions) -> PairBatches:
        """Return the rows that train, like lengths together."""
        return PairBatches(self.pairs, self.train, options.batch, options.bptt, options.seed)

    def saved(self, model: PairModel, history: dict[str, Any], sharpness: float = 1.0) -> SavedPairs:
        """Return a network as it is kept in a file; how sharp it is, it knows itself."""
        return SavedPairs(model, self.task, history)

    def fits(self, saved: Saved) -> bool:
        """Return whether a saved model has these columns."""
        return isinstance(saved, SavedPairs) and saved.task.to_json() == self.task.to_json()

    symbols_per_character = 1.0
    unit = "target"

    @property
    def origin(self) -> dict[str, Any]:
        """The digest of the table."""
        return {"text": self.table.digest(), "corpus": ""}

    def evaluator(
        self, model: PairModel, machine: Machine, options: TrainRequest
    ) -> Callable[[Check, float], tuple[float, float]] | None:
        """Return a function that gives the loss on some held-out rows, in nats a target; what it is given comes back."""
        pairs, limit = self.validation, options.run.eval_symbols
        if pairs is None:
            return None
        targets = np.cumsum(pairs.target.lengths[self.held] + pairs.source.lengths[self.held])
        index = self.held[: max(1, int((targets <= 4 * limit).sum()))]
        labels = self.task.target.kind in ("label", "labels")
        measure = calibrate if labels and options.training.calibrate else mean_loss
        return lambda check, sharpness: (measure(model, pairs, index, machine, check), sharpness)

    def sampler(self, model: PairModel, machine: Machine, length: int) -> Callable[[Check], str] | None:
        """Return a function that answers a few held-out rows, the right answer behind each; None for none."""
        if length == 0 or not self.shown:
            return None
        return lambda check: self._show(model, machine)

    def _show(self, model: PairModel, machine: Machine) -> str:
        few = self.shown[: SHOWN if model.writer is not None else 256]
        report, answers = self._answered(model, machine, few, PredictOptions(beam=1))
        lines = []
        for (source, target), answer in zip(few[:SHOWN], answers, strict=False):
            lines.append(f"{_short(source.value)} -> {_short(answer.text)}  ({_short(target.value)})")
        head = report.headline
        if model.writer is None:
            lines.insert(0, f"{head} {report.metrics[head]:.3f} on {len(few)} rows held out")
        return "\n".join(lines)

    def _answered(
        self, model: PairModel, machine: Machine, rows: list[tuple[Cell, Cell]], options: PredictOptions
    ) -> tuple[Report, list[Answer]]:
        sources, truths = [source for source, _ in rows], [target for _, target in rows]
        answers = list(Answerer(model, self.task, machine, options).stream(sources))
        return judge(self.task, sources, truths, answers), answers

    def judge(self, model: PairModel, machine: Machine, limit: int, best_at: float, epochs: float) -> tuple[float | None, str]:
        """Measure the model that was kept on the rows held out; return its loss, and its metrics in words."""
        if self.validation is None:
            return None, "No rows were held out, so how good it is is not known: give it more rows, or --validation."
        val = mean_loss(model, self.validation, self.held, machine)
        train = mean_loss(model, self.pairs, self.train[: max(1, len(self.held))], machine)
        report, _ = self._answered(model, machine, self.shown[:JUDGED], PredictOptions())
        told = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in list(report.metrics.items())[:2])
        beside = "; ".join(
            f"{name}: {baseline[report.headline]:.3f}"
            for name, baseline in report.baselines.items()
            if report.headline in baseline
        )
        fit = f"Loss {train:.3f} on rows it learned from, {val:.3f} on rows it never saw."
        return val, f"{told} on {report.rows:,} rows held out" + (f" ({beside})" if beside else "") + f". {fit}"


def open_rows(request: TrainRequest, note: Note) -> TableMaterial:
    """Read the table that a request names."""
    refuse_options(request.model)
    return TableMaterial(request, None, note)


def reopen_rows(request: TrainRequest, origin: dict[str, Any], saved: Saved, note: Note) -> TableMaterial:
    """Return the table of a run again, in the columns of its model."""
    if not isinstance(saved, SavedPairs):
        raise DataError("The run's model is one of a text, and its settings name a table.")
    material = TableMaterial(request, saved.task, lambda message: None)
    if material.origin["text"] != origin["text"]:
        raise DataError(f"The table of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    return material


def _open(request: TrainRequest) -> Table:
    if len(request.inputs) != 1:
        raise UsageError(f"One table is expected with --source and --target; got {len(request.inputs)} inputs.")
    return open_table(request.inputs[0])


def _columns(request: TrainRequest, table: Table) -> tuple[str, str]:
    own = table.builtin
    source = request.table.source or (own.source if own else None)
    target = request.table.target or (own.target if own else None)
    if source is None or target is None:
        missing = "--source" if source is None else "--target"
        columns = ", ".join(table.columns)
        raise UsageError(f"A table needs both --source and --target; {missing} is missing. Columns: {columns}.")
    return source, target


def _first_rows(table: Table, task: Task) -> list[tuple[Cell, Cell]]:
    rows: list[tuple[Cell, Cell]] = []
    for _, (source, target) in cells(table, (task.source.name, task.target.name)):
        if not empty(source.value) and not empty(target.value):
            rows.append((source, target))
        if len(rows) == HELD_OUT:
            break
    return rows


def _short(value: Any) -> str:
    text = str(value) if isinstance(value, str | int | float) else f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else text[: WIDEST - 3] + "..."
