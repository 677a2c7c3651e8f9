"""Reader of spreadsheets: of Excel (`.xlsx`, `.xlsm`, `.xlsb`, `.xls`) and OpenDocument (`.ods`), also compressed ones."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from unrolled.display import agree, plural, shell_argument
from unrolled.errors import DataError, first_line
from unrolled.tables.table_format import HEAD_BYTES, MAX_WHOLE_BYTES, TABLE_SUFFIXES, Source, whole_file
from unrolled.text.compressed_files import ZipArchive
from unrolled.text.encodings import display_name

SUFFIXES = tuple(suffix for suffix, kind in TABLE_SUFFIXES.items() if kind == "spreadsheet")
_SPANNED = re.compile(rb'table:number-rows-spanned="([0-9]{1,7})"')
MAX_EXACT = 1e15
"""Whole numbers below are written without a point and an exponent: a spreadsheet has no others than floating-point numbers."""


@dataclass(frozen=True)
class Sheet(Source):
    """A sheet as text: each row is one string of cells between tabs, in quotes where needed. `note` says what is left out."""

    rows: tuple[str, ...]
    note: str

    def head(self) -> str:
        size, first_rows = 0, list[str]()
        for row in self.rows:
            first_rows.append(row)
            if (size := size + len(row)) > HEAD_BYTES:
                break
        return "".join(first_rows)

    def lines(self, newline: Literal["", "\n"] = "\n") -> Iterator[str]:
        return iter(self.rows)


def open_sheet(path: Path, sheet: str = "") -> Sheet:
    """Return the sheet of a file with this name, or the first one that is shown and has cells.

    Raises `DataError` if the file is damaged or protected, or has no such sheet.
    """
    name = display_name(path)
    try:
        from python_calamine import CalamineError, PasswordError, SheetVisibleEnum, load_workbook
    except ImportError as error:
        raise DataError(f"{name} needs a package that reads spreadsheets: pip install 'unrolled[data]'") from error
    content = whole_file(path, "a spreadsheet")
    _check_size(content, name)
    try:
        workbook = load_workbook(content)
        hidden = {sheet.name for sheet in workbook.sheets_metadata if sheet.visible != SheetVisibleEnum.Visible}
        found = {title: workbook.get_sheet_by_name(title) for title in workbook.sheet_names}
        sheets = {title: _rows(each) for title, each in found.items()}
    except PasswordError as error:
        raise DataError(f"{name} is protected by a password: save it without.") from error
    except CalamineError as error:
        raise DataError(f"{name} is not a valid spreadsheet: {first_line(error)}.") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # an error of Rust, in a damaged .xls; it is no Exception
            raise
        raise DataError(f"{name} is damaged.") from error
    filled = [title for title, rows in sheets.items() if rows]
    shown = [title for title in filled if title not in hidden] or filled
    if not shown:
        raise DataError(f"{name} has no sheet with cells.")
    if sheet:
        wanted = sheet.strip().casefold()
        title = next((title for title in sheets if sheet in (title, title.strip()) or title.strip().casefold() == wanted), "")
        if not sheets.get(title):
            problem = f"has no sheet '{sheet}'" if not title else f"has no cells in its sheet '{title}'"
            raise DataError(f"{name} {problem}; those with cells are {', '.join(map(repr, filled))}.")
        return Sheet(path, "utf-8", sheets[title], _merged_note(name, found[title], content))
    left_out = [f"'{title}' ({plural(len(sheets[title]), 'row')})" for title in filled if title != shown[0]]
    which = f"{name}: the sheet '{shown[0]}' is read; left out: {', '.join(left_out)}" if left_out else ""
    another = next((title for title in filled if title != shown[0]), "")
    how = f" (to read another one: {shell_argument(f'{path.name}:{another}')})"
    notes = [_merged_note(name, found[shown[0]], content), which + how if which else ""]
    return Sheet(path, "utf-8", sheets[shown[0]], "; ".join(filter(None, notes)))


def _check_size(content: io.BytesIO, name: str) -> None:
    """Raise `DataError` for a workbook that takes more memory, once unzipped, than a table of this kind can need."""
    try:
        with ZipArchive(content) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile:
        size = 0  # .xls, or what calamine refuses
    if size > MAX_WHOLE_BYTES:
        raise DataError(f"{name} holds {size:,} bytes, unzipped: write it as CSV, and name that file.")
    content.seek(0)


def _rows(sheet: Any) -> tuple[str, ...]:
    """Return the rows of a sheet with cells, after an empty one for each above them, so that they have their numbers.

    Merged cells below the header all have the value of the first one.
    """
    rows: list[list[Any]] = sheet.to_python(skip_empty_area=True)
    width = max((position + 1 for row in rows for position, cell in enumerate(row) if cell != ""), default=0)
    if not width:
        return ()
    top, left = (int(place) for place in sheet.start)
    for (first, column), last in _merged_below_header(sheet):
        for row in rows[first - top + 1 : last - top + 1]:
            row[column - left] = rows[first - top][column - left]
    lines = ["\t".join(map(_cell_text, row[:width])) + "\n" for row in rows]
    return ("\n",) * top + tuple(line if line.strip() else "\n" for line in lines)


def _merged_below_header(sheet: Any) -> list[tuple[tuple[int, int], int]]:
    """Return the first cell and the last row of merged cells in one column, which begin below the rows of the header: the
    first one, and those with cells that are merged in a row."""
    ranges = sheet.merged_cell_ranges or []
    header = {sheet.start[0], *(first[0] for first, last in ranges if last[1] > first[1])}
    return [(first, last[0]) for first, last in ranges if last[1] == first[1] and first[0] not in header]


def _merged_note(name: str, sheet: Any, content: io.BytesIO) -> str:
    """Return a sentence about merged cells that have the value of the first one, or have none, or an empty sentence."""
    if num_cells := sum(last - first[0] for first, last in _merged_below_header(sheet)):
        return f"{name}: {plural(num_cells, 'cell')} of merged ones {agree(num_cells, 'have')} the value of the first"
    content.seek(0)
    if name.lower().endswith(".ods") and zipfile.is_zipfile(content):
        with ZipArchive(content) as archive:
            if any(int(count) > 1 for count in _SPANNED.findall(archive.read("content.xml"))):
                return f"{name}: of merged cells, the first one has a value, and others are empty; as .xlsx, all have it"
    return ""


def _cell_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < MAX_EXACT else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    text = str(value)
    is_quoted = any(sign in text for sign in '\t\r\n"')
    return '"' + text.replace('"', '""') + '"' if is_quoted else text
