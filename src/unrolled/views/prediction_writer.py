"""Answers as they leave: the rows of a table with what is predicted behind them, as CSV or as one JSON document."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from unrolled.atomic_io import make_folder, write_bytes
from unrolled.errors import DataError
from unrolled.evaluation.predictor import Answer
from unrolled.options import PredictOptions
from unrolled.tables.columns import ImageColumn, LabelColumn
from unrolled.tables.spec import PAINT_LEVELS, Task
from unrolled.tables.table_files import Row, Table

Answered = Iterator[tuple[Row, Answer]]
PREDICTED, PROBABILITY = "predicted", "probability"


def as_csv(out: IO[str], table: Table, task: Task, rows: Answered, options: PredictOptions) -> None:
    """Write the table with its answers, row by row as they come."""
    writer = csv.writer(out, lineterminator="\n")
    added: list[str] | None = None
    for number, (row, answer) in enumerate(rows, 1):
        new = answered(task, answer, options, number)
        if added is None:
            added = list(new)
            writer.writerow([*table.columns, *(free(name, table.columns) for name in added)])
        writer.writerow([*(plain(row.get(column)) for column in table.columns), *(new.get(name, "") for name in added)])


def as_document(out: IO[str], table: Table, task: Task, rows: Answered, options: PredictOptions) -> None:
    """Write one JSON document: the version, and a list of rows."""
    out.write('{"version": 1, "rows": [')
    for number, (row, answer) in enumerate(rows, 1):
        cells = {column: jsonable(row.get(column)) for column in table.columns}
        new = {free(name, table.columns): value for name, value in answered(task, answer, options, number).items()}
        out.write(("\n" if number == 1 else ",\n") + json.dumps(cells | new, ensure_ascii=False))
    out.write("\n]}\n")


def free(name: str, columns: tuple[str, ...]) -> str:
    """Return the name of a new column: one that the table does not have."""
    while name in columns:
        name += "_"
    return name


def answered(task: Task, answer: Answer, options: PredictOptions, number: int) -> dict[str, Any]:
    """Return the cells that an answer adds to its row."""
    text = answer.text
    if isinstance(task.target, ImageColumn) and options.pictures is not None and len(answer.values):
        path = Path(options.pictures) / f"{number:06}.png"
        save_picture(path, task.target.paint(answer.values, PAINT_LEVELS), task.target)
        text = str(path)
    cells: dict[str, Any] = {PREDICTED: text}
    if answer.probability is not None and not isinstance(task.target, ImageColumn):
        cells[PROBABILITY] = round(answer.probability, 6)
    if options.probabilities and isinstance(task.target, LabelColumn) and answer.chances is not None:
        chances = zip(task.target.labels, answer.chances.tolist(), strict=True)
        cells |= {f"p_{label}": round(chance, 6) for label, chance in chances}
    return cells


def save_picture(path: Path, picture: Any, column: ImageColumn) -> None:
    """Write a picture `(H, W, C)`, in the units of its column, as a PNG file."""
    try:
        from PIL import Image
    except ImportError as error:
        raise DataError("Pictures need the package Pillow: pip install 'unrolled[data]'") from error
    import io

    levels = np.clip((picture - column.low) / (column.high - column.low) * 255, 0, 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(buffer, format="PNG")
    make_folder(path.parent)
    write_bytes(path, buffer.getvalue())


def jsonable(value: Any) -> Any:
    """Return a cell as JSON can have it."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def plain(value: Any) -> Any:
    """Return a cell as CSV can have it: lists as JSON."""
    value = jsonable(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else "" if value is None else value
