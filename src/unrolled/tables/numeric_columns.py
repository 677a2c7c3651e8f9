"""Columns of numbers: one number, a vector, or a sequence of frames."""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError, ModelError
from unrolled.tables.cell_values import (
    Array,
    Cell,
    parse_array,
    parse_number,
    parse_vector,
    plain_digits,
    readable,
    with_decimal_points,
)
from unrolled.tables.column import MAX_BASELINE_ROWS, MAX_FITTED_ROWS, Column, EvalRows, Output
from unrolled.tables.digit_groups import without_groups
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.metrics import regression_report
from unrolled.tables.number_units import SCALED, may_be_left_out, split_scale, split_unit
from unrolled.tables.ragged import RaggedArray

logger = logging.getLogger(__name__)

MAX_DEVIATION = 1e9
"""Standard deviations from the mean beyond which a number is refused: its square could not be computed with."""


NUM_QUANTILES = 33
"""Quantiles of a source column: the least, the largest, and those between them at equal shares of the rows."""

MIN_NUMBERED_ROWS, MIN_NUMBERED_SHARE = 30, 0.95
"""Rows, at least, and the share of them that are one more than the row above, for a source column to number the rows."""

MIN_DIFFERENT_NUMBERS, MIN_EVEN_SPREAD = 20, 0.5
"""Different numbers of a source column, at least, for its quantiles to be read, and the part of its standard deviation that
the middle half of it is less wide than: 1.35 of a normal distribution, 0.67 and 0.26 of one whose logarithm is normal with a
deviation of 1 and 1.5."""

MAX_SHAPES = 16
"""Shapes whose sums are kept at once."""


class Sums:
    """Sums over arrays `(N, ...)` of one shape, along the first axis; squares of differences from the first array's mean."""

    def __init__(self, values: Array) -> None:
        self.shift = values.mean(0)
        self.num_rows = self.count = 0
        self.total, self.squares = np.zeros_like(self.shift), np.zeros_like(self.shift)
        self.low, self.high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        """Add an array."""
        difference = values - self.shift  # else the variance of numbers such as years would be lost in rounding
        self.num_rows, self.count = self.num_rows + 1, self.count + len(values)
        self.total, self.squares = self.total + difference.sum(0), self.squares + (difference**2).sum(0)
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def kind_of_total(self, last: Array) -> str:
        """Return what the last of several numbers, not all 0, is: the sum of the others; half of it, if these have subtotals;
        or an empty text."""
        total, kinds = self.shift * self.num_rows + self.total, {2: "the sum of the others", 3: "half of the sum of the others"}
        found = (kind for times, kind in kinds.items() if np.allclose(total, times * last, rtol=1e-9, atol=0))
        return next(found, "") if self.num_rows > 3 and bool((last != 0).all()) else ""

    def mean_and_std(self) -> tuple[Array, Array]:
        """Return mean and standard deviation of what was added."""
        mean = self.total / self.count
        return self.shift + mean, np.sqrt(np.maximum(self.squares / self.count - mean**2, 0))


