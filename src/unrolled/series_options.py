"""The settings of series: numbers or labels at every step, from a long table or from lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unrolled.errors import UsageError
from unrolled.option_fields import option


@dataclass(frozen=True)
class SeriesOptions:
    """How series are read, scaled and forecast."""

    group_by: str | None = option(
        None,
        "Column that names the series of a table with one row per step; --source and --target may name several, A,B,C. For a "
        r"log: regular expression, as in 'session=(\w+)'; all lines with the same key are one session.",
    )
    order_by: str | None = option(
        None, "Column of the time of a step: numbers or ISO dates. Without --group-by, all rows are one series."
    )
    horizon: int | None = option(
        None, "Forecast so many steps of --source, each fed back as the next input; --target is left out.", ge=1, le=100_000
    )
    known_covariates: str | None = option(
        None,
        "Columns whose values are known in advance, such as holidays or promotions (elsewhere: future covariates, regressors). "
        "A forecast reads those of the step that it predicts; for predict, rows with an empty --source have those to come.",
        is_list=True,
    )
    loss: Literal["auto", "mse", "mae", "quantiles", "gaussian"] = option(
        "auto",
        "Loss of numbers at every step: squared, absolute, quantile (pinball) or Gaussian; auto: gaussian for a forecast, else "
        "mse.",
    )
    quantiles: str = option("0.1,0.5,0.9", "Quantiles that are learned (--loss quantiles) and predicted, increasing.")
    difference: Literal["auto", "on", "season", "off"] = option(
        "auto",
        "Forecast differences: from the last number (on), so that trends go on, or from the number one period before (season); "
        "or the numbers themselves (off). auto: what is best on validation steps after a short training of each.",
    )
    time_features: Literal["auto", "on", "off"] = option(
        "auto",
        "Add inputs for the time of day, the day of the week and the time of the year of each step, where --order-by names "
        "dates. auto: for a forecast.",
    )
    center: Literal["none", "row", "group"] = option(
        "none",
        "Remove drift: subtract from each step the median of its numbers (row), or from each series its median (group).",
        old_names=("centre",),
    )
    scale: Literal["all", "group"] = option(
        "all", "Scale numbers by median and spread of all training steps, or of each series (group)."
    )

    @property
    def levels(self) -> tuple[float, ...]:
        """The quantiles as numbers. Raises `UsageError` if they are not increasing numbers between 0 and 1."""
        try:
            levels = tuple(float(part) for part in self.quantiles.split(","))
        except ValueError:
            levels = ()
        is_increasing = all(low < high for low, high in zip((0.0, *levels), (*levels, 1.0), strict=True))
        if not levels or len(levels) > 99 or not is_increasing:
            raise UsageError(
                f"--quantiles {self.quantiles}: increasing numbers between 0 and 1 are expected, as in --quantiles 0.1,0.5,0.9."
            )
        return levels
