"""What a model of series predicts from what: how the table is read, and the columns."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.series_options import SeriesOptions
from unrolled.tables.cell_values import Cell, is_missing, parse_list, to_number
from unrolled.tables.column import Column
from unrolled.tables.columns import COLUMN_TYPES
from unrolled.tables.known_covariates import KINDS, Covariate
from unrolled.tables.long_table import LongFormat, as_target, column_list, group_steps, step_kind
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.source_columns import split_source
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import infer_spec, parse_column, split_kind
from unrolled.tables.step_arrays import StepArray, parse_steps, step_location
from unrolled.tables.step_notation import decimal_comma_in_lists, has_single_numbers, infer_notations, with_plain_numbers
from unrolled.tables.step_times import MAX_COMPARED_TIMES, next_times
from unrolled.tables.table_files import Table

logger = logging.getLogger(__name__)

MAX_NAMED_SPIKES = 5

MAX_EXAMINED_ROWS = 200
"""Rows that show whether a target is lists of numbers."""


def names_series(source: str | None, target: str | None, options: SeriesOptions) -> bool:
    """Return whether columns and settings are those of series: numbers at every step, or a table with one row per step."""
    declared = [split_kind(name)[1] for name in (split_source(source) if source else [])]
    declared += [split_kind(target)[1]] if target else []
    return "numbers" in declared or options != SeriesOptions()


def parse_columns(columns: str, role: str, table: Table) -> tuple[str, str | None]:
    """Return name and kind of NAME, NAME:KIND, or of several columns of numbers, which are read side by side as NAME,NAME."""
    parts = [parse_column(part, role, table) for part in split_source(columns, table)]
    if len(parts) == 1:
        return parts[0]
    for name, kind in parts:
        if kind not in (None, "numbers"):
            raise UsageError(
                f"--{role} {columns}: series are read side by side as numbers, and '{name}' is to be {kind}: leave it out."
            )
    names = [f'"{name}"' if "," in name else name for name, _ in parts]
    return ",".join(names), "numbers" if any(kind for _, kind in parts) else None


def long_format(table: Table, source: str, options: SeriesOptions) -> LongFormat | None:
    """Return how a table with one row per step is read; None if each row is a series, as a cell that is a list shows."""
    if options.group_by is not None or options.order_by is not None:
        times = column_list(options.order_by, table) if options.order_by else []
        order_by = ",".join(f'"{name}"' if "," in name else name for name in times)
        return LongFormat(options.group_by, order_by or None)
    names = column_list(source, table)
    with contextlib.closing(table.rows()) as rows:
        for line, row in rows:
            value = table.cell(line, row, names[0]).value
            if not is_missing(value):
                is_file = isinstance(value, str) and value.lower().endswith((".npy", ".wav", ".wave"))
                is_series = is_file or isinstance(value, list | np.ndarray)
                if isinstance(value, str) and to_number(value, table.allows_decimal_commas) is None:
                    has_parts = len(value.replace(",", " ").replace(";", " ").split()) > 1
                    is_series = is_series or (has_parts and not has_single_numbers(table, names[0]))
                return None if is_series else LongFormat()
    raise DataError(f"{table.name} has no row in which '{source}' has a value.")


def group_table(table: Table, spec: TableSpec) -> Table:
    """Return a table as a model of series reads it: long tables with one row per series."""
    if spec.long is None:
        return table
    names = tuple(dict.fromkeys((spec.source.name, spec.target.name)))
    return as_target(group_steps(table, spec.long, names), spec.target.name, spec.target.kind)


def group_sources(table: Table, spec: TableSpec, with_target: bool = False) -> Table:
    """Return a table with its sources, which needs no target; `with_target` with that, too, if it has one."""
    if with_target and all(map(table.matching_columns, split_source(spec.target.name, table))):
        return group_table(table, spec)
    return table if spec.long is None else group_steps(table, spec.long, (spec.source.name,), spec.horizon)


def series_spec(
    table: Table, source: str, target: str | None, options: SeriesOptions, normalization: str
) -> tuple[Table, TableSpec]:
    """Return a table as it is read, and the spec of its columns `source` and `target` (NAME or NAME:KIND)."""
    (name, kind), (target_name, target_kind) = (
        parse_columns(column, role, table) for column, role in ((source, "source"), (target or source, "target"))
    )
    if options.horizon is not None:
        if target_name != name or target_kind not in (None, "numbers"):
            raise UsageError("--horizon forecasts the columns of --source themselves: leave --target out.")
        target_kind = "numbers"
    long = long_format(table, name, options)
    config = {"normalize": normalization, "split": "words", "is_source": False, "tokens": "characters", "spaces": True}
    if options.known_covariates is not None:
        long = _with_covariates(table, long, name, options)
    if long is None:
        return table, _spec_of_lists(table, (name, kind), (target_name, target_kind), options, config)
    _require_two_columns(name, target_name, options)
    long = _with_notations(table, long, ((name, kind), (target_name, target_kind)))
    grouped = group_steps(table, long, tuple(dict.fromkeys((name, target_name))))
    rows = [row for _, row in grouped.rows()]
    if options.horizon is not None and not isinstance(rows[0][name], StepArray):
        example = next((str(text) for text in rows[0][name] if to_number(str(text)) is None), "")
        texts = f"'{name}' of {table.name} has texts, such as {example!r:.40}"
        raise UsageError(
            f"--horizon forecasts numbers, and {texts}: name a column of numbers, all with the same unit or with none."
        )
    target_kind = target_kind or step_kind([row[target_name] for row in rows])
    grouped = as_target(grouped, target_name, target_kind)
    kind = kind or ("numbers" if isinstance(rows[0][name], StepArray) else "labels")
    read = config | {"covariates": [name for covariate in long.covariates for name in covariate.inputs]}
    spec = TableSpec(
        _fit(grouped, name, kind, options, read), _fit(grouped, target_name, target_kind, of_target(options), config)
    )
    examples = _next_to_each_other([row[name] for row in rows]) if options.horizon and options.order_by else ()
    return grouped, dataclasses.replace(spec, long=dataclasses.replace(long, examples=examples))


def _with_notations(table: Table, long: LongFormat, columns: Sequence[tuple[str, str | None]]) -> LongFormat:
    """Return how a table is read, with how its numbers are written; log sentences about numbers that may be meant otherwise."""
    notations = dict(long.notations)
    for names, kind in dict(columns).items():
        if kind in (None, "number", "numbers"):
            found, notes = infer_notations(table, column_list(names, table), declared=kind is not None)
            notations |= found
            for note in notes:
                logger.info(note)
    return dataclasses.replace(long, notations=notations)


def _next_to_each_other(series: Sequence[StepArray]) -> tuple[Any, ...]:
    """Return two times of steps at the usual distance, as the longest series has them; none if it has no such."""
    times = max((steps.times for steps in series), key=len)[-MAX_COMPARED_TIMES:]
    return (times[-1], *next_times(times, 1)) if next_times(times, 1) else ()


def _with_covariates(table: Table, long: LongFormat | None, source: str, options: SeriesOptions) -> LongFormat:
    """Return how a table is read, with the columns that are known in advance."""
    if not options.horizon:
        raise UsageError("--known-covariates are for forecasts: add --horizon, or name the columns in --source.")
    if long is None:
        raise UsageError("--known-covariates are for a table with one row per step, and here each row is a series.")
    uses = {long.group_by: "says which series a row belongs to"} | dict.fromkeys(long.time_columns, "is the time of the steps")
    uses |= dict.fromkeys(column_list(source, table), "is forecast, and so not known in advance")
    covariates = []
    for part in split_source(options.known_covariates or "", table):
        given, kind = parse_column(part, "known-covariates")
        name = table.find_column(given)
        if kind not in KINDS:
            raise UsageError(f"--known-covariates {part}: say {given}:number or {given}:label, or leave the kind out.")
        if name in uses:
            raise UsageError(f"--known-covariates: '{name}' {uses[name]}: leave it out.")
        long = _with_notations(table, long, ((name, kind),))
        values = [cell.value for _, (cell,) in with_plain_numbers(table, long.notations).iter_cells((name,))]
        covariates.append(Covariate.fit(name, kind, values, table.allows_decimal_commas))
        if len({str(value).strip() for value in values}) == 1:
            logger.warning(f"--known-covariates: '{name}' is the same in all rows, so a forecast learns nothing from it")
        uses[name] = "is named twice"
    return dataclasses.replace(long, covariates=tuple(covariates))


def _require_two_columns(name: str, target_name: str, options: SeriesOptions) -> None:
    if name == target_name and options.horizon is None:
        raise UsageError(f"'{name}' is both the source and the target: name two columns, or a forecast with --horizon.")


def _spec_of_lists(
    table: Table, source: tuple[str, str | None], target: tuple[str, str | None], options: SeriesOptions, config: dict[str, Any]
) -> TableSpec:
    """Return the spec of a table whose rows are series: cells are lists or files."""
    for several in (source[0], target[0]):
        if len(column_list(several, table)) > 1:
            raise UsageError(
                f"'{several}': a column whose cells are whole series is read alone: name one column, of which each cell has a "
                "list of all numbers for each step, such as [[1, 2], [3, 4]]."
            )
    name, target_name = table.find_column(source[0]), table.find_column(target[0])
    for each in dict.fromkeys((name, target_name)):
        if example := decimal_comma_in_lists(table, each):
            logger.info(f"'{each}': the comma is read as the decimal point, as in {example}")
    target_kind = target[1] or _listed_kind(table, target_name)
    if target_kind is None:
        spec, _ = infer_spec(table, f"{name}:numbers", target_name, normalization=config["normalize"])
        return TableSpec(_fit(table, name, source[1] or "numbers", options, config), spec.target)
    _require_two_columns(name, target_name, options)
    column = _fit(table, name, source[1] or "numbers", options, config)
    return TableSpec(column, _fit(table, target_name, target_kind, of_target(options), config))


def _listed_kind(table: Table, name: str) -> str | None:
    """Return the kind of a target of lists: `numbers`, or `labels` if they are few whole numbers; None if it has no lists."""
    parsed = []
    for _, (cell,) in itertools.islice(table.iter_cells((name,)), MAX_EXAMINED_ROWS):
        if is_missing(cell.value):
            continue
        value = parse_list(cell.value)
        if not isinstance(value, list | np.ndarray):
            return "numbers" if isinstance(value, str) and value.lower().endswith((".npy", ".wav", ".wave")) else None
        try:
            parsed.append(parse_steps(cell)[0])
        except DataError:
            return None
    kind = step_kind(parsed) if parsed else None
    return {"number": "numbers", "label": "labels"}.get(kind or "", kind)


def of_target(options: SeriesOptions) -> SeriesOptions:
    """Return the settings of the target: unless it is a forecast, its level is not known where it is predicted, so it stays."""
    return options if options.horizon is not None else dataclasses.replace(options, center="none", scale="all")


def _fit(table: Table, name: str, kind: str, options: SeriesOptions, config: dict[str, Any]) -> Column:
    """Fit a column to all cells that have a value; numbers are scaled by the training rows later."""
    cells = (cell for _, (cell,) in table.iter_cells((name,)) if not is_missing(cell.value))
    if kind == "labels":
        cells = (_without_gaps(cell) for cell in cells)
    config = config | {"tokens": "words"} if kind == "text" else config
    if kind not in COLUMN_TYPES:
        raise UsageError(f"'{name}:{kind}' is not a kind of series: say numbers, labels, number or label.")
    if kind == "numbers":
        horizon = options.horizon or 0
        loss = options.loss if options.loss != "auto" else "gaussian" if horizon else "mse"
        config = {**config, "center": options.center, "scale": options.scale, "horizon": horizon, "loss": loss}
        config["decimal_comma"] = bool(decimal_comma_in_lists(table, name))
        config |= {"quantiles": options.levels, "difference": int(options.difference == "on")}
    return COLUMN_TYPES[kind].fit(name, cells, config)


def _without_gaps(cell: Cell) -> Cell:
    """Return a cell of labels without the steps that have none."""
    return cell._replace(value=[label for label in cell.value if label != ""]) if isinstance(cell.value, list) else cell


def check_series(spec: TableSpec, options: SeriesOptions) -> None:
    """Raise `UsageError` for settings of series that have no effect on these columns, or that contradict each other."""
    source, target = spec.source, spec.target
    if isinstance(source, NumbersColumn):
        width = len(source.columns)
        if options.center == "row" and (width < 3 or options.horizon):
            problem = "a forecast has no other numbers" if options.horizon else f"'{source.name}' has {plural(width, 'number')}"
            raise UsageError(
                f"--center row is for three or more numbers per step, and {problem}: say --center group, or nothing."
            )
    elif isinstance(target, NumbersColumn):
        raise UsageError(
            f"'{target.name}' has numbers at every step, predicted from numbers only, and '{source.name}' is {source.kind}: "
            f"say {source.name}:numbers."
        )
    elif options.center != "none" or options.scale != "all":
        raise UsageError(
            f"--center and --scale are for a source of numbers, and '{source.name}' is {source.kind}: leave them out."
        )
    if options.time_features == "on" and not spec.is_stream:
        raise UsageError("--time-features is for what is predicted at every step of a series of numbers: leave it out.")
    if options.difference != "auto" and not options.horizon:
        raise UsageError("--difference is for forecasts: add --horizon, or leave it out.")
    if not isinstance(target, NumbersColumn) and (options.loss != "auto" or options.quantiles != SeriesOptions.quantiles):
        raise UsageError(
            f"--loss and --quantiles are for a target of numbers at every step, and '{target.name}' is {target.kind}: "
            "leave them out."
        )
    has_no_spread = isinstance(target, NumbersColumn) and target.loss in ("mse", "mae") and not options.horizon
    if has_no_spread and options.quantiles != SeriesOptions.quantiles:
        raise UsageError("--quantiles are not learned with --loss mse or mae: say --loss quantiles or gaussian.")
    if isinstance(source, NumbersColumn) and isinstance(target, NumbersColumn) and source.rate != target.rate:
        raise DataError(
            f"'{source.name}' has {source.rate or 0:,} samples per second and '{target.name}' {target.rate or 0:,}: "
            "both need the same rate, so convert one."
        )


def number_notes(table: Table, column: Column) -> list[str]:
    """Return sentences about gaps and spikes in a column of numbers, with the lines of the first spikes."""
    if not isinstance(column, NumbersColumn):
        return []
    places: list[str] = []
    num_spikes = num_gaps = num_values = 0
    for _, (cell,) in table.iter_cells((column.name,)):
        if is_missing(cell.value):
            continue
        with contextlib.suppress(DataError):
            values = column.encode(cell)
            num_values, num_gaps = num_values + values.size, num_gaps + int(np.isnan(values).sum())
            spikes = column.spikes(values)
            num_spikes += len(spikes)
            places += [step_location(cell, int(step)) for step in spikes[: MAX_NAMED_SPIKES - len(places)]]
    notes = []
    if num_gaps:
        notes.append(f"'{column.name}': {num_gaps:,} of {num_values:,} numbers are missing, and have no part in the loss")
    if num_spikes:
        notes.append(column.describe_spikes(places, num_spikes))
    return notes
