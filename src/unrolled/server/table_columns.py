"""The columns of a model of a table, as its header and its run's table tell them, without torch."""

from __future__ import annotations

import csv
import io
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.server.catalog import ModelEntry

if TYPE_CHECKING:
    from unrolled.tables.table_files import Table

MAX_EXAMPLES = 5
MAX_EXAMPLE_STEPS, MAX_READ_STEPS = 200, 20_000
"""Steps of a series that are an example, and rows that are read to find them."""

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
            **({"horizon": column["horizon"]} if column.get("horizon") else {}),
        })  # fmt: skip
    for example in _example_rows(entry.path.parent, columns):
        for column, text in zip(columns, example, strict=True):
            column["examples"].append(text)
    return columns


def _example_rows(run_path: Path, columns: list[dict[str, Any]]) -> list[list[str]]:
    """Return the first rows of the table that the run learned from; none if it is gone, or its cells are names of files.

    A built-in table has none: the packages that make its rows take seconds, and more memory than the server.
    """
    from unrolled.errors import UnrolledError
    from unrolled.tables.step_arrays import names_file

    try:
        table = _run_table(run_path)
        if table is None:
            return []
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


def series_facts(entry: ModelEntry) -> dict[str, Any] | None:
    """Return the columns of a model of series that are no source or target, and an example; None of another model."""
    long = (entry.header.get("spec") or {}).get("long")
    if not long:
        return None
    names = {name: long[name] for name in ("group_by", "order_by")}
    return {**names, "known_covariates": _known_names(long), "example": series_example(entry)}


def _known_names(long: dict[str, Any]) -> list[str]:
    return [str(covariate["name"]) for covariate in long.get("covariates", ())]


def series_example(entry: ModelEntry) -> str:
    """Return the first steps of the first series of the run's table as CSV, or an empty text.

    Of a forecast that reads what is known in advance, the last of them have nothing else.
    """
    from unrolled.errors import UnrolledError
    from unrolled.tables.source_columns import split_source

    spec = entry.header.get("spec") or {}
    long = spec["long"]
    try:
        table = _run_table(entry.path.parent)
        if table is None:
            return ""
        group = table.find_column(long["group_by"]) if long["group_by"] else None
        sources = [table.find_column(name) for name in split_source(str((spec.get("source") or {}).get("name")), table)]
        order_by = split_source(long["order_by"]) if long["order_by"] else []
        given, known = ([table.find_column(name) for name in names] for names in (order_by, _known_names(long)))
        names = list(dict.fromkeys([*([group] if group else []), *given, *sources, *known]))
        first, cells = None, [names]
        for _, row in itertools.islice(table.rows(), MAX_READ_STEPS):
            first = row.get(group) if group and len(cells) == 1 else first
            if group is None or row.get(group) == first:
                cells.append([_example_text(row.get(name)) for name in names])
            if len(cells) > MAX_EXAMPLE_STEPS:
                break
    except (UnrolledError, OSError, ImportError, IndexError):
        return ""
    if len(cells) == 1 or sum(map(len, itertools.chain.from_iterable(cells))) > MAX_EXAMPLE_STEPS * MAX_EXAMPLE_CHARS:
        return ""
    for coming in cells[max(1, len(cells) - int(spec["target"].get("horizon", 0))) :] if known else ():
        coming[:] = ["" if name in sources else text for name, text in zip(names, coming, strict=True)]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(cells)
    return out.getvalue()


def _run_table(run_path: Path) -> Table | None:
    """Return the table that a run learned from; None if it is built-in. Raises `UnrolledError` if it is gone."""
    from unrolled.checkpoints.run_data import load_request
    from unrolled.checkpoints.run_dir import Run
    from unrolled.datasets.tables import is_builtin_table
    from unrolled.tables.table_files import open_table
    from unrolled.tables.table_format import TableFormat

    request, _ = load_request(Run.open(run_path))
    if is_builtin_table(request.inputs[0]):
        return None
    return open_table(request.inputs[0], format=TableFormat(request.table.header, request.data.encoding))


def _example_text(value: Any) -> str:
    """Return a cell as a person writes it into a form: words, or a list of numbers; an empty text for what has no such form."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return json.dumps(value) if isinstance(value, int | float | list) else ""
