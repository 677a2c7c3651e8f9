"""Tables as programs print them: drawn with lines, in columns at fixed positions, with delimiters of several characters, or
with their names in a comment.

Each line is rewritten with tabs between the cells, for the reader of TSV.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from unrolled.errors import DataError
from unrolled.tables.commented_names import find_commented_names
from unrolled.tables.delimiters import delimiter_of_rows
from unrolled.tables.table_format import Source

MAX_EXAMINED_LINES = 200
MIN_LINES = 4
"""Lines, at least, that show at which positions columns begin, or what is between them."""

_BOX_SIGNS = str.maketrans(
    dict.fromkeys("│┃║┆", "|") | dict.fromkeys("─━═", "-") | dict.fromkeys("┌┬┐├┼┤└┴┘╔╦╗╠╬╣╚╩╝╒╤╕╞╪╡╘╧╛┏┳┓┡╇┩┣╋┫┗┻┛", "+")
)
_RULE = re.compile(r"[\s|+:=-]*(?:--|==)[\s|+:=-]*")
_PIPE = re.compile(r"(?<!\\)\|")
_SIZE = re.compile(r"\s*(?:\[\d+ rows x \d+ columns\]|\(\d+ rows?\)|\d+ rows? in set\b.*|shape: \(\d+, \d+\))\s*")
"""Number of rows above or below a table, as pandas, psql, MySQL and Polars write it."""

_LEFT_OUT = re.compile(r"\s*(?:\.{2,3}|…|·)(?:\s+(?:\.{3}|…|·))+\s*")
"""Dots in each cell, where pandas, Polars or DuckDB left out rows."""

_TYPE = re.compile(
    r"str|cat|bool(?:ean)?|u?(?:int|float)\d*|[uif]\d+|(?:tiny|small|big|huge)int|double|varchar|blob|uuid|interval|json|"
    r"(?:date|time|timestamp|decimal|list|struct|array|enum|duration|map)\b.*"
)
"""Types that Polars and DuckDB print below the names of columns."""

_DELIMITERS = (
    ("|||", r" ?\|\|\| ?", 0),
    ("::", "::", 0),
    *((sign, f" +{sign} +", 1) for sign in ("->", "=>", "→", "=", "–", "—", "-")),
    (":", ": +", 1),
)
"""Delimiters, their patterns, and `maxsplit` of `re.split`: after a term, ` - ` is a part of the text."""

_TWO_BLANKS = " {2,}"
Rewriter = Callable[[Iterator[str]], Iterator[str]]


@dataclass(frozen=True)
class PrintedTable(Source):
    """A file with a printed table: `rewrite` returns its rows with tabs, and an empty line for each line that is no row.

    `is_sure` says that it is a drawn table with no other lines around it; `note` is a message about it.
    """

    rewrite: Rewriter
    is_sure: bool
    note: str

    def head(self) -> str:
        return "".join(self.rewrite(io.StringIO(super().head())))

    def lines(self, newline: Literal["", "\n"] = "\n") -> Iterator[str]:
        return self.rewrite(super().lines(newline))


def find_printed_table(source: Source) -> PrintedTable | None:
    """Return a file as the printed table that its first lines show, or None."""
    head = source.head().lstrip("\ufeff")
    *lines, _ = (line.rstrip("\r") for line in head.split("\n", MAX_EXAMINED_LINES))  # the last one may be cut

    def table(rewrite: Callable[..., Iterator[str]], note: str, *settings: Any, is_sure: bool = False) -> PrintedTable:
        name, rewriter = source.path, functools.partial(rewrite, name=str(source.path), settings=settings)
        return PrintedTable(source.path, source.encoding, rewriter, is_sure, f"{name}: {note}" if note else "")

    if (named := find_commented_names(lines)) is not None:
        note = f"the names of the columns are those in the comment of line {named.line + 1:,}"
        return PrintedTable(source.path, source.encoding, named.rewrite, True, f"{source.path}: {note}")
    if (drawn := _drawn_header(lines)) is not None:
        header = drawn[0]
        around = [line for line in lines[:header] if _is_row(line)]
        around += [line for line in lines[header:] if _is_row(line) and not _PIPE.search(line.translate(_BOX_SIGNS))]
        note = "a table between other lines: those are left out" if around else ""
        return table(_drawn_rows, note, *drawn, is_sure=not around)
    body, delimiter = [line for line in lines if line.strip() and not _SIZE.fullmatch(line)], delimiter_of_rows(head)
    if "\t" in head or len(body) < MIN_LINES or delimiter not in (None, "|"):
        return None
    for sign, pattern, times in _DELIMITERS:
        if _are_equal(body, pattern, times):
            return table(_split_rows, f"columns are separated by {sign}", pattern, times)
    if delimiter is None and (starts := _column_starts(body)):
        return table(_fixed_rows, f"{len(starts)} columns at fixed positions", starts)
    if delimiter is None and _are_equal(body, _TWO_BLANKS, 0):
        return table(_split_rows, "columns are separated by two blanks", _TWO_BLANKS, 0)
    return None


def _are_equal(lines: Sequence[str], pattern: str, times: int) -> bool:
    """Return whether a delimiter makes rows of equally many cells, and of several, of all lines."""
    widths = {len(re.split(pattern, line.strip(), maxsplit=times)) for line in lines}
    return len(widths) == 1 and widths != {1}


def _split_rows(lines: Iterator[str], name: str, settings: tuple[str, int]) -> Iterator[str]:
    """Yield the rows of lines that have a delimiter."""
    pattern, times = settings
    return (_joined(re.split(pattern, line.strip(), maxsplit=times)) if _is_row(line) else "\n" for line in lines)


def is_rule(line: str) -> bool:
    """Return whether a line separates rows of a table that psql, MySQL or Markdown drew.

    Example:
        >>> is_rule("|---|:--:|"), is_rule("+------+-----+"), is_rule("| a | - |")
        (True, True, False)
    """
    return _RULE.fullmatch(line.translate(_BOX_SIGNS)) is not None


def _is_row(line: str) -> bool:
    """Return whether a line is neither empty, nor a rule, nor the number of rows of a table."""
    return bool(line.strip()) and not is_rule(line) and _SIZE.fullmatch(line) is None


def _joined(cells: Sequence[str]) -> str:
    """Return the line of a row."""
    return "\t".join(cell.strip().replace("\t", " ") for cell in cells) + "\n"


def _drawn_header(lines: Sequence[str]) -> tuple[int, int] | None:
    """Return the numbers of the line with the names of a drawn table, above a rule with as many parts, and of the first row.

    Types below the names, before the rule or between two, are no row.
    """
    lines = [line.translate(_BOX_SIGNS) for line in lines]

    def are_types(number: int) -> bool:
        return number < len(lines) and all(map(_TYPE.fullmatch, _drawn_cells(lines[number], lines[number])))

    for number, (line, rule) in enumerate(itertools.pairwise(lines)):
        is_drawn = _PIPE.search(line) is not None and is_rule(rule) and not is_rule(line)
        if is_drawn and len(_drawn_cells(line, line)) == len(re.split(r"[|+]", rule.strip().strip("|+"))) > 1:
            if number and are_types(number) and _PIPE.search(lines[number - 1]) and not is_rule(lines[number - 1]):
                return number - 1, number + 2
            has_types = are_types(number + 2) and number + 3 < len(lines) and is_rule(lines[number + 3])
            return number, number + 4 if has_types else number + 2
    return None


def _drawn_cells(line: str, header: str) -> list[str]:
    """Return the cells of a line; it has a line at its ends if the header has."""
    cells = _PIPE.split(line.strip("\r\n"))
    bare = header.strip()
    cells = cells[bare.startswith("|") :]
    cells = cells[:-1] if bare.endswith("|") and cells and not cells[-1].strip() else cells
    return [cell.strip().replace("\\|", "|") for cell in cells]


def _drawn_rows(lines: Iterator[str], name: str, settings: tuple[int, int]) -> Iterator[str]:
    """Yield the rows of a drawn table, with the line of its names. Raises `DataError` where another one follows it."""
    (names, first), header, has_ended = settings, "", False
    for number, line in enumerate(lines):
        line = line.translate(_BOX_SIGNS)
        if number < first and number != names:
            yield "\n"
            continue
        header = header or line
        is_row = _PIPE.search(line) is not None and not is_rule(line)
        has_ended |= not is_row and not is_rule(line)
        cells = _drawn_cells(line, header) if is_row else []
        _require_all_rows(" ".join(cells), name, number + 1)
        if has_ended and len(cells) == len(_drawn_cells(header, header)):
            problem = "another table begins here, or a row after a line that is none"
            raise DataError(f"{name}, line {number + 1:,}: {problem}; leave one table in the file.")
        yield _joined(cells) if is_row and not has_ended else "\n"


def _require_all_rows(line: str, name: str, number: int) -> None:
    """Raise `DataError` if a line has dots instead of rows."""
    if _LEFT_OUT.fullmatch(line):
        hint = "write the whole table as CSV (frame.to_csv of pandas, write_csv of Polars)"
        raise DataError(f"{name}, line {number:,}: rows are left out here, as in a print of pandas: {hint}.")


def _column_starts(lines: Sequence[str]) -> list[int]:
    """Return where columns begin that are padded with blanks: after blanks in all lines, below a name; else an empty list.

    The first may have none, if its values are different, as names of rows are.
    """
    if len(texts := [line for line in lines if not is_rule(line)]) < MIN_LINES:
        return []
    lines = [line for line in lines if not is_rule(line) or " " in line.strip()]  # without those across all columns
    width = max(map(len, lines))
    is_blank = [all(not line[position : position + 1].strip() for line in lines) for position in range(width)]
    starts = [position for position in range(width) if not is_blank[position] and (position == 0 or is_blank[position - 1])]
    header, *rows = texts
    ends = [*starts[1:], width]
    named = [0, *(start for start, end in zip(starts, ends, strict=True) if header[start:end].strip() and start > starts[0])]
    if len(named) > 1 and not header[: named[1]].strip() and len({row[: named[1]] for row in rows}) < len(rows):
        del named[1]

    def is_padded(start: int, previous: int) -> bool:
        return any(
            row[start - 2 : start] == "  " or " " in (row[start : start + 1], row[previous : previous + 1]) for row in rows
        )

    return named if len(named) > 1 and all(is_padded(start, last) for last, start in itertools.pairwise(named)) else []


def _fixed_rows(lines: Iterator[str], name: str, settings: tuple[list[int]]) -> Iterator[str]:
    """Yield the rows of a table whose columns begin at given positions."""
    (starts,) = settings
    for number, line in enumerate(lines, 1):
        line = line.rstrip()
        is_row = _is_row(line)
        _require_all_rows(line, name, number)
        for start in starts[1:]:
            if is_row and line[start - 1 : start].strip():
                raise DataError(f"{name}, line {number:,}: {line:.60} crosses the columns, of which one begins at {start + 1}.")
        bounds = itertools.pairwise([*starts, max(len(line), starts[-1])])
        yield _joined([line[start:end] for start, end in bounds]) if is_row else "\n"
