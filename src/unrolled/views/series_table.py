"""Predictions of long tables as long tables: a row for each step, or for each series if one value is predicted for it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from unrolled.datasets.tables import Row
from unrolled.display import printable
from unrolled.evaluation.predictor import Prediction
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_times import next_times
from unrolled.tables.time_columns import JoinedTime

STEP_COLUMN = "step"

logger = logging.getLogger(__name__)


def quantile_name(level: float) -> str:
    """Return the name of the column of a quantile.

    Example:
        >>> quantile_name(0.1), quantile_name(0.975)
        ('p10', 'p97.5')
    """
    return f"p{100 * level:.6g}"


def number_cells(target: NumbersColumn, predicted: str, values: Any, quantiles: Any) -> dict[str, Any]:
    """Return the cells of predicted numbers `(..., D)` and of their quantiles `(levels, ..., D)`, by name."""
    named = {predicted: values}
    if quantiles is not None:
        named |= {quantile_name(level): band for level, band in zip(target.quantiles, quantiles, strict=True)}
    if len(target.columns) == 1:
        return {name: _rounded(np.asarray(part)[..., 0]) for name, part in named.items()}
    return {
        f"{name}_{column}": _rounded(np.asarray(part)[..., place])
        for name, part in named.items()
        for place, column in enumerate(target.columns)
    }


def number_columns(target: NumbersColumn, predicted: str) -> list[str]:
    """Return the names of the cells of `number_cells`."""
    has_quantiles = target.horizon or target.loss in ("quantiles", "gaussian")
    width, levels = len(target.columns), len(target.quantiles)
    return list(number_cells(target, predicted, np.zeros(width), np.zeros((levels, width)) if has_quantiles else None))


def _rounded(values: Any) -> Any:
    """Return numbers with 7 significant digits, as float32 has them."""
    values = np.asarray(values)
    return float(f"{values:.7g}") if values.ndim == 0 else [float(f"{value:.7g}") for value in values.tolist()]


def unused_name(name: str, columns: Collection[str | None]) -> str:
    """Return the name of a new column: one that the table does not have."""
    while name in columns:
        name += "_"
    return name


def step_columns(spec: TableSpec, predicted: str) -> list[str]:
    """Return the columns of the predictions of a long table."""
    long, target = spec.long, spec.target
    if long is None:
        raise ValueError("The table has a row for each series.")
    columns = [long.group_by] if long.group_by else []
    if spec.is_stream:
        columns += long.time_columns
        columns += [unused_name(STEP_COLUMN, columns)]
    return columns + (number_columns(target, predicted) if isinstance(target, NumbersColumn) else [predicted])


def _time_cells(columns: Sequence[str], time: Any, known: Sequence[Any]) -> dict[str, Any]:
    """Return the cells of a time, of several columns as in the last row that is known."""
    if len(columns) < 2 or time is None:
        return dict.fromkeys(columns, time)
    parts = time.parts if isinstance(time, JoinedTime) else known[-1].cells_of(time)
    return dict(zip(columns, parts, strict=True))


def step_rows(spec: TableSpec, rows: Iterator[tuple[Row, Prediction]], predicted: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each step that is predicted, with its time; those of a forecast go on after the last step."""
    long, target = spec.long, spec.target
    step_name = unused_name(STEP_COLUMN, (long.group_by, *long.time_columns) if long else ())
    has_times = True
    for row, prediction in rows:
        if long is None or not len(prediction.values):
            continue
        first = {long.group_by: row.get(long.group_by)} if long.group_by else {}
        values, labels = prediction.values, target.labels
        source = row.get(spec.source.name)
        times = known = getattr(source, "times", ())
        if spec.horizon and source is not None:
            known, times = times[: len(source)], times[len(source) :]
            times = times or next_times(known, len(values))
            if has_times and long.order_by and known and not times:
                has_times = False
                logger.info(
                    f"the column '{long.order_by}' of the forecast is empty, since the times in the table have no usual "
                    f"distance; the last one is {printable(str(known[-1]))}"
                )
        for step in range(len(values)):
            cells: dict[str, Any] = dict(first)
            cells |= _time_cells(long.time_columns, times[step] if step < len(times) else None, known)
            cells[step_name] = step + 1
            if isinstance(target, NumbersColumn):
                bands = None if prediction.quantiles is None else prediction.quantiles[:, step]
                cells |= number_cells(target, predicted, values[step], bands)
            else:
                cells[predicted] = labels[int(values[step])]
            yield cells
