"""The report of a run on a table: metrics and baselines, confusion matrix, calibration, attention maps, errors, advice."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from unrolled.analysis.cell_views import MAX_CELL_CHARS, answer_view, cell_view, row_view
from unrolled.analysis.explain_rows import number_error
from unrolled.analysis.report_data import created_by, run_evidence, run_sections, training_time
from unrolled.analysis.series_charts import DrawnRow, series_charts
from unrolled.analysis.table_session import EvaluatedRows, TableSession
from unrolled.display import shell_argument
from unrolled.evaluation.predictor import Prediction
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import Cell, display_text
from unrolled.tables.numeric_columns import NumberColumn, VectorColumn
from unrolled.training.diagnosis import advice_from_run

logger = logging.getLogger(__name__)

MAX_ERRORS = 30
MAX_ATTENTION_MAPS = 6
MAX_MAP_TOKENS = 60
"""A row with more source tokens has no attention map: it would be too large to read."""

MAX_POINTS = 2000
"""Numbers in the plot of true and predicted ones."""

MAX_SUREST = 5
NUM_CALIBRATION_GROUPS = 10
MIN_CALIBRATION_ROWS = 30
"""With fewer rows than this, there is no curve of calibration: each of its points would be of a few rows."""


def build_table_report(session: TableSession) -> dict[str, Any]:
    """Evaluate a table model on its run's test rows (validation rows if there are none), and return the data of the page."""
    logger.info("predicting rows that were not trained on")
    evaluated = session.evaluate(None, PredictOptions())
    drawn = list(map(DrawnRow, evaluated.sources, evaluated.truths, evaluated.predictions))
    report, diagnosis = evaluated.report, session.saved.history.get("diagnosis") or ""
    headline = report.headline
    baseline_texts = [f"{name}: {metrics[headline]:.3f}" for name, metrics in report.baselines.items() if headline in metrics]
    run_data = run_sections(session.run, None)
    if session.spec.is_stream:
        run_data["samples"] = []  # series are drawn
    run_data["curves"]["loss_unit"] = "number" if session.spec.target.target_tensor_kind == "floats" else "target"
    return {
        "title": session.name,
        "subtitle": session.description,
        "created": created_by(),
        "command": f"unrolled predict {shell_argument(session.path.parent)} TABLE",
        "headline": [
            {"name": headline.replace("_", " "), "value": f"{report.metrics[headline]:.3f}", "note": "; ".join(baseline_texts)},
            {"name": f"{report.split} {report.row_noun}s", "value": f"{report.num_evaluated:,}", "note": ""},
            training_time(session.run),
        ],
        "diagnosis": diagnosis,
        "advice": _advice(session, diagnosis, run_data),
        **run_data,
        "table": report.to_json() | {"evaluated": report.count()},
        "series": series_charts(session.spec, drawn, report),
        "scatter": _scatter(session, evaluated),
        "calibration": _calibration(session, evaluated),
        "attention": _attention_maps(session, evaluated),
        "errors": _wrong_rows(session, evaluated),
        "surest": _surest_rows(session, evaluated),
    }


def _advice(session: TableSession, diagnosis: str, run_data: dict[str, Any]) -> list[str]:
    """Return what the run gives reason to try."""
    if session.run is None:
        return []
    noun = "steps" if session.spec.is_stream else "rows"
    learns_numbers = session.spec.loss_unit == "number"
    return advice_from_run(diagnosis, run_evidence(session.run, run_data, session.saved.model.options, noun, learns_numbers))


def _scatter(session: TableSession, evaluated: EvaluatedRows) -> dict[str, Any] | None:
    """Return the true and predicted numbers of the first rows, in the unit of the data; None for other targets."""
    target = session.spec.target
    if not isinstance(target, NumberColumn | VectorColumn):
        return None
    rows = zip(evaluated.truths[:MAX_POINTS], evaluated.predictions, strict=False)
    points = [
        [float(true), float(predicted)]
        for truth, prediction in rows
        for true, predicted in zip(target.read_values(truth)[0], target.unscale(prediction.values)[0], strict=True)
    ]
    return {"name": target.name, "points": points[:MAX_POINTS]}


