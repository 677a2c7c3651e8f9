"""Cells of a table as pages show them: images and frames as pictures, numbers at every step as lines, lists as words,
everything else as a text."""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, display_text, parse_array, parse_image, parse_list
from unrolled.tables.column import Column
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.spec import TableSpec
from unrolled.views.png import png_data_uri

MAX_CELL_CHARS = 300
"""Characters of a cell that are displayed."""

MAX_LINES, MAX_LINE_STEPS = 4, 400
"""Columns of a series that are drawn, and steps: of a longer one, the first of every two steps or more."""

MAX_SIDE = 128
"""Pixels of the longer side of a picture: of a larger one, every second pixel or fewer is shown."""


def cell_view(column: Column, cell: Cell) -> dict[str, Any]:
    """Return a cell as JSON: its `text`, or a picture, `src`, of `width` and `height` pixels; of frames, time goes right. Of
    numbers at every step, `lines` are those of each column, from step 1 to `steps`.
    """
    view: dict[str, Any] = {"name": column.name, "kind": column.kind}
    if column.is_missing(cell.value):
        return view | {"text": ""}
    try:
        if column.kind == "image":
            return view | _picture(parse_image(cell))
        if column.kind == "frames":
            values = parse_array(cell)
            return view | _picture((values[:, None] if values.ndim == 1 else values).T[:, :, None])
        if isinstance(column, NumbersColumn):
            return view | _lines(column.encode(cell))
        if isinstance(column, NumberColumn):
            return view | {"text": f"{column.read_values(cell)[0, 0]:.6g}"}
    except DataError as error:
        return view | {"text": str(error)[:MAX_CELL_CHARS]}
    return view | {"text": display_text(parse_list(cell.value))[:MAX_CELL_CHARS]}


def row_view(spec: TableSpec, cell: Cell) -> list[dict[str, Any]]:
    """Return the cells of all source columns of a row."""
    return [cell_view(column, part) for column, part in zip(spec.sources, (cell, *cell.others), strict=True)]


def answer_view(column: Column, text: str, values: Array) -> dict[str, Any]:
    """Return an answer: an image as a picture."""
    pixels = column.to_pixels(values) if len(values) else None
    return {"text": text[:MAX_CELL_CHARS]} if pixels is None else _picture(pixels.astype(np.float64))


def _lines(values: Array) -> dict[str, Any]:
    """Return numbers `(T, D)`, NaN for gaps, as lines."""
    kept = values[:: -(-len(values) // MAX_LINE_STEPS), :MAX_LINES].T
    lines = [[float(f"{value:.5g}") if np.isfinite(value) else None for value in line.tolist()] for line in kept]
    return {"lines": lines, "steps": len(values)}


def _picture(values: Array) -> dict[str, Any]:
    """Return numbers `(H, W, C)` as a picture, from their smallest value, black, to their largest."""
    step = -(-max(values.shape[:2]) // MAX_SIDE)
    values = values[::step, ::step]
    if values.shape[2] not in (1, 3):
        values = values[:, :, :3] if values.shape[2] == 4 else values.mean(2, keepdims=True)
    low, high = float(values.min()), float(values.max())
    pixels = ((values - low) / ((high - low) or 1) * 255).round().astype(np.uint8)
    return {"src": png_data_uri(pixels), "width": pixels.shape[1], "height": pixels.shape[0]}
