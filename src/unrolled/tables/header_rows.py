"""Rows below the first one of delimited text that belong to the header: units, types, questions, second names of columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unrolled.tables.cell_values import BLANKS, MISSING_IN_NUMBERS, has_decimal_comma, is_missing, to_number

MAX_MORE_ROWS = 3
"""Rows below the first one that may belong to the header."""

MIN_ROWS = 3
"""Rows below the header, at least, that show which columns have numbers."""

MAX_EXAMINED_ROWS = 200
MIN_REPEATED_ROWS = 8
_TYPES = frozenset(
    word
    for line in (
        "array bigint binary bool boolean c categorical category char character class continuous d date datetime dbl decimal",
        "discrete double factor float float32 float64 ignore int int32 int64 integer interval json lgl list long m meta",
        "nominal num number numeric object open-ended ordinal real response s str string text time timestamp",
    )
    for word in line.split()
)
"""Names of types, as tools write them below the names of columns; also what SurveyMonkey writes there."""

COMMON_NAMES = frozenset(
    word
    for line in (
        "answer category class context date en en_us description de es fr id index input intent label labels lang language",
        "name number output pos prompt question response review score sentence sentiment source src tag tags target text tgt",
        "title token tokens topic value word words x y zh",
    )
    for word in line.split()
)
"""Usual names of columns."""

_RESPONSES = ("Response", "Open-Ended Response")

_SIGNS_OF_VALUE = re.compile(r"[<>~\u2264\u2265\u00b1+-]?\s*\d|(?i:unknown|missing|none|nil|n\.a\.|tbd|true|false|yes|no)$")
"""How a cell begins that is a value, such as `<5`, and no unit."""

_UNIT = re.compile(r"\(.*\)|\[.*\]|\{.*\}|[ymdhsft:/.\s-]+", re.IGNORECASE)
_IMPORT_ID = re.compile(r"\{\s*[\"']ImportId[\"']")


@dataclass(frozen=True)
class HeaderRows:
    """How many rows below the first one belong to the header, and the names of the columns that all of it gives."""

    num_more: int
    names: tuple[str, ...]
    are_joined: bool

    def note(self, path: object) -> str:
        """Return a sentence about the rows."""
        rows = "row 2 is" if self.num_more == 1 else f"rows 2 to {1 + self.num_more} are"
        names = ", ".join(self.names)
        how = f"its names are {names:.80}" if self.are_joined else "left out"
        return f"{path}: {rows} part of the header, {how} (if there are values in it: --header NAME,NAME)"


def find_header_rows(rows: Sequence[list[str]]) -> HeaderRows | None:
    """Return the rows of a header, given the first rows of a file; None if it is one row.

    A row belongs to it if it has a text where all others have a number, in two columns, with nothing but units in the rest, or
    with other values than all others in two columns of few values; if SurveyMonkey wrote it below the questions;
    if all of it are names of types; if it gives different names to columns with equal ones; or if a row below does.

    Example:
        >>> find_header_rows([["t", "y"], ["s", "mm"], ["0", "1.5"], ["1", "2.5"], ["2", "2.0"]])
        HeaderRows(num_more=1, names=('t', 'y'), are_joined=False)
        >>> find_header_rows([["", "x", "x"], ["", "mean", "sum"], *([str(i), "1", "2"] for i in range(3))]).names
        ('', 'x_mean', 'x_sum')
    """
    rows = [row for row in rows[: MAX_EXAMINED_ROWS + 1] if len(row) == len(rows[0])]
    for num_more in range(min(MAX_MORE_ROWS, len(rows) - 1 - MIN_ROWS), 0, -1):
        header, rest = rows[: num_more + 1], rows[num_more + 1 :]
        columns = [[cell for cell in column if not is_missing(cell, MISSING_IN_NUMBERS)] for column in zip(*rest, strict=True)]
        numeric = [len(column) >= MIN_ROWS and all(map(is_number, column)) for column in columns]
        is_named = _all_different(
            [name for name, *more in zip(*header, strict=True) if name.strip() or any(map(str.strip, more))]
        )
        own_names = [False] * len(numeric) if is_named else _have_own_names(_filled(header)[0])
        belong = [_belongs(row, columns, numeric, is_named, own_names) for row in header[1:]]
        has_import_ids = all(map(_IMPORT_ID.match, header[-1]))
        if has_import_ids or all(belong) or (num_more > 1 and all(belong[:-1]) and not is_named and _index_names(header[-1])):
            names = None if has_import_ids or is_named else _joined(header)
            if names or has_import_ids or is_named:
                return HeaderRows(num_more, tuple(names or header[0]), names is not None)
    return None


def _belongs(row: list[str], columns: list[list[str]], numeric: list[bool], is_named: bool, own_names: list[bool]) -> bool:
    """Return whether a row has no values, to judge by the values of the columns below it.

    Among texts, it has none in a column that the first row gives a name of its own (`own_names`).
    """
    cells = [cell.strip(BLANKS) for cell in row]
    present = [cell for cell in cells if not is_missing(cell, MISSING_IN_NUMBERS)]
    if not present or any(is_number(cell) for cell, is_numeric in zip(cells, numeric, strict=True) if is_numeric):
        return False
    if any(_SIGNS_OF_VALUE.match(cell) for cell in present):
        return False
    if any(cell in _RESPONSES and cell not in column for cell, column in zip(cells, columns, strict=True)):
        return len(present) < len(cells) or {*present} <= {*_RESPONSES}
    if len(cells) > 1 and all(
        _is_type(cell) or _lists_values(cell, column) for cell, column in zip(cells, columns, strict=True)
    ):
        return not any(cell in column for cell, column in zip(cells, columns, strict=True))
    texts = [is_numeric and cell in present for cell, is_numeric in zip(cells, numeric, strict=True)]
    others = [cell for cell, is_numeric in zip(cells, numeric, strict=True) if not is_numeric and cell in present]
    if sum(texts) >= 2 or (sum(texts) == 1 and all(map(_is_unit, others))):
        return True
    repeated = [len(column) >= MIN_REPEATED_ROWS and len(set(column)) * 4 <= len(column) for column in columns]
    differs = [cell not in column for cell, column in zip(cells, columns, strict=True)]
    are_new = [
        cell in present and (differs[position] or {cell} == {*column})
        for position, (cell, column) in enumerate(zip(cells, columns, strict=True))
    ]
    if sum(texts) == 1 and sum(repeated) >= 2 and all(itertools.compress(are_new, repeated)):
        return True
    if is_named or any(cell and not _is_type(cell) for cell in itertools.compress(cells, own_names)):
        return False
    return any(itertools.compress(differs, repeated)) and all(itertools.compress(are_new, repeated))


def _lists_values(cell: str, column: list[str]) -> bool:
    """Return whether a cell is empty, or the different values of a column, as Orange writes them."""
    return not cell or (" " in cell and {*cell.split()} == {*column})


def _is_type(cell: str) -> bool:
    return re.split(r"[ (]", cell.lower(), maxsplit=1)[0] in _TYPES


def _is_unit(cell: str) -> bool:
    return _UNIT.fullmatch(cell) is not None or _is_type(cell)


def _index_names(row: list[str]) -> list[str]:
    """Return the cells of a row before the empty ones, if it has no others: what pandas writes as the names of an index."""
    names = [cell.strip(BLANKS) for cell in itertools.takewhile(str.strip, row)]
    has_others = any(map(str.strip, row[len(names) :])) or any(map(is_number, names))
    return [] if has_others or len(names) == len(row) else names


def _filled(header: Sequence[list[str]]) -> list[list[str]]:
    """Return the rows of a header without blanks around the cells; an empty first one above another is that on its left."""
    rows = [[cell.strip(BLANKS) for cell in row] for row in header]
    for position in range(1, len(rows[0])):
        if any(row[position] for row in rows[1:]):
            rows[0][position] = rows[0][position] or rows[0][position - 1]
    return rows


def _have_own_names(names: list[str]) -> list[bool]:
    return [bool(name) and names.count(name) == 1 for name in names]


def _joined(header: Sequence[list[str]]) -> list[str] | None:
    """Return the cells of each column, joined by `_`, if they are different; an empty first one is that on its left.

    A first row with a single cell is a title, and not part of the names.
    """
    index = _index_names(header[-1])
    if header[0][0].strip() and not any(map(str.strip, header[0][1:])):
        header = header[1:]
    parts = zip(*_filled(header[: len(header) - bool(index)]), strict=True)
    names = ["_".join(dict.fromkeys(cell for cell in cells if cell and cell not in _RESPONSES)) for cells in parts]
    names[: len(index)] = index
    return names if _all_different([*filter(None, names)]) else None


def _all_different(names: Sequence[str]) -> bool:
    """Return whether all columns have names, but for the first, which may be an index, and each another one."""
    present = [name.strip(BLANKS) for name in names]
    return all(present[1:]) and len(set(present)) == len(present)


def is_number(text: str) -> bool:
    """Return whether a text is a number, perhaps with a decimal comma."""
    return to_number(text) is not None or has_decimal_comma(text)


def looks_like_header(first: list[str], rows: list[list[str]]) -> bool:
    """Return whether the first row has the names of columns, to judge by the rows that follow.

    It has not if a name is missing, a number or there twice. It has if all are `COMMON_NAMES`; if another column of numbers
    has a name that is none; or if a column of few values, which repeat, has a name that is none of them.
    """
    names = [name.strip() for name in first]
    if len(set(names)) < len(names) or any(is_missing(name) or is_number(name) for name in names):
        return False
    columns = list(zip(*(row for row in rows if len(row) == len(first)), strict=True)) if rows else []
    if all(name.lower() in COMMON_NAMES for name in names):
        return True
    for name, column in zip(names, columns, strict=False):
        values = [value.strip() for value in column]
        present = [value for value in values if not is_missing(value, MISSING_IN_NUMBERS)]
        if present and all(map(is_number, present)):
            return True
        if len(values) >= 8 and len(set(values)) * 4 <= len(values) and name not in values and len(name.split()) == 1:
            return True
    return False
