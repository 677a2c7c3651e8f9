"""Metrics of a model's predictions for a table, and the statistics of the training rows that the baselines need."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.evaluation.metric_report import MetricReport
from unrolled.evaluation.metrics import (
    StepLabelCounts,
    classification_report,
    generation_report,
    regression_report,
    step_label_report,
)
from unrolled.evaluation.predictor import Prediction
from unrolled.tables.cell_values import Cell, parse_text
from unrolled.tables.columns import ImageColumn, LabelColumn, LabelsColumn, TextColumn
from unrolled.tables.pair_batching import PairDataset, encode_source
from unrolled.tables.spec import TableSpec

MAX_BASELINE_ROWS = 200_000
"""Training rows that the baselines are computed from; of a larger table, the first ones."""


def fit_baselines(dataset: PairDataset, index: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Return the statistics of the training rows `index` that `evaluate_predictions` needs, as JSON values.

    They are label counts, or the most frequent text; for texts also `max_length`, which limits the length of a prediction.
    """
    spec = dataset.spec
    rows = index[:MAX_BASELINE_ROWS].tolist()
    if isinstance(spec.target, LabelColumn):
        counts = Counter(int(dataset.target[i][0]) for i in rows)
        return {"labels": {spec.target.labels[label]: count for label, count in sorted(counts.items())}}
    if isinstance(spec.target, LabelsColumn):
        label_counts = StepLabelCounts()
        for i in rows:
            label_counts.add(_token_names(spec, dataset.source[i]), spec.target.label_names(dataset.target[i]))
        return {"step_labels": label_counts.to_json()}
    if isinstance(spec.target, TextColumn):
        texts = Counter(dataset.target[i].tobytes() for i in rows)
        majority_ids = np.frombuffer(texts.most_common(1)[0][0], dtype=np.int32)
        max_length = int(dataset.target.lengths[index].max())
        return {"max_length": max_length, "most_common": spec.target.decode(majority_ids)}
    if isinstance(spec.target, ImageColumn):
        levels = np.bincount(np.concatenate([dataset.target[i] for i in rows[:2000]]), minlength=spec.dims.target_size)
        return {"levels": levels.tolist()}
    return {}


def _token_names(spec: TableSpec, source: npt.NDArray[Any]) -> list[str] | None:
    """Return a name for each token of a source; None if the source is not tokens."""
    return [str(i) for i in source.tolist()] if spec.source.tensor_kind == "ids" else None


def evaluate_predictions(
    spec: TableSpec, sources: Sequence[Cell], truths: Sequence[Cell], predictions: Sequence[Prediction]
) -> MetricReport:
    """Return the metrics for the kind of the target column, together with those of its baselines.

    Generated images have no baselines, since there is no single correct image.
    """
    target, train_stats = spec.target, spec.train_stats
    if isinstance(target, LabelColumn):
        return classification_report(
            [parse_text(cell) for cell in truths], [prediction.text for prediction in predictions], train_stats["labels"]
        )
    if isinstance(target, LabelsColumn):
        source_names = [_token_names(spec, encode_source(spec, cell)) for cell in sources]
        source_tokens = None if any(row is None for row in source_names) else [row or [] for row in source_names]
        truth, predicted = (
            [list(target.cell_tokens(cell)) for cell in truths],
            [target.label_names(prediction.values) for prediction in predictions],
        )
        return step_label_report(truth, predicted, source_tokens, StepLabelCounts.from_json(train_stats["step_labels"]))
    if isinstance(target, TextColumn):
        truth_texts, count = [parse_text(cell) for cell in truths], len(truths)
        baselines = {"most_common": [str(train_stats["most_common"])] * count}
        if isinstance(spec.source, TextColumn):
            baselines["copy"] = [parse_text(cell) for cell in sources]
        return generation_report(truth_texts, [prediction.text for prediction in predictions], baselines)
    if isinstance(target, ImageColumn):
        return _image_report(target, spec, truths, predictions)
    numeric_column: Any = target
    truth_values = np.concatenate([type(numeric_column).read(cell) for cell in truths])
    return regression_report(
        truth_values,
        numeric_column.unscale(np.concatenate([prediction.values for prediction in predictions])),
        numeric_column.mean,
    )


def _image_report(
    target: ImageColumn, spec: TableSpec, truths: Sequence[Cell], predictions: Sequence[Prediction]
) -> MetricReport:
    """Return the differences in mean brightness and in contrast (standard deviation) of generated and true images."""
    truth = np.stack([target.encode(cell) for cell in truths])
    generated = np.stack([target.dequantize(prediction.values, spec.dims.target_size) for prediction in predictions])
    generated = (generated - target.mean) / target.scale
    return MetricReport(
        metrics={
            "brightness_error": float(abs(generated.mean() - truth.mean())),
            "contrast_error": float(abs(generated.std() - truth.std())),
        },
        baselines={},
        num_rows=len(truths),
        notes=("there is no single correct image: look at some generated ones with `predict --image-dir FOLDER`",),
    )