def _calibration(session: TableSession, evaluated: EvaluatedRows) -> list[list[float]] | None:
    """Return, for rows of like probability, its mean, the share of right answers and the number of rows; None without one.

    A label of each step has no probability of the whole row, so it has no such curve.
    """
    target = session.spec.target
    if not target.has_single_answer or target.target_tensor_kind != "ids" or session.spec.mode.output == "aligned":
        return None
    rows = [
        (float(prediction.probability), not target.is_wrong(truth, prediction.text, prediction.values))
        for truth, prediction in zip(evaluated.truths, evaluated.predictions, strict=True)
        if prediction.probability is not None
    ]
    if len(rows) < MIN_CALIBRATION_ROWS:
        return None
    order = sorted(rows)
    groups = np.array_split(np.array(order, dtype=float), min(NUM_CALIBRATION_GROUPS, len(rows) // 5))
    return [[float(group[:, 0].mean()), float(group[:, 1].mean()), len(group)] for group in groups]


def _row(session: TableSession, source: Cell, truth: Cell, prediction: Prediction) -> dict[str, Any]:
    target = session.spec.target
    return {
        "source": row_view(session.spec, source),
        "truth": cell_view(target, truth),
        "predicted": answer_view(target, prediction.text, prediction.values),
        "probability": prediction.probability,
    }


def _wrong_rows(session: TableSession, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return the wrong predictions, the most probable first; numbers, the farthest from the truth first.

    There are none for images, which have no single correct target, nor for series, which are drawn.
    """
    target = session.spec.target
    if not target.has_single_answer or session.spec.is_stream:
        return []
    rows = list(zip(evaluated.sources, evaluated.truths, evaluated.predictions, strict=True))
    if target.target_tensor_kind == "floats":
        errors = [(number_error(session, prediction, truth), row) for row in rows for _, truth, prediction in [row]]
    else:
        errors = [
            (row[2].probability, row)
            for row in rows
            if row[2].probability is not None and target.is_wrong(row[1], row[2].text, row[2].values)
        ]
    errors.sort(key=lambda error: -error[0])
    return [_row(session, *row) for _, row in errors[:MAX_ERRORS]]


def _surest_rows(session: TableSession, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return the right answers that the model is surest and least sure of; none for numbers and images."""
    target = session.spec.target
    if not target.has_single_answer or target.target_tensor_kind == "floats":
        return []
    rows = [
        row
        for row in zip(evaluated.sources, evaluated.truths, evaluated.predictions, strict=True)
        if row[2].probability is not None and not target.is_wrong(row[1], row[2].text, row[2].values)
    ]
    rows.sort(key=lambda row: -(row[2].probability or 0.0))
    least = rows[max(MAX_SUREST, len(rows) - MAX_SUREST) :]
    return [_row(session, *row) for row in (*rows[:MAX_SUREST], *least)]


def _attention_maps(session: TableSession, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return the attention weights of the predictions for the first rows."""
    source, target = session.spec.source, session.spec.target
    if target.tokenizer is None or source.tokenizer is None or session.spec.others or not session.saved.model.pair.attention:
        return []
    predictor = session.predictor(PredictOptions())
    maps: list[dict[str, Any]] = []
    for cell, truth in zip(evaluated.sources, evaluated.truths, strict=True):
        source_tokens = list(source.cell_tokens(cell))
        if len(source_tokens) > MAX_MAP_TOKENS:
            continue
        prediction, weights = predictor.predict_with_attention(cell)
        if len(maps) == MAX_ATTENTION_MAPS:
            break
        if weights is None:  # an empty prediction
            continue
        target_tokens = [target.decode(prediction.values[index : index + 1]) for index in range(len(prediction.values))]
        maps.append(
            {
                "source": source_tokens,
                "target": target_tokens,
                "weights": weights.round(4).tolist(),
                "truth": display_text(truth.value)[:MAX_CELL_CHARS],
            }
        )
    return maps
