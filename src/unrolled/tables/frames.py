"""Tables that are Python objects: pandas and polars frames, Arrow tables, dictionaries of columns, lists of dictionaries.

Training data that are objects are kept as JSON lines in the cache, so that a run can be continued and evaluated later.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unrolled.atomic_io import make_dir, write_atomic
from unrolled.datasets.tables import Row
from unrolled.errors import DataError
from unrolled.tables.table_files import Table
from unrolled.tables.table_format import NumberedRows, plain_value
from unrolled.text.corpus import cache_folder


def is_frame(data: Any) -> bool:
    """Return whether an object is a table: it has columns, or is a list of dictionaries.

    Example:
        >>> is_frame({"text": ["a", "b"]}), is_frame([{"text": "a"}]), is_frame(["a", "b"])
        (True, True, False)
    """
    if isinstance(data, Mapping):
        return True
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return len(data) > 0 and isinstance(data[0], Mapping)
    return hasattr(data, "columns") or hasattr(data, "column_names")


def is_scalar(value: Any) -> bool:
    """Return whether a value of a dictionary is one cell, and not a column."""
    return value is None or isinstance(value, str | int | float)


def frame_rows(data: Any) -> Iterator[Row]:
    """Yield the rows of a frame as dictionaries. Raises `DataError` for columns of different lengths."""
    if isinstance(data, Mapping) and data and all(map(is_scalar, data.values())):
        rows: Iterable[Any] = [data]
    elif isinstance(data, Mapping):
        if single := [str(name) for name, column in data.items() if is_scalar(column)]:
            raise DataError(f"'{single[0]}' is a single value, and other columns are lists: give each column as a list.")
        lengths = {str(name): len(column) for name, column in data.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"'{name}' has {length:,}" for name, length in lengths.items())
            raise DataError(f"The columns of a table have equally many values, and {listed}.")
        rows = (dict(zip(data, values, strict=True)) for values in zip(*data.values(), strict=True))
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
        yield {str(name): plain_value(value) for name, value in row.items()}


def table_of_frame(data: Any) -> Table:
    """Return a frame as a table. Raises `DataError` if it has no rows."""
    columns: dict[str, None] = {}
    for row in frame_rows(data):
        columns.update(dict.fromkeys(row))
    if not columns:
        raise DataError("The table has no rows.")

    def rows() -> NumberedRows:
        yield from ((number, dict.fromkeys(columns) | row) for number, row in enumerate(frame_rows(data), 1))

    return Table("the table", tuple(columns), Path(), rows, lambda: "")


def keep_frame(data: Any) -> str:
    """Write a frame to the cache as JSON lines, under the hash of its content; return the path."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in frame_rows(data)]
    if not lines:
        raise DataError("The table has no rows.")
    return _keep("table.jsonl", "".join(lines))


def keep_documents(documents: Iterable[str]) -> str:
    """Write texts to the cache as the column `text` of JSON lines; return the path. Raises `DataError` for other values."""
    lines = []
    for number, document in enumerate(documents, 1):
        if not isinstance(document, str):
            raise DataError(f"Document {number:,} is {type(document).__name__}, and a string is expected.")
        lines.append(json.dumps({"text": document}, ensure_ascii=False) + "\n")
    if not lines:
        raise DataError("There are no documents to learn from.")
    return _keep("documents.jsonl", "".join(lines))


def keep_text(text: str) -> str:
    """Write a text to the cache; return the path."""
    return _keep("text.txt", text)


def _keep(name: str, content: str) -> str:
    data = content.encode("utf-8", "replace")
    folder = cache_folder() / "data" / hashlib.blake2b(data, digest_size=16).hexdigest()
    if not (folder / name).is_file():
        make_dir(folder)
        write_atomic(folder / name, data)
    return str(folder / name)
