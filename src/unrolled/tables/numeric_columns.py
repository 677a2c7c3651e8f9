"""Columns of numbers: one number, a vector, or a sequence of frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, parse_array, parse_number, parse_vector
from unrolled.tables.column import MAX_FITTED_ROWS, Column, EvalRows, Output
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.metrics import regression_report


class _NumericColumn(Column):
    """Numbers, scaled to mean 0 and standard deviation 1 on the training rows."""

    tensor_kind, is_sequence, max_fitted_rows = "floats", False, MAX_FITTED_ROWS
    output: ClassVar[Output | None] = "single"

    def __init__(self, name: str, mean: Array, scale: Array) -> None:
        super().__init__(name)
        self.mean, self.scale = np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        self.size = len(self.mean)

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        count, total, total_squares = 0, np.zeros(1), np.zeros(1)
        for cell in cells:
            values = cls.parse(cell)
            if count and values.shape[1] != len(total):
                raise DataError(f"{cell.location}: {values.shape[1]} numbers, and the rows before it have {len(total)}.")
            count += len(values)
            total = total + values.sum(0)
            total_squares = total_squares + (values**2).sum(0)
        mean = total / max(1, count)
        std = np.sqrt(np.maximum(total_squares / max(1, count) - mean**2, 0))
        return cls(name, mean, np.where(std > 1e-9 * (1 + np.abs(mean)), std, 1.0))

    @staticmethod
    def parse(cell: Cell) -> Array:
        """Return the numbers `(N, D)` of a cell, not scaled."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        values = self.parse(cell)
        if values.shape[1] != self.size:
            raise DataError(
                f"{cell.location}: {values.shape[1]} numbers, and {self.size} are expected, as in the training rows."
            )
        return ((values - self.mean) / self.scale).astype(np.float32)

    def unscale(self, values: Array) -> Array:
        """Return scaled values `(N, D)` in the unit of the data."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.mean

    def decode(self, values: Array) -> str:
        return " ".join(f"{value:.6g}" for value in self.unscale(values).ravel())

    def loss_targets(self, values: Array) -> Array:
        return values.astype(np.float32)

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        truth = np.concatenate([self.parse(cell) for cell in rows.truths])
        return regression_report(truth, self.unscale(np.concatenate(rows.values)), self.mean)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        return cls(name, np.array(value["mean"], dtype=np.float64), np.array(value["scale"], dtype=np.float64))


class NumberColumn(_NumericColumn):
    """One number."""

    kind = "number"

    @staticmethod
    def parse(cell: Cell) -> Array:
        return np.array([[parse_number(cell)]])


class VectorColumn(_NumericColumn):
    """The same number of numbers in every row."""

    kind = "vector"

    @staticmethod
    def parse(cell: Cell) -> Array:
        return parse_vector(cell)[None]


class FramesColumn(_NumericColumn):
    """Any number of steps, with the same number of numbers each. It can only be a source."""

    kind, is_sequence, output = "frames", True, None

    @staticmethod
    def parse(cell: Cell) -> Array:
        values = parse_array(cell)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise DataError(
                f"{cell.location}: frames are a list of lists of numbers, (steps, numbers); this is {values.shape}."
            )
        return values
