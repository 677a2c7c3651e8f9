"""What the page of a model of series holds: its network, its columns, the columns of its table, and made-up rows."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, cast

import numpy as np

from unrolled.analysis.series_charts import MAX_COLUMNS, MAX_DRAWN_HISTORY, MAX_DRAWN_STEPS
from unrolled.command_options import PredictOptions
from unrolled.display import plural
from unrolled.errors import UsageError
from unrolled.evaluation.number_predictions import MAX_SCALED, NUM_PATHS
from unrolled.exchange.export_job import array_of
from unrolled.exchange.series_model import SeriesModel
from unrolled.nn.number_loss import MAX_LOG_DEVIATION
from unrolled.runtime.portable import portable_layer
from unrolled.runtime.portable_arithmetic import FloatMatrix
from unrolled.tables.cell_values import MISSING_IN_NUMBERS, NAMES_OF_MISSING_VALUES
from unrolled.tables.known_covariates import Covariate
from unrolled.tables.scaling import MAX_SCALED_RANGE, NORMAL_IQR, RANGE_TAIL
from unrolled.tables.series_rows import HISTORY_STEPS
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_times import is_read_by_pages, next_times
from unrolled.tables.time_features import CYCLES, FIRST_WEEKDAY
from unrolled.views.portable_data import linear_layer, packed, packed_products, recurrent_layers
from unrolled.views.series_predictor_page import date_rules, scaling_data
from unrolled.views.series_table import STEP_COLUMN, number_columns, step_columns

EXAMPLE_STEPS, EXAMPLE_PERIOD = 96, 24
"""Made-up rows that the page offers, and the steps of a period in them."""

EXAMPLE_START, EXAMPLE_DISTANCE = "2024-01-01T00:00", np.timedelta64(1, "h")

PREDICTED = "predicted"
MISSING_NAMES = {"texts": sorted(NAMES_OF_MISSING_VALUES | {""}), "numbers": sorted(MISSING_IN_NUMBERS | {""})}


def page_data(spec: TableSpec, series: SeriesModel, title: str) -> dict[str, Any]:
    """Return what the page holds of a model, its columns and their table as JSON values."""
    source, target, long = series.source, series.numbers, spec.long
    if long is not None and len(long.time_columns) > 1:
        raise UsageError(
            f"A page reads the time of a step from one column, and the model from {len(long.time_columns)}, {long.order_by}: "
            "train it on a table that has date and time in one column, such as 2024-03-31 18:00."
        )
    if long is not None and long.examples and not is_read_by_pages(long.examples):
        raise UsageError(
            f"A page reads dates, with English names of months if with any, and '{long.order_by}' has times such as "
            f"{str(long.examples[0])!r:.40}: train it on a table with dates such as 2024-03-31 18:00."
        )
    own = number_columns(target, PREDICTED) if target else [PREDICTED]
    table = {
        "columns": list(source.columns),
        "truth": [] if series.horizon else list(target.columns) if target else [series.target.name],
        "groupBy": long and long.group_by,
        "orderBy": long and long.order_by,
        "examples": [str(time) for time in long.examples] if long else [],
        "missing": sorted(MISSING_IN_NUMBERS | {""}),
        "needsDates": bool(source.cycles),
        "rate": source.rate,
        "dates": date_rules(),
        "covariates": covariates_data(series),
        "missingNames": MISSING_NAMES,
        "horizon": series.horizon,
        "answers": [*(step_columns(spec, PREDICTED) if long else [STEP_COLUMN, *own]), *([] if target else ["probability"])],
    }
    return {
        "title": title,
        "subtitle": f"{source.describe()} \u2192 {series.target.describe()}; {spec.mode_text}",
        "model": model_data(series),
        "table": table,
        "seed": PredictOptions().seed,
        "maxDrawnSteps": MAX_DRAWN_STEPS,
        "maxDrawnHistory": MAX_DRAWN_HISTORY,
        "maxColumns": MAX_COLUMNS,
        "hint": _hint(table, series),
        "example": _example(table, series),
    }


def _hint(table: dict[str, Any], series: SeriesModel) -> str:
    """Return what rows the page reads, in words."""
    names = series.source.columns
    parts = [f"the {'columns' if len(names) > 1 else 'column'} {', '.join(names)}"]
    parts += [f"{table['orderBy']} (the time of the step)"] if table["orderBy"] else []
    parts += [f"{table['groupBy']} (the name of the series)"] if table["groupBy"] else []
    if known := ", ".join(each.name for each in series.covariates):
        parts.append(f"{known}, also in {plural(series.horizon, 'row')} after the last {names[0]}, those that are forecast")
    truth = ", ".join(table["truth"])
    compared = f" With {truth}, the answers are compared with it." if truth else ""
    return (
        f"Paste rows of a table (CSV, TSV, or cells of a spreadsheet), one for each step, or open a file: {'; '.join(parts)}. "
        f"An empty cell is a gap.{compared} The rows stay in this page: it has no network."
    )


def _example(table: dict[str, Any], series: SeriesModel) -> str:
    """Return made-up rows in the range of the data, as tab-separated values: a wave with noise."""
    scaling, draw = series.source.scaling, np.random.default_rng(1)
    count = max(EXAMPLE_STEPS, min(2 * series.source.difference, MAX_DRAWN_STEPS))
    wave = np.sin(2 * math.pi * np.arange(count) / EXAMPLE_PERIOD)[:, None]
    values = scaling.center + scaling.spread * (0.8 * wave + 0.2 * draw.standard_normal((count, len(scaling.center))))
    columns = {name: [f"{value:.5g}" for value in column] for name, column in zip(table["columns"], values.T, strict=True)}
    if series.covariates:
        columns = {name: column + [""] * series.horizon for name, column in columns.items()}
        count += series.horizon
        columns |= {each.name: covariate_cells(each, count, is_odd=False) for each in series.covariates}
    if table["orderBy"]:
        times = [*table["examples"], *next_times(table["examples"], count - 2)] if table["examples"] else []
        if len(times) < count:
            dates = np.datetime64(EXAMPLE_START) + EXAMPLE_DISTANCE * np.arange(count)
            times = list(dates.astype(str)) if table["needsDates"] else list(range(1, count + 1))
        columns = {table["orderBy"]: [str(time) for time in times], **columns}
    if table["groupBy"]:
        columns = {table["groupBy"]: ["made up"] * count, **columns}
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join("\t".join(row) + "\n" for row in rows)


def covariate_cells(covariate: Covariate, count: int, is_odd: bool = True) -> list[str]:
    """Return made-up cells of a column that is known in advance, some of them gaps, unless it had none, and other odd ones."""
    scaling, draw = covariate.scaling, np.random.default_rng(2)
    if scaling is None:
        names = [*covariate.categories, "", *(["another text", "true", "NA"] if is_odd else [])]
        return [names[place] for place in draw.integers(0, len(names), count)]
    cells = [f"{scaling.center[0] + scaling.spread[0] * value:.4g}" for value in draw.standard_normal(count)]
    if is_odd:
        cells[count // 2 : count // 2 + 5] = ["", "true", "False", f"{scaling.center[0] + 1e3 * scaling.spread[0]:.6g}", "nan"]
    return cells


def covariates_data(series: SeriesModel) -> list[dict[str, Any]]:
    """Return how columns that are known in advance are read, as JSON values."""
    return [
        {
            "name": each.name,
            "scaling": each.scaling and scaling_data(each.scaling),
            "hasGaps": bool(each.scaling and each.scaling.has_gaps),
            "categories": list(each.categories),
        }
        for each in series.covariates
    ]


def model_data(series: SeriesModel) -> dict[str, Any]:
    """Return the network and its columns as JSON values."""
    options, head, encoder = series.network.options, series.head, cast(Any, series.network.encoder)
    layers = [portable_layer(options.cell, layer, FloatMatrix, FloatMatrix) for layer in series.layers]
    is_residual = options.residual
    start = encoder.start
    return {
        **recurrent_layers(options.cell, options.hidden, layers),
        **linear_layer(
            "input",
            array_of(encoder.input_layer.proj.weight) if is_residual else None,
            array_of(encoder.input_layer.proj.bias) if is_residual else None,
        ),
        **linear_layer("head", head.weight, head.bias),
        **linear_layer("skip", head.skip),
        "normWeight": packed(array_of(encoder.norm.weight)) if is_residual else None,
        "normBias": packed(array_of(encoder.norm.bias)) if is_residual else None,
        "start": None if start is None else [[packed(array_of(part)) for part in parts] for parts in start],
        **columns_data(series),
        "products": packed_products(),
    }


def columns_data(series: SeriesModel) -> dict[str, Any]:
    """Return how numbers become inputs, and outputs numbers or labels, as JSON values."""
    source, target = series.source, series.numbers
    levels = list(target.quantiles) if target else []
    return {
        "columns": list(source.columns),
        "predicted": list(target.columns) if target else [],
        "labels": [] if target else list(series.target.labels)[: series.num_labels],
        "scaling": scaling_data(source.scaling),
        "hasGaps": source.scaling.has_gaps,
        "target": scaling_data(target.scaling) if target else None,
        "change": scaling_data(source.change) if source.difference else None,
        "lag": source.difference,
        "centering": {
            "center": source.center,
            "scale": source.scale,
            "rangeTail": RANGE_TAIL,
            "normalIqr": NORMAL_IQR,
            "maxScaledRange": MAX_SCALED_RANGE,
        },
        "covariates": covariates_data(series),
        "missing": MISSING_NAMES,
        "cycles": [{"seconds": CYCLES[name], "isWeek": name == "week"} for name in source.cycles],
        "firstWeekday": FIRST_WEEKDAY,
        "loss": target.loss if target else "",
        "levels": levels,
        "scores": [NormalDist().inv_cdf(level) for level in levels],
        "residual": target.residual if target else None,
        "logLimit": MAX_LOG_DEVIATION,
        "maxScaled": MAX_SCALED,
        "historySteps": HISTORY_STEPS,
        "numPaths": NUM_PATHS,
        "horizon": series.horizon,
        "dates": date_rules(),
    }
