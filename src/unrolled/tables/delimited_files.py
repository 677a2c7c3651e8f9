"""Rows of delimited text (CSV, TSV): the delimiter, the quotes and the header are found in the file.

A CSV file has quotes around some cells, doubled (`""`) or escaped (`\\"`) inside. In a TSV file a quotation mark is a normal
character, unless only quotes make its rows equally long, or all cells with quotes are written as CSV writes them.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unrolled.display import plural
from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.cell_values import BLANKS
from unrolled.tables.delimited_layout import Layout, count_above, find_layout, is_blank, without_comments, without_end
from unrolled.tables.delimiters import RARE_DELIMITERS, SEPARATOR_LINE, delimiter_of_rows, detect_delimiter, first_lines
from unrolled.tables.header_rows import MAX_EXAMINED_ROWS, HeaderRows, find_header_rows
from unrolled.tables.printed_tables import PrintedTable
from unrolled.tables.table_format import FIRST_ROW, MAX_CHARS, NO_HEADER, NumberedRows, ReadErrors, Source, header_names
from unrolled.text.compressed_files import read_bytes

logger = logging.getLogger(__name__)

MAX_LISTED_COLUMNS = 100
END_OF_COPY = "\\."
"""The last line of what PostgreSQL's COPY writes into a dump."""

MYSQL_NULL = re.compile(r"(?:(?<=^)|(?<=[,;\t|]))\\N(?=[,;\t|\r\n]|$)")
"""What MySQL and PostgreSQL write for a cell without a value."""


EXCEL_TEXT = re.compile(r'="((?:[^"]|"")*)"')
"""A formula that is a text, which keeps Excel from reading digits as a number."""


FORMULA_CELL = re.compile(r'(?:^|[,;\t|"])="{1,2}([^"\n]+)"', re.MULTILINE)
"""The same as it stands in a file, perhaps quoted."""


@dataclass(frozen=True)
class Dialect:
    """How cells are separated and quoted: `quotes` are `none` (a normal character), `doubled`, `single` (apostrophes, doubled
    inside) or `escaped` (by a backslash)."""

    delimiter: str
    quotes: str
    layout: Layout = Layout()
    skips_blanks: bool = False
    """Whether blanks stand before the quotes around cells."""

    has_formulas: bool = False
    """Whether cells may be written as Excel does for texts of digits, `="001"`."""

    def rows(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """Yield the rows that have cells."""
        rows = self.layout.rows(reader)
        return (list(map(_without_formula, row)) for row in rows) if self.has_formulas else rows

    def reader(self, lines: Iterator[str]) -> Any:
        """Return a reader of `csv` for lines."""
        if self.quotes == "none":
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)
        if self.delimiter == " ":
            return csv.reader(without_end(lines), delimiter=" ", strict=True, skipinitialspace=True)
        if self.quotes == "doubled":
            return csv.reader(lines, delimiter=self.delimiter, strict=True, skipinitialspace=self.skips_blanks)
        if self.quotes == "single":
            return csv.reader(lines, delimiter=self.delimiter, strict=True, quotechar="'")
        with_nulls = (MYSQL_NULL.sub("", line) if "\\N" in line else line for line in lines)
        return csv.reader(with_nulls, delimiter=self.delimiter, strict=True, escapechar="\\")


def _without_formula(cell: str) -> str:
    """Return the text in a cell such as `="001"`; any other cell as it is."""
    parts = EXCEL_TEXT.fullmatch(cell) if cell.startswith('="') else None
    return cell if parts is None else parts[1].replace('""', '"')


def infer_dialect(source: Source, is_tsv: bool, has_header: bool = True) -> tuple[Dialect, list[str]]:
    """Return the dialect of a file, and sentences about what is not usual in it."""
    dialect, note = _infer_quotes(source, is_tsv)
    dialect, notes = with_layout(dialect, source, has_header)
    example = FORMULA_CELL.search(source.head()) if dialect.has_formulas else None
    formulas = f'{source.path}: cells such as ="{example[1]:.40}" are read as the text in quotes' if example else ""
    return dialect, [*notes, *filter(None, [note, formulas])]


