"""Rows of JSON that are lists of values: an array of them, or one per line. The first may have the names of the columns."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.tables.delimited_files import name_columns
from unrolled.tables.json_files import json_values, read_json, without_comments
from unrolled.tables.table_format import FIRST_ROW, NumberedRows, Source, header_names


def list_rows(source: Source, header: str) -> NumberedRows:
    """Yield the rows of a file; `header` as for `delimited_rows`. A first row with other values than texts has no names."""
    named, columns = header_names(header), list[str]()
    for number, values in _values(source):
        place = f"{source.path}, row {number:,}"
        if not isinstance(values, list):
            raise DataError(f"{place}: a list with a value for each column is expected, and it is {json.dumps(values):.40}.")
        if not columns:
            has_names = header == FIRST_ROW and all(isinstance(value, str) for value in values)
            columns = name_columns(values) if has_names else named or [str(position) for position in range(len(values))]
            if has_names or values == named:
                continue
        if len(values) != len(columns):
            listed = f"{plural(len(columns), 'column')} ({', '.join(columns):.200})"
            raise DataError(f"{place}: {plural(len(values), 'value')}, and the table has {listed}.")
        yield number, dict(zip(columns, values, strict=True))


def _values(source: Source) -> Iterable[tuple[int, Any]]:
    """Return the numbered values of a file: those of one array of lists, else those of its lines."""
    first, _, more = without_comments(source.head()).strip("\ufeff \r\n").partition("\n")
    try:
        value = json.loads(first.rstrip().removesuffix(","))
        is_array = not more.strip() and isinstance(value, list) and any(isinstance(row, list) for row in value)
    except (ValueError, RecursionError):
        is_array = True
    return enumerate(read_json(source), 1) if is_array else json_values(source)
