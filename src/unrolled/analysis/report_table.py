"""The report of a run on a table: metrics and baselines, confusion matrix, attention maps and errors."""

from __future__ import annotations

import logging
from typing import Any

from unrolled.analysis.report_data import created_by, run_sections, training_time
from unrolled.analysis.series_charts import series_charts
from unrolled.analysis.table_session import EvaluatedRows, TableSession
from unrolled.options import PredictOptions
from unrolled.tables.cell_values import display_text

logger = logging.getLogger(__name__)

MAX_ERRORS = 30
MAX_ATTENTION_MAPS = 6
MAX_MAP_TOKENS = 60
"""A row with more source tokens has no attention map: it would be too large to read."""

MAX_CELL_CHARS = 300
"""Characters of a cell that are displayed."""


def build_table_report(session: TableSession) -> dict[str, Any]:
    """Evaluate a table model on its run's test rows (validation rows if there are none), and return the data of the page."""
    logger.info("predicting the held-out rows")
    evaluated = session.evaluate(None, PredictOptions())
    report, history = evaluated.report, session.saved.history
    headline = report.headline
    baseline_texts = [f"{name}: {metrics[headline]:.3f}" for name, metrics in report.baselines.items() if headline in metrics]
    run_data = run_sections(session.run, None)
    run_data["curves"]["loss_unit"] = "target"
    return {
        "title": session.name,
        "subtitle": session.description,
        "created": created_by(),
        "command": f"unrolled predict {session.path.parent} TABLE",
        "headline": [
            {"name": headline.replace("_", " "), "value": f"{report.metrics[headline]:.3f}", "note": "; ".join(baseline_texts)},
            {"name": f"{report.split} rows", "value": f"{report.num_rows:,}", "note": ""},
            training_time(session.run),
        ],
        "diagnosis": history.get("diagnosis") or "",
        **run_data,
        "table": report.to_json(),
        "series": series_charts(session.spec, evaluated),
        "attention": _attention_maps(session, evaluated),
        "errors": _wrong_rows(session, evaluated),
    }


def _wrong_rows(session: TableSession, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return the wrong predictions, most probable first; none for images, which have no single correct target."""
    target = session.spec.target
    if not target.has_single_answer:
        return []
    wrong: list[dict[str, Any]] = [
        {
            "source": display_text(source.value)[:MAX_CELL_CHARS],
            "truth": display_text(truth.value)[:MAX_CELL_CHARS],
            "predicted": prediction.text[:MAX_CELL_CHARS],
            "probability": prediction.probability,
        }
        for source, truth, prediction in zip(evaluated.sources, evaluated.truths, evaluated.predictions, strict=True)
        if prediction.probability is not None and target.is_wrong(truth, prediction.text, prediction.values)
    ]
    return sorted(wrong, key=lambda row: -row["probability"])[:MAX_ERRORS]


def _attention_maps(session: TableSession, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return the attention weights of the predictions for the first rows."""
    source, target = session.spec.source, session.spec.target
    if target.tokenizer is None or source.tokenizer is None or not session.saved.model.pair.attention:
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
