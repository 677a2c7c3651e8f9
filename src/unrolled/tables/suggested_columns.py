"""Which columns of a table a person most likely means: what is learned, and from what."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter

from unrolled.tables.table_files import Table

MAX_READ_ROWS = 20


def suggest_columns(table: Table) -> tuple[str, str] | None:
    """Return a source and a target: the longest cells, and the fewest values but one, in the first rows; None of one column.

    Of columns with as many values, the last one is the target. Raises as the rows of the table do.
    """
    lengths: Counter[str] = Counter()
    values: dict[str, set[str]] = {column: set() for column in table.columns}
    with contextlib.closing(table.rows()) as rows:
        for _, row in itertools.islice(rows, MAX_READ_ROWS):
            for column in table.columns:
                lengths[column] += len(str(row.get(column, "")))
                values[column].add(str(row.get(column, "")))
    if len(table.columns) < 2:
        return None
    target = min(reversed(table.columns), key=lambda column: (len(values[column]) < 2, len(values[column])))
    return max((column for column in table.columns if column != target), key=lengths.__getitem__), target
