"""Metrics of numbers at every step, in the unit of the data, compared with baselines that know the training steps only.

Baselines of a forecast: the last value; the mean; the value one period earlier (seasonal naive), if the series has a period;
linear autoregression. Of a regression at every step: the mean; the last true value; a linear filter of the inputs. `NaN` is a
step that has no true number and does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.tables.metric_report import MetricReport

Floats = npt.NDArray[np.float64]

MAX_FITTED_STEPS = 100_000
"""Training steps that baselines are fitted to, the last ones of each series."""

AUTOREGRESSIVE_LAGS, FILTER_TAPS, MAX_REGRESSORS = 24, 16, 256
"""Lags of the autoregression; taps of the filter of each input column; and coefficients at most."""

MAX_PERIOD = 5_000
MIN_PERIODS = 3
"""Periods that a series must have, at least, for its period to be found."""

MIN_PERIOD_CORRELATION = 0.3
"""Autocorrelation at the period, at least."""


def find_period(values: Floats) -> int | None:
    """Return the period of a series `(T,)` in steps: the highest peak of the autocorrelation after it was below zero, without
    the trend, a straight line.

    Example:
        >>> find_period(np.sin(np.arange(200) * 2 * np.pi / 12))
        12
    """
    values = np.asarray(values, dtype=np.float64)[-MAX_FITTED_STEPS:]
    if np.isnan(values).all():
        return None
    steps, is_known = np.arange(len(values)), ~np.isnan(values)
    limit = min(len(values) // MIN_PERIODS, MAX_PERIOD)
    if limit < 3 or np.ptp(values[is_known]) == 0:
        return None
    trend = np.polynomial.Polynomial.fit(steps[is_known], values[is_known], 1)
    centered = np.where(is_known, values - trend(steps), 0.0)
    if np.abs(centered).max() <= 1e-9 * np.ptp(values[is_known]):
        return None
    size = 1 << (2 * len(centered) - 1).bit_length()
    spectrum = np.fft.rfft(centered, size)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, size)[: limit + 1]
    correlation = correlation * len(centered) / np.arange(len(centered), len(centered) - limit - 1, -1) / correlation[0]
    below = np.flatnonzero(correlation < 0)
    if not len(below):
        return None
    peaks = [
        lag for lag in range(max(2, int(below[0])), limit) if correlation[lag - 1] <= correlation[lag] >= correlation[lag + 1]
    ]
    best = max((float(correlation[lag]) for lag in peaks), default=0.0)
    if best < MIN_PERIOD_CORRELATION:
        return None
    return next(lag for lag in peaks if correlation[lag] >= 0.9 * best)  # not a multiple of the period


def series_baselines(rows: Sequence[tuple[Floats, Floats]], horizon: int) -> dict[str, Any]:
    """Return what the baselines know of the training rows, pairs of source `(T, C)` and target `(T, D)`, as JSON values."""
    if not rows:
        return {}
    targets = np.concatenate([target for _, target in rows])
    mean = [float(np.nanmean(column)) if not np.isnan(column).all() else 0.0 for column in targets.T]
    if not horizon:
        return {"mean": mean, "filter": _fit_filter(rows, mean)}
    series = [source for source, _ in rows]
    period = find_period(max(series, key=len)[:, 0])
    lags = list(range(1, AUTOREGRESSIVE_LAGS + 1))
    if period is not None:
        lags = sorted({*lags, period, period + 1})
    longest = max(len(values) for values in series)
    lags = [lag for lag in lags if 3 * lag < longest] or [1]
    fitted = [_fit_autoregression([values[:, column] for values in series], lags) for column in range(len(mean))]
    return {"mean": mean, "period": period, "lags": lags, "autoregression": fitted}


def _solve(inputs: Floats, targets: Floats) -> list[float]:
    """Return the least-squares coefficients of `targets` `(N,)` by `inputs` `(N, K)` and a constant, which is the last one."""
    is_known = ~(np.isnan(inputs).any(axis=1) | np.isnan(targets))
    inputs, targets = inputs[is_known], targets[is_known]
    if len(targets) < inputs.shape[1] + 2:
        return [0.0] * inputs.shape[1] + [float(targets.mean()) if len(targets) else 0.0]
    middle, center = inputs.mean(0), targets.mean()
    spread = inputs.std(0)
    spread[spread == 0] = 1.0
    scaled = (inputs - middle) / spread
    gram = scaled.T @ scaled + 1e-6 * len(scaled) * np.eye(scaled.shape[1])
    weights = np.linalg.solve(gram, scaled.T @ (targets - center)) / spread
    return [*map(float, weights), float(center - weights @ middle)]


def _lagged(values: Floats, lags: Sequence[int]) -> Floats:
    """Return the values `(T,)` at some lags before each step, `(T, lags)`, NaN before the beginning."""
    columns = np.full((len(values), len(lags)), np.nan)
    for column, lag in enumerate(lags):
        if lag < len(values):
            columns[lag:, column] = values[: len(values) - lag] if lag else values
    return columns


def _fit_autoregression(series: list[Floats], lags: Sequence[int]) -> list[float]:
    recent = [values[-MAX_FITTED_STEPS:] for values in series]
    return _solve(np.concatenate([_lagged(values, lags) for values in recent]), np.concatenate(recent))


def _taps(num_columns: int) -> list[int]:
    return list(range(max(1, min(FILTER_TAPS, MAX_REGRESSORS // num_columns))))


def _filter_inputs(source: Floats, mean: Floats) -> Floats:
    """Return the last values of each column `(T, C)` as `(T, C * taps)`; gaps and what is before the beginning are the mean."""
    filled = np.where(np.isnan(source), mean, source)
    parts = [_lagged(filled[:, column], _taps(source.shape[1])) for column in range(source.shape[1])]
    lagged = np.concatenate(parts, axis=1)
    return np.where(np.isnan(lagged), np.repeat(mean, len(_taps(source.shape[1])))[None], lagged)


def _fit_filter(rows: Sequence[tuple[Floats, Floats]], mean: list[float]) -> dict[str, Any]:
    recent = [(source[-MAX_FITTED_STEPS:], target[-MAX_FITTED_STEPS:]) for source, target in rows]
    sources = np.concatenate([source for source, _ in recent])
    source_mean = np.array([float(np.nanmean(c)) if not np.isnan(c).all() else 0.0 for c in sources.T])
    inputs = np.concatenate([_filter_inputs(source, source_mean) for source, _ in recent])
    targets = np.concatenate([target for _, target in recent])
    return {"mean": source_mean.tolist(), "weights": [_solve(inputs, targets[:, column]) for column in range(len(mean))]}


def forecast_baselines(history: Floats, horizon: int, stats: dict[str, Any]) -> dict[str, Floats]:
    """Return the forecasts `(horizon, D)` of the baselines, given the known steps `(T, D)` of a series."""
    mean = np.array(stats["mean"])
    known = [column[~np.isnan(column)] for column in history.T]
    last = np.array([values[-1] if len(values) else center for values, center in zip(known, mean, strict=True)])
    forecasts = {"last_value": np.tile(last, (horizon, 1)), "mean": np.tile(mean, (horizon, 1))}
    period = stats["period"]
    if period is not None and len(history) >= period:
        cycle = history[-period:]
        cycle = np.where(np.isnan(cycle), mean, cycle)
        forecasts["seasonal_naive"] = cycle[np.arange(horizon) % period]
    lags, reach = stats["lags"], max(stats["lags"])
    padded = np.concatenate([np.tile(mean, (max(0, reach - len(history)), 1)), history[-reach:]])
    filled = np.where(np.isnan(padded), mean, padded)
    extended = np.concatenate([filled, np.zeros((horizon, len(mean)))])
    for step in range(len(filled), len(extended)):
        for column, weights in enumerate(stats["autoregression"]):
            extended[step, column] = weights[-1] + sum(
                weight * extended[step - lag, column] for weight, lag in zip(weights, lags, strict=False)
            )
    forecasts["linear"] = extended[len(filled) :]
    return forecasts


def regression_baselines(source: Floats, truth: Floats, stats: dict[str, Any]) -> dict[str, Floats]:
    """Return the numbers `(N, D)` of the baselines for the last N steps of a source `(T, C)`; the last value is that of
    `truth` `(N, D)`."""
    mean = np.array(stats["mean"])
    before = np.concatenate([mean[None], truth[:-1]])
    last = np.maximum.accumulate(np.where(np.isnan(before), 0, np.arange(len(before))[:, None]), axis=0)
    inputs = _filter_inputs(source, np.array(stats["filter"]["mean"]))
    linear = [inputs @ np.array(weights[:-1]) + weights[-1] for weights in stats["filter"]["weights"]]
    return {
        "mean": np.tile(mean, (len(truth), 1)),
        "last_value": np.take_along_axis(before, last, axis=0),
        "linear": np.stack(linear, axis=1)[len(source) - len(truth) :],
    }


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
