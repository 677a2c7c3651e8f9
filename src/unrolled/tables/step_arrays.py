"""Cells that are numbers at every step: lists with gaps, `.npy` and WAV files, and arrays made from rows of a long table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from unrolled.errors import DataError
from unrolled.tables.cell_values import (
    IMAGE_SUFFIXES,
    MAX_NUMBER,
    MISSING_IN_NUMBERS,
    Array,
    Cell,
    is_missing,
    load_array,
    parse_list,
    resolve_path,
    to_number,
)
from unrolled.tables.wav_files import SUFFIXES, read_wav

FILE_SUFFIXES = (".npy", *SUFFIXES)
"""Names of files that hold a series end like this."""


def names_file(value: Any) -> bool:
    """Return whether a cell is the name of a file with a series or an image."""
    return isinstance(value, str) and value.lower().endswith((*FILE_SUFFIXES, *IMAGE_SUFFIXES))


class StepArray(np.ndarray[Any, Any]):
    """Values of the steps of one series `(T, D)` or `(T,)`, with the `lines` of the table they come from, their `times`, the
    `seconds` since 1970 of those that are dates, the name of the `series`, and the place in it of the `first` of them."""

    lines: Sequence[int] = ()
    times: Sequence[Any] = ()
    seconds: Array = np.zeros(0)
    series: str = ""
    first: int = 0

    @staticmethod
    def make(
        values: Any,
        lines: Sequence[int] = (),
        times: Sequence[Any] = (),
        seconds: Array | None = None,
        series: str = "",
        first: int = 0,
    ) -> StepArray:
        """Return an array of values with what is known about their steps."""
        array = np.asarray(values).view(StepArray)
        array.lines, array.times, array.series, array.first = lines, times, series, first
        array.seconds = np.zeros(0) if seconds is None else seconds
        return array


def seconds_of(values: Any) -> Array:
    """Return the times of steps that are dates, in seconds since 1970; none where they are not known."""
    return values.seconds if isinstance(values, StepArray) else np.zeros(0)


def last_steps(values: Array, count: int) -> Array:
    """Return the last `count` steps of values, of a `StepArray` with their times."""
    if not isinstance(values, StepArray):
        return values[-count:]
    return SeriesName(values.series, values.times, values.seconds).part(values, max(0, len(values) - count), len(values))


class StepTexts(list[str]):
    """Labels of the steps of one series, with the `lines` of the table they come from, and their `times`."""

    lines: Sequence[int] = ()
    times: Sequence[Any] = ()


class SeriesName(NamedTuple):
    """The name of a series, which may be empty, and the times of its steps, if there are any; of dates, in seconds, too."""

    name: str
    times: Sequence[Any]
    seconds: Array

    @staticmethod
    def of(cell: Cell) -> SeriesName:
        """Return the name and the times of the series in a cell; where each row is a series, its file or its line."""
        value = cell.value
        if isinstance(value, StepArray):
            return SeriesName(value.series, value.times, value.seconds)
        return SeriesName(value if names_file(value) else f"line {cell.line:,}" if cell.line else "", (), np.zeros(0))

    def part(self, values: Array, start: int, stop: int) -> StepArray:
        """Return the steps `start` to before `stop` of the values of this series."""
        times, seconds = self.times[start:stop], self.seconds[start:stop]
        return StepArray.make(values[start:stop], times=times, seconds=seconds, series=self.name, first=start)


def step_location(cell: Cell, step: int) -> str:
    """Return where a step of a cell is, for messages: the line of a long table, else the place in the cell."""
    lines = getattr(cell.value, "lines", ())
    return f"{cell.table_name}, line {lines[step]:,}" if len(lines) else f"{cell.location}, value {step + 1:,}"


def parse_steps(cell: Cell) -> tuple[Array, int | None]:
    """Return the numbers `(T, D)` of a cell, NaN where there is a gap, and the rate of a WAV file.

    A gap is null, an empty text, or a name of a missing value such as `NaN` or `NA`. Raises `DataError` for anything else that
    is no number, for infinite numbers, and for rows of different lengths.
    """
    value, rate = parse_list(cell.value), None
    if isinstance(value, str) and value.lower().endswith(SUFFIXES):
        values, rate = read_wav(resolve_path(cell), cell.location)
    else:
        if isinstance(value, str):
            value = load_array(cell) if value.lower().endswith(".npy") else value.replace(",", " ").replace(";", " ").split()
        values = _to_floats(value, cell)
    values = np.asarray(values, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.size == 0:
        raise DataError(f"{cell.location}: numbers, or lists of as many numbers each, are expected; this is {values.shape}.")
    if np.abs(values).max(initial=0, where=~np.isnan(values)) > MAX_NUMBER:
        step = int(np.argwhere(np.abs(values) > MAX_NUMBER)[0][0])
        raise DataError(
            f"{step_location(cell, step)}: the number is infinite or above 3.4e38; a gap is written as an empty value."
        )
    return values, rate


def _to_floats(value: Any, cell: Cell) -> Array:
    """Return lists of numbers and gaps as an array; what is no number raises `DataError` with its place."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        pass
    if not isinstance(value, list):
        raise DataError(f"{cell.location}: a list of numbers is expected, and this is {str(value)[:40]!r}.")
    widths = {len(element) if isinstance(element, list) else 0 for element in value}
    if len(widths) > 1:
        listed = " and ".join(map(str, sorted(widths)[:2]))
        raise DataError(f"{cell.location}: every step has as many numbers as the others, and here some have {listed}.")
    rows = [
        [number_or_gap(part, cell, step) for part in (element if isinstance(element, list) else [element])]
        for step, element in enumerate(value)
    ]
    return np.array(rows, dtype=np.float64)


def number_or_gap(value: Any, cell: Cell, step: int, decimal_comma: bool = False) -> float:
    """Return one value as a number, NaN for a gap. Raises `DataError` with its place for anything else."""
    if is_missing(value, MISSING_IN_NUMBERS):
        return float("nan")
    number = None
    if isinstance(value, str):
        number = to_number(value, decimal_comma)
    elif isinstance(value, int | float | np.number) and not isinstance(value, complex):
        number = float(value)
    if number is None:
        raise DataError(
            f"{step_location(cell, step)}: a number is expected, and this is {str(value)[:40]!r}; a gap is an empty value."
        )
    return number
