"""Baselines that learn from the training rows of a run as the model did, with scikit-learn: see `BASELINES`."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.analysis import linear_baseline, tree_baseline
from unrolled.errors import UnrolledError
from unrolled.evaluation.predictor import Prediction, evaluate_predictions
from unrolled.tables.cell_values import Cell
from unrolled.tables.numeric_columns import NumberColumn

if TYPE_CHECKING:
    from unrolled.tables.metric_report import MetricReport
    from unrolled.tables.spec import TableSpec

logger = logging.getLogger(__name__)

Changes = list[dict[str, Any]]
"""What a baseline has in place of each prediction of the model."""


def with_learned_baseline(
    report: MetricReport,
    spec: TableSpec,
    training_cells: Callable[[], Sequence[tuple[Cell, Cell]]],
    sources: Sequence[Cell],
    truths: Sequence[Cell],
    predictions: Sequence[Prediction],
) -> MetricReport:
    """Return a report with the metrics of a baseline that learned from the training rows, `training_cells()`.

    The report comes back as it is if there is no such baseline for the columns, if scikit-learn is missing, or if the training
    rows cannot be read any more.
    """
    name, learn = _baseline_of(spec)
    if learn is None or not importlib.util.find_spec("sklearn"):
        return report
    try:
        rows = training_cells()
    except UnrolledError as error:
        logger.info(f"{name} is left out of the baselines: {error}")
        return report
    changes = learn(spec, rows, sources)
    answers = [dataclasses.replace(answer, **change) for answer, change in zip(predictions, changes, strict=True)]
    metrics = evaluate_predictions(spec, sources, truths, answers).metrics
    return dataclasses.replace(report, baselines={**report.baselines, name: metrics})


def _baseline_of(
    spec: TableSpec,
) -> tuple[str, Callable[[TableSpec, Sequence[tuple[Cell, Cell]], Sequence[Cell]], Changes] | None]:
    """Return the name of the baseline for these columns, and what learns it; None: there is none."""
    if spec.reads_one_text:
        return (linear_baseline.NAME if spec.labels_one_text else linear_baseline.NUMBER_NAME), linear_baseline.one_text_changes
    return tree_baseline.NAME, _tree_changes if tree_baseline.reads_columns(spec) else None


def _tree_changes(spec: TableSpec, rows: Sequence[tuple[Cell, Cell]], sources: Sequence[Cell]) -> Changes:
    answers, probabilities = tree_baseline.predict_from_columns(spec, rows, sources)
    if isinstance(spec.target, NumberColumn):
        return [{"values": spec.target.scaled(number).reshape(1, 1)} for number in answers]
    texts = [spec.target.decode(np.array([label])) for label in answers.astype(int)]
    chances: Sequence[Any] = [None] * len(texts) if probabilities is None else list(probabilities)
    return [{"text": text, "probabilities": chance} for text, chance in zip(texts, chances, strict=True)]