def with_layout(dialect: Dialect, source: Source, has_header: bool) -> tuple[Dialect, list[str]]:
    """Return a dialect with where the rows of a file are, and sentences about what is not usual."""
    lines = first_lines(source.head())
    is_named = SEPARATOR_LINE.fullmatch(lines[0].strip('"')) is not None
    layout = find_layout(lines[is_named:], dialect.delimiter, has_header)
    if has_header and layout.has_plain_header:
        more = _find_header_rows(source, dialect, is_named + layout.num_skipped)
        layout = dataclasses.replace(layout, more_header=more)
    skips_blanks = any(f'{dialect.delimiter} "' in line for line in lines)
    return dataclasses.replace(dialect, layout=layout, skips_blanks=skips_blanks), layout.notes(source.path)


def _find_header_rows(source: Source, dialect: Dialect, num_skipped: int) -> HeaderRows | None:
    lines, rows = io.StringIO(source.head().lstrip("\ufeff"), newline=""), list[list[str]]()
    with contextlib.suppress(csv.Error):  # the last row may be cut
        filled = itertools.filterfalse(is_blank, dialect.reader(itertools.islice(lines, num_skipped, None)))
        rows += itertools.islice(filled, MAX_EXAMINED_ROWS)
    return find_header_rows(rows)


def _infer_quotes(source: Source, is_tsv: bool) -> tuple[Dialect, str]:
    """Return the dialect of a file, and a sentence about its quotes if they are not the usual ones, else an empty string."""
    csv.field_size_limit(MAX_CHARS)  # the default refuses texts of 131,072 characters
    path, head = source.path, source.head()
    is_tsv = is_tsv and ("\t" in head.lstrip("\r\n").split("\n", 1)[0] or delimiter_of_rows(head) is None)
    delimiter = "\t" if is_tsv else detect_delimiter(head)
    usual = Dialect(delimiter, "none" if is_tsv else "doubled")
    if _has_single_quotes(head, delimiter):
        return Dialect(delimiter, "single"), f"{path}: apostrophes around cells are not part of them, as in dumps of databases"
    signs = _signs(source, (b'"' if is_tsv else b'\\"', b'="'))
    usual = dataclasses.replace(usual, has_formulas=b'="' in signs)
    if not signs - {b'="'}:
        sign = "blanks" if delimiter == " " else repr(delimiter)
        return usual, f"{path}: columns are separated by {sign}" if delimiter in f"{RARE_DELIMITERS} " else ""
    if is_tsv:
        quoted = dataclasses.replace(usual, quotes="doubled")
        if _is_quoted(source, delimiter) or (not _has_equal_rows(source, usual) and _has_equal_rows(source, quoted)):
            return quoted, f"{path}: quotes around cells are not part of them, as in CSV"
    elif not _has_equal_rows(source, usual):
        escaped = dataclasses.replace(usual, quotes="escaped")
        if _has_equal_rows(source, escaped):
            return escaped, f'{path}: a quote in a cell is escaped by a backslash (\\"), as MySQL writes it'
    return usual, ""


def _has_single_quotes(head: str, delimiter: str) -> bool:
    """Return whether all cells of the first lines have apostrophes around them or are numbers or NULL, some in each line."""
    cell = r"(?:'(?:[^']|'')*'|NULL|[-+.0-9eE]*)"
    line = re.compile(rf"(?=.*'){cell}(?:{re.escape(delimiter)}{cell})+")
    lines = [text for text in first_lines(head)[:-1] if text]
    return len(lines) > 2 and all(map(line.fullmatch, lines))


