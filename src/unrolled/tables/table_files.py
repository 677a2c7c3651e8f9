"""Rows of a table, streamed one at a time: CSV, TSV, JSON, CoNLL, ARFF, Parquet, a folder of files, or a built-in table.

A CSV file may use commas, semicolons, tabs or pipes; its first row has the names of the columns, or `--header` says otherwise.
Any file may be compressed. Each row comes with its line number, for error messages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import TemporaryFolder
from unrolled.datasets.builtin import SPLITS, no_such_dataset
from unrolled.datasets.stdlib import PREFIX
from unrolled.datasets.tables import TABLES, BuiltinTable, Row
from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.arrow_files import columnar_kind
from unrolled.tables.cell_values import BLANKS, Cell
from unrolled.tables.conll_files import LabeledLines
from unrolled.tables.delimited_files import MAX_LISTED_COLUMNS, is_plain_text, line_rows
from unrolled.tables.file_kinds import guess_kind
from unrolled.tables.file_rows import JSON_KINDS, open_rows
from unrolled.tables.header_rows import looks_like_header
from unrolled.tables.json_files import inner_rows_hint, nested_keys, nested_value, only_row_note
from unrolled.tables.kept_data import shown_name
from unrolled.tables.labeled_files import open_archive, open_folder
from unrolled.tables.printed_tables import find_printed_table
from unrolled.tables.table_folders import Parts, find_parts
from unrolled.tables.table_format import (
    FIRST_ROW,
    MAX_HEADER_ROWS,
    NO_HEADER,
    NumberedRows,
    ReadErrors,
    Source,
    TableFormat,
    has_table_suffix,
    split_sheet,
    suffix_kind,
)
from unrolled.text.archives import contents, documentation_note, is_archive_of_several
from unrolled.text.compressed_files import is_compressed
from unrolled.text.encodings import SIGNATURE_BYTES, check_encoding, display_name
from unrolled.text.file_signatures import describe_binary
from unrolled.text.fingerprint import digest as text_digest
from unrolled.text.fingerprint import fingerprint
from unrolled.text.normalization import normalize
from unrolled.text.text_files import buffer_stdin, existing_file

REPEATED_NAME = re.compile(r" \(column [0-9]+\)$")
"""What is added to the name of a column that another one has, too."""

COLUMN_NUMBER = re.compile(r"-?[0-9]{1,4}")

MAX_PROBED_ROWS = 200
"""Rows that are compared with the first one, to see whether that one has the names of the columns."""


@dataclass(frozen=True)
class Table:
    """A table that can be read many times. `rows` yields `(line, row)`; paths in cells are relative to `folder` (see `Cell`).

    `header` is how its columns were named (see `TableFormat`), or None for files that have names in each row; `notes` are
    messages for the user about how it is read. `owned` is kept as long as the table is: the folder of a copy.
    """

    name: str
    columns: tuple[str, ...]
    folder: Path | None
    rows: Callable[[], NumberedRows]
    digest: Callable[[], str]
    builtin: BuiltinTable | None = None
    allows_decimal_commas: bool = False
    """Whether `1,5` may be a number: the comma does not separate the columns."""

    header: str | None = None
    is_lines: bool = False
    """Whether it is a text of which each line is a row; it then has the column that was asked for."""

    notes: tuple[str, ...] = ()
    labeled: LabeledLines | None = dataclasses.field(default=None, compare=False, repr=False)
    """Writes the file with labels for each token, if it is of that kind."""

    owned: Any = dataclasses.field(default=None, compare=False, repr=False)

    def matching_columns(self, column: str) -> list[str]:
        """Return the columns that `column` may mean: that very name; else those that differ from it in blanks or line ends,
        in the Unicode normal form, or in case.

        Else keys of an object joined by dots (`data.text`); else its number, from 0, or from the end if negative."""
        if column in self.columns:
            return [column]
        wanted = _without_blanks(column)
        names = {name: _without_blanks(REPEATED_NAME.sub("", name)) for name in self.columns}
        similar = [name for name in self.columns if names[name] == wanted]
        similar = similar or [name for name in self.columns if names[name].lower() == wanted.lower()]
        if similar:
            return similar
        if column.partition(".")[0] in self.columns and self._has_nested(column):
            return [column]
        is_number = COLUMN_NUMBER.fullmatch(column) and -len(self.columns) <= int(column) < len(self.columns)
        return [self.columns[int(column)]] if is_number else []

    def _has_nested(self, column: str) -> bool:
        with contextlib.closing(self.rows()) as rows:
            return any(nested_value(row, column) is not None for _, row in itertools.islice(rows, MAX_HEADER_ROWS))

    def nested_columns(self) -> list[str]:
        """Return the keys in objects of the first rows, joined by dots."""
        with contextlib.closing(self.rows()) as rows:
            keys = [key for _, row in itertools.islice(rows, MAX_HEADER_ROWS) for key in nested_keys(row)]
        return list(dict.fromkeys(keys))

    def find_column(self, column: str) -> str:
        """Return the column that `column` means. Raises `UsageError` if there is none, `DataError` if there are several."""
        matches = self.matching_columns(column)
        if len(matches) > 1:
            raise DataError(f"{self.name} has two columns named '{column}', {' and '.join(map(repr, matches[:2]))}: name one.")
        if not matches:
            columns = [*self.columns, *self.nested_columns()]
            listed = columns[:MAX_LISTED_COLUMNS]
            more = f" and {len(columns) - len(listed):,} more" if len(columns) > len(listed) else ""
            hint = did_you_mean(column, listed) or "."
            if "," in column and all(self.matching_columns(part) for part in column.split(",")):
                to_do = "several are read as --source, with a --target"
                raise UsageError(f"'{column}' names {column.count(',') + 1} columns, and one is expected: {to_do}.")
            header = self._hint_of_header(column)
            raise UsageError(f"{self.name} has no column '{column}'{hint} Its columns: {', '.join(listed)}{more}.{header}")
        return matches[0]

    def _hint_of_header(self, column: str) -> str:
        """Return where the columns may be: in a later row, below a title; in rows inside a value; or all in one column."""
        with contextlib.closing(self.rows()) as rows, contextlib.suppress(DataError):
            first_rows = list(itertools.islice(rows, MAX_PROBED_ROWS if self.header is not None else 2))
            if self.header is None:
                return inner_rows_hint(self.name, first_rows[0][1]) if len(first_rows) == 1 else ""
            for line, row in first_rows:
                if (
                    column.strip()
                    and column.strip().lower() in (str(cell).strip().lower() for cell in row.values())
                    and len(row) > 1
                ):
                    return f" Line {line:,} has it: if the names of the columns are there, remove the lines above."
        one = " Each line is one column: commas, semicolons, tabs and pipes separate columns, and blanks between numbers."
        first = " If the first row is data: --header none, or --header NAME,NAME." if self.header == FIRST_ROW else ""
        return one + first if len(self.columns) == 1 else first

    def first_row_is_data(self, columns: tuple[str | None, ...]) -> bool:
        """Return whether the first row is data: `columns` are numbers, and it does not look like names."""
        names = set(map(_without_blanks, self.columns))
        numbers = [column for column in columns if column and COLUMN_NUMBER.fullmatch(column) and column not in names]
        if self.header != FIRST_ROW or not numbers:
            return False
        with contextlib.closing(self.rows()) as rows:
            values = [list(map(str, row.values())) for _, row in itertools.islice(rows, MAX_PROBED_ROWS)]
        return not looks_like_header(list(self.columns), values)

    def iter_cells(self, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        """Yield `(line, cells)` of some columns (see `find_column`)."""
        names = [self.find_column(column) for column in columns]
        for line, row in self.rows():
            yield line, tuple(self.cell(line, row, name) for name in names)

    def cell(self, line: int, row: Row, column: str) -> Cell:
        """Return the cell of a row in the column with this very name, which may be keys joined by dots."""
        return Cell(nested_value(row, column), self.name, line, self.folder)

    def without_cell_files(self) -> Table:
        """Return the table with cells that may not name files."""
        return dataclasses.replace(self, folder=None)


def _without_blanks(name: str) -> str:
    """Return a name as names are compared: in one normal form, without blanks at its ends, and one for any others."""
    return " ".join(normalize(name, "nfc").strip(BLANKS).split())


def open_table(name: str, split: str = "train", format: TableFormat | None = None, stdin: bool = False) -> Table:
    """Open a table by its path, or `builtin:NAME`, which means its split `split`, or `builtin:NAME:SPLIT`.

    With `stdin`, `-` is standard input, of which a copy is kept as long as the table. Raises `DataError` if there is no row,
    `UsageError` if the `format` does not fit the file.
    """
    format = format or TableFormat()
    if name.startswith(PREFIX):
        if format.header is not None:
            raise UsageError(f"--header is for files without a header, and {name} has named columns: leave it out.")
        return _open_builtin(name, split)
    if name == "-" and not stdin:
        raise UsageError("A table is read again when a training is resumed, and standard input is not: write it to a file.")
    return _open_input(name, format, _open_file)


def _open_input(name: str, format: TableFormat, open_path: Callable[[Path, TableFormat, str], Table]) -> Table:
    """Return the table that `open_path` makes of a path, its format and its name in messages: of a file, or of a copy of
    standard input.

    A folder of tables with the same columns is one table (see `find_parts`). Another folder, or a zip archive of several files
    that are no tables, is a table of its own (see `LabeledFiles`).
    """
    if name == "-":
        copy = TemporaryFolder()
        table = open_path(buffer_stdin(copy.path), format, "standard input")
        table = dataclasses.replace(table, folder=Path().absolute(), owned=copy)
    elif parts := find_parts(Path(name)) if Path(name).is_dir() else []:
        tables = [open_path(existing_file(str(part)), format, str(part)) for part in parts]
        table = _join_parts(Parts(Path(name), parts, [each.columns for each in tables], [each.rows for each in tables]), tables)
    elif _has_labeled_files(Path(name)):
        table = _open_labeled(Path(name), format)
    else:
        file, sheet = split_sheet(name)
        path = existing_file(file)
        table = open_path(path, dataclasses.replace(format, sheet=sheet), shown_name(path))
    return table if format.cell_files else table.without_cell_files()


def _join_parts(parts: Parts, tables: Sequence[Table]) -> Table:
    return dataclasses.replace(
        tables[0],
        name=str(parts.folder),
        columns=parts.columns,
        folder=parts.folder.absolute(),
        rows=parts.rows,
        digest=functools.partial(fingerprint, parts.paths),
        notes=(parts.note, *tables[0].notes),
        labeled=None,
    )


def _has_labeled_files(path: Path) -> bool:
    if not is_archive_of_several(path):
        return path.is_dir()
    names = contents(path)
    return len(names) > 1 and not all(map(has_table_suffix, names))


def _open_labeled(path: Path, format: TableFormat) -> Table:
    if format.header is not None:
        raise UsageError(f"--header is for files with columns, and those of {path} are text, label and file: leave it out.")
    encoding = None if format.encoding is None else check_encoding(format.encoding)
    files = open_folder(path, encoding) if path.is_dir() else open_archive(path, encoding)
    if files.is_archive and all(map(has_table_suffix, files.names)):
        raise DataError(f"{path} has tables among other files, such as {files.names[0]}: unzip it, and name the table.")

    def digest() -> str:
        return text_digest(" ".join([fingerprint(files.paths), *files.names]))

    return Table(str(path), files.columns, path.absolute(), files.rows, digest, notes=files.notes)


def table_of_values(column: str, values: Iterable[Any]) -> Table:
    """Return a table with one column, whose values are given; they can be read once if `values` is an iterator."""

    def rows() -> NumberedRows:
        for number, value in enumerate(values, 1):
            yield number, {column: value.isoformat() if isinstance(value, datetime.date | datetime.time) else value}

    return Table("value", (column,), Path(), rows, lambda: "")


def open_table_or_lines(name: str, column: str, format: TableFormat, learning: bool = False) -> Table:
    """Open a table that has the text column `column`, or plain lines, one text each: a file or `-` without that column.

    Files with the suffix of a table are tables, and so is what begins like JSON. For `learning`, a column given by
    number may be one of a file without a header (see `open_with_columns`).
    """
    if name.startswith(PREFIX):
        return open_table(name, "test", format)
    return _open_input(name, format, functools.partial(_open_table_or_lines, column=column, learning=learning))


def _open_table_or_lines(path: Path, format: TableFormat, name: str, column: str, learning: bool) -> Table:
    _reject_archives(path)
    if suffix_kind(path) is not None or not _is_lines(path, column, format):
        table = _open_file(path, format, name)
        return _with_data_in_first_row(table, (column,), format, lambda new: _open_file(path, new, name)) if learning else table
    source = Source.open(path, format.encoding)
    note = f"{name} has no column '{column}': each line is read as one text"
    rows, digest = functools.partial(line_rows, source, column), functools.partial(fingerprint, [path])
    return Table(name, (column,), path.absolute().parent, rows, digest, is_lines=True, notes=(note,))


def _is_lines(path: Path, column: str, format: TableFormat) -> bool:
    """Return whether a file is no table with `column`, as far as its beginning shows."""
    source = Source.open(path, format.encoding)
    kind = guess_kind(source)
    if kind not in ("csv", "tsv") or format.header is not None:
        return False
    printed = find_printed_table(source)
    if printed is not None and printed.is_sure:
        return False
    return is_plain_text(printed or source, kind == "tsv" or printed is not None, column, format.known_header)


def _open_file(path: Path, format: TableFormat, name: str) -> Table:
    _reject_archives(path)
    file = open_rows(path, format, name)
    notes = list(filter(None, [*file.notes, documentation_note(path)]))
    with contextlib.closing(file.rows()) as row_iterator:
        first = next(row_iterator, None)
        is_only = file.kind in JSON_KINDS[:2] and next(row_iterator, None) is None
    if first is None:
        raise DataError(f"{name} has no rows: at least one is needed.")
    if is_only:
        notes += filter(None, [only_row_note(name, first[1])])
    digest = functools.partial(fingerprint, [path])
    columns, folder = tuple(first[1]), path.absolute().parent
    notes = list(filter(None, notes))
    return Table(
        name,
        columns,
        folder,
        file.rows,
        digest,
        None,
        file.has_decimal_commas,
        header=file.header,
        notes=tuple(notes),
        labeled=file.labeled,
    )


def open_with_columns(name: str, columns: tuple[str | None, ...], format: TableFormat) -> Table:
    """Open a table to learn from. If `columns` are numbers and the first row does not look like names, it is data."""
    table = open_table(name, format=format)
    return _with_data_in_first_row(table, columns, format, lambda format: open_table(name, format=format))


def _with_data_in_first_row(
    table: Table, columns: tuple[str | None, ...], format: TableFormat, reopen: Callable[[TableFormat], Table]
) -> Table:
    """Return a table; opened again without a header, and with a note, if none is given and its first row is data."""
    if format.header is not None or not table.first_row_is_data(columns):
        return table
    table = reopen(dataclasses.replace(format, header=NO_HEADER))
    note = f"{table.name}: the first row is data, since columns are given by number (if it has names: --header first)"
    return dataclasses.replace(table, notes=(*table.notes, note))


def _open_builtin(name: str, split: str) -> Table:
    base_name, _, named_split = name.removeprefix(PREFIX).partition(":")
    split = named_split or split
    if base_name not in TABLES or split not in SPLITS:
        raise no_such_dataset(name.removeprefix(PREFIX))
    table = TABLES[base_name]

    def rows() -> NumberedRows:
        yield from enumerate(table.rows(split), 1)

    def digest() -> str:
        row_hash = hashlib.blake2b(digest_size=20)
        for _, row in rows():
            for cell in row.values():
                row_hash.update(cell.tobytes() if isinstance(cell, np.ndarray) else repr(cell).encode())
        return row_hash.hexdigest()

    return Table(f"{PREFIX}{base_name}:{split}", table.columns, Path(), rows, digest, table)


def _reject_archives(path: Path) -> None:
    """Raise `DataError` for a file that is no text, such as an Excel workbook, or an archive that is not named `.zip`."""
    if is_compressed(path) or suffix_kind(path) == "spreadsheet" or columnar_kind(path) is not None:
        return
    with ReadErrors(path), open(path, "rb") as file:
        found = describe_binary(file.read(SIGNATURE_BYTES), str(path))
    if found is not None:
        raise DataError(f"{display_name(path)} is {found}.")
