"""What a forecast predicts and reads, where that is left open: short trainings say which differences are best."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

from unrolled.series_options import SeriesOptions

logger = logging.getLogger(__name__)

CYCLE_NAMES = {"hour": "time in the hour", "day": "time of day", "week": "day of the week", "year": "time of the year"}


def choose_forecast(
    series: SeriesOptions, error_of: Callable[[SeriesOptions], float] | None, period: int | None, cycles: Sequence[str]
) -> SeriesOptions:
    """Return settings in which `difference` and `time_features` are no longer `auto`.

    It is chosen whether the number itself is forecast, its change, which follows trends, or its change since one period before.
    The calendar is read where there is one: that was better, or no worse, in the series that were measured.

    Args:
        series: What was asked for.
        error_of: The error of validation forecasts after a short training with some settings; None without such steps.
        period: Steps of a period, if there is one.
        cycles: Of the calendar, those that the training steps go through.

    Example:
        >>> chosen = choose_forecast(SeriesOptions(horizon=3), lambda tried: float(tried.difference != "off"), None, ("day",))
        >>> chosen.difference, chosen.time_features
        ('off', 'on')
    """
    names = {"off": "numbers", "on": "changes"} | ({"season": f"changes from {period:,} steps before"} if period else {})
    calendar = series.time_features if series.time_features != "auto" else "on" if cycles else "off"
    if series.difference == "auto" and error_of is None:
        series = dataclasses.replace(series, difference="on")  # better in all series that were measured (`benchmarks/LOG.md`)
    elif series.difference == "auto" and error_of is not None:
        tried = {name: _replace(series, difference=name, time_features=calendar) for name in names}
        errors = {name: error_of(each) for name, each in tried.items()}
        best = min(errors, key=lambda name: errors[name])
        found = ", ".join(f"{error:.4g} of {names[name]}" for name, error in errors.items())
        logger.info(f"forecast of {names[best]} (--difference {best}): after a short training, rmse {found}")
        series = _replace(series, difference=best)
    if series.time_features == "auto" and cycles:
        logger.info(f"reads the {' and the '.join(CYCLE_NAMES[cycle] for cycle in cycles)} of each step (--time-features on)")
    return _replace(series, time_features=calendar)


def _replace(series: SeriesOptions, **settings: str) -> SeriesOptions:
    return dataclasses.replace(series, **settings)  # type: ignore[arg-type]
