"""Scaling of numbers that survives the spikes of real sensors: by median and spread, with limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.tables.cell_values import Array

RANGE_TAIL = 0.005
"""The range of a column is between these quantiles at both ends, 99% of its values."""

MAX_RANGES = 5.0
"""Numbers that are more than so many ranges outside of the range are spikes, and clipped."""

NORMAL_IQR = 1.349
"""The interquartile range of a normal distribution of variance 1."""

MAX_SCALED_RANGE = 8.0
"""The range in units of the spread, at most: of a skewed column, such as rain, half the values may be equal."""

MAX_SCALED_VALUES = 2_000_000
"""Values of a column, at most, that median and spread are computed from, evenly spaced."""


@dataclass(frozen=True)
class Scaling:
    """Per column `(D,)`: the median, the spread, and the limits beyond which a number is a spike. With `has_gaps`, some numbers
    are missing."""

    center: Array
    spread: Array
    low: Array
    high: Array
    has_gaps: bool = False

    @staticmethod
    def fit(values: Array) -> Scaling:
        """Return the scaling of numbers `(N, D)`, NaN for gaps. A column of gaps only is not scaled."""
        columns = [_fit_column(column[~np.isnan(column)]) for column in values[:: -(-len(values) // MAX_SCALED_VALUES)].T]
        center, spread, low, high = np.array(columns).T
        return Scaling(center, spread, low, high, bool(np.isnan(values).any()))

    def apply(self, values: Array) -> Array:
        """Return numbers `(N, D)` clipped and scaled; gaps stay NaN."""
        scaled: Array = (np.clip(values, self.low, self.high) - self.center) / self.spread
        return scaled

    def invert(self, values: Array) -> Array:
        """Return scaled numbers `(..., D)` in the unit of the data."""
        numbers: Array = np.asarray(values, dtype=np.float64) * self.spread + self.center
        return numbers

    def to_json(self) -> dict[str, Any]:
        """Return the scaling as JSON values."""
        limits = {"low": _finite(self.low), "high": _finite(self.high)}
        return {"center": self.center.tolist(), "spread": self.spread.tolist(), **limits, "has_gaps": self.has_gaps}

    @staticmethod
    def from_json(value: Any) -> Scaling:
        """Build the scaling that `to_json` described."""
        center, spread = (np.array(value[key], dtype=np.float64) for key in ("center", "spread"))
        low = np.array([-np.inf if v is None else v for v in value["low"]], dtype=np.float64)
        high = np.array([np.inf if v is None else v for v in value["high"]], dtype=np.float64)
        if not (center.shape == spread.shape == low.shape == high.shape and (spread > 0).all()):
            raise ValueError("the scaling of a column of numbers is not valid")
        return Scaling(center, spread, low, high, bool(value["has_gaps"]))


def _finite(values: Array) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


def _fit_column(values: Array) -> tuple[float, float, float, float]:
    """Return median, spread and limits of the numbers of a column."""
    if not len(values):
        return 0.0, 1.0, -np.inf, np.inf
    tail = min(0.25, max(RANGE_TAIL, 2 / len(values)))
    low, first, median, third, high = np.quantile(values, [tail, 0.25, 0.5, 0.75, 1 - tail])
    width = high - low
    spread = max((third - first) / NORMAL_IQR, width / MAX_SCALED_RANGE)
    spread = spread if spread > 1e-9 * (1 + abs(median)) else values.std()
    spread = spread if spread > 1e-9 * (1 + abs(median)) else 1.0
    if width <= 1e-9 * (1 + abs(median)):  # nearly all values are equal: the others are the signal, and not spikes
        return float(median), float(spread), -np.inf, np.inf
    return float(median), float(spread), float(low - MAX_RANGES * width), float(high + MAX_RANGES * width)
