"""Output of predictions: the rows of a table with new columns, as CSV or as one JSON document."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from unrolled.atomic_io import make_dir, write_atomic
from unrolled.datasets.tables import Row
from unrolled.errors import DataError, UsageError
from unrolled.evaluation.predictor import Prediction
from unrolled.options import PredictOptions
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.step_arrays import parse_steps
from unrolled.tables.table_files import Table
from unrolled.views.png import png_bytes
from unrolled.views.series_table import number_cells, number_columns, step_columns, step_rows, unused_name

PredictedRows = Iterator[tuple[Row, Prediction]]
PREDICTED_COLUMN, PROBABILITY_COLUMN = "predicted", "probability"


def write_csv(out: IO[str], table: Table, spec: TableSpec, rows: PredictedRows, options: PredictOptions) -> None:
    """Write the table with its predictions, row by row; a CoNLL file with a label for each token as such a file."""
    if table.labeled is not None and spec.target.kind == "labels" and options.count == 1:
        names = spec.target.labels
        out.writelines(table.labeled(spec.target.name, ([names[i] for i in found.values.tolist()] for _, found in rows)))
        return
    writer = csv.writer(out, lineterminator="\n")
    if spec.long is not None and spec.is_stream:
        writer.writerow(step_columns(spec, PREDICTED_COLUMN))
        writer.writerows(map(csv_value, cells.values()) for cells in step_rows(spec, rows, PREDICTED_COLUMN))
        return
    table = _without_series(table, spec)
    writer.writerow([*table.columns, *(unused_name(name, table.columns) for name in new_columns(spec, options))])
    for number, (row, prediction) in enumerate(rows, 1):
        new_cells = prediction_cells(spec, prediction, options, number)
        writer.writerow(map(csv_value, [*(row.get(column) for column in table.columns), *new_cells.values()]))


def json_rows(table: Table, spec: TableSpec, rows: PredictedRows, options: PredictOptions) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table with their predictions, as JSON values."""
    if spec.long is not None and spec.is_stream:
        yield from step_rows(spec, rows, PREDICTED_COLUMN)
        return
    table = _without_series(table, spec)
    for number, (row, prediction) in enumerate(rows, 1):
        cells = {column: json_value(row.get(column)) for column in table.columns}
        new_cells = {
            unused_name(name, table.columns): value
            for name, value in prediction_cells(spec, prediction, options, number).items()
        }
        yield cells | new_cells


def _without_series(table: Table, spec: TableSpec) -> Table:
    """Return a table without the source column if its cells are series that were put together from rows."""
    if spec.long is None:
        return table
    return dataclasses.replace(table, columns=tuple(column for column in table.columns if column != spec.source.name))


def write_sound(
    save: Callable[..., int], table: Table, spec: TableSpec, rows: PredictedRows, options: PredictOptions
) -> dict[str, Any]:
    """Write the prediction of the only row with `TableModel.save_wav`; return the name of the file, its samples and rate.

    Raises `UsageError` if there are other rows or the rate is not known, and `DataError` if there is no prediction.
    """
    found = list(itertools.islice(rows, 2))
    if len(found) != 1:
        problem = "more than one row" if found else "no row"
        raise UsageError(f"--wav {options.wav} is for one sound, and {table.name} has {problem}: predict one file at a time.")
    [(row, prediction)] = found
    if not len(prediction.values):
        raise DataError(f"{table.name} has no prediction that could be written to {options.wav}.")
    [column] = spec.find_sources(table)
    rate = parse_steps(table.cell(1, row, column))[1]
    rate = save(str(options.wav), prediction.values, rate, options.force)
    return {"wav": options.wav, "samples": len(prediction.values), "rate": rate}


def new_columns(spec: TableSpec, options: PredictOptions) -> list[str]:
    """Return the names of the columns that predictions add, whatever the rows are: an empty row has empty cells in them."""
    columns = number_columns(spec.target, PREDICTED_COLUMN) if isinstance(spec.target, NumbersColumn) else [PREDICTED_COLUMN]
    if spec.target.target_tensor_kind == "ids" and spec.target.has_single_answer:
        columns.append(PROBABILITY_COLUMN)
    if options.probabilities and spec.mode.output == "single":
        columns += [f"p_{label}" for label in spec.target.labels]
    for rank in range(2, options.count + 1):
        columns += [f"{PREDICTED_COLUMN}_{rank}", f"{PROBABILITY_COLUMN}_{rank}"]
    return columns


def prediction_cells(spec: TableSpec, prediction: Prediction, options: PredictOptions, number: int) -> dict[str, Any]:
    """Return the cells that a prediction adds to its row, by `new_columns`; None for what it does not have.

    An image is saved as a file if there is a folder for it.
    """
    text = prediction.text
    pixels = spec.target.to_pixels(prediction.values) if options.image_dir is not None and len(prediction.values) else None
    if pixels is not None:
        path = Path(str(options.image_dir)) / f"{number:06}.png"
        make_dir(path.parent)
        write_atomic(path, png_bytes(pixels))
        text = str(path)
    cells: dict[str, Any] = dict.fromkeys(new_columns(spec, options))
    if isinstance(spec.target, NumbersColumn):
        if len(prediction.values):
            cells |= number_cells(spec.target, PREDICTED_COLUMN, prediction.values, prediction.quantiles)
        return cells
    cells[PREDICTED_COLUMN] = text
    if prediction.probability is not None and PROBABILITY_COLUMN in cells:
        cells[PROBABILITY_COLUMN] = round(prediction.probability, 6)
    if options.probabilities and prediction.probabilities is not None:
        label_probs = zip(spec.target.labels, prediction.probabilities.tolist(), strict=True)
        cells |= {f"p_{label}": round(prob, 6) for label, prob in label_probs}
    for rank, other in enumerate(prediction.alternatives, 2):
        cells[f"{PREDICTED_COLUMN}_{rank}"] = other.text
        cells[f"{PROBABILITY_COLUMN}_{rank}"] = None if other.probability is None else round(other.probability, 6)
    return cells


def json_value(value: Any) -> Any:
    """Return a cell as a JSON value."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def csv_value(value: Any) -> Any:
    """Return a cell as a CSV value: lists as JSON."""
    value = json_value(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else "" if value is None else value
