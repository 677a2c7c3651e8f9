"""Long tables, one row per step, as tables with one row per series: `--group-by` and `--order-by`."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.display import agree, plural
from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import MISSING_IN_NUMBERS, Cell, is_missing, parse_text, to_number
from unrolled.tables.known_covariates import Covariate, count_known, unknown_note
from unrolled.tables.long_series import Series, go_on, read_series
from unrolled.tables.numeric_columns import Notation
from unrolled.tables.source_columns import split_source
from unrolled.tables.step_arrays import StepArray, StepTexts, are_numbers, number_or_gap
from unrolled.tables.step_notation import with_plain_numbers
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import NumberedRows

MAX_STEP_LABELS = 10
"""Distinct whole numbers, at most, for a column of numbers to be labels of the steps."""


@dataclass(frozen=True)
class LongFormat:
    """How a long table is read: the columns that name the series, and the time of a step; None: one series, in file order.

    The `covariates` of a forecast are known in advance: the last rows of a series, in which the source is empty, are the
    steps to forecast. The `examples` are two consecutive times of the training table: their distance is that of a series that
    has only one step. The `notations` are those of columns whose numbers are not written plainly.
    """

    group_by: str | None = None
    order_by: str | None = None
    covariates: tuple[Covariate, ...] = ()
    examples: tuple[Any, ...] = ()
    notations: Mapping[str, Notation] = field(default_factory=dict)

    @property
    def time_columns(self) -> list[str]:
        """The columns of the time of a step, of which there may be several, such as date and time."""
        return split_source(self.order_by) if self.order_by else []

    def to_json(self) -> dict[str, Any]:
        """Return the format as it is stored in a model file."""
        known = {"covariates": [each.to_json() for each in self.covariates]} if self.covariates else {}
        examples = {"examples": list(map(_as_json, self.examples))} if self.examples else {}
        notations = {name: notation.to_dict() for name, notation in self.notations.items()}
        written = {"notations": notations} if notations else {}
        return {"group_by": self.group_by, "order_by": self.order_by, **known, **examples, **written}

    @staticmethod
    def from_json(value: Any) -> LongFormat | None:
        """Build the format that `to_json` described; None for None."""
        if value is None:
            return None
        covariates = tuple(map(Covariate.from_json, value.get("covariates", ())))
        notations = {name: Notation.from_dict(written) for name, written in value.get("notations", {}).items()}
        return LongFormat(value["group_by"], value["order_by"], covariates, tuple(value.get("examples", ())), notations)


def _as_json(time: Any) -> Any:
    """Return a time as it is stored: dates of frames as ISO dates."""
    return time.isoformat() if isinstance(time, datetime.date) else time.item() if isinstance(time, np.generic) else time


def column_list(names: str, table: Table) -> list[str]:
    """Return the columns that `A,B,C` means: one, if a column has that very name."""
    columns = [table.find_column(name) for name in split_source(names, table)]
    if len(set(columns)) < len(columns):
        raise UsageError(f"'{names}' names a column twice: name each once.")
    return columns


def group_steps(table: Table, format: LongFormat, names: Sequence[str], horizon: int = 0) -> Table:
    """Return a table with one row per series, read once. Its columns are the series' name, the `names` and the target's values.

    Args:
        table: The long table.
        format: The columns of the series and of the time.
        names: Columns to keep, each a name, or several joined by commas, which become frames.
        horizon: Steps that are to be forecast; a series of a single step has their times, too.

    A column of numbers becomes a `StepArray`, one of texts `StepTexts`. Raises `DataError` for a time that cannot be ordered,
    or a text in a column of numbers.
    """
    table = with_plain_numbers(table, format.notations)
    group_by = None if format.group_by is None else table.find_column(format.group_by)
    order_by = format.order_by
    parts = {name: column_list(name, table) for name in names}
    known = [table.find_column(each.name) for each in format.covariates]
    columns = tuple(dict.fromkeys([*([group_by] if group_by else []), *parts]))

    @functools.cache
    def read() -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
        flat = [column for part in parts.values() for column in part]
        series, notes = read_series(table, group_by, order_by, [*flat, *known])
        comma = table.allows_decimal_commas
        kinds = [are_numbers((group.columns[i] for group in series.values()), comma) for i in range(len(flat))]
        for group in series.values() if order_by and horizon else ():
            go_on(group, format.examples, horizon)
        notes += _read_covariates(table, series, format.covariates, len(flat))
        rows, odd = [], dict[str, list[str]]()
        for key, group in series.items():
            row: dict[str, Any] = {group_by: key} if group_by else {}
            row |= {name: _cell_value(table, group, flat, part, kinds, odd) for name, part in parts.items()}
            rows.append((group.lines[0], row))
        num_steps = sum(len(group.lines[: group.num_known]) for group in series.values())
        num_empty = sum(all(_is_empty(row[name]) for name in parts) for _, row in rows)
        if num_empty:
            notes.append(f"{num_empty:,} of {len(rows):,} series {agree(num_empty, 'have')} no number")
        for name, found in odd.items():
            notes += [f"'{name}': {plural(len(found), 'value')} read as a gap; the first: {found[0]}"] if found else []
        return rows, [f"{table.name}: {plural(num_steps, 'step')} of {len(series):,} series", *notes]

    def rows() -> NumberedRows:
        yield from read()[0]

    return dataclasses.replace(table, columns=columns, rows=rows, notes=(*table.notes, *read()[1]))


def _read_covariates(table: Table, series: dict[Any, Series], covariates: Sequence[Covariate], num_values: int) -> list[str]:
    """Encode what is known in advance of series, whose columns are `num_values` of values, and then those of covariates.

    Leaves out series in which no step has a value to forecast from. Returns sentences about these, and about the steps to come.
    """
    if not covariates:
        return []
    num_ahead, num_series = 0, len(series)
    for key, group in list(series.items()):
        known = group.num_known = count_known(group.columns[:num_values])
        num_ahead += len(group.lines) - known
        cell = Cell(StepArray.make(np.zeros(0), group.lines), table.name)
        parts = [
            covariate.encode(values, cell, table.allows_decimal_commas)
            for covariate, values in zip(covariates, group.columns[num_values:], strict=True)
        ]
        group.covariates = np.concatenate(parts, axis=1)
        if not known:
            del series[key]
    if not series:
        raise DataError(f"{table.name} has no step with a value to forecast from.")
    every = zip(*(group.columns[num_values:] for group in series.values()), strict=True)
    notes = unknown_note(covariates, [list(itertools.chain.from_iterable(columns)) for columns in every])
    gaps = (_gaps_ahead(covariate, list(series.values()), num_values + place) for place, covariate in enumerate(covariates))
    notes += filter(None, gaps)
    if num_ahead:
        notes.append(
            f"{plural(num_ahead, 'row')} after the last values {agree(num_ahead, 'are')} of steps that are not known yet"
        )
    if num_empty := num_series - len(series):
        notes.append(f"{num_empty:,} of {num_series:,} series {agree(num_empty, 'have')} no values, and cannot be forecast")
    return notes


def _gaps_ahead(covariate: Covariate, series: Sequence[Series], place: int) -> str:
    """Return a sentence about steps to come that lack a number of a covariate, the column `place`, or an empty one."""
    lines = [
        group.lines[step] for group in series for step in covariate.gaps(group.columns[place]) if step >= (group.num_known or 0)
    ]
    if not lines:
        return ""
    steps = f"{plural(len(lines), 'step')} that {agree(len(lines), 'are')} to be forecast"
    return f"'{covariate.name}' is empty in {steps}, from line {lines[0]:,}: the last number before it is read"


def _cell_value(
    table: Table, group: Series, flat: list[str], part: list[str], kinds: list[bool], odd: dict[str, list[str]]
) -> Any:
    """Return the values of one or several columns of a series as one cell; add what is no number to `odd`, by column."""
    places = [flat.index(column) for column in part]
    if not all(kinds[place] for place in places):
        if len(part) > 1:
            place = next(place for place in places if not kinds[place])
            values = (v for v in group.columns[place] if not is_missing(v, MISSING_IN_NUMBERS))
            example = next(
                (v for v in values if not isinstance(v, str) or to_number(v, table.allows_decimal_commas) is None), ""
            )
            raise DataError(
                f"'{','.join(part)}' are read side by side as numbers, and '{flat[place]}' has texts, such as {example!r:.40}: "
                "write numbers, all with the same unit or with none, or leave it out."
            )
        texts = StepTexts("" if is_missing(v) else parse_text(Cell(v, table.name)) for v in group.columns[places[0]])
        texts.lines, texts.times = group.lines, group.times
        return texts
    numbers = [
        _numbers(table, group, group.columns[place][: group.num_known], odd.setdefault(flat[place], [])) for place in places
    ]
    steps = np.stack(numbers, axis=1)
    return StepArray.make(steps, group.lines, group.times, group.seconds, group.name, covariates=group.covariates)


def _is_empty(value: Any) -> bool:
    return isinstance(value, StepArray) and bool(np.isnan(value).all())


def _numbers(table: Table, group: Series, values: list[Any], odd: list[str]) -> list[float]:
    """Return values as numbers, NaN for a gap, and for what is no number; what is wrong with that is added to `odd`."""
    cell, comma = Cell(StepArray.make(np.zeros(0), group.lines), table.name), table.allows_decimal_commas
    numbers = []
    for step, value in enumerate(values):
        try:
            numbers.append(number_or_gap(value, cell, step, comma))
        except DataError as error:
            numbers.append(float("nan"))
            odd.append(str(error))
    return numbers


def step_kind(cells: Sequence[Any]) -> str:
    """Return the kind of a column of grouped cells as a target: what all steps of each series share is one value of the series.

    Numbers and gaps are `number` or `numbers`; texts, and few whole numbers, `label` or `labels`.
    """
    is_text = any(isinstance(cell, list) for cell in cells)
    is_constant = len(cells) > 1 and all(_is_constant(cell) for cell in cells)
    if is_text:
        return "label" if is_constant else "labels"
    values = np.unique(np.concatenate([np.asarray(cell, dtype=np.float64).ravel() for cell in cells]))
    values = values[~np.isnan(values)]
    is_label = len(values) <= MAX_STEP_LABELS and bool((values == np.round(values)).all())
    if any(np.asarray(cell).ndim == 2 and np.asarray(cell).shape[1] > 1 for cell in cells):
        return "numbers"
    return {(True, True): "label", (True, False): "labels", (False, True): "number", (False, False): "numbers"}[
        is_label, is_constant
    ]


def _is_constant(cell: Any) -> bool:
    if isinstance(cell, list):
        return len(set(cell)) == 1
    return bool((np.asarray(cell) == np.asarray(cell)[:1]).all())


def as_target(table: Table, name: str, kind: str) -> Table:
    """Return a grouped table whose column `name` is one value per series, or labels, as `kind` needs it."""
    if kind in ("numbers", "frames"):
        return table

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return value if kind == "labels" else value[0]
        values = np.asarray(value)[:, 0]
        if kind == "labels":
            texts = StepTexts("" if math.isnan(v) else f"{v:.15g}" for v in values.tolist())
            texts.lines, texts.times = value.lines, value.times
            return texts
        return None if math.isnan(values[0]) else f"{values[0]:.15g}" if kind == "label" else float(values[0])

    def rows() -> NumberedRows:
        for line, row in table.rows():
            yield line, row | {name: convert(row[name])}

    return dataclasses.replace(table, rows=rows)
