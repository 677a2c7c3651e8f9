"""What a model of series predicts, drawn: for held-out parts of its run, or for the series of a table and what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unrolled.analysis.series_charts import MAX_DRAWN_STEPS, MAX_SERIES, DrawnRow, charts_note, series_charts
from unrolled.analysis.table_session import TableSession
from unrolled.evaluation.predictor import Prediction, evaluate_predictions
from unrolled.options import ExplainOptions, PredictOptions
from unrolled.tables.cell_values import Cell
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.series_rows import forecast_cells
from unrolled.tables.source_columns import join_cells
from unrolled.tables.step_arrays import SeriesName

MAX_ORIGINS = 24
"""Steps of a series, at most, from which a forecast is made to compare it with the numbers after them."""


def drawn_series(session: TableSession, name: Any, options: ExplainOptions) -> tuple[list[dict[str, Any]], str]:
    """Return charts of the series of a table (None: the run's held-out rows), and a sentence about those that are not drawn.

    Of a forecast, those from some last steps of each series are compared with what came, and one goes on after the end.
    """
    spec = session.spec
    if name is None:
        evaluated = session.evaluate(None, PredictOptions())
        rows = list(map(DrawnRow, evaluated.sources, evaluated.truths, evaluated.predictions))
        note = charts_note(spec, len({SeriesName.of(row.source).name for row in rows}))
        return series_charts(spec, rows, evaluated.report), note
    found = list(session.iter_rows(name, options.header, options.encoding))
    chosen = [found[i] for i in np.unique(np.linspace(0, len(found) - 1, MAX_SERIES).astype(int))]
    cells = chosen if not spec.horizon else [pair for source, _ in chosen for pair in _origins(session, source)]
    predictions = session.predictor(PredictOptions(beam=1)).predict_iter(source for source, _ in cells)
    rows = [DrawnRow(source, truth, made) for (source, truth), made in zip(cells, predictions, strict=True)]
    return series_charts(spec, rows, _report(session, rows)), charts_note(spec, len(found))


def answer_charts(session: TableSession, table: Any, predictions: Sequence[Prediction]) -> tuple[list[dict[str, Any]], str]:
    """Return charts of what was predicted for the series of a table or frame, one prediction for each, and a sentence about
    those that are not drawn; the true numbers are drawn where the table has them."""
    spec = session.spec
    opened, columns = session.open_sources(table, with_target=True)
    targets = [] if spec.horizon else opened.matching_columns(spec.target.name)
    rows = []
    for (line, row), made in zip(opened.rows(), predictions, strict=True):
        truth = opened.cell(line, row, targets[0]) if len(targets) == 1 else None
        known = None if truth is None or spec.target.is_missing(truth.value) else truth
        rows.append(DrawnRow(join_cells([opened.cell(line, row, column) for column in columns]), known, made))
    return series_charts(spec, rows, None if spec.horizon else _report(session, rows)), charts_note(spec, len(rows))


def _origins(session: TableSession, cell: Cell) -> list[tuple[Cell, Cell | None]]:
    """Return the steps before, and after, some of the last steps of a series, and the whole of it, which nothing follows."""
    spec, values, series = session.spec, session.spec.source.encode(cell), SeriesName.of(cell)
    count = int(np.clip(MAX_DRAWN_STEPS // 2 // spec.horizon, 1, MAX_ORIGINS))
    origins = [len(values) - spec.horizon * number for number in range(count, 0, -1)]
    pairs: list[tuple[Cell, Cell | None]] = [
        forecast_cells(spec, series, values, o, o + spec.horizon, cell.table_name) for o in origins if o > 0
    ]
    if spec.ahead and len(series.covariates) < len(values) + spec.ahead:
        return pairs  # what comes is not known
    return [*pairs, (forecast_cells(spec, series, values, len(values), len(values), cell.table_name)[0], None)]


def _report(session: TableSession, rows: list[DrawnRow]) -> MetricReport | None:
    """Return the metrics of the rows whose truth is known."""
    known = [(row.source, row.truth, row.prediction) for row in rows if row.truth is not None and len(row.prediction.values)]
    known = [row for row in known if not np.isnan(session.spec.target.encode(row[1])).all()]
    if not known:
        return None
    sources, truths, predictions = (list(part) for part in zip(*known, strict=True))
    return evaluate_predictions(session.spec, sources, truths, predictions)
