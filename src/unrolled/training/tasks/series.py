"""Training on series: numbers or labels at every step, and forecasts, with a state that is carried along each series."""

from __future__ import annotations

import dataclasses
import functools
import logging
from typing import Any

import numpy as np
import torch

from unrolled.checkpoints.model_file import ModelFile, TableModelFile, TextModelFile
from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder, check_table_options
from unrolled.nn.kernels.select import set_kernel
from unrolled.option_rules import check_training
from unrolled.options import PredictOptions, TrainingOptions, TrainRequest
from unrolled.series_options import SeriesOptions
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.pair_batching import PairDataset, balanced_weights
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.row_splits import Indices
from unrolled.tables.row_tally import unknown_messages
from unrolled.tables.series_rows import HISTORY_STEPS, SeriesBatches, SeriesRows, blocks, split_in_time, split_series
from unrolled.tables.series_spec import check_series, group_table, names_series, series_spec
from unrolled.tables.sound_delay import delay_note
from unrolled.tables.spec import TableSpec
from unrolled.tables.time_features import find_cycles
from unrolled.text.splitting import HeldOutFractions
from unrolled.training.forecast_choice import choose_forecast
from unrolled.training.recipe import fill_defaults
from unrolled.training.schedule import make_budget
from unrolled.training.tasks.base import FinalEvaluation
from unrolled.training.tasks.request_table import open_request_table, resolve_columns
from unrolled.training.tasks.table import TableTask
from unrolled.training.train_step import TrainStep

logger = logging.getLogger(__name__)

MAX_EPOCHS = 100.0
"""Passes over the training steps after which more time brings little; the model with the best validation loss is kept."""

PILOT_STEPS, PILOT_FORECASTS = 60, 16
"""Steps of the short trainings that say whether changes are forecast, and validation forecasts that they are compared on."""

WIDE_STEPS = 20_000
"""Training steps from which the layers have 64 units, else 32."""

MIN_COLUMN_STEPS = 256
"""Steps of each column of a batch, at least: with more columns there are few steps in a pass."""


def is_series(request: TrainRequest) -> bool:
    """Return whether a request trains on series."""
    return names_series(request.table.source, request.table.target, request.series)


def open_table_task(request: TrainRequest, base: TextModelFile | None) -> TableTask:
    """Read the table that a request names; `base` is the model that its training starts from."""
    check_table_options(request.model, is_stream=True)
    check_training(request, is_table=True)
    if not is_series(request):
        return TableTask(request, None, base=base)
    table = open_request_table(request)
    source, target = resolve_columns(request, table)
    table, spec = series_spec(table, source, target, request.series, request.data.normalize)
    check_series(spec, request.series)
    return _task_class(spec)(request, None, (table, spec), base)