def _signs(source: Source, signs: tuple[bytes, ...]) -> set[bytes]:
    """Return those of some signs of one or two characters that a file has, or may have."""
    if any(part in source.encoding for part in ("16", "32", "utf-7")):
        return set(signs)
    found, last = set[bytes](), b""
    with ReadErrors(source.path):
        for chunk in read_bytes(source.path):
            found.update(sign for sign in signs if sign in last + chunk[:1] or sign in chunk)
            last = chunk[-1:]
    return found


def _has_equal_rows(source: Source, dialect: Dialect) -> bool:
    """Return whether all rows have as many cells as the first, of which there are several."""
    try:
        rows = dialect.reader(source.lines(newline=""))
        widths = (len(cells) for cells in rows if cells and not _is_separator_line(cells))
        width = next(widths, 0)
        return width > 1 and all(other == width for other in widths)
    except (csv.Error, UnicodeError):
        return False


def _is_quoted(source: Source, delimiter: str) -> bool:
    """Return whether every cell with a quotation mark has quotes around it and doubled ones inside, and one has those.

    Instead of that one, all names in the first line may have quotes around them, as R writes them.
    """
    quoted_cell, has_doubled = re.compile(r'"(?:[^"]|"")*"'), False
    try:
        first: list[str] = next(Dialect(delimiter, "none").reader(source.lines(newline="")), [])
        has_quoted_names = len(first) > 1 and all(map(quoted_cell.fullmatch, first))
        for cells in Dialect(delimiter, "none").reader(source.lines(newline="")):
            for cell in cells:
                if '"' in cell:
                    if quoted_cell.fullmatch(cell) is None:
                        return False
                    has_doubled |= '""' in cell[1:-1]
    except (csv.Error, UnicodeError):
        return False
    return has_doubled or has_quoted_names


def _is_separator_line(cells: list[str]) -> bool:
    return SEPARATOR_LINE.fullmatch("".join(cells)) is not None


def delimited_rows(source: Source, dialect: Dialect, header: str, reported: set[str] | None = None) -> NumberedRows:
    """Yield the rows of a file; `header` is `first`, `none`, or names separated by commas (see `TableFormat`).

    Rows that repeat the header, as in files that were joined, are left out. They are reported once, at the end of the first
    pass; `reported` has the notes of earlier passes.
    """
    path = source.path
    names = header_names(header)
    with ReadErrors(path, source.encoding) as errors:
        reader = dialect.reader(source.lines(newline=""))
        errors.reader = reader
        rows = dialect.rows(reader)
        first = next(rows, None)
        if first is not None and _is_separator_line(first):
            first = next(rows, None)
        if not first:
            raise DataError(f"{path} is empty: a header with the names of the columns is expected, then one row per line.")
        num_named = len(first)
        if header == FIRST_ROW:
            names_row = dialect.layout.header(first)
            rows = dialect.layout.rows_below_header(rows)
            columns = name_columns(names_row)
            num_named = max((number for number, name in enumerate(names_row, 1) if name.strip(BLANKS)), default=0)
        else:
            columns = names or [str(number) for number in range(len(first))]
            if len(columns) != len(first):
                given = f"{plural(len(first), 'column')}, and --header names {len(columns)} ({', '.join(columns)})"
                raise UsageError(f"{path} has {given}.")
            if header == NO_HEADER or [cell.strip() for cell in first] != columns:
                yield reader.line_num, dict(zip(columns, first, strict=True))
        num_repeated = 0
        for cells in rows:
            errors.row_end = reader.line_num
            if header == FIRST_ROW and len(first) > 1 and _repeats(cells, first):
                num_repeated += 1
                continue
            if len(cells) == 1 < len(columns) and cells[0].strip(f"{BLANKS}\x1a") in ("", END_OF_COPY):
                continue
            if len(cells) != len(columns) and not _fits(cells, len(columns), num_named):
                raise DataError(f"{path}, line {reader.line_num:,}: {_wrong_width(cells, columns, dialect)}.")
            yield reader.line_num, dict(zip(columns, cells, strict=True))
    note = f"{path}: {plural(num_repeated, 'row')} that {'repeats' if num_repeated == 1 else 'repeat'} the header left out"
    if num_repeated and reported is not None and note not in reported:
        reported.add(note)
        logger.info(note)


