"""Answers as they leave: the rows of a table with what is predicted behind them, as CSV or as one JSON document."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from unrolled.atomic_io import make_dir, write_atomic
from unrolled.errors import DataError
from unrolled.evaluation.predictor import Prediction
from unrolled.options import PredictOptions
from unrolled.tables.columns import ImageColumn, LabelColumn
from unrolled.tables.spec import GRAY_LEVELS, TableSpec
from unrolled.tables.table_files import Row, Table

PredictedRows = Iterator[tuple[Row, Prediction]]
PREDICTED_COLUMN, PROBABILITY_COLUMN = "predicted", "probability"


def write_csv(out: IO[str], table: Table, spec: TableSpec, rows: PredictedRows, options: PredictOptions) -> None:
    """Write the table with its answers, row by row as they come."""
    writer = csv.writer(out, lineterminator="\n")
    new_columns: list[str] | None = None
    for number, (row, prediction) in enumerate(rows, 1):
        new_cells = prediction_cells(spec, prediction, options, number)
        if new_columns is None:
            new_columns = list(new_cells)
            writer.writerow([*table.columns, *(unused_name(name, table.columns) for name in new_columns)])
        writer.writerow(
            [*(csv_value(row.get(column)) for column in table.columns), *(new_cells.get(name, "") for name in new_columns)]
        )


def write_json(
    out: IO[str], table: Table, spec: TableSpec, rows: PredictedRows, options: PredictOptions, version: int
) -> None:
    """Write one JSON document: the version of its keys, and a list of rows."""
    out.write(f'{{"version": {version}, "rows": [')
    for number, (row, prediction) in enumerate(rows, 1):
        cells = {column: json_value(row.get(column)) for column in table.columns}
        new_cells = {
            unused_name(name, table.columns): value
            for name, value in prediction_cells(spec, prediction, options, number).items()
        }
        out.write(("\n" if number == 1 else ",\n") + json.dumps(cells | new_cells, ensure_ascii=False))
    out.write("\n]}\n")


def unused_name(name: str, columns: tuple[str, ...]) -> str:
    """Return the name of a new column: one that the table does not have."""
    while name in columns:
        name += "_"
    return name


def prediction_cells(spec: TableSpec, prediction: Prediction, options: PredictOptions, number: int) -> dict[str, Any]:
    """Return the cells that an answer adds to its row."""
    text = prediction.text
    if isinstance(spec.target, ImageColumn) and options.image_dir is not None and len(prediction.values):
        path = Path(options.image_dir) / f"{number:06}.png"
        save_png(path, spec.target.dequantize(prediction.values, GRAY_LEVELS), spec.target)
        text = str(path)
    cells: dict[str, Any] = {PREDICTED_COLUMN: text}
    if prediction.probability is not None and not isinstance(spec.target, ImageColumn):
        cells[PROBABILITY_COLUMN] = round(prediction.probability, 6)
    if options.probabilities and isinstance(spec.target, LabelColumn) and prediction.probabilities is not None:
        label_probs = zip(spec.target.labels, prediction.probabilities.tolist(), strict=True)
        cells |= {f"p_{label}": round(prob, 6) for label, prob in label_probs}
    return cells


def save_png(path: Path, image: Any, column: ImageColumn) -> None:
    """Write a picture `(H, W, C)`, in the units of its column, as a PNG file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("Pictures need the package Pillow: pip install 'unrolled[data]'") from error
    import io

    levels = np.clip((image - column.low) / (column.high - column.low) * 255, 0, 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(buffer, format="PNG")
    make_dir(path.parent)
    write_atomic(path, buffer.getvalue())


def json_value(value: Any) -> Any:
    """Return a cell as JSON can have it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def csv_value(value: Any) -> Any:
    """Return a cell as CSV can have it: lists as JSON."""
    value = json_value(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else "" if value is None else value