def reopen_table_task(request: TrainRequest, origin: dict[str, Any], model_file: ModelFile) -> TableTask:
    """Read the table of a run again, with the columns of its model."""
    if not isinstance(model_file, TableModelFile):
        raise DataError("The run's model is one of a text, and its settings name a table.")
    spec, table = model_file.spec, open_request_table(request)
    if table.digest() != origin["content_hash"]:
        raise DataError(f"The table of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    return _task_class(spec)(request, spec, (group_table(table, spec), spec))


def _task_class(spec: TableSpec) -> type[TableTask]:
    return SeriesTask if spec.is_stream else TableTask


class SeriesTask(TableTask):
    """Series of a table, with training, validation and test steps; they are cut in time, or whole series are held out."""

    dataset: SeriesRows  # type: ignore[assignment]
    validation: SeriesRows | None  # type: ignore[assignment]

    def _split_rows(self, spec: TableSpec, request: TrainRequest) -> tuple[Indices, Indices, Indices]:
        """Split the steps; the dataset then has blocks of them as its rows."""
        pairs: PairDataset = self.dataset  # type: ignore[assignment]
        is_drawn = not spec.horizon
        splits = split_series(pairs, request.data, request.training.seed, request.table.validation is not None, is_drawn)
        self.train_parts = splits[0]
        if not self.train_parts:
            raise DataError(
                f"{self.table.name} has no series that is long enough to learn from: add steps, or lower --horizon."
            )
        parts = [blocks(split) for split in splits]
        self.dataset = SeriesRows(spec, pairs, [part for split in parts for part in split])
        self.validation_cells = self.dataset.held_out_cells(splits[1], self.table.name)
        self.test_cells = self.dataset.held_out_cells(splits[2], self.table.name)
        purposes = ("to learn from", "for validation", "for the test")
        counts = [sum(part.stop - part.start for part in split) for split in splits]
        listed = ", ".join(f"{count:,} {purpose}" for count, purpose in zip(counts, purposes, strict=True) if count)
        in_time = any(part.stop < pairs.source.lengths[part.row] for part in splits[0])
        how = "the first steps of each series" if in_time else f"{len(splits[0]):,} series"
        message = f"{plural(sum(counts), 'step')} of {len(pairs):,} series: {listed}; learned from: {how}"
        logger.log(self._log_level, message)
        if rate := getattr(spec.target, "rate", None):
            first_row = pairs.source[self.train_parts[0].row], pairs.target[self.train_parts[0].row]
            if note := delay_note((spec.source.name, spec.target.name), *first_row, rate):
                logger.warning(note)
        first, second = len(parts[0]), len(parts[0]) + len(parts[1])
        return np.arange(first), np.arange(first, second), np.arange(second, len(self.dataset))

    @property
    def trained_share(self) -> tuple[int, int, str]:
        """How many steps of the table are trained on, of how many, and what they are."""
        num_steps = int(self.dataset.pairs.source.lengths.sum())
        return sum(part.stop - part.start for part in self.train_parts), num_steps, "step"

    def _fit_training(self, spec: TableSpec) -> TableSpec:
        pairs = self.dataset.pairs
        for column, arrays in ((spec.source, pairs.source), (spec.target, pairs.target)):
            column.fit_training(np.asarray(arrays[part.row])[part.start : part.stop] for part in self.train_parts)
        return spec

    def _train_stats(self, spec: TableSpec) -> dict[str, Any]:
        pairs, cut = self.dataset.pairs, []
        if spec.horizon and isinstance(spec.target, NumbersColumn):
            return spec.target.forecast_stats(
                pairs.series[part.row].part(pairs.source[part.row], part.start, part.stop) for part in self.train_parts
            )
        for arrays in (pairs.source, pairs.target):
            part_arrays = RaggedArray(arrays[0].dtype)
            for part in self.train_parts:
                part_arrays.append(arrays[part.row][part.start : part.stop])
            part_arrays.finalize()
            cut.append(part_arrays)
        return spec.target.baseline_stats(spec.source, cut[0], cut[1], np.arange(len(self.train_parts)))

    def _read_validation(self, spec: TableSpec, request: TrainRequest) -> SeriesRows:  # type: ignore[override]
        """Encode another table for validation: all steps of its series."""
        table, pairs = self._read_other(spec, request)
        parts, _, _ = split_in_time(pairs.source.lengths.tolist(), HeldOutFractions(0.0, 0.0))
        rows = SeriesRows(spec, pairs, blocks(parts))
        self.validation_rows = np.arange(len(rows))
        self.validation_cells = rows.held_out_cells(parts, table.name)
        for message in unknown_messages(spec.target, (cell for _, cell in self.validation_cells)):
            logger.log(self._log_level, f"{table.name}: {message}")
        return rows

    def _balanced_weights(self) -> Array:
        target = self.dataset.pairs.target
        return balanced_weights((target[part.row][part.start : part.stop] for part in self.train_parts), self.spec)

    def batches(self, options: TrainingOptions) -> SeriesBatches:  # type: ignore[override]
        """Return the training steps as columns with carried state."""
        rows = SeriesRows(self.spec, self.dataset.pairs, self.train_parts)
        return SeriesBatches(rows, self.train_parts, options.batch, options.bptt, self.dataset.label_weights)

    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        batches = self.batches(request.training)
        return batches.batch_size * batches.seq_len / self.throughput(request, machine)

    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        """Fill in what was not given: narrow layers without dropout, read forward, and columns that are long enough."""
        num_steps = sum(part.stop - part.start for part in self.train_parts)
        request = fill_defaults(
            request, bidirectional=False, dropout=0.0, token_dropout=0.0, lr=4e-3, optimizer="adamw", state_reset_prob=0.0,
            hidden=64 if num_steps >= WIDE_STEPS else 32, batch=int(np.clip(num_steps // MIN_COLUMN_STEPS, 4, 32)),
            weight_decay=0.01, label_smoothing=0.0, bptt=128,
        )  # fmt: skip
        if request.pair.bidirectional:
            raise UsageError(
                "--bidirectional reads the future of a series, whose steps are predicted in order: leave it out, or name "
                f"{self.spec.source.name}:frames as the source."
            )
        if self.spec.horizon:
            request = self._choose_forecast(request, machine)
        training, model = request.training, request.model
        budget = make_budget(training, num_steps)
        counted = plural(round(budget.total), budget.unit.removesuffix("s"))
        why = counted if budget.unit != "tokens" else f"{budget.total / num_steps:.3g} epochs"
        if budget.unit == "seconds":
            epochs = self.throughput(request, machine) * budget.total / max(1, self.batches(training).tokens_per_epoch)
            why = f"{budget.total / 60:.3g} min, {epochs:.3g} epochs"
            if not request.explicit & {"minutes", "epochs", "steps"} and epochs > MAX_EPOCHS:
                request = dataclasses.replace(request, training=dataclasses.replace(training, minutes=None, epochs=MAX_EPOCHS))
                why = f"{MAX_EPOCHS:g} epochs, in less than {budget.total / 60:.3g} min"
        logger.info(
            f"{plural(model.layers, 'layer')} of {plural(model.hidden, 'unit')}, dropout {model.dropout:g}, "
            f"{self.batches(training).batch_size} columns a batch: {why}"
        )
        return request

    def build_model(self, request: TrainRequest) -> EncoderDecoder:
        """Return a network with random weights, for numbers or for changes as `request` says; on a resume, as they are."""
        columns, wanted = (self.spec.source, self.spec.target), request.series.difference
        if self.spec.horizon and wanted != "auto":
            changed = [c for c in columns if isinstance(c, NumbersColumn) and c.difference != self._lag(wanted)]
            for column in changed:
                column.difference = self._lag(wanted)
            if changed:
                self._fit_training(self.spec)
        if isinstance(self.spec.source, NumbersColumn) and request.series.time_features != "auto":
            self.spec.source.cycles = self._cycles if request.series.time_features == "on" else ()
            if request.series.time_features == "on" and not self._cycles:
                raise UsageError(
                    "--time-features on: the steps have no dates, or do not go through a day, a week or a year three times; "
                    "name a column of dates by --order-by, or leave it out."
                )
        return super().build_model(request)

    @property
    def _cycles(self) -> tuple[str, ...]:
        """The cycles of the calendar that the training steps go through; none where steps have no dates."""
        series = self.dataset.pairs.series
        return find_cycles([series[part.row].seconds[part.start : part.stop] for part in self.train_parts])

    def _lag(self, difference: str) -> int:
        """Return the lag of `--difference`: a number is forecast as its change from that so many steps before; 0: as it is."""
        if difference != "season":
            return int(difference == "on")
        if self._period is None:
            found = f"no period of at most {HISTORY_STEPS:,} steps, which a forecast reads"
            raise UsageError(f"--difference season: the training steps have {found}. Use --difference on, or leave it out.")
        return self._period

    @property
    def _period(self) -> int | None:
        """The period of the training steps, if a forecast, which reads `HISTORY_STEPS`, can go back by one."""
        period = self.spec.train_stats.get("period")
        return int(period) if period is not None and period <= HISTORY_STEPS else None

    def _choose_forecast(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        """Let short trainings choose what was left open of a forecast, if there are validation steps to compare them on."""
        places = np.unique(np.linspace(0, len(self.validation_cells) - 1, PILOT_FORECASTS).astype(int))
        cells = [self.validation_cells[place] for place in places.tolist()] if self.validation_cells else []

        @functools.cache
        def error_of(series: SeriesOptions) -> float:
            return self._pilot_error(dataclasses.replace(request, series=series), machine, cells)

        chosen = choose_forecast(request.series, error_of if cells else None, self._period, self._cycles)
        request = dataclasses.replace(request, series=chosen)
        self.build_model(request)  # the columns are then as it says
        self._throughputs.clear()
        return request

    def _pilot_error(self, request: TrainRequest, machine: DeviceConfig, cells: list[tuple[Cell, Cell]]) -> float:
        """Return the root mean squared error of validation forecasts after a short training."""
        training = request.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(training.seed)
            model = self.build_model(request).to(machine.device)
        set_kernel(model, request.machine.kernels, machine.dtype)
        batches = self.batches(training)
        train_step = TrainStep(model.train(), machine, training, batches.batch_size)
        steps = min(PILOT_STEPS, training.steps or PILOT_STEPS)
        for step, batch in zip(range(steps), batches, strict=False):
            train_step.step(batch, training.lr * (1 - step / steps), step)
        error = self._predict(model, machine, cells, PredictOptions())[0].metrics["rmse"]
        return error if np.isfinite(error) else float("inf")

    def final_eval(
        self, model: EncoderDecoder, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float
    ) -> FinalEvaluation:
        """Evaluate the saved model; the spread of a forecast whose loss has none is that of the validation errors."""
        self._fit_residual(model, machine)
        return super().final_eval(model, machine, limit, best_fraction, epochs)

    @torch.inference_mode()
    def _fit_residual(self, model: EncoderDecoder, machine: DeviceConfig) -> None:
        target = self.spec.target
        if not isinstance(target, NumbersColumn) or not target.horizon or target.loss not in ("mse", "mae"):
            return
        rows = self.dataset if self.validation is None else self.validation
        index = (self.train_rows if self.validation is None else self.validation_rows)[:64]
        errors = []
        for place in index.tolist():
            batch = rows.collate(np.array([place]))
            tensors = {name: torch.from_numpy(array).to(machine.device) for name, array in batch.arrays().items()}
            errors.append((model.eval().logits(tensors).float().cpu().numpy() - batch.target)[:, 0])
        target.residual = np.sqrt(np.nanmean(np.square(np.concatenate(errors).astype(np.float64)), axis=0))

    def complete(self, model_file: TableModelFile) -> TableModelFile:
        """Return the model file with the spread that the final evaluation measured."""
        target = model_file.spec.target
        if isinstance(target, NumbersColumn) and isinstance(self.spec.target, NumbersColumn):
            target.residual = self.spec.target.residual
            return model_file
        return super().complete(model_file)