def _fits(cells: list[str], num_columns: int, num_named: int) -> bool:
    """Cut empty cells at the end that are too many, or add those of columns without a name; return whether this was so."""
    if not num_named <= len(cells) or any(cells[num_columns:]):
        return False
    cells[num_columns:] = []
    cells += [""] * (num_columns - len(cells))
    return True


def _repeats(cells: list[str], header: list[str]) -> bool:
    """Return whether a row is the header again, perhaps after the byte order mark of a file that was joined to another."""
    signs = f'{BLANKS}"'
    return cells[0].strip(signs) == header[0].strip(signs) and [cell.strip(signs) for cell in cells] == [
        name.strip(signs) for name in header
    ]


def line_rows(source: Source, column: str) -> NumberedRows:
    """Yield the lines of a file, also blank ones, as rows of one column."""
    with ReadErrors(source.path, source.encoding) as errors:
        for number, line in enumerate(source.lines(newline=""), 1):
            errors.line = number
            yield number, {column: line.rstrip("\r\n")}


def is_plain_text(source: Source, is_tsv: bool, column: str, header: str) -> bool:
    """Return whether a file is plain lines: its first line does not name `column`, nor a similar one among others.

    If the columns of the model's table were not named in a file, it is plain lines unless all rows have several cells.
    """
    csv.field_size_limit(MAX_CHARS)
    head = source.head()
    dialect = Dialect("\t", "none") if is_tsv else Dialect(detect_delimiter(head), "doubled")
    lines = without_comments(first_lines(head))
    first_line = lines[count_above(lines, dialect.delimiter)] if lines else ""
    if header != FIRST_ROW:
        return not _has_equal_rows(source, dialect)
    try:
        names = [name.strip().lower() for name in next(dialect.reader(iter([first_line])), [])]
    except csv.Error:
        return True
    is_prose = (
        isinstance(source, PrintedTable)
        or dialect.delimiter in f"{RARE_DELIMITERS} "
        or (dialect.delimiter == "," and ", " in first_line)
    )
    is_table = len(names) > 1 and (did_you_mean(column, names) or (not is_prose and _has_equal_rows(source, dialect)))
    return column.strip().lower() not in names and not is_table and not SEPARATOR_LINE.fullmatch("".join(names))


def _wrong_width(cells: list[str], columns: list[str], dialect: Dialect) -> str:
    """Return what is wrong with a row of more or fewer cells than there are columns."""
    listed = ", ".join(columns[:MAX_LISTED_COLUMNS])
    problem = f"{plural(len(cells), 'cell')}, and the header has {plural(len(columns), 'column')} ({listed})"
    if dialect.quotes == "none" and any(cell.startswith('"') for cell in cells):
        problem += "; a quotation mark is a normal character in this file, since its cells are not quoted everywhere"
    elif len(columns) == 1:
        problem += "; if the first line is no header, remove it, or name the columns with --header NAME,NAME"
    elif len(cells) > len(columns) and dialect.quotes != "none":
        problem += f"; a cell with {dialect.delimiter!r} in it needs quotes around it"
    elif len(cells) < len(columns):
        problem += "; a cell with a line end in it needs quotes around it, and a line that is no row is to be removed"
    return problem


def name_columns(header: list[str]) -> list[str]:
    """Return a header in which every name is another: of columns of one name, each has its number, from 1, in brackets.

    A column without a name is `Unnamed: N`, as in pandas, N from 0. Line ends in names are blanks.
    """
    header = [" ".join(name.split()) if "\n" in name or "\r" in name else name for name in header]
    names = [name if name.strip() else f"Unnamed: {position}" for position, name in enumerate(header)]
    counts = Counter(names)
    return [f"{name} (column {number})" if counts[name] > 1 else name for number, name in enumerate(names, 1)]
