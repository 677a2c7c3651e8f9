"""Tables that are Python objects: pandas and polars frames, Arrow tables, arrays, dictionaries of columns, lists of rows.

Training data that are objects are kept as JSON lines in the cache, so that a run can be continued and evaluated later.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.datasets.tables import Row
from unrolled.display import plural
from unrolled.errors import DataError, UsageError
from unrolled.tables.delimited_files import MAX_LISTED_COLUMNS
from unrolled.tables.kept_data import FRAME_NAME, KEPT_TABLE, keep
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import FIRST_ROW, NO_HEADER, NumberedRows, plain_value


def is_frame(data: Any) -> bool:
    """Return whether an object is a table with names: it has columns or fields, or is a list of dictionaries.

    Example:
        >>> is_frame({"text": ["a", "b"]}), is_frame([{"text": "a"}]), is_frame(["a", "b"])
        (True, True, False)
    """
    if isinstance(data, Mapping) or field_names(data):
        return True
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return len(data) > 0 and isinstance(data[0], Mapping)
    return hasattr(data, "columns") or hasattr(data, "column_names")


def field_names(data: Any) -> tuple[str, ...]:
    """Return the names of the fields of a structured array, or of a row of one; none for anything else."""
    return (data.dtype.names or ()) if isinstance(data, np.ndarray | np.void) else ()


def has_rows(data: Any) -> bool:
    """Return whether an object is rows of values without names: an array `(N, D)`, or a list of tuples, lists or arrays.

    Example:
        >>> has_rows(np.zeros((2, 3))), has_rows([(1, "a"), (2, "b")]), has_rows(["a", "b"])
        (True, True, False)
    """
    if isinstance(data, np.ndarray):
        return data.ndim == 2
    return isinstance(data, list | tuple) and len(data) > 0 and isinstance(data[0], list | tuple | np.ndarray)


def is_table(data: Any) -> bool:
    """Return whether an object is a table where no list of values is expected: a frame, or rows without names."""
    return is_frame(data) or has_rows(data)


def is_scalar(value: Any) -> bool:
    """Return whether a value of a dictionary is one cell, and not a column."""
    return value is None or isinstance(value, str | int | float | np.generic)


def frame_rows(data: Any) -> Iterator[Row]:
    """Yield the rows of a frame as dictionaries. Raises `DataError` for columns of different lengths."""
    if isinstance(data, Mapping) and data and all(map(is_scalar, data.values())):
        rows: Iterable[Any] = [data]
    elif isinstance(data, Mapping):
        if tables := [
            str(name) for name, column in data.items() if hasattr(column, "columns") or hasattr(column, "column_names")
        ]:
            raise UsageError(f"Several tables are given: {', '.join(tables)}. Give one of them, such as data[{tables[0]!r}].")
        if single := [str(name) for name, column in data.items() if is_scalar(column)]:
            raise DataError(f"'{single[0]}' is a single value, and other columns are lists: give each column as a list.")
        lengths = {str(name): len(column) for name, column in data.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' has {length:,}" for name, length in lengths.items())
            raise DataError(f"The columns of a table have equally many values, and {listed}.")
        rows = (dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True))
    elif has_rows(data):
        rows = _numbered_columns(data)
    elif fields := field_names(data):
        rows = (dict(zip(fields, record.tolist(), strict=True)) for record in np.ravel(data))
    elif isinstance(data, Sequence):
        rows = data
    elif hasattr(data, "iter_rows"):  # polars
        rows = data.iter_rows(named=True)
    elif hasattr(data, "to_batches"):  # Arrow
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in data.to_batches())
    elif hasattr(data, "itertuples"):  # pandas
        names = list(data.columns)
        rows = (dict(zip(names, values, strict=True)) for values in data.itertuples(index=False, name=None))
    else:  # such as a data set of Hugging Face
        rows = data
    for number, row in enumerate(rows, 1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"Row {number:,} of the table is {type(row).__name__}, and a dictionary with its columns is expected."
            )
        yield {_column_name(name): plain_value(value) for name, value in row.items()}


def _column_name(name: Any) -> str:
    """Return the name of a column as a text; that of several levels, as pandas has them, is joined as in files."""
    return "_".join(dict.fromkeys(filter(None, map(str, name)))) if isinstance(name, tuple) else str(name)


def _numbered_columns(data: Iterable[Any]) -> Iterator[dict[int, Any]]:
    """Yield rows with their columns named 0, 1, 2 ... Raises `DataError` if they are not equally long."""
    if isinstance(data, tuple) and [np.ndim(part) for part in data if isinstance(part, np.ndarray)] == [2, 1]:
        target = data[0].shape[1]
        columns = f"source={list(range(target)) if target <= 3 else f'[*range({target})]'}, target={target}"
        raise UsageError(f"A pair of arrays is given, and one table is expected: np.column_stack((X, y)), with {columns}.")
    width = None
    for number, row in enumerate(data, 1):
        if not isinstance(row, list | tuple | np.ndarray):
            raise DataError(f"Row {number:,} of the table is {type(row).__name__}, and a tuple or list is expected.")
        width = len(row) if width is None else width
        if len(row) != width:
            raise DataError(f"Row {number:,} of the table has {plural(len(row), 'value')}, and the first row has {width:,}.")
        yield dict(enumerate(row))


def named_rows(data: Any, header: str | None) -> list[Row]:
    """Return rows without names as a frame; `header` is as for files: names with commas, `first`, or `none`, the default.

    Raises `UsageError` if there are not as many names as columns, `DataError` if there are no rows.
    """
    rows = list(frame_rows(data))
    if not rows:
        raise DataError("The table has no rows.")
    if header in (None, NO_HEADER):
        return rows
    first = [str(value) for value in rows[0].values()]
    names = first if header == FIRST_ROW else [name.strip() for name in next(csv.reader([header], skipinitialspace=True))]
    if len(names) != len(first) or len(set(names)) < len(names):
        raise UsageError(f"{plural(len(first), 'column')} need as many different names: the header has {', '.join(names)}.")
    return [dict(zip(names, row.values(), strict=True)) for row in rows[header == FIRST_ROW :]]


def name_values(values: Any, names: Sequence[str]) -> Any:
    """Return rows of values without names, or a single one, as dictionaries; anything else unchanged.

    As many values as `names` are in their order; of other rows, the columns are named 0, 1, 2 ...

    Example:
        >>> name_values((3, "up"), ["n", "way"]), name_values({"n": 3}, ["n", "way"])
        ([{'n': 3, 'way': 'up'}], {'n': 3})
    """
    if isinstance(values, np.void) and (fields := field_names(values)):
        return [dict(zip(fields, values.tolist(), strict=True))]
    if hasattr(values, "to_dict") and hasattr(values, "index") and not is_frame(values):  # a row of a pandas frame
        return [values.to_dict()]
    is_row = isinstance(values, list | tuple) or (isinstance(values, np.ndarray) and values.ndim == 1)
    if is_row and len(values) == len(names) and not is_table(values):
        values = [values]
    if not has_rows(values):
        return values
    return [dict(zip(names, row, strict=True)) if len(row) == len(names) else dict(enumerate(row)) for row in values]


def table_of_frame(data: Any) -> Table:
    """Return a frame as a table. Raises `DataError` if it has no rows."""
    columns: dict[str, None] = {}
    for row in frame_rows(data):
        columns.update(dict.fromkeys(row))
    if not columns:
        raise DataError("The table has no rows.")

    def rows() -> NumberedRows:
        yield from ((number, dict.fromkeys(columns) | row) for number, row in enumerate(frame_rows(data), 1))

    return Table(FRAME_NAME, tuple(columns), Path(), rows, lambda: "")


def only_column(data: Any) -> str:
    """Return the column of a frame that has one. Raises `UsageError` for several, with what to write.

    Example:
        >>> only_column({"text": ["a", "b"]})
        'text'
    """
    columns = table_of_frame(data).columns
    if len(columns) > 1:
        listed = ", ".join(columns[:MAX_LISTED_COLUMNS]) + (", ..." if len(columns) > MAX_LISTED_COLUMNS else "")
        raise UsageError(
            f"A table is given, whose columns are {listed}: name the one to write like, as in source={columns[0]!r}; to learn "
            f"one of them from others: train_table(table, source={columns[0]!r}, target={columns[-1]!r})."
        )
    return columns[0]


def keep_frame(data: Any) -> str:
    """Write a frame to the cache as JSON lines, under the hash of its content; return the path."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in frame_rows(data)]
    if not lines:
        raise DataError("The table has no rows.")
    return keep(KEPT_TABLE, "".join(lines))


def keep_documents(documents: Iterable[str]) -> str:
    """Write texts to the cache as the column `text` of JSON lines; return the path. Raises `DataError` for other values."""
    lines = []
    for number, document in enumerate(documents, 1):
        if not isinstance(document, str):
            raise DataError(f"Document {number:,} is {type(document).__name__}, and a string is expected.")
        lines.append(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    if not lines:
        raise DataError("There are no documents to learn from.")
    return keep("documents.jsonl", "".join(lines))


def keep_text(text: str) -> str:
    """Write a text to the cache; return the path."""
    return keep("text.txt", text)
