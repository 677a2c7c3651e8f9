"""The rows that `predict --text` gives to a model of several source columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from typing import Any

from unrolled.errors import UsageError, did_you_mean
from unrolled.printable import printable, shell_argument

MAX_SHOWN_CHARS = 40
"""Characters of a value of --text in a message."""


def rows_of_values(texts: Sequence[str], columns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that values of --text are, for a model that reads `columns`.

    A value is a JSON object or list, COLUMN=VALUE (several with commas between them), all cells of a row in the order of
    `columns` with commas between them, or one cell; a row begins where a column is given again.

    Raises:
        UsageError: A value is none of these, or a row lacks a column.

    Example:
        >>> rows_of_values(["age=30", "town=Rome", '{"age": 4, "town": "Oslo"}', "7,Bonn"], ["age", "town"])
        [{'age': '30', 'town': 'Rome'}, {'age': 4, 'town': 'Oslo'}, {'age': '7', 'town': 'Bonn'}]
    """
    rows: list[dict[str, Any]] = [{}]
    for text in texts:
        missing = [column for column in columns if column not in rows[-1]]
        cells = _cells(text, columns, bool(rows[-1] and missing))
        if not missing or any(name in rows[-1] for name in cells):
            rows.append({})
            missing = list(columns)
        rows[-1].update({missing[0] if name is None else name: value for name, value in cells.items()})
    for row in rows:
        if missing := [column for column in columns if column not in row]:
            typed = " ".join(f"--text {shell_argument(f'{column}=...')}" for column in columns)
            raise UsageError(f"A row of --text has no {', '.join(missing)}, and the model reads {', '.join(columns)}: {typed}")
    return [{column: row[column] for column in columns} | row for row in rows]


def _cells(text: str, columns: Sequence[str], is_begun: bool) -> dict[str | None, Any]:
    """Return the cells that one value of --text gives by their columns; a single cell without its column has the name None.

    A text with commas is a row, but a cell where a row `is_begun`.
    """
    if text.lstrip().startswith(("{", "[")) and (row := _from_json(text, columns)) is not None:
        return row
    parts = next(csv.reader([text], skipinitialspace=True), [])
    pairs = [part.partition("=") for part in parts]
    if pairs and all(name.strip() in columns for name, _, _ in pairs) and "=" in text and len(pairs) > 1:
        return {name.strip(): value for name, _, value in pairs}
    name, equals, value = text.partition("=")
    if equals and name.strip() in columns:
        return {name.strip(): value}
    if len(parts) == len(columns) and not is_begun:
        return dict(zip(columns, parts, strict=True))
    if equals and (nearest := did_you_mean(name.strip(), columns)):
        raise UsageError(f"The model reads no column {printable(name.strip())[:MAX_SHOWN_CHARS]!r}{nearest}")
    return {None: text}


def _from_json(text: str, columns: Sequence[str]) -> dict[str | None, Any] | None:
    """Return the cells of a JSON object or list, or None for another text."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(row, list) and len(row) == len(columns):
        return dict(zip(columns, row, strict=True))
    return row if isinstance(row, dict) else None
