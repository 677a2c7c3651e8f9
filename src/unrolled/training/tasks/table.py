"""Training on two columns of a table: training and validation rows, batches, evaluation and sample predictions."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from unrolled.checkpoints.model_file import ModelFile, TableModelFile, TextModelFile
from unrolled.display import one_line, plural
from unrolled.errors import UsageError
from unrolled.evaluation.calibration import mean_loss, mean_loss_with_error, validation_loss
from unrolled.evaluation.predictor import Prediction, Predictor, choose_threshold, evaluate_predictions, headline_error
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.kernels.select import set_kernel
from unrolled.option_rules import check_table_training
from unrolled.options import PredictOptions, TrainingOptions, TrainRequest
from unrolled.tables.cell_values import Array, Cell, display_text
from unrolled.tables.column import MAX_BASELINE_ROWS
from unrolled.tables.label_columns import only_label
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.ngrams import MAX_BUCKETS
from unrolled.tables.pair_batching import PairDataset, PairLoader, balanced_weights, read_pairs
from unrolled.tables.row_splits import MAX_HELD_OUT_ROWS, Indices, split_rows
from unrolled.tables.row_tally import unknown_messages
from unrolled.tables.series import note_of_series
from unrolled.tables.series_spec import number_notes
from unrolled.tables.source_columns import source_text, split_source
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import split_kind
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import FIRST_ROW
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.training.diagnosis import judge_table
from unrolled.training.grown_model import load_reader
from unrolled.training.ngram_fit import FittedClassifier, fit_rows
from unrolled.training.table_recipe import TableStats, choose_table_options
from unrolled.training.tasks.base import FinalEvaluation, StopCheck, TrainingTask
from unrolled.training.tasks.request_table import (
    cells_of,
    choose_columns,
    open_request_table,
    open_validation_table,
    resolve_columns,
)
from unrolled.training.throughput import time_steps
from unrolled.training.train_step import TrainStep

logger = logging.getLogger(__name__)

FINAL_EVAL_ROWS = 1000
"""Validation rows, and test rows, that are predicted at the end of a training."""

SAMPLE_ROWS = 6


class TableTask(TrainingTask):
    """Two columns of a table, split into training, validation and test rows (or validated on another table)."""

    def __init__(
        self,
        request: TrainRequest,
        spec: TableSpec | None,
        opened: tuple[Table, TableSpec] | None = None,
        base: TextModelFile | None = None,
    ) -> None:
        """Read the table of a request, or take one that is `opened`, with its columns.

        `spec` are the columns of a run that is resumed; `base` is the model that a new training starts from.
        """
        is_new = spec is None
        self._log_level = logging.INFO if is_new else logging.DEBUG  # a resume repeats nothing
        self.table = open_request_table(request) if opened is None else opened[0]
        for note in self.table.notes:
            logger.log(self._log_level, note)
        source, target = resolve_columns(request, self.table)
        self.base = base
        spec = spec or self._new_spec(request, source, target, None if opened is None else opened[1])
        self.dataset = self._encode_rows(self.table, spec)
        self.train_rows, self.validation_rows, self.test_rows = self._split_rows(spec, request)
        if is_new:
            spec = self._fit_training(spec)
            for note in dict.fromkeys(number_notes(self.table, spec.source) + number_notes(self.table, spec.target)):
                logger.info(note)
        has_other = request.table.validation is not None
        self.validation: PairDataset | None = self._read_validation(spec, request) if has_other else self.dataset
        if len(self.validation_rows) == 0:
            self.validation = None
            logger.log(self._log_level, "no rows are left for validation: the last model is kept, not the best")
        spec.check_target(self.table.name, self.dataset.skipped_cells[spec.target.name])
        self.spec = replace(spec, train_stats=self._train_stats(spec)) if is_new else spec
        self.dataset.spec = self.spec
        self.is_balanced = request.pair.balance
        if self.is_balanced:
            self._balance_labels()
        self._fitted = fit_rows(self.dataset, self.train_rows, base.model if base else None) if is_new else FittedClassifier()
        self._throughputs: dict[Any, float] = {}

    def _fit_training(self, spec: TableSpec) -> TableSpec:
        """Adapt the columns to the training rows; return the spec with the medians of these rows alone."""
        encoded = (self.dataset.source, *self.dataset.others, self.dataset.target)
        for column, arrays in zip((*spec.sources, spec.target), encoded, strict=True):
            column.fit_training(np.asarray(arrays[row]) for row in self.train_rows.tolist())
        self.dataset.spec = spec = replace(spec, medians=self.dataset.fit_medians(self.train_rows))
        for message in self.dataset.imputed_messages():
            logger.info(message)
        self.dataset.choose_ngram_buckets(self.train_rows)
        return spec

    def _train_stats(self, spec: TableSpec) -> dict[str, Any]:
        """Return what the baselines know of the training rows."""
        return spec.target.baseline_stats(spec.source, self.dataset.source, self.dataset.target, self.train_rows)

    def _new_spec(self, request: TrainRequest, source: str, target: str, known: TableSpec | None) -> TableSpec:
        """Return the columns and their kinds, inferred unless they are `known`, and log them."""
        logger.info(f"reading {self.table.name}")
        spec, message = choose_columns(request, self.table, source, target, known, self.base)
        spec = replace(spec, header=self.table.header or FIRST_ROW, max_length=request.table.max_length)
        check_table_training(request, spec.dims, spec.target.is_calibrated, spec.reads_one_text)
        if spec.reads_one_text and request.pair.ngrams:
            spec.source.ngram_buckets = MAX_BUCKETS  # until the training rows are counted
        logger.info(message)
        if not any(split_kind(part)[1] for part in split_source(source, self.table)):
            series_note = note_of_series(self.table, spec.sources, spec.target)
            if series_note is not None:
                logger.warning(series_note)
        return spec

    def _read_validation(self, spec: TableSpec, request: TrainRequest) -> PairDataset:
        """Encode the rows of another table for validation, and log which are left out or have a source of the training rows."""
        table, dataset = self._read_other(spec, request)
        self.validation_rows = np.arange(len(dataset))
        self.validation_cells = cells_of(table, spec, dataset.read_rows[:MAX_HELD_OUT_ROWS].tolist())
        unknown = unknown_messages(spec.target, (cell for _, cell in self.validation_cells))
        for message in (*dataset.imputed_messages(), *unknown):
            logger.log(self._log_level, f"{table.name}: {message}")
        if shared := int(np.isin(dataset.source_keys, self.dataset.source_keys).sum()):
            rows = plural(len(dataset.source_keys), "validation row")
            logger.log(self._log_level, f"{shared:,} of the {rows} have a source that {self.table.name} has too")
        return dataset

    def _read_other(self, spec: TableSpec, request: TrainRequest) -> tuple[Table, PairDataset]:
        """Return the table to validate on and its encoded rows."""
        table = open_validation_table(request, spec)
        for note in table.notes:
            logger.log(self._log_level, note)
        return table, self._encode_rows(table, spec)

    def _balanced_weights(self) -> Array:
        return balanced_weights((self.dataset.target[row] for row in self.train_rows.tolist()), self.spec)

    def _balance_labels(self) -> None:
        """Weight the labels of the rows by how rare they are in the training rows."""
        target = self.spec.target
        if not target.labels or target.output == "generated":
            raise UsageError(f"--balance is for labels, and '{target.name}' is {target.kind}: leave it out.")
        weights = self.dataset.label_weights = self._balanced_weights()
        if self.validation is not None:
            self.validation.label_weights = weights
        known = [(float(weight), label) for weight, label in zip(weights, target.labels, strict=False) if weight]
        ends = (f"{weight:.3g} ('{label}')" for weight, label in (min(known), max(known)))
        logger.log(self._log_level, f"labels are weighted from {' to '.join(ends)}")

    @property
    def trained_share(self) -> tuple[int, int, str]:
        """How many rows of the table are trained on, of how many, and what they are."""
        num_rows = len(self.dataset.source_keys)
        held_out = len(self.test_cells) + (len(self.validation_cells) if self.validation is self.dataset else 0)
        return num_rows - held_out, num_rows, "row"

    def _encode_rows(self, table: Table, spec: TableSpec) -> PairDataset:
        """Encode the rows of a table, and log which are cut or left out."""
        dataset = read_pairs(table, spec)
        prefix = "" if table is self.table else f"{table.name}: "
        for message in (*dataset.left_out_messages(), *dataset.length_notes()):
            logger.log(self._log_level, f"{prefix}{message}")
        return dataset

    def _split_rows(self, spec: TableSpec, request: TrainRequest) -> tuple[Indices, Indices, Indices]:
        """Split the rows, and read the held-out cells again."""
        has_validation, has_test = request.table.validation is not None, self.table.builtin is not None
        splits = split_rows(self.dataset, request.data, request.training.seed, has_validation, has_test)
        validation, test = splits.read_rows
        cells = cells_of(self.table, spec, [*validation, *test])
        self.validation_cells, self.test_cells = cells[: len(validation)], cells[len(validation) :]
        purposes = ("to learn from", "for validation", "for the test")
        sizes = zip(purposes, (splits.train, splits.validation, splits.test), strict=True)
        counts = ", ".join(f"{len(part):,} {purpose}" for purpose, part in sizes if len(part))
        logger.log(self._log_level, f"{plural(len(self.dataset), 'row')}: {counts}")
        if splits.note:
            logger.log(self._log_level, splits.note)
        return splits.train, splits.validation, splits.test

    def training_cells(self) -> list[tuple[Cell, Cell]]:
        """Return the source and target cells of the training rows, at most the first `MAX_BASELINE_ROWS`."""
        return cells_of(self.table, self.spec, self.dataset.read_rows[self.train_rows[:MAX_BASELINE_ROWS]].tolist())

    def apply_recipe(self, request: TrainRequest, machine: DeviceConfig) -> TrainRequest:
        source_steps = sum(int(arrays.lengths[self.train_rows].sum()) for arrays in (self.dataset.source, *self.dataset.others))
        targets = self.batches(request.training).tokens_per_epoch
        stats = TableStats(len(self.train_rows), source_steps, targets, isinstance(self.spec.source.tokenizer, WordTokenizer))
        request, message = choose_table_options(
            request, self.spec.dims, stats, lambda candidate: self.throughput(candidate, machine), self._count_parameters
        )
        logger.info(message)
        return request

    def _count_parameters(self, request: TrainRequest) -> int:
        with torch.random.fork_rng(devices=[]):
            return sum(weight.numel() for weight in self.build_model(request).parameters())

    def throughput(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Return the training speed of a request in targets per second, measured on rows of the table."""
        key = (request.model, request.training, request.pair, torch.get_num_threads())
        if key not in self._throughputs:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = self.build_model(request).to(machine.device)
            set_kernel(model, request.machine.kernels, machine.dtype)
            batches = self.batches(request.training)
            batch_targets: list[int] = []

            def counted_batches() -> Any:
                for batch in batches:
                    batch_targets.append(batch.num_targets)
                    yield batch

            timings = time_steps(
                TrainStep(model.train(), machine, request.training, batches.batch_size), counted_batches(), 0.6
            )
            self._throughputs[key] = sum(batch_targets[-len(timings) :]) / sum(timings)
        return self._throughputs[key]

    def step_seconds(self, request: TrainRequest, machine: DeviceConfig) -> float:
        """Return how long a step of a request takes here, on the average of the rows."""
        batches = self.batches(request.training)
        return batches.tokens_per_epoch / len(self.train_rows) * batches.batch_size / self.throughput(request, machine)

    @property
    def loss_unit(self) -> str:
        return self.spec.loss_unit

    def depends_on_threads(self, machine: DeviceConfig, kernels: str) -> bool:
        """Return whether the bits of the weights depend on the number of threads: torch's products around the layers do."""
        return machine.device.type == "cpu"

    def baseline_losses(self, limit: int) -> dict[str, float]:
        """Return the loss of the frequencies of the labels, for a target with one label per row."""
        target = self.spec.target
        if self.validation is None or target.kind != "label":
            return {}
        rows, train_rows = self.validation_rows[:limit].tolist(), self.train_rows[:MAX_BASELINE_ROWS].tolist()
        true_ids = np.concatenate([self.validation.target[row] for row in rows])
        train_ids = np.concatenate([self.dataset.target[row] for row in train_rows])
        counts = np.bincount(train_ids, minlength=target.size) + 1
        return {"label frequencies": float(-np.log(counts / counts.sum())[true_ids].mean())}

    def build_model(self, request: TrainRequest) -> EncoderDecoder:
        """Return a network with random weights and the fitted classifier; or with those of the base that its encoder is."""
        model = EncoderDecoder(self.spec.dims, request.model, request.pair)
        if self.base is not None and self.spec.source.tokenizer is not None and self.spec.dims.base is None:
            load_reader(model, self.base, self.spec.source.tokenizer)
        self._fitted.copy_to(model)
        return model

    def batches(self, options: TrainingOptions) -> PairLoader:
        """Return batches of the training rows, with similar lengths together."""
        return PairLoader(self.dataset, self.train_rows, options.batch, options.bptt, options.seed)

    def model_file(self, model: EncoderDecoder, history: dict[str, Any], logit_scale: float = 1.0) -> TableModelFile:
        """Return the content of a model file; the temperature is part of the network."""
        return TableModelFile(model, self.spec, history)

    def matches(self, model_file: ModelFile) -> bool:
        return isinstance(model_file, TableModelFile) and model_file.spec.to_json() == self.spec.to_json()

    @functools.cached_property
    def origin(self) -> dict[str, Any]:
        """The content hash of the table, for which its file is read."""
        return {"content_hash": self.table.digest(), "cache_key": ""}

    def evaluate(
        self, model: EncoderDecoder, machine: DeviceConfig, request: TrainRequest, check: StopCheck, logit_scale: float
    ) -> tuple[float | None, float]:
        """Return the loss on some validation rows in nats per target, and `logit_scale`: the model has its own temperature."""
        dataset, limit = self.validation, request.run.eval_tokens
        if dataset is None:
            return None, 1.0
        targets = np.cumsum(dataset.target.lengths[self.validation_rows] + dataset.source.lengths[self.validation_rows])
        index = self.validation_rows[: max(1, int((targets <= 4 * limit).sum()))]
        loss_fn = validation_loss(model, self.spec.target.is_calibrated and request.training.calibrate)
        return loss_fn(model, dataset, index, machine, check), logit_scale

    def sample(self, model: EncoderDecoder, machine: DeviceConfig, length: int, check: StopCheck) -> str | None:
        """Return predictions for a few validation rows, each followed by the right one; None if there are no such rows."""
        if length == 0 or not self.validation_cells:
            return None
        rows = self.validation_cells[: SAMPLE_ROWS if model.decoder is not None else 256]
        report, predictions = self._predict(model, machine, rows, PredictOptions(beam=1))
        lines = []
        shown = [] if self.spec.is_stream else rows[:SAMPLE_ROWS]  # the rows of a series are too long for a line
        for (source, target), prediction in zip(shown, predictions, strict=False):
            asked, true = one_line(source_text(self.spec.sources, source)), one_line(display_text(target.value))
            lines.append(f"{asked} -> {one_line(prediction.text)}  ({true})")
        metric = report.headline
        if model.decoder is None:
            lines.insert(0, f"{metric} {report.metrics[metric]:.3f} on {plural(len(rows), f'validation {self.spec.row_noun}')}")
        return "\n".join(lines)

    def _predict(
        self, model: EncoderDecoder, machine: DeviceConfig, rows: list[tuple[Cell, Cell]], options: PredictOptions
    ) -> tuple[MetricReport, list[Prediction]]:
        sources, targets = [source for source, _ in rows], [target for _, target in rows]
        predictions = list(Predictor(model, self.spec, machine, options).predict_iter(sources))
        return evaluate_predictions(self.spec, sources, targets, predictions), predictions

    def final_eval(
        self, model: EncoderDecoder, machine: DeviceConfig, limit: int, best_fraction: float, epochs: float
    ) -> FinalEvaluation:
        if self.validation is None:
            why = "No rows were held out for validation, so the last model is kept, not the best: add rows or --validation."
            return self._with_test(FinalEvaluation(None, why), model, machine)
        val = mean_loss(model, self.validation, self.validation_rows, machine)
        train = mean_loss(model, self.dataset, self.train_rows[: max(1, len(self.validation_rows))], machine)
        threshold_note = self._choose_threshold(model, machine)
        summary, better = self._summary(model, machine, self.validation_cells, "validation")
        noun = "steps" if self.spec.is_stream else "rows"
        diagnosis = f"{summary}. Loss {train:.3f} on training {noun}, {val:.3f} on validation {noun}.{threshold_note}"
        if (label := only_label(self.spec.target, [cell for _, cell in self.validation_cells])) is not None:
            diagnosis += f" The validation rows have one label only, '{label}': these figures say nothing about the others."
        else:
            num_rows = self.validation.count(self.validation_rows)
            kinds = {"is_series": self.spec.is_stream, "is_number": self.spec.loss_unit == "number"}
            diagnosis += judge_table(train, val, best_fraction, epochs, num_rows, better, **kinds)
        return self._with_test(FinalEvaluation(val, diagnosis), model, machine)

    def _choose_threshold(self, model: EncoderDecoder, machine: DeviceConfig) -> str:
        """Choose the threshold of two balanced labels on the validation rows; return a sentence about it."""
        labels = list(self.spec.target.labels)
        if not self.is_balanced or self.spec.mode.output != "single" or len(labels) != 2 or not self.validation_cells:
            return ""
        cells = self.validation_cells[:FINAL_EVAL_ROWS]
        _, predictions = self._predict(model, machine, cells, PredictOptions())
        if (threshold := choose_threshold(self.spec, cells, predictions)) is None:
            return " No threshold was chosen, since the validation rows have one label only."
        self.spec = replace(self.spec, threshold=threshold)
        return f" '{labels[1]}' is predicted from a probability of {threshold:.3g} on, chosen on the validation rows."

    def complete(self, model_file: TableModelFile) -> TableModelFile:
        return replace(model_file, spec=replace(model_file.spec, threshold=self.spec.threshold))

    def _with_test(self, final: FinalEvaluation, model: EncoderDecoder, machine: DeviceConfig) -> FinalEvaluation:
        """Add the results on the test rows, if there are any."""
        if not self.test_cells:
            return final
        test_nats, error = mean_loss_with_error(model, self.dataset, self.test_rows, machine)
        summary = f"test: {self._summary(model, machine, self.test_cells, 'test')[0]} (not used for model selection)"
        return replace(final, test_nats=test_nats, test_standard_error=error, test_summary=summary)

    def _summary(
        self, model: EncoderDecoder, machine: DeviceConfig, cells: list[tuple[Cell, Cell]], split: str
    ) -> tuple[str, str]:
        """Return the first metrics of the predictions of a split with their baselines, in words, and the `better_baseline`."""
        report, predictions = self._predict(model, machine, cells[:FINAL_EVAL_ROWS], PredictOptions())
        sources, targets = zip(*cells[:FINAL_EVAL_ROWS], strict=True)
        error = headline_error(self.spec, sources, targets, predictions) if split == "test" else None
        return report.in_words(split, error), report.better_baseline
