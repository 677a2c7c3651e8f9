"""Cells that are numbers at every step: lists with gaps, `.npy` and WAV files, and arrays made from rows of a long table."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from unrolled.errors import DataError
from unrolled.tables.cell_values import (
    IMAGE_SUFFIXES,
    MAX_NUMBER,
    MISSING_IN_NUMBERS,
    Array,
    Cell,
    has_decimal_comma,
    is_missing,
    load_array,
    parse_list,
    resolve_path,
    to_number,
)
from unrolled.tables.wav_files import SUFFIXES, read_wav

FILE_SUFFIXES = (".npy", *SUFFIXES)
"""Names of files that hold a series end like this."""

OTHER_SOUNDS = (".aac", ".aif", ".aiff", ".caf", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wma")
"""Names of sounds that are not read."""

MIN_NUMBER_SHARE = 0.9
"""Share of the values of a column that are numbers, for it to be one of numbers: the first other value is then an error."""


def names_file(value: Any) -> bool:
    """Return whether a cell is the name of a file with a series or an image."""
    return isinstance(value, str) and value.lower().endswith((*FILE_SUFFIXES, *IMAGE_SUFFIXES))


NO_TIMES, NO_COVARIATES = np.zeros(0), np.zeros((0, 0), dtype=np.float32)


class StepArray(np.ndarray[Any, Any]):
    """Values of the steps of one series `(T, D)` or `(T,)`, with the `lines` of the table they come from, their `times`, the
    `seconds` since 1970 of those that are dates, the name of the `series`, and the place in it of the `first` of them.

    `covariates` `(N, K)` are known in advance. Where there are some, they and the times go on after the T steps, with those of
    the steps that are to be forecast.
    """

    lines: Sequence[int] = ()
    times: Sequence[Any] = ()
    seconds: Array = NO_TIMES
    series: str = ""
    first: int = 0
    covariates: Array = NO_COVARIATES

    @staticmethod
    def make(
        values: Any,
        lines: Sequence[int] = (),
        times: Sequence[Any] = (),
        seconds: Array | None = None,
        series: str = "",
        first: int = 0,
        covariates: Array = NO_COVARIATES,
    ) -> StepArray:
        """Return an array of values with what is known about their steps."""
        array = np.asarray(values).view(StepArray)
        array.lines, array.times, array.series, array.first = lines, times, series, first
        array.seconds, array.covariates = NO_TIMES if seconds is None else seconds, covariates
        return array


def seconds_of(values: Any) -> Array:
    """Return the times of steps that are dates, in seconds since 1970; none where they are not known."""
    return values.seconds if isinstance(values, StepArray) else NO_TIMES


def last_steps(values: Array, count: int) -> Array:
    """Return the last `count` steps, of a `StepArray` with their times, and times and covariates of the steps after them."""
    if not isinstance(values, StepArray):
        return values[-count:]
    series = SeriesName(values.series, values.times, values.seconds, values.covariates)
    return series.part(values, max(0, len(values) - count), len(values), None)


class StepTexts(list[str]):
    """Labels of the steps of one series, with the `lines` of the table they come from, and their `times`."""

    lines: Sequence[int] = ()
    times: Sequence[Any] = ()


class SeriesName(NamedTuple):
    """The name of a series, which may be empty, the times of its steps, those of dates also in seconds, and its covariates:
    see `StepArray`."""

    name: str
    times: Sequence[Any] = ()
    seconds: Array = NO_TIMES
    covariates: Array = NO_COVARIATES

    @staticmethod
    def of(cell: Cell) -> SeriesName:
        """Return the name and the times of the series in a cell; where each row is a series, its file or its line."""
        value = cell.value
        if isinstance(value, StepArray):
            return SeriesName(value.series, value.times, value.seconds, value.covariates)
        return SeriesName(value if names_file(value) else f"line {cell.line:,}" if cell.line else "")

    def part(self, values: Array, start: int, stop: int, ahead: int | None = 0) -> StepArray:
        """Return the steps `start` to before `stop` of the values of this series.

        What is known in advance is that of `ahead` more steps, of which the last is repeated where there are no more; None:
        of all that there are.
        """
        end = None if ahead is None else stop + ahead
        covariates = self.covariates[start:end]
        if ahead and len(covariates) and len(covariates) < stop + ahead - start:
            covariates = np.concatenate(
                [covariates, np.repeat(covariates[-1:], stop + ahead - start - len(covariates), axis=0)]
            )
        return StepArray.make(
            values[start:stop], times=self.times[start:end], seconds=self.seconds[start:end], series=self.name, first=start,
            covariates=covariates,
        )  # fmt: skip


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
            value = [value] if value.lower().endswith(OTHER_SOUNDS) else _numbers_or_array(value, cell)
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


def _numbers_or_array(text: str, cell: Cell) -> Any:
    return load_array(cell) if text.lower().endswith(".npy") else _parts(cell)


def _parts(cell: Cell) -> list[str]:
    """Return the numbers of a text, between blanks, commas or semicolons; raises `DataError` for `1,5 2,5`, with both."""
    parts = cell.value.split()
    if len(parts) > 1 and all(map(has_decimal_comma, parts)):
        problem = f"numbers are expected, and of {parts[0]!r:.40} the comma may be the decimal point"
        raise DataError(f"{cell.location}: {problem}: write points, or only commas between the numbers.")
    return [part for part in re.split(r"[,;\s]+", cell.value) if part]


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
    if number is None and isinstance(value, str) and value.lower().endswith(OTHER_SOUNDS):
        wav = f"{value[: value.rindex('.')]}.wav"
        command = shlex.join(("ffmpeg", "-i", value[:200], wav[:200]))
        what = f"{value:.200} is a sound, and WAV files are read: convert it ({command})"
        raise DataError(f"{step_location(cell, step)}: {what}.")
    if number is None:
        raise DataError(
            f"{step_location(cell, step)}: a number is expected, and this is {str(value)[:40]!r}; a gap is an empty value."
        )
    return number


def are_numbers(columns: Iterable[Sequence[Any]], decimal_comma: bool) -> bool:
    """Return whether the values of columns are numbers, gaps apart, but for a few."""
    num_numbers = num_values = 0
    for column in columns:
        for value in column:
            if not is_missing(value, MISSING_IN_NUMBERS):
                num_values += 1
                num_numbers += to_number(value, decimal_comma) is not None if isinstance(value, str) else not _is_object(value)
    return num_values == 0 or num_numbers >= MIN_NUMBER_SHARE * num_values


def _is_object(value: Any) -> bool:
    return isinstance(value, bool | list | dict) or not isinstance(value, int | float | np.number)


def filled(values: Array) -> Array:
    """Return numbers `(T, D)` with the last one before it in each gap, NaN before the first."""
    is_gap = np.isnan(values)
    if not is_gap.any():
        return values
    last = np.maximum.accumulate(np.where(is_gap, -1, np.arange(len(values))[:, None]), axis=0)
    found: Array = np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), np.nan)
    return found
