"""Baselines of numbers at every step, fitted to the training steps.

Of a forecast: the last value; the mean; the value one period earlier (seasonal naive), if the series has a period; linear
autoregression, which also reads what is known in advance. Of a regression at every step: the mean; the last true value; a
linear filter of the inputs. `NaN` is a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.tables.step_arrays import NO_COVARIATES, StepArray

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
    known = [known_in_advance(values, len(values)) for values in series]
    width = known[0].shape[1]
    limit = min(MAX_REGRESSORS, sum(max(0, len(values) - max(lags)) for values in series) // 3)
    num_lags = max(0, min(len(lags), (limit - len(lags)) // width - 1)) if width else 0
    known = [_with_lags(values, lags[:num_lags]) for values in known]
    fitted = [_fit_autoregression([values[:, column] for values in series], lags, known) for column in range(len(mean))]
    return {
        "mean": mean, "period": period, "lags": lags, "autoregression": fitted,
        **({"covariate_lags": num_lags} if width else {}),
    }  # fmt: skip


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


def known_in_advance(values: Floats, count: int) -> Floats:
    """Return what is known in advance of the first `count` steps of a series `(count, K)`; the last one known is repeated."""
    known = values.covariates if isinstance(values, StepArray) else NO_COVARIATES
    missing = max(0, count - len(known))
    return np.pad(known[:count].astype(np.float64), ((0, missing), (0, 0)), mode="edge" if len(known) else "constant")


def _with_lags(known: Floats, lags: Sequence[int]) -> Floats:
    """Return what is known in advance `(T, K)`, and the same at some lags before each step, `(T, (1 + lags) * K)`."""
    return np.concatenate([known, *(_lagged(column, lags) for column in known.T)], axis=1)


def _fit_autoregression(series: list[Floats], lags: Sequence[int], known: list[Floats]) -> list[float]:
    inputs = [
        np.concatenate([_lagged(values[-MAX_FITTED_STEPS:], lags), others[-MAX_FITTED_STEPS:]], axis=1)
        for values, others in zip(series, known, strict=True)
    ]
    return _solve(np.concatenate(inputs), np.concatenate([values[-MAX_FITTED_STEPS:] for values in series]))


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
    ahead = _ahead(history, horizon, stats)
    for step in range(len(filled), len(extended)):
        for column, weights in enumerate(stats["autoregression"]):
            extended[step, column] = weights[-1] + sum(
                weight * extended[step - lag, column] for weight, lag in zip(weights, lags, strict=False)
            )
            extended[step, column] += ahead[step - len(filled)] @ np.array(weights[len(lags) : -1])
    forecasts["linear"] = extended[len(filled) :]
    return forecasts


def _ahead(history: Floats, horizon: int, stats: dict[str, Any]) -> Floats:
    """Return what the autoregression reads of the steps after `history` that is known in advance, `(horizon, ...)`."""
    if "covariate_lags" not in stats:
        return np.zeros((horizon, 0))
    lags, reach = stats["lags"][: stats["covariate_lags"]], max(stats["lags"])
    known = known_in_advance(history, len(history) + horizon)[-(reach + horizon) :]
    known = np.pad(known, ((reach + horizon - len(known), 0), (0, 0)), mode="edge")
    return _with_lags(known, lags)[reach:]


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
