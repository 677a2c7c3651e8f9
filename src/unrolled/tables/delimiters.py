"""What separates the columns of delimited text, to judge by its first lines."""

from __future__ import annotations

import csv
import re

from unrolled.tables.delimited_layout import count_above, without_comments
from unrolled.tables.header_rows import is_number

SEPARATOR_LINE = re.compile(r"sep=(\\t|.?)", re.IGNORECASE)
"""The first line of a file that Excel wrote, which is no row; split at that separator, it may lack it."""

MAX_SNIFFED_LINES = 20
"""Lines of a CSV file from which its delimiter is inferred."""

QUOTED_NAMES = re.compile(r'"[^"]*"(?: "[^"]*")+')
"""A header whose names are separated by blanks, as R's `write.table` writes it."""

USUAL_DELIMITERS, RARE_DELIMITERS = ",;\t|", "^~\x01\x1f\uff0c\uff1b\u061b\u060c"
"""Delimiters of columns; a rare one is taken if none of the others makes rows equally long."""

MIN_ALIGNED_ROWS = 3
"""Rows of numbers, at least, between which blanks separate columns."""


def first_lines(head: str) -> list[str]:
    """Return the lines from which the delimiter is inferred, and one more, which may be cut."""
    lines = head.lstrip("\ufeff").split("\n", MAX_SNIFFED_LINES + 1)[: MAX_SNIFFED_LINES + 1]
    return [line.rstrip("\r") for line in lines]


def detect_delimiter(head: str) -> str:
    """Return the delimiter that makes all first rows equally long, or if none does, the one that the header has most."""
    return delimiter_of_rows(head) or max(",;\t", key=_header(head)[0].count)


def _header(head: str) -> list[str]:
    """Return the first lines from the header on."""
    return without_comments(first_lines(head)) or [""]


def delimiter_of_rows(head: str) -> str | None:
    """Return the delimiter that a `sep=X` line names, else the one that gives all first rows the same number of cells.

    If several do, it is the one that the header has most; if none does, None.
    """
    lines = _header(head)
    first = lines[0]
    if (named := SEPARATOR_LINE.fullmatch(first.strip('"'))) is not None and named[1]:
        return named[1].replace("\\t", "\t")

    def has_equal_rows(delimiter: str) -> bool:
        try:
            rows = [row for row in csv.reader([f"{line}\n" for line in lines], delimiter=delimiter) if row]
        except csv.Error:
            return False
        complete = rows[:-1] if len(rows) > 2 else rows  # the last one may be cut
        return len(complete[0]) > 1 and len({len(row) for row in complete}) == 1 if complete else False

    for delimiters in (USUAL_DELIMITERS, RARE_DELIMITERS):
        if found := [delimiter for delimiter in delimiters if has_equal_rows(delimiter)]:
            return max(found, key=first.count)
    if above := {delimiter: count_above(lines, delimiter) for delimiter in USUAL_DELIMITERS if count_above(lines, delimiter)}:
        return max(above, key=lambda delimiter: lines[above[delimiter]].count(delimiter))
    if QUOTED_NAMES.fullmatch(first) or _has_numbers_between_blanks(lines):
        return " "
    return None


def _has_numbers_between_blanks(lines: list[str]) -> bool:
    """Return whether lines have equally many cells between blanks, the first perhaps one less, and most columns have nothing
    but numbers below the first line."""
    first, *rows = [line.split() for line in lines if line.strip()] or [[]]
    rows = rows[:-1] if len(rows) > MIN_ALIGNED_ROWS else rows  # the last one may be cut
    width = len(rows[0]) if rows else 0
    if len(rows) < MIN_ALIGNED_ROWS or width - len(first) not in (0, 1) or any(len(row) != width for row in rows):
        return False
    num_numeric = sum(all(map(is_number, column)) for column in zip(*rows, strict=True))
    return len(first) > 1 and 2 * num_numeric > width
