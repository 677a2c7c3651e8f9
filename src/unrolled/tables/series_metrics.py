"""Metrics of numbers at every step, in the unit of the data, compared with baselines that know the training steps only.

`NaN` is a step that has no true number and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.tables.metric_report import MetricReport
from unrolled.tables.series_baselines import forecast_baselines, regression_baselines

Floats = npt.NDArray[np.float64]


def series_report(
    sources: Sequence[Floats],
    truths: Sequence[Floats],
    predicted: Sequence[Floats],
    quantiles: Sequence[Floats | None],
    levels: Sequence[float],
    stats: dict[str, Any],
    horizon: int,
    rate: int | None,
) -> MetricReport:
    """Evaluate numbers at every step of rows.

    Args:
        sources: The numbers that were read, `(T, C)` each; of a forecast the known steps of the series.
        truths: The true numbers, `(T, D)`; of a forecast, of the `horizon` steps after the source.
        predicted: The predictions, shaped like `truths`; empty for a row without one.
        quantiles: Predicted quantiles, `(levels, T, D)`, or None.
        levels: The levels of the quantiles.
        stats: What `series_baselines` returned.
        horizon: Steps of a forecast, or 0.
        rate: Samples per second of audio, or None; audio has the error-to-signal ratio too.
    """
    rows = [row for row in range(len(truths)) if len(predicted[row]) and not np.isnan(truths[row]).all()]
    truth = [truths[row] for row in rows]
    metrics = number_metrics(truth, [predicted[row] for row in rows], horizon, rate is not None)
    baselines: dict[str, list[Floats]] = {}
    if stats:
        for row in rows:
            made = (
                forecast_baselines(sources[row], len(truths[row]), stats)
                if horizon
                else regression_baselines(sources[row], truths[row], stats)
            )
            for name, values in made.items():
                baselines.setdefault(name, []).append(values)
    compared = {
        name: number_metrics(truth, values, horizon, rate is not None)
        for name, values in baselines.items()
        if len(values) == len(rows)
    }
    metrics |= _quantile_metrics(truth, [quantiles[row] if len(quantiles) else None for row in rows], levels)
    notes, informed = list[str](), tuple[str, ...]()
    if horizon and stats and stats["period"] is not None:
        notes.append(f"seasonal_naive repeats the last period, of {stats['period']:,} steps")
    elif not horizon and stats:
        informed = ("last_value",)
        notes.append("last_value knows the true number of the step before, which the model does not")
    num_steps = sum(int((~np.isnan(values)).any(axis=1).sum()) for values in truth)
    return MetricReport(metrics, compared, len(rows), num_steps=num_steps, notes=tuple(notes), informed=informed)


def number_metrics(truths: Sequence[Floats], predicted: Sequence[Floats], horizon: int, is_audio: bool) -> dict[str, float]:
    """Return the metrics of predictions, RMSE first; steps without a true number do not count.

    `r2` is the explained share of the variance of all columns together; `nse` (Nash and Sutcliffe 1970) the mean of that of
    each column, the same if there is one.

    Example:
        >>> truth = [np.array([[1.0], [2.0], [3.0]])]
        >>> number_metrics(truth, [np.array([[1.0], [2.0], [4.0]])], 0, False)["mae"]
        0.3333333333333333
    """
    if not truths:
        return {"rmse": math.nan, "mae": math.nan}
    truth, guess = np.concatenate(truths), np.concatenate(predicted)
    is_known = ~np.isnan(truth)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = (guess - truth)[is_known]
        squared = float(np.square(errors).sum())
    if not math.isfinite(squared):
        return {"rmse": math.inf, "mae": math.inf}
    metrics = {"rmse": math.sqrt(squared / len(errors)), "mae": float(np.abs(errors).mean())}
    if variation := _variation(truth):
        metrics["r2"] = 1 - squared / variation
        metrics["nse"] = float(np.mean(_efficiencies(truth, guess)))
    if is_audio and (energy := float(np.square(truth[is_known]).sum())):
        metrics["esr"] = squared / energy
    if horizon > 1:
        for step in sorted({0, horizon - 1}):
            known = [(t[step], p[step]) for t, p in zip(truths, predicted, strict=True) if len(t) > step]
            first = np.array([t - p for t, p in known]).ravel()
            if len(first) and not np.isnan(first).all():
                metrics[f"rmse_step_{step + 1}"] = float(np.sqrt(np.nanmean(np.square(first))))
    return metrics


def _variation(truth: Floats) -> float:
    """Return the squared deviations of numbers from the mean of each column."""
    total = 0.0
    for column in truth.T:
        values = column[~np.isnan(column)]
        if len(values) and np.ptp(values) > 0:
            total += float(np.square(values - values.mean()).sum())
    return total


def _efficiencies(truth: Floats, guess: Floats) -> list[float]:
    """Return the explained share of the variance of each column whose numbers differ."""
    shares = []
    for column in range(truth.shape[1]):
        is_known = ~np.isnan(truth[:, column])
        if variation := _variation(truth[is_known, column : column + 1]):
            shares.append(1 - float(np.square(truth[is_known, column] - guess[is_known, column]).sum()) / variation)
    return shares


def _quantile_metrics(
    truths: Sequence[Floats], quantiles: Sequence[Floats | None], levels: Sequence[float]
) -> dict[str, float]:
    """Return the share of truths between the outer quantiles, and the mean pinball loss."""
    if len(levels) < 2 or not truths or any(part is None for part in quantiles):
        return {}
    truth = np.concatenate(truths)
    bands = np.concatenate([part for part in quantiles if part is not None], axis=1)
    is_known = ~np.isnan(truth)
    inside = (truth >= bands[0]) & (truth <= bands[-1])
    name = f"coverage_{100 * (levels[-1] - levels[0]):.4g}"
    losses = [
        np.maximum(level * (truth - band), (level - 1) * (truth - band))[is_known]
        for level, band in zip(levels, bands, strict=True)
    ]
    return {name: float(inside[is_known].mean()), "quantile_loss": float(np.mean(losses))}
