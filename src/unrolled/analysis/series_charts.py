"""Parts of series with their predictions, as the report draws them."""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.analysis.table_session import EvaluatedRows
from unrolled.tables.cell_values import Array
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.spec import TableSpec

MAX_CHARTS = 6
MAX_CHART_STEPS, MAX_CHART_HISTORY = 2000, 400
"""Steps of a part, and steps before it, that are drawn."""


def series_charts(spec: TableSpec, evaluated: EvaluatedRows) -> list[dict[str, Any]]:
    """Return some of the evaluated rows, evenly chosen: `history`, `truth`, `predicted`, and `low` and `high`, the outer
    quantiles, of the first number of each step."""
    target = spec.target
    if not isinstance(target, NumbersColumn):
        return []
    rows = [row for row in range(len(evaluated.truths)) if len(evaluated.predictions[row].values)]
    charts = []
    for row in [rows[i] for i in np.unique(np.linspace(0, len(rows) - 1, MAX_CHARTS).astype(int))] if rows else []:
        truth = target.encode(evaluated.truths[row])[:, 0]
        prediction = evaluated.predictions[row]
        values, bands = prediction.values[:, 0], prediction.quantiles
        part = slice(0, len(truth)) if spec.horizon else slice(len(values) - len(truth), len(values))
        history = spec.source.encode(evaluated.sources[row])[:, 0] if spec.horizon else np.zeros(0)
        charts.append(
            {
                "name": target.columns[0],
                "history": _numbers(history[-min(MAX_CHART_HISTORY, 4 * len(truth) + 20) :]),
                "truth": _numbers(truth),
                "predicted": _numbers(values[part]),
                "low": [] if bands is None else _numbers(bands[0, part, 0]),
                "high": [] if bands is None else _numbers(bands[-1, part, 0]),
            }
        )
    return charts


def _numbers(values: Array) -> list[float | None]:
    """Return numbers with 5 digits, None for gaps."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values[:MAX_CHART_STEPS].tolist()]