class ShapeSums:
    """Sums over the rows of a column, for each shape of theirs: the most common one is that of the column."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, ...], Sums] = {}

    def add(self, shape: tuple[int, ...], values: Array) -> None:
        """Add the array `values` `(N, ...)` of a row of this shape."""
        if shape not in self._sums:
            if len(self._sums) == MAX_SHAPES:
                del self._sums[min(self._sums, key=lambda shape: (self._sums[shape].num_rows, shape))]
            self._sums[shape] = Sums(values)
        self._sums[shape].add(values)

    def most_common_shape(self) -> tuple[int, ...]:
        """Return the shape of most rows; of several, the largest."""
        return max(self._sums, key=lambda shape: (self._sums[shape].num_rows, shape))

    def most_common(self) -> Sums:
        """Return the sums over the rows of that shape."""
        return self._sums[self.most_common_shape()]


@dataclass(frozen=True)
class Notation:
    """How the numbers of a column are written: with decimal commas, a unit, a sign that groups digits, or parentheses."""

    decimal_comma: bool = False
    unit: str = ""
    digit_groups: str = ""
    negative_parentheses: bool = False

    @staticmethod
    def from_dict(value: Mapping[str, Any]) -> Notation:
        """Return the notation that `to_dict` described, or that of an `InferredType` as a dictionary."""
        sign = str(value.get("digit_groups", ""))
        if sign not in ("", ",", ".", " "):
            signs = "a comma, a point or a blank"
            raise ModelError(f"The model's numbers cannot be read: digits are grouped by {signs}, not {sign!r:.20}.")
        return Notation(
            bool(value.get("decimal_comma", False)), str(value.get("unit", "")), sign,
            bool(value.get("negative_parentheses", False)),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return what differs from the default, as JSON values."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value}

    def plain(self, cell: Cell, is_number: bool) -> Cell:
        """Return a cell without unit, groups and parentheses, which one number may have (`is_number`); with decimal points.

        Raises `DataError` for a number without a unit that multiplies, such as k.
        """
        if is_number and self.unit.endswith(SCALED):
            scaled = split_scale(str(cell.value))
            is_read = scaled is not None and scaled.currency in ("", self.unit.removesuffix(SCALED))
            return cell._replace(value=scaled.number) if scaled is not None and is_read else cell
        if is_number and not may_be_left_out(self.unit) and not split_unit(str(cell.value)).unit:
            raise DataError(f"{cell.location}: a number with the unit {self.unit} is expected, and this is {cell.value!r:.40}.")
        if is_number and isinstance(cell.value, str):
            found = split_unit(cell.value)
            is_read = found.unit in ("", self.unit) and (self.negative_parentheses or not found.in_parentheses)
            text = found.number if is_read else cell.value
            cell = cell._replace(value=without_groups(plain_digits(text), self.digit_groups))
        return with_decimal_points(cell) if self.decimal_comma else cell


class _NumericColumn(Column):
    """Numbers, scaled to mean 0 and standard deviation 1 on the rows that the column was fitted to."""

    tensor_kind, is_sequence, max_fitted_rows = "floats", False, MAX_FITTED_ROWS
    output: ClassVar[Output | None] = "single"

    def __init__(self, name: str, mean: Array, scale: Array, notation: Notation | None = None) -> None:
        super().__init__(name)
        self.mean, self.scale = np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        self.size, self.notation = len(self.mean), notation or Notation()
        self.is_constant = False

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        notation, sums = Notation.from_dict(config), ShapeSums()
        last: Array | None = None
        for last in readable(cells, lambda cell: cls.parse(notation.plain(cell, cls.kind == "number"))):
            sums.add(last.shape[1:], last)
        if cls.kind == "number" and last is not None and (total := sums.most_common().kind_of_total(last)):
            subtotals = ", and those of subtotals" if total.startswith("half") else ""
            what = f"the last number, {last.item():g}, is {total}"
            logger.info(f"'{name}': {what}; if it is a total, remove its row{subtotals}")
        mean, std = sums.most_common().mean_and_std()
        varies = std > 1e-9 * (1 + np.abs(mean))
        column = cls(name, mean, np.where(varies, std, 1.0), notation)
        column.is_constant = not varies.any()
        return column

    def check_target(self, table_name: str) -> None:
        if self.is_constant:
            raise DataError(f"Every row of {table_name} has the same numbers in '{self.name}': there is nothing to learn.")

    @staticmethod
    def parse(cell: Cell) -> Array:
        """Return the numbers `(N, D)` of a cell, not scaled."""
        raise NotImplementedError

    def read_values(self, cell: Cell) -> Array:
        """Return the numbers `(N, D)` of a cell of this column, not scaled."""
        return self.parse(self.notation.plain(cell, self.kind == "number"))

    def encode(self, cell: Cell) -> Array:
        values = self.read_values(cell)
        if values.shape[1] != self.size:
            raise DataError(
                f"{cell.location}: {values.shape[1]} numbers, and {self.size} are expected, as in the training rows."
            )
        scaled = self.scaled(values)
        if np.abs(scaled).max() > MAX_DEVIATION:
            row, column = np.unravel_index(int(np.abs(scaled).argmax()), scaled.shape)
            raise DataError(
                f"{cell.location}: {values[row, column]:g} is out of the range of the training rows: it differs from their "
                f"mean, {self.mean[column]:g}, by more than a billion standard deviations."
            )
        return scaled.astype(np.float32)

    def scaled(self, values: Array) -> Array:
        """Return values in the unit of the data scaled, the inverse of `unscale`."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.scale

    def unscale(self, values: Array) -> Array:
        """Return scaled values `(N, D)` in the unit of the data."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.mean

    def decode(self, values: Array) -> str:
        return " ".join(f"{value:.6g}" for value in self.unscale(values).ravel())

    def loss_targets(self, values: Array) -> Array:
        return values.astype(np.float32)

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return the mean of the numbers; `mean`, by which they are scaled, is also of rows that are held out."""
        values = np.concatenate([targets[row] for row in index[:MAX_BASELINE_ROWS].tolist()])
        return {"mean": self.unscale(values.astype(np.float64).mean(0)).tolist()}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        truth = np.concatenate([self.read_values(cell) for cell in rows.truths])
        train_mean = np.array(train_stats.get("mean", self.mean), dtype=np.float64)
        return regression_report(truth, self.unscale(np.concatenate(rows.values)), train_mean)

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), **self.notation.to_dict()}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        mean, scale = (np.array(value[key], dtype=np.float64) for key in ("mean", "scale"))
        return cls(name, mean, scale, Notation.from_dict(value))


