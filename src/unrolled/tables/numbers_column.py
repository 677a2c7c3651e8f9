"""A column of numbers at every step: frames as a source, a regression at every step or a forecast as a target."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, readable, with_decimal_points
from unrolled.tables.column import Column, EvalRows
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.scaling import Scaling
from unrolled.tables.series_baselines import series_baselines
from unrolled.tables.series_metrics import series_report
from unrolled.tables.step_arrays import SeriesName, StepArray, filled, parse_steps, seconds_of
from unrolled.tables.time_features import CYCLES, next_seconds, num_time_features, time_features


class NumbersColumn(Column):
    """Numbers at every step, `(T, D)`, NaN for gaps. Encoded they are as in the cell; `to_inputs` and `to_targets` scale them.

    Args:
        name: The column, or several joined by commas.
        columns: The names of the D numbers.
        scaling: Of the training steps.
        rate: Samples per second, if the cells are WAV files.
        center: What is subtracted: `none`, `row` or `group` (see `SeriesOptions`).
        scale: `all` or `group`.
        loss: Of a target: `mse`, `mae`, `quantiles` or `gaussian`.
        quantiles: Levels to predict.
        horizon: Steps of a forecast; 0: none.
        difference: If not 0, a forecast predicts changes: the difference of the next number and the known one so many steps
            before it, and reads them too. Of 1 step, a trend has no end at the numbers of the training steps; of a period,
            what is the same in each period need not be learned.
        cycles: Of a source, the cycles of the calendar, such as `day` and `week`, in which the place of each step is read.
        covariates: Of the source of a forecast, the names of the inputs that are known in advance.
    """

    kind, tensor_kind, is_sequence, output = "numbers", "floats", True, "aligned"
    array_dtype = np.dtype(np.float64)

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        scaling: Scaling,
        rate: int | None = None,
        center: str = "none",
        scale: str = "all",
        loss: str = "mse",
        quantiles: Sequence[float] = (0.1, 0.5, 0.9),
        horizon: int = 0,
        difference: int = 0,
        cycles: Sequence[str] = (),
        covariates: Sequence[str] = (),
        decimal_comma: bool = False,
    ) -> None:
        super().__init__(name)
        self.columns, self.scaling, self.rate = tuple(columns), scaling, rate
        self.center, self.scale, self.loss, self.quantiles, self.horizon = center, scale, loss, tuple(quantiles), horizon
        self.difference, self.cycles, self.covariates = difference, tuple(cycles), tuple(covariates)
        self.decimal_comma = decimal_comma
        self.change = Scaling.fit(np.zeros((1, len(self.columns))))
        """Scaling of the changes, if they are predicted."""

        self.residual: Array | None = None
        """Deviation of the errors on validation steps `(D,)`, scaled: the spread of draws where the loss has none."""

    @property
    def size(self) -> int:  # type: ignore[override]
        """Numbers of an input step: with gaps, each number has a second one, 1 where it is missing; and another, its change.
        Those of the calendar and the covariates, which have changes, too, are the last."""
        of_numbers = len(self.columns) * (1 + self.scaling.has_gaps + bool(self.difference))
        return of_numbers + num_time_features(self.cycles) + len(self.covariates) * (1 + bool(self.difference))

    @property
    def outputs_per_number(self) -> int:
        """Outputs of the network for each number."""
        return {"gaussian": 2, "quantiles": len(self.quantiles)}.get(self.loss, 1)

    @property
    def target_size(self) -> int:
        return len(self.columns) * self.outputs_per_number

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> NumbersColumn:
        shapes, rates, parts = Counter[int](), Counter[int](), []
        cells = map(with_decimal_points, cells) if config.get("decimal_comma") else cells
        for values, rate in readable(cells, parse_steps):
            shapes[values.shape[1]] += 1
            parts.append(values)
            rates.update([] if rate is None else [rate])
        width = shapes.most_common(1)[0][0]
        rate = rates.most_common(1)[0][0] if rates else None
        columns = [name] if width == 1 else [part.strip() for part in next(csv.reader([name], skipinitialspace=True))]
        columns = columns if len(columns) == width else [f"{name}_{number}" for number in range(1, width + 1)]
        scaling = Scaling.fit(np.concatenate([part for part in parts if part.shape[1] == width]))
        names = ("center", "scale", "loss", "quantiles", "horizon", "difference", "covariates", "decimal_comma")
        options = {key: config[key] for key in names if key in config}
        return cls(name, columns, scaling, rate, **options)

    def fit_training(self, rows: Iterable[Array]) -> None:
        """Scale by the training rows `(T, D)` alone. Raises `DataError` if they have no number."""
        centered = [self._centered(row, len(row))[0] for row in rows]
        values = np.concatenate(centered)
        if np.isnan(values).all():
            raise DataError(f"'{self.name}' has no number in the training rows: name another column, or give it numbers.")
        self.scaling = Scaling.fit(values)
        if self.difference:
            changes = np.concatenate([_changes(self.scaling.apply(row), self.difference) for row in centered])
            self.change = dataclasses.replace(Scaling.fit(changes), has_gaps=False)

    def encode(self, cell: Cell) -> Array:
        values, rate = parse_steps(with_decimal_points(cell) if self.decimal_comma else cell)
        seconds = seconds_of(cell.value)
        if self.cycles and len(seconds) < len(values):
            raise DataError(
                f"{cell.location}: the model reads the {' and the '.join(self.cycles)} of each step, and the steps have no "
                "dates: give a table with the column of dates that it was trained with, which --order-by named."
            )
        if rate != self.rate and self.rate is not None and not isinstance(cell.value, np.ndarray):  # an array has no rate
            found = "no WAV file" if rate is None else f"{rate:,} samples per second"
            raise DataError(
                f"{cell.location}: {self.rate:,} samples per second are expected, as in training, and it has {found}."
            )
        if values.shape[1] != len(self.columns):
            names = ", ".join(self.columns[:8])
            raise DataError(
                f"{cell.location}: {plural(values.shape[1], 'number')} per step, and {len(self.columns)} are expected: {names}."
            )
        return SeriesName.of(cell).part(values, 0, len(values), None) if isinstance(cell.value, StepArray) else values

    def _centered(self, values: Array, known: int) -> tuple[Array, Array, Array]:
        """Return numbers `(T, D)` without their drift, and what was subtracted and divided by, `(1 or T, D)`.

        Of a series, the first `known` steps give its median and spread.
        """
        shift, factor = np.zeros((1, values.shape[1])), np.ones((1, values.shape[1]))
        if self.center == "row":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a step of gaps only has no median
                shift = np.repeat(np.nanmedian(values, axis=1, keepdims=True), values.shape[1], axis=1)
            values = values - shift
        if self.center == "group" or self.scale == "group":
            own = Scaling.fit(values[: max(1, known)])
            shift, factor = shift + own.center, own.spread[None] if self.scale == "group" else factor
            values = (values - own.center) / factor
        return values, shift, factor

    def to_inputs(self, values: Array, known: int | None = None) -> Array:
        """Return encoded numbers as the network reads them, float32 `(T, size)`.

        A gap has the last number before it; if there were gaps in training, a second number per column is 1 at gaps. If the
        calendar is read, `values` are a `StepArray` with the `seconds` of the steps, and with their `covariates`, if these are
        read; a forecast reads those of the next step.
        """
        scaled = self.scaling.apply(self._centered(values, len(values) if known is None else known)[0])
        parts = [np.nan_to_num(filled(scaled))]
        if self.scaling.has_gaps:
            parts.append(np.isnan(scaled))
        if self.difference:
            parts.append(np.nan_to_num(self.change.apply(_changes(scaled, self.difference))))
        parts.append(self.inputs_in_advance(values, int(self.horizon > 0), len(values)))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def inputs_in_advance(self, values: Array, first: int, count: int) -> Array:
        """Return what is read of `count` steps from `first` on, also after `values`: the calendar and the covariates."""
        parts = [np.zeros((count, 0), dtype=np.float32)]
        if self.cycles:
            seconds, stop = seconds_of(values), first + count
            if len(seconds) < stop:
                seconds = np.append(seconds, next_seconds(seconds, stop - len(seconds)))
            parts.append(time_features(seconds[first:stop], self.cycles))
        if self.covariates and isinstance(values, StepArray):
            known = values.covariates
            parts.append(known[first : first + count])
            if self.difference:
                parts.append(np.nan_to_num(_changes(known, self.difference))[first : first + count])
        return np.concatenate(parts, axis=1)

    def to_targets(self, values: Array, known: int | None = None) -> Array:
        """Return encoded numbers as the loss takes them, float32 `(T, D)`, NaN for gaps; or their changes."""
        scaled = self.scaling.apply(self._centered(values, len(values) if known is None else known)[0])
        return (self.change.apply(_changes(scaled, self.difference)) if self.difference else scaled).astype(np.float32)

    def after(self, predicted: Array, level: Array) -> Array:
        """Return the scaled numbers that outputs stand for: `level`, what they are changes from, plus the changes."""
        return level + self.change.invert(predicted) if self.difference else predicted

    def unscale(self, values: Array, history: Array | None = None) -> Array:
        """Return scaled numbers `(..., D)` in the unit of the data; `history` are the known numbers of the series."""
        numbers = self.scaling.invert(values)
        if history is not None and (self.center != "none" or self.scale != "all"):
            _, shift, factor = self._centered(history, len(history))
            numbers = numbers * factor[-1] + shift[-1]
        return numbers

    def spikes(self, values: Array) -> Array:
        """Return the steps of encoded numbers `(T, D)` that are clipped."""
        centered = self._centered(values, len(values))[0]
        found: Array = np.flatnonzero(((centered < self.scaling.low) | (centered > self.scaling.high)).any(axis=1))
        return found

    def without_spikes(self, values: Array) -> Array:
        """Return encoded numbers with spikes clipped, so that they do not decide the baselines either."""
        if self.center != "none" or self.scale != "all":  # the limits are those of other numbers
            return np.asarray(values)
        clipped: Array = np.clip(np.asarray(values), self.scaling.low, self.scaling.high)
        return clipped

    def describe_spikes(self, places: list[str], total: int) -> str:
        """Return a sentence about the numbers that were clipped."""
        shown = ", ".join(places[:5]) + (", ..." if total > 5 else "")
        steps = f"{total:,} steps have" if total != 1 else "1 step has"
        return f"'{self.name}': {steps} a number far out of the range of the training steps, which is clipped: {shown}"

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        rows = self.encode(cell).tolist()
        return ["/".join("gap" if np.isnan(value) else f"{value:.4g}" for value in row) for row in rows]

    def decode(self, values: Array) -> str:
        numbers = np.asarray(values, dtype=np.float64).reshape(-1, len(self.columns))
        if len(self.columns) == 1:
            return json.dumps(_rounded(numbers[:, 0].tolist()))
        return json.dumps([_rounded(row) for row in numbers.tolist()])

    def loss_targets(self, values: Array) -> Array:
        return self.to_targets(values)

    def is_wrong(self, truth: Cell, text: str, values: Array) -> bool:
        return False

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        if not isinstance(source, NumbersColumn):
            return {}
        rows = [(source.without_spikes(sources[int(i)]), self.without_spikes(targets[int(i)])) for i in index.tolist()]
        return series_baselines(rows, self.horizon)

    def forecast_stats(self, series: Iterable[StepArray]) -> dict[str, Any]:
        """Return `baseline_stats` of the training steps of series, with what is known in advance of them."""
        rows = [StepArray.make(self.without_spikes(values), covariates=values.covariates) for values in series]
        return series_baselines([(values, values) for values in rows], self.horizon)

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        sources = [rows.source.encode(cell) for cell in rows.source_cells]
        truths = [self.encode(cell) for cell in rows.truths]
        levels = self.quantiles
        return series_report(sources, truths, rows.values, rows.quantiles, levels, train_stats, self.horizon, self.rate)

    def to_dict(self) -> dict[str, Any]:
        return {
            "columns": list(self.columns), "scaling": self.scaling.to_json(), "rate": self.rate, "center": self.center,
            "scale": self.scale, "loss": self.loss, "quantiles": list(self.quantiles), "horizon": self.horizon,
            "residual": None if self.residual is None else self.residual.tolist(),
            **({"change": self.change.to_json(), "difference": self.difference} if self.difference else {}),
            **({"cycles": list(self.cycles)} if self.cycles else {}),
            **({"covariates": list(self.covariates)} if self.covariates else {}),
            **({"decimal_comma": True} if self.decimal_comma else {}),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> NumbersColumn:
        options: dict[str, Any] = {key: str(value[key]) for key in ("center", "scale", "loss")}
        levels, horizon, rate = [float(level) for level in value["quantiles"]], int(value["horizon"]), value["rate"]
        columns = [str(column) for column in value["columns"]]
        scaling = Scaling.from_json(value["scaling"])
        if len(columns) != len(scaling.center) or not columns or not 0 <= horizon <= 100_000 or len(levels) > 99:
            raise ValueError("the settings of a column of numbers are not valid")
        if options["loss"] not in ("mse", "mae", "quantiles", "gaussian"):
            raise ValueError(f"there is no loss {options['loss']!r}")
        options |= {"quantiles": levels, "horizon": horizon, "cycles": value.get("cycles", ())}
        options["decimal_comma"] = bool(value.get("decimal_comma", False))
        options |= {"covariates": [str(each) for each in value.get("covariates", ())]}
        if not set(options["cycles"]) <= CYCLES.keys():
            raise ValueError(f"there is no cycle {options['cycles']!r}")
        column = cls(name, columns, scaling, None if rate is None else int(rate), **options)
        if value.get("change") is not None:
            column.difference, column.change = int(value.get("difference", 1)), Scaling.from_json(value["change"])
            if len(column.change.center) != len(columns) or not horizon or not 1 <= column.difference <= 100_000:
                raise ValueError("the changes of a column of numbers are not valid")
        column.residual = None if value.get("residual") is None else np.array(value["residual"], dtype=np.float64)
        return column

    def describe(self) -> str:
        rate = f" at {self.rate:,} a second" if self.rate else ""
        width = "" if len(self.columns) == 1 else f" of {len(self.columns)} columns"
        return f"{self.name}: numbers{width}{rate}"


def _changes(values: Array, lag: int) -> Array:
    """Return the change of each of the numbers `(T, D)` from the one `lag` steps before it, NaN where one is not known.

    A gap has the last number before it.
    """
    before = filled(values)
    changes: Array = values - np.concatenate([np.full_like(before[:lag], np.nan), before[:-lag]])
    return changes


def _rounded(numbers: list[float]) -> list[float | None]:
    """Return numbers with 6 significant digits, None for those that are not finite. Floats of Python are formatted eight times
    as fast as those of numpy."""
    return [float(f"{number:.6g}") if math.isfinite(number) else None for number in numbers]
