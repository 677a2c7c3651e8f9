"""The columns of a model of a table, as its header and its run's table tell them, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unrolled.server.catalog import ModelEntry

MAX_EXAMPLES = 5
MAX_EXAMPLE_CHARS = 1000


def source_columns(entry: ModelEntry) -> list[dict[str, Any]]:
    """Return the source columns of a model of a table, as its header has them."""
    spec = entry.header.get("spec") or {}
    return [spec.get("source") or {}, *(spec.get("others") or [])]


def table_columns(entry: ModelEntry) -> list[dict[str, Any]]:
    """Return the columns of a table, with labels, and with examples of the run's table if it can still be read."""
    spec = entry.header.get("spec") or {}
    columns: list[dict[str, Any]] = []
    roles = [("source", column) for column in source_columns(entry)] + [("target", spec.get("target") or {})]
    for role, column in roles:
        labels = column.get("labels")
        columns.append({
            "name": column.get("name"), "role": role, "kind": column.get("kind"),
            "labels": labels if isinstance(labels, list) else None, "examples": [],
            **{name: column[name] for name in ("shape", "low", "high") if column.get("kind") == "image"},
        })  # fmt: skip
    for example in _example_rows(entry.path.parent, columns):
        for column, text in zip(columns, example, strict=True):
            column["examples"].append(text)
    return columns


def _example_rows(run_path: Path, columns: list[dict[str, Any]]) -> list[list[str]]:
    """Return the first rows of the table that the run learned from; none if it is gone, or its cells are names of files.

    A built-in table has none: the packages that make its rows take seconds, and more memory than the server.
    """
    from unrolled.checkpoints.run_data import load_request
    from unrolled.checkpoints.run_dir import Run
    from unrolled.datasets.tables import is_builtin_table
    from unrolled.errors import UnrolledError
    from unrolled.tables.step_arrays import names_file
    from unrolled.tables.table_files import open_table
    from unrolled.tables.table_format import TableFormat

    try:
        request, _ = load_request(Run.open(run_path))
        if is_builtin_table(request.inputs[0]):
            return []
        table = open_table(request.inputs[0], format=TableFormat(request.table.header, request.data.encoding))
        names = [table.find_column(str(column["name"])) for column in columns]
        rows = []
        for _, row in table.rows():
            texts = [_example_text(row.get(name)) for name in names]
            if any(names_file(text) for text in texts):  # the server opens none
                return []
            if all(0 < len(text) <= MAX_EXAMPLE_CHARS for text in texts):
                rows.append(texts)
            if len(rows) == MAX_EXAMPLES:
                break
        return rows
    except (UnrolledError, OSError, ImportError, IndexError):
        return []


def _example_text(value: Any) -> str:
    """Return a cell as a person writes it into a form: words, or a list of numbers; an empty text for what has no such form."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return json.dumps(value) if isinstance(value, int | float | list) else ""