class NumberColumn(_NumericColumn):
    """One number. A source whose numbers are very unevenly spread, such as incomes, is read by its place among quantiles.

    `quantiles` are those of the training rows, increasing, and `scores` what a network reads at each; none for other columns.
    """

    kind = "number"

    def __init__(
        self,
        name: str,
        mean: Array,
        scale: Array,
        notation: Notation | None = None,
        quantiles: Sequence[float] = (),
        scores: Sequence[float] = (),
    ) -> None:
        super().__init__(name, mean, scale, notation)
        self.quantiles, self.scores = np.asarray(quantiles, dtype=np.float64), np.asarray(scores, dtype=np.float64)
        are_read = self.quantiles.shape == self.scores.shape and self.quantiles.ndim == 1 and len(self.quantiles) != 1
        if not are_read or not np.isfinite([self.quantiles, self.scores]).all() or (np.diff(self.quantiles) <= 0).any():
            raise ModelError(f"The quantiles of the column '{name:.40}' cannot be read: increasing numbers are expected.")

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        if not config.get("is_source"):
            return super().fit(name, cells, config)
        kept = list(cells)
        column = cast(NumberColumn, super().fit(name, kept, config))
        numbers = np.concatenate(list(readable(kept, column.read_values)))[:, 0]
        if len(numbers) >= MIN_NUMBERED_ROWS and (np.diff(numbers) == 1).mean() >= MIN_NUMBERED_SHARE:
            why = "which says where a row stands in this file and nothing about others: leave it out, if it is no measure"
            logger.info(f"'{name}' numbers the rows ({numbers[0]:g}, {numbers[1]:g}, ...), {why}")
        low, high = np.quantile(numbers, (0.25, 0.75))
        if high - low < MIN_EVEN_SPREAD * column.scale[0] and len(np.unique(numbers)) >= MIN_DIFFERENT_NUMBERS:
            quantiles, scores = normal_scores(numbers)
            column = cls(name, column.mean, column.scale, column.notation, quantiles.tolist(), scores.tolist())
        return column

    @staticmethod
    def parse(cell: Cell) -> Array:
        return np.array([[parse_number(cell)]])

    def encode(self, cell: Cell) -> Array:
        scaled = super().encode(cell)
        if not len(self.quantiles):
            return scaled
        values, low, high = self.read_values(cell), self.quantiles[0], self.quantiles[-1]
        outside = (values - np.clip(values, low, high)) / (high - low)
        placed: Array = np.interp(values, self.quantiles, self.scores) + np.sign(outside) * np.log1p(np.abs(outside))
        return placed.astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        placed = {"quantiles": self.quantiles.tolist(), "scores": self.scores.tolist()} if len(self.quantiles) else {}
        return super().to_dict() | placed

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        mean, scale = (np.array(value[key], dtype=np.float64) for key in ("mean", "scale"))
        return cls(name, mean, scale, Notation.from_dict(value), value.get("quantiles", ()), value.get("scores", ()))


def normal_scores(numbers: Array) -> tuple[Array, Array]:
    """Return quantiles of numbers `(N,)`, increasing, and the quantiles of the normal distribution that they correspond to.

    Example:
        >>> quantiles, scores = normal_scores(np.exp(np.linspace(0, 9, 1000)))
        >>> [f"{number:.1f}" for number in np.interp([1, np.exp(4.501), np.exp(9)], quantiles, scores)]
        ['-2.2', '0.0', '2.2']
    """
    levels = np.linspace(0, 1, NUM_QUANTILES)
    within = np.clip(levels, 0.5 / (NUM_QUANTILES + 1), 1 - 0.5 / (NUM_QUANTILES + 1))
    scores = np.array([statistics.NormalDist().inv_cdf(level) for level in within.tolist()])
    quantiles, place = np.unique(np.quantile(numbers, levels), return_inverse=True)
    return quantiles, np.bincount(place, scores) / np.bincount(place)


class VectorColumn(_NumericColumn):
    """The same number of numbers in every row."""

    kind = "vector"

    @staticmethod
    def parse(cell: Cell) -> Array:
        return parse_vector(cell)[None]

    def describe(self) -> str:
        return f"{self.name}: vector of {self.size:,} numbers"


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
