"""`--to html` for models of series: one page that reads rows and predicts, its script run by node before it is written."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.evaluation.number_predictions import forecast
from unrolled.exchange.export_job import TOLERANCE, ExportResult
from unrolled.exchange.html_export import check_in_node
from unrolled.exchange.series_model import MAX_COMPARED_LAG, SeriesModel, compared_series, unsupported_cell
from unrolled.exchange.series_page_data import covariate_cells, page_data
from unrolled.runtime.portable import CELL_STEPS
from unrolled.tables.cell_values import Cell
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.step_arrays import StepArray
from unrolled.views.report import to_json_value
from unrolled.views.series_predictor_page import series_predictor_page

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

SCRIPT = "series_predictor/predictor.js"
REPLAY = """
const { unpackSeriesModel, findDifference } = __modules["series_predictor/predictor.js"];
for (const hasVectors of [true, false]) fail(findDifference(await unpackSeriesModel(data.model, hasVectors), data.vectors));
"""
TESTED_CELLS = 30
"""Cells of a column that is known in advance that are compared."""

TESTED_PATHS, TESTED_HORIZON, KNOWN_STEPS = 8, 24, (3, 40)
"""Paths and steps of forecasts that are compared, at most, and the steps before them."""


def unsupported_series_in_page(model_file: TableModelFile) -> str | None:
    """Say why a model of series has no page, or return None if it has one."""
    return unsupported_cell(model_file, tuple(CELL_STEPS), "in the page")


def export_series_html(model_file: TableModelFile, title: str, out: Path) -> ExportResult:
    """Return the page of a model of series, checked. Raises `ExportError` if it computes something else."""
    series = SeriesModel.of(model_file)
    data = {**page_data(model_file.spec, series, title), "vectors": vectors_data(series)}
    page = series_predictor_page(data)
    lengths = ", ".join(map(str, dict.fromkeys(len(case["numbers"]) for case in data["vectors"]["cases"])))
    drawn = f", and {len(KNOWN_STEPS)} forecasts" * bool(series.horizon)
    checked = f"every output of series of {lengths} steps, whole and in two parts with the state carried over{drawn}"
    facts = {"weights": "float32", "mode": model_file.spec.mode_text}
    return ExportResult({out: page.encode()}, [check_in_node(page, SCRIPT, REPLAY, checked)], facts)


def vectors_data(series: SeriesModel) -> dict[str, Any]:
    """Return test vectors as JSON values: series with the outputs of PyTorch at each step, their tolerances, and forecasts."""
    rows = [row for batch in compared_series(series) for row in batch]
    outputs = [series.expected_outputs(row) for row in rows]
    tolerance = TOLERANCE * series.output_ranges(np.concatenate(outputs))
    cases = [{**_steps(row), "outputs": expected} for row, expected in zip(rows, outputs, strict=True)]
    forecasts = [_forecast(series, steps, seed) for seed, steps in enumerate(KNOWN_STEPS)] if series.horizon else []
    found = {"tolerance": tolerance, "cases": cases, "cells": _cells(series), "forecasts": forecasts}
    vectors: dict[str, Any] = to_json_value(found)
    return vectors


def _steps(values: StepArray) -> dict[str, Any]:
    return {"numbers": np.asarray(values), "seconds": values.seconds, "covariates": values.covariates}


def _cells(series: SeriesModel) -> dict[str, Any] | None:
    """Return cells of columns that are known in advance, and what is read of them; None without such columns."""
    if not series.covariates:
        return None
    texts = [covariate_cells(covariate, TESTED_CELLS) for covariate in series.covariates]
    inputs = [
        covariate.encode(values, Cell(values, ""), False) for covariate, values in zip(series.covariates, texts, strict=True)
    ]
    return {"texts": list(zip(*texts, strict=True)), "inputs": np.concatenate(inputs, axis=1)}


def _forecast(series: SeriesModel, num_steps: int, seed: int) -> dict[str, Any]:
    """Return a forecast with few paths; a long one is that of more steps than the lag, if there is one."""
    lag = min(series.source.difference, MAX_COMPARED_LAG)
    ahead = min(series.horizon, max(TESTED_HORIZON, lag + 2))
    history = series.compared_steps(num_steps + (lag if seed else 0), seed, ahead)
    target = copy.copy(series.numbers)
    if not isinstance(target, NumbersColumn):
        raise ValueError("only numbers are forecast")
    target.horizon = ahead
    point, bands = forecast(series.network, series.source, target, [history], [seed], TESTED_PATHS)[0]
    tolerance = TOLERANCE * np.maximum(np.ptp(bands, axis=(0, 1)), target.scaling.spread)
    drawing = {"seed": seed, "numPaths": TESTED_PATHS, "horizon": target.horizon}
    return {**_steps(history), **drawing, "point": point, "bands": bands, "tolerance": tolerance}
