"""Predictions of an encoder-decoder model for the rows of a table, in order.

Rows are batched by length. A row's prediction does not depend on the other rows, apart from rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unrolled.display import Displayed, plural
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.calibration import best_threshold
from unrolled.evaluation.number_predictions import forecast, step_predictions
from unrolled.generation.beam_search import Hypothesis, attention_weights, beam_search, sample_sequences
from unrolled.nn.device import DeviceConfig
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import PredictOptions, SampleOptions
from unrolled.tables.cell_values import Array, Cell
from unrolled.tables.column import EvalRows
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.metrics import roc_auc
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.padding import collate_sources
from unrolled.tables.pair_batching import bucket_by_length
from unrolled.tables.row_tally import RowTally
from unrolled.tables.source_columns import EncodedSource
from unrolled.tables.spec import TableSpec
from unrolled.tables.word_tokenizer import WordTokenizer

MAX_BATCH_ROWS, MAX_BATCH_STEPS = 64, 1 << 14
"""Limits of a batch: its rows, and rows times time steps."""

SORT_WINDOW_ROWS = 2048
"""Rows that are read before any is predicted, to sort them by length."""


@dataclass(frozen=True, repr=False)
class Prediction(Displayed):
    """The prediction for one row: as a `text`, as `values` (ids or numbers), and with its probability if it has one.

    `probabilities` `(labels,)` are those of all labels, if the prediction is one of them. `alternatives` are the next most
    likely answers, if several were asked for (`PredictOptions.count`). `values` of numbers at every step are `(T, D)` in the
    unit of the data, with `quantiles` `(levels, T, D)` if the model has them.
    """

    text: str
    values: Array
    probability: float | None = None
    probabilities: Array | None = None
    alternatives: tuple[Prediction, ...] = ()
    quantiles: Array | None = None

    def withhold_below(self, min_probability: float) -> Prediction:
        """Return the prediction, or an empty one with its probabilities if the probability is less than `min_probability`.

        Example:
            >>> Prediction("yes", np.array([1]), probability=0.6).withhold_below(0.7).text
            ''
        """
        if self.probability is None or self.probability >= min_probability:
            return self
        return replace(self, text="", values=self.values[:0], alternatives=())

    @property
    def facts(self) -> Mapping[str, object]:
        probability = {} if self.probability is None else {"probability": f"{self.probability:.4f}"}
        return {"text": self.text, **probability}


class Predictor:
    """Predicts rows with a model on a device.

    Raises `DataError` for a cell that the source column cannot read; with a `tally`, that is counted there, and the prediction
    of the row is empty.
    """

    def __init__(
        self,
        model: EncoderDecoder,
        spec: TableSpec,
        machine: DeviceConfig,
        options: PredictOptions,
        tally: RowTally | None = None,
    ) -> None:
        self.model, self.spec, self.machine, self.options, self.tally = model, spec, machine, options, tally
        self.num_cut, self.first_cut = 0, ""
        _check_count(model, spec, options)
        self.max_new_tokens = model.dims.target_length or int(spec.train_stats.get("max_length", 256) * 1.2) + 4

    def predict_iter(self, cells: Iterable[Cell]) -> Iterator[Prediction]:
        """Yield the prediction of each source cell, in order; that of an empty cell is empty."""
        block: list[Cell] = []
        first = 0
        for cell in cells:
            block.append(cell)
            if len(block) == SORT_WINDOW_ROWS:
                yield from self.predict(block, first)
                first, block = first + len(block), []
        yield from self.predict(block, first)

    @torch.inference_mode()
    def predict(self, cells: Sequence[Cell], first: int = 0) -> list[Prediction]:
        """Return the predictions of some cells; `first` is the index of the first one, which changes the sampling seeds."""
        steps = [self.encode(cell) for cell in cells]
        if self.tally is not None and self.tally.unreadable.count == self.tally.num_rows:
            self.tally.unreadable.require_few(self.tally.num_rows)
        lengths = np.array([len(array) for array in steps], dtype=np.int64)
        predictions: list[Prediction] = [Prediction("", np.zeros(0, dtype=np.int64))] * len(cells)
        self.model.eval()
        for group in bucket_by_length(np.flatnonzero(lengths > 0), lengths, MAX_BATCH_ROWS, MAX_BATCH_STEPS):
            batch = self.collate([steps[i] for i in group])
            with self.machine.autocast():
                group_predictions = self._predict_batch(
                    batch, [cells[i] for i in group], [self.options.seed + first + int(i) for i in group]
                )
            for index, prediction in zip(group.tolist(), group_predictions, strict=True):
                predictions[index] = prediction
        return predictions

    def encode(self, cell: Cell) -> EncodedSource:
        """Return the steps of a source cell, cut if they are too many (see `TableSpec.cut_source`).

        There are none if the cell is missing, or is counted as one that cannot be read.
        """
        spec, tally = self.spec, self.tally
        if spec.is_source_missing(cell):
            if tally is not None:
                tally.num_empty += 1
            return EncodedSource(np.zeros(0))
        if tally is not None:
            tally.num_rows += 1
        try:
            source = spec.encode_source(cell)
            spec.check_ahead(cell)
        except DataError as error:
            if tally is None:
                raise
            tally.unreadable.add(error)
            return EncodedSource(np.zeros(0))
        if tally is not None:
            tally.add_row(spec.sources, (cell, *cell.others))
        cut = spec.cut_source(source)
        if cut.num_steps < source.num_steps:
            self.num_cut, self.first_cut = self.num_cut + 1, self.first_cut or cell.location
        return cut

    def length_note(self) -> str | None:
        """Return a message about the rows that were cut, or None."""
        if not self.num_cut:
            return None
        limit = f"longer than the {self.spec.step_limit:,} steps that the model was trained on"
        return f"{plural(self.num_cut, 'source')} {limit}, and cut there; the first: {self.first_cut}"

    @torch.inference_mode()
    def predict_with_attention(self, cell: Cell) -> tuple[Prediction, Array | None]:
        """Return the prediction of one cell and its attention weights `(M, S)`, if the model has attention."""
        prediction = self.predict([cell])[0]
        if self.model.decoder is None or not len(prediction.values):
            return prediction, None
        weights = attention_weights(self.model, self.collate([self.encode(cell)]), [Hypothesis(prediction.values, 0.0)])
        return prediction, None if weights is None else weights[0]

    def collate(self, steps: list[EncodedSource]) -> dict[str, Tensor]:
        """Return sources as one batch of tensors on the device."""
        arrays = collate_sources(self.spec, steps)
        device = self.machine.device
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}

    def _predict_batch(self, batch: dict[str, Tensor], cells: list[Cell], seeds: list[int]) -> list[Prediction]:
        if self.model.decoder is not None:
            return self._generate(batch, cells, seeds)
        target = self.spec.target
        if isinstance(target, NumbersColumn):
            return self._predict_numbers(batch, cells, seeds, target)
        logits = self.model.logits(batch).float()
        if self.model.dims.target_tensor_kind == "floats":
            return [Prediction(self.spec.target.decode_target(row[None]), row[None]) for row in logits[0].cpu().numpy()]
        known_logits = logits[..., :-1] if logits.shape[-1] > 1 else logits  # never predict the unknown label
        probs = known_logits.double().softmax(-1).cpu().numpy()
        if self.spec.mode.output == "single":
            return [self._label_prediction(row) for row in probs[0]]
        lengths = batch["lengths"].tolist()
        return [self._step_labels_prediction(probs[:length, column]) for column, length in enumerate(lengths)]

    def _predict_numbers(
        self, batch: dict[str, Tensor], cells: list[Cell], seeds: list[int], target: NumbersColumn
    ) -> list[Prediction]:
        """Return the numbers of each step, or those of the steps after the source."""
        if isinstance(self.spec.source, NumbersColumn) and target.horizon:
            histories = [self.spec.source.encode(cell) for cell in cells]
            forecasts = forecast(self.model, self.spec.source, target, histories, seeds)
            return [Prediction(target.decode(point), point, quantiles=bands) for point, bands in forecasts]
        outputs, predictions = self.model.logits(batch).float().cpu().numpy(), []
        for column, length in enumerate(batch["lengths"].tolist()):
            point, bands = step_predictions(outputs[:length, column], target)
            values = target.unscale(point)
            quantiles = None if bands is None else target.unscale(bands)
            predictions.append(Prediction(target.decode(values), values, quantiles=quantiles))
        return predictions

    def _label_prediction(self, probs: Array) -> Prediction:
        order = np.argsort(-probs, kind="stable")
        if self.spec.threshold is not None and len(probs) == 2:
            order = np.array([1, 0]) if probs[1] >= self.spec.threshold else np.array([0, 1])
        best, *others = (
            Prediction(self.spec.target.decode_target(label[None]), label[None], float(probs[label]))
            for label in order[: self.options.count]
        )
        return replace(best, probabilities=probs, alternatives=tuple(others))

    def _step_labels_prediction(self, probs: Array) -> Prediction:
        """Return the labels of steps `(T, labels)`; the probability is the geometric mean over the steps."""
        best = probs.argmax(-1)
        best_probs = np.take_along_axis(probs, best[:, None], -1)
        return Prediction(self.spec.target.decode_target(best), best, float(np.exp(np.log(best_probs).mean())))

    def _generate(self, batch: dict[str, Tensor], cells: list[Cell], seeds: list[int]) -> list[Prediction]:
        if self.model.dims.target_length or self.options.temperature is not None:
            temperature = 1.0 if self.options.temperature is None else self.options.temperature
            rows = sample_sequences(self.model, batch, SampleOptions(temperature=temperature), seeds, self.max_new_tokens)
            return self._decode(batch, rows, cells)
        ranked = beam_search(self.model, batch, self.options, self.max_new_tokens)
        predictions = self._decode(batch, [hypotheses[0] for hypotheses in ranked], cells)
        for rank in range(1, max(map(len, ranked))):
            # A row with fewer hypotheses repeats its best one in the batch, and nothing is taken from it.
            others = self._decode(batch, [row[rank] if rank < len(row) else row[0] for row in ranked], cells)
            for index, (row, other) in enumerate(zip(ranked, others, strict=True)):
                if rank < len(row):
                    best = predictions[index]
                    predictions[index] = replace(best, alternatives=(*best.alternatives, other))
        return predictions

    def _decode(self, batch: dict[str, Tensor], hypotheses: list[Hypothesis], cells: list[Cell]) -> list[Prediction]:
        texts = self._replace_unknown_words(batch, hypotheses, cells) or [
            self.spec.target.decode_target(row.ids) for row in hypotheses
        ]
        return [Prediction(text, row.ids, float(np.exp(row.log_prob))) for text, row in zip(texts, hypotheses, strict=True)]

    def _replace_unknown_words(
        self, batch: dict[str, Tensor], hypotheses: list[Hypothesis], cells: list[Cell]
    ) -> list[str] | None:
        """Return texts in which each unknown word is the source word with the highest attention (Luong et al. 2015).

        Returns None if there is nothing to replace, or no attention.
        """
        target, source = self.spec.target, self.spec.source
        if not isinstance(target.tokenizer, WordTokenizer) or not isinstance(source.tokenizer, WordTokenizer):
            return None
        if not any((row.ids == target.unk_id).any() for row in hypotheses):
            return None
        attention = attention_weights(self.model, batch, hypotheses)
        if attention is None:
            return None
        texts = []
        for row, weights, cell in zip(hypotheses, attention, cells, strict=True):
            words = source.cell_tokens(cell)
            own = weights[:, : len(words)]  # the steps of other source columns follow
            copies = {step: words[int(own[step].argmax())] for step in np.flatnonzero(row.ids == target.unk_id).tolist()}
            texts.append(target.tokenizer.detokenize(row.ids.tolist(), copies))
        return texts


def _check_count(model: EncoderDecoder, spec: TableSpec, options: PredictOptions) -> None:
    """Raise `UsageError` if several answers are asked for, and a row has only one."""
    if options.count == 1:
        return
    if spec.mode.output == "single" and spec.dims.target_tensor_kind != "ids":
        raise UsageError(f"--count is for labels and texts, and '{spec.target.name}' is {spec.target.kind}: leave it out.")
    if spec.mode.output == "aligned" or model.dims.target_length:
        raise UsageError(f"--count is for one label or a text, and '{spec.target.name}' is {spec.target.kind}: leave it out.")
    if options.temperature is not None and spec.mode.output == "generated":
        raise UsageError("--count ranks the answers of the beam, and --temperature draws one: leave one out.")


def evaluate_predictions(
    spec: TableSpec, sources: Sequence[Cell], truths: Sequence[Cell], predictions: Sequence[Prediction]
) -> MetricReport:
    """Return the metrics of predictions, and of baselines.

    Args:
        spec: The columns of the model, with the statistics of its training rows, from which baselines are made.
        sources: The source cell of each row.
        truths: The true target cell of each row.
        predictions: The prediction of each row.
    """
    if spec.is_stream:
        sources, truths, predictions = _known_steps(spec, sources, truths, predictions)
    texts, values = [prediction.text for prediction in predictions], [prediction.values for prediction in predictions]
    quantiles = [prediction.quantiles for prediction in predictions]
    report = spec.target.metric_report(EvalRows(spec.source, sources, truths, texts, values, quantiles), spec.train_stats)
    if spec.is_stream:  # a row is a block of steps, which no one made
        metrics = {name: value for name, value in report.metrics.items() if name != "row_accuracy"}
        return replace(report, metrics=metrics, row_noun="forecast" if spec.horizon else "step")
    auc = _roc_auc(spec, truths, predictions)
    return report if auc is None else replace(report, metrics=report.metrics | {"roc_auc": auc})


def _roc_auc(spec: TableSpec, truths: Sequence[Cell], predictions: Sequence[Prediction]) -> float | None:
    """Return how well the probabilities separate two labels; None for other targets, and if all rows have one of them."""
    target = spec.target
    if not isinstance(target, LabelColumn) or len(target.labels) != 2:
        return None
    ids = [int(target.encode(truth)[0]) for truth in truths]
    rows = [
        (id == 1, float(prediction.probabilities[1]))
        for id, prediction in zip(ids, predictions, strict=True)
        if id < 2 and prediction.probabilities is not None
    ]
    positive, scores = np.array([row[0] for row in rows], dtype=bool), np.array([row[1] for row in rows])
    return roc_auc(scores, positive) if positive.any() and not positive.all() else None


def _known_steps(
    spec: TableSpec, sources: Sequence[Cell], truths: Sequence[Cell], predictions: Sequence[Prediction]
) -> tuple[list[Cell], list[Cell], list[Prediction]]:
    """Return rows of series with the predictions of the steps that have a truth: the last ones of the source, or the next ones.

    Steps without a label are left out, and rows without a prediction.
    """
    rows = []
    for source, truth, prediction in zip(sources, truths, predictions, strict=True):
        if not len(prediction.values):
            continue
        count = len(truth.value)
        steps = np.arange(len(prediction.values))[:count] if spec.horizon else np.arange(len(prediction.values))[-count:]
        if spec.target.labels:
            steps = steps[[label != "" for label in truth.value]]
            truth = truth._replace(value=[label for label in truth.value if label != ""])
        quantiles = None if prediction.quantiles is None else prediction.quantiles[:, steps]
        rows.append((source, truth, replace(prediction, values=prediction.values[steps], quantiles=quantiles)))
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def choose_threshold(spec: TableSpec, cells: Sequence[tuple[Cell, Cell]], predictions: Sequence[Prediction]) -> float | None:
    """Return the probability from which the second of two labels is predicted, chosen on rows and their predictions.

    Returns None if the rows have one label only.
    """
    rows = [
        (float(prediction.probabilities[1]), int(spec.target.encode(target)[0]) == 1)
        for prediction, (_, target) in zip(predictions, cells, strict=True)
        if prediction.probabilities is not None
    ]
    if len({is_second for _, is_second in rows}) < 2:
        return None
    return best_threshold(np.array([prob for prob, _ in rows]), np.array([is_second for _, is_second in rows]))


NUM_JACKKNIFE_GROUPS = 20


def headline_error(
    spec: TableSpec, sources: Sequence[Cell], truths: Sequence[Cell], predictions: Sequence[Prediction]
) -> float | None:
    """Return the standard error of the headline metric: the delete-a-group jackknife (Efron & Tibshirani 1993), for any metric.

    Returns None with fewer than 20 rows, or where the metric is not finite.
    """
    num_rows = len(predictions)
    if num_rows < NUM_JACKKNIFE_GROUPS:
        return None
    values = []
    for group in range(NUM_JACKKNIFE_GROUPS):
        rows = [row for row in range(num_rows) if row % NUM_JACKKNIFE_GROUPS != group]
        group_sources, group_truths = ([items[row] for row in rows] for items in (sources, truths))
        report = evaluate_predictions(spec, group_sources, group_truths, [predictions[row] for row in rows])
        values.append(report.metrics[report.headline])
    error = float(np.sqrt((NUM_JACKKNIFE_GROUPS - 1) * np.var(values)))
    return error if np.isfinite(error) else None
