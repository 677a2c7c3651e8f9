"""Lines above the header of delimited text, and columns without a name."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from unrolled.display import plural
from unrolled.tables.header_rows import HeaderRows, looks_like_header

MIN_ROWS_BELOW = 4
"""Rows below the header, at least, that show which lines are above it."""


@dataclass(frozen=True)
class Layout:
    """What is no row: `num_skipped` lines at the top, `num_comments` of them comments, `num_above` others, as in a report, and
    the rest blank.

    `unnamed` is `first` if each row has one cell more than the header, its name, and `last` if it is empty and the last.
    """

    num_skipped: int = 0
    num_comments: int = 0
    num_above: int = 0
    unnamed: str = ""
    more_header: HeaderRows | None = None

    @property
    def has_plain_header(self) -> bool:
        """Whether a row has as many cells as the header."""
        return not self.unnamed

    @property
    def num_more_header(self) -> int:
        """How many rows below the first one belong to the header."""
        return self.more_header.num_more if self.more_header else 0

    def notes(self, path: object) -> list[str]:
        """Return sentences about what is left out."""
        comments = f"{path}: {plural(self.num_comments, 'line')} of comments at the top left out" if self.num_comments else ""
        above = f"{path}: {plural(self.num_above, 'line')} above the names of the columns left out" if self.num_above else ""
        names = f"{path}: each row has one cell more than the header; the first, 'Unnamed: 0', is taken for its name"
        more = self.more_header.note(path) if self.more_header else ""
        return [note for note in (comments, above, names if self.unnamed == "first" else "", more) if note]

    def header(self, cells: list[str]) -> list[str]:
        """Return the cells of the header, as many as each row has."""
        if self.more_header and self.more_header.are_joined:
            return list(self.more_header.names)
        return ["", *cells] if self.unnamed == "first" else [*cells, ""] if self.unnamed == "last" else cells

    def rows(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """Yield the rows that have cells, from the first one on that is not blank."""
        return itertools.dropwhile(is_blank, filter(None, itertools.islice(rows, self.num_skipped, None)))

    def rows_below_header(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        """Return rows without those that belong to the header, and blank ones between them."""
        num_left = self.num_more_header
        while num_left:
            num_left -= not is_blank(next(rows, ["-"]))
        return rows


def is_blank(row: Sequence[str]) -> bool:
    """Return whether no cell of a row has a value."""
    return not any(map(str.strip, row))


def without_comments(lines: Sequence[str]) -> list[str]:
    """Return the lines from the first one on that does not begin with `#`, if there is one."""
    first = next((number for number, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    return list(lines[first:])


def count_above(lines: Sequence[str], delimiter: str) -> int:
    """Return how many lines stand above the header, as in a report: all below have equally many cells, and these have not.

    Example:
        >>> count_above(["Logger 5", "", "t,x", *(f"{i},{i * 2}" for i in range(6))], ",")
        2
    """
    try:
        rows = split_lines([f"{line}\n" for line in lines], delimiter)[:-1]  # the last one may be cut
    except csv.Error:
        return 0
    first = len(rows)
    while first and len(rows[first - 1]) in (0, len(rows[-1])):
        first -= 1
    while first < len(rows) and sum(map(bool, map(str.strip, rows[first]))) < 2:
        first += 1
    below = [row for row in rows[first + 1 :] if row]
    is_header = len(rows) == len(lines) - 1 and len(below) >= MIN_ROWS_BELOW
    return first if is_header and looks_like_header(rows[first], below[len(below) // 2 :]) else 0


def split_lines(lines: Iterable[str], delimiter: str) -> list[list[str]]:
    """Return the cells of lines; of blanks between cells, as in columns that are aligned, any number counts as one."""
    is_aligned = delimiter == " "
    return list(csv.reader(without_end(lines) if is_aligned else lines, delimiter=delimiter, skipinitialspace=is_aligned))


def without_end(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines without blanks before their ends."""
    return (line.rstrip(" \r\n") + "\n" for line in lines)


def find_layout(lines: Sequence[str], delimiter: str, has_header: bool) -> Layout:
    """Return the layout of a file, given its first lines. Lines that begin with `#` are comments if they have fewer or more
    cells than the row that follows them."""

    def cells(line: str) -> list[str]:
        return next(iter(split_lines([line], delimiter)), [])

    body = without_comments(lines)
    num_skipped = num_comments = 0
    try:
        while num_skipped < len(lines) - len(body) and len(cells(lines[num_skipped])) != len(cells(body[0])):
            num_comments += lines[num_skipped].startswith("#")
            num_skipped += 1
        num_above = count_above(lines[num_skipped:], delimiter) if has_header else 0
        num_skipped += num_above
        rows = split_lines([f"{line}\n" for line in lines[num_skipped:]], delimiter)
    except csv.Error:
        return Layout(num_skipped, num_comments)
    first, *others = [row for row in rows if row] or [[]]
    others = others[:-1] if len(others) > 1 else others  # the last one may be cut
    return Layout(num_skipped, num_comments, num_above, _unnamed(first, others) if has_header else "")


def _unnamed(header: list[str], rows: list[list[str]]) -> str:
    """Return whether the header lacks the `first` or the `last` column: names of rows are different, and not the first part
    of a text with a comma, which a blank would follow."""
    if len(header) < 2 or not rows or any(len(row) != len(header) + 1 for row in rows):
        return ""
    if not any(row[-1].strip() for row in rows):
        return "last"
    are_names = len({row[0] for row in rows}) == len(rows) and not any(row[1].startswith(" ") for row in rows)
    return "first" if are_names else ""
