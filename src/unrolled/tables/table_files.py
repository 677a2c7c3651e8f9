"""Rows of a table, streamed one at a time: CSV, TSV, JSON lines or a JSON array, Parquet, or a built-in table.

A CSV file may use commas, semicolons, tabs or pipes; a TSV file has no quotes; both begin with a header, and any of them may be
compressed. Each row comes with its line number, for error messages.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import storage_error
from unrolled.datasets.builtin import SPLITS, no_such_dataset
from unrolled.datasets.stdlib import PREFIX
from unrolled.datasets.tables import TABLES, BuiltinTable, Row
from unrolled.errors import DataError, UsageError, did_you_mean
from unrolled.tables.cell_values import Cell
from unrolled.text.fingerprint import fingerprint
from unrolled.text.normalization import normalize
from unrolled.text.text_files import DECOMPRESSION_ERRORS, encoding_error, existing_file, is_compressed, open_bytes

NumberedRows = Generator[tuple[int, Row], None, None]
"""Rows with their line numbers. Close the generator if it is not read to the end."""


_HEAD_BYTES = 1 << 16

MAX_LISTED_COLUMNS = 100
SEPARATOR_LINE = re.compile(r"sep=(.?)", re.IGNORECASE)
"""The first line of a file that Excel wrote, which is no row; split at that separator, it may lack it."""

REPEATED_NAME = re.compile(r" \(column [0-9]+\)$")
"""What is added to the name of a column that another one has, too."""

MAX_SNIFFED_LINES = 20
"""Lines of a CSV file from which its delimiter is inferred."""

MAX_HEADER_ROWS = 1000
"""Objects of a JSON file whose keys are its columns."""

MAX_JSON_ARRAY_BYTES = 1 << 28
"""A JSON array is read at once, so it must not be larger than this."""

MAX_CHARS = 1 << 23
"""Maximum characters of a cell, and of a row of JSON: a file with more is no table, or an attack on memory."""


@dataclass(frozen=True)
class Table:
    """A table that can be read many times. `rows` yields `(line, row)`; paths in cells are relative to `folder`."""

    name: str
    columns: tuple[str, ...]
    folder: Path
    rows: Callable[[], NumberedRows]
    digest: Callable[[], str]
    builtin: BuiltinTable | None = None
    allows_decimal_commas: bool = False
    """Whether `1,5` may be a number: the comma does not separate the columns."""

    def matching_columns(self, column: str) -> list[str]:
        """Return the columns that `column` may mean: that very name; else those that differ from it in blanks at the ends, or
        in the Unicode normal form."""
        if column in self.columns:
            return [column]
        wanted = normalize(column, "nfc").strip()
        return [name for name in self.columns if normalize(REPEATED_NAME.sub("", name), "nfc").strip() == wanted]

    def find_column(self, column: str) -> str:
        """Return the column that `column` means. Raises `UsageError` if there is none, `DataError` if there are several."""
        matches = self.matching_columns(column)
        if len(matches) > 1:
            raise DataError(f"{self.name} has two columns named '{column}', {' and '.join(map(repr, matches[:2]))}: name one.")
        if not matches:
            listed = self.columns[:MAX_LISTED_COLUMNS]
            more = f" and {len(self.columns) - len(listed):,} more" if len(self.columns) > len(listed) else ""
            hint = did_you_mean(column, listed) or "."
            raise UsageError(f"{self.name} has no column '{column}'{hint} Its columns: {', '.join(listed)}{more}.")
        return matches[0]

    def iter_cells(self, columns: tuple[str, ...]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        """Yield `(line, cells)` of some columns (see `find_column`)."""
        names = [self.find_column(column) for column in columns]
        for line, row in self.rows():
            yield line, tuple(Cell(row[name], self.name, line, self.folder) for name in names)


def open_table(name: str, split: str = "train") -> Table:
    """Open a table by its path, or `builtin:NAME`, which means its split `split`, or `builtin:NAME:SPLIT`.

    Raises `DataError` if it is empty or has no header.
    """
    if name.startswith(PREFIX):
        return _open_builtin(name, split)
    if name == "-":
        raise UsageError("A table is read more than once, and standard input only once: write it to a file first.")
    path = existing_file(name)
    _reject_archives(path)
    reader = _READERS.get(_suffix(path)) or _guess_reader(path)
    rows = reader(path)
    with contextlib.closing(rows()) as row_iterator:
        first = next(row_iterator, None)
    if first is None:
        raise DataError(f"{path} has no rows.")
    columns = tuple(first[1])
    has_commas = reader is _tsv or (reader is _csv and _detect_delimiter(_read_head(path)) != ",")
    return Table(str(path), columns, path.absolute().parent, rows, lambda: fingerprint([path]), None, has_commas)


def is_builtin_table(name: str) -> bool:
    """Return whether `name` is a built-in table, with or without its split, and not a built-in text."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).partition(":")[0] in TABLES


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


def _suffix(path: Path) -> str:
    inner = path.with_suffix("") if is_compressed(path) else path
    return inner.suffix.lower()


def _guess_reader(path: Path) -> Callable[[Path], Callable[[], NumberedRows]]:
    """Return the reader for a file with an unknown suffix, by its first line."""
    head = _read_head(path).lstrip("\ufeff")
    first_line = head.split("\n", 1)[0]
    if first_line.lstrip().startswith("{"):
        return _json_lines
    if re.match(r"\s*\[\s*\{", head) or (first_line.lstrip().startswith("[") and _suffix(path) == ".json"):
        return _json_array
    return _tsv if "\t" in first_line else _csv


def _read_head(path: Path) -> str:
    """Return the first 64 KiB of a file, decompressed."""
    with _ReadErrors(path), open_bytes(path) as file:
        return file.read(_HEAD_BYTES).decode("utf-8", "replace")


class _ReadErrors:
    """Turns exceptions while a table is read into `DataError` or `StorageError`, with the line if it is known."""

    def __init__(self, path: Path) -> None:
        self.path, self.line = path, 0
        self.reader: Any = None

    def __enter__(self) -> _ReadErrors:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        line = self.reader.line_num if self.reader is not None else self.line + 1
        location = f"{self.path}, line {line:,}" if line else str(self.path)
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{encoding_error(self.path)}.") from error
        if isinstance(error, csv.Error):
            raise DataError(f"{location}: {error}.") from error
        is_bz2_error = isinstance(error, OSError) and error.errno is None
        if isinstance(error, DECOMPRESSION_ERRORS) or is_bz2_error:
            raise DataError(f"{self.path} is damaged or not what its ending says: {error}.") from error
        if isinstance(error, OSError):
            raise storage_error(error, self.path, "read") from error


def _reject_archives(path: Path) -> None:
    """Raise `DataError` for an Excel workbook, which is a zip archive, and for such an archive that is not named `.zip`."""
    with _ReadErrors(path), open(path, "rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    if is_zip and path.suffix.lower() in (".xlsx", ".xlsm"):
        raise DataError(f"{path} is an Excel workbook: save its sheet as CSV (UTF-8), and name that file.")
    if is_zip and not is_compressed(path):
        raise DataError(f"{path} is a zip archive: name it {path.name}.zip, or unzip it.")


def _csv(path: Path) -> Callable[[], NumberedRows]:
    """Commas, semicolons, tabs or pipes; quotes as spreadsheets write them."""
    delimiter = _detect_delimiter(_read_head(path))
    return lambda: _delimited_rows(path, delimiter, csv.QUOTE_MINIMAL)


def _detect_delimiter(head: str) -> str:
    """Return the delimiter that a `sep=X` line names, else the one that gives all first rows the same number of cells.

    If several do, or none, it is the one that the header has most.
    """
    lines = head.lstrip("\ufeff").split("\n", MAX_SNIFFED_LINES + 1)[: MAX_SNIFFED_LINES + 1]
    first = lines[0].rstrip("\r")
    if (named := SEPARATOR_LINE.fullmatch(first.strip('"'))) is not None and named[1]:
        return named[1]

    def has_equal_rows(delimiter: str) -> bool:
        try:
            rows = [row for row in csv.reader([f"{line}\n" for line in lines], delimiter=delimiter) if row]
        except csv.Error:
            return False
        complete = rows[:-1] if len(rows) > 2 else rows  # the last one may be cut
        return len(complete[0]) > 1 and len({len(row) for row in complete}) == 1 if complete else False

    csv.field_size_limit(MAX_CHARS)
    return max([delimiter for delimiter in ",;\t|" if has_equal_rows(delimiter)] or ",;\t", key=first.count)


def _tsv(path: Path) -> Callable[[], NumberedRows]:
    """Tabs; a quotation mark is a normal character, since a text may begin with one."""
    return lambda: _delimited_rows(path, "\t", csv.QUOTE_NONE)


def _delimited_rows(path: Path, delimiter: str, quoting: int) -> NumberedRows:
    csv.field_size_limit(MAX_CHARS)  # the default refuses texts of 131,072 characters
    # Lines end at \n or \r\n only: a text may contain the other line ends of Unicode, or a single \r.
    with _ReadErrors(path) as errors, io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as lines:
        strict = quoting == csv.QUOTE_MINIMAL
        bounded_lines = iter(functools.partial(lines.readline, MAX_CHARS + 2), "")
        reader = csv.reader(bounded_lines, delimiter=delimiter, quoting=quoting, strict=strict)  # type: ignore[arg-type]  # an int is accepted
        errors.reader = reader
        header = next(reader, None)
        if header and SEPARATOR_LINE.fullmatch("".join(header)) is not None:
            header = next(reader, None)
        if not header:
            raise DataError(f"{path} is empty: a header with the names of the columns is expected, then one row per line.")
        header = _name_columns(header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num:,}: {_plural(len(cells), 'cell')}, and the header has "
                    f"{_plural(len(header), 'column')} ({', '.join(header[:MAX_LISTED_COLUMNS])})."
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))


def _name_columns(header: list[str]) -> list[str]:
    """Return a header in which every name is another: of columns of one name, each has its number, from 1, in brackets.

    A column without a name is `Unnamed: N`, as in pandas, N from 0.
    """
    names = [name if name.strip() else f"Unnamed: {position}" for position, name in enumerate(header)]
    counts = Counter(names)
    return [f"{name} (column {number})" if counts[name] > 1 else name for number, name in enumerate(names, 1)]


def _json_lines(path: Path) -> Callable[[], NumberedRows]:
    return lambda: _with_all_columns(_json_rows(path))


def _json_array(path: Path) -> Callable[[], NumberedRows]:
    return lambda: _with_all_columns(_json_array_rows(path))


def _json_array_rows(path: Path) -> NumberedRows:
    with _ReadErrors(path), open_bytes(path) as file:
        data = file.read(MAX_JSON_ARRAY_BYTES + 1)
        if len(data) > MAX_JSON_ARRAY_BYTES:
            raise DataError(f"{path} is a large JSON array; write one object per line: jq -c '.[]' FILE > FILE.jsonl")
        text = data.decode("utf-8-sig")
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise DataError(f"{path} is not valid JSON: {reason}.") from error
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, element {number:,}: an object with the columns as keys is expected.")
        yield number, row


def _with_all_columns(rows: NumberedRows) -> NumberedRows:
    """Yield rows with all the keys that any of the first `MAX_HEADER_ROWS` has, in the order in which they are met."""
    with contextlib.closing(rows):
        first_rows: list[tuple[int, Row]] = []
        size = 0
        for numbered_row in itertools.islice(rows, MAX_HEADER_ROWS):
            first_rows.append(numbered_row)
            size += sum(len(value) if isinstance(value, str | list) else 1 for value in numbered_row[1].values())
            if size > MAX_CHARS:  # all of them are in memory at once
                break
        empty_row: Row = dict.fromkeys(column for _, row in first_rows for column in row)
        for line, row in itertools.chain(first_rows, rows):
            yield line, empty_row | row


def _json_rows(path: Path) -> NumberedRows:
    with _ReadErrors(path) as errors, io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="\n") as lines:
        for line, text in enumerate(iter(functools.partial(lines.readline, MAX_CHARS + 1), ""), 1):
            errors.line = line
            if len(text) > MAX_CHARS:
                raise DataError(f"{path}, line {line:,}: the row has more than {MAX_CHARS:,} characters, which is too many.")
            if not text.strip():
                continue
            yield line, _parse_json_row(path, line, text)


def _parse_json_row(path: Path, line: int, text: str) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise DataError(f"{path}, line {line:,} is not valid JSON: {reason}.") from error
    if not isinstance(row, dict):
        problem = f"an object with the columns as keys is expected, and it is {text.strip()[:40]}"
        raise DataError(f"{path}, line {line:,}: {problem}.")
    return row


def _parquet(path: Path) -> Callable[[], NumberedRows]:
    return lambda: _parquet_rows(path)


def _parquet_rows(path: Path) -> NumberedRows:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path} needs a package that reads Parquet: pip install 'unrolled[data]'") from error
    try:
        file = parquet.ParquetFile(path)
        batches = file.iter_batches(batch_size=1024)
        yield from enumerate(itertools.chain.from_iterable(batch.to_pylist() for batch in batches), 1)
    except Exception as error:  # pyarrow may raise any exception for a damaged file
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path} is not a valid Parquet file: {reason}") from error


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_READERS = {".csv": _csv, ".tsv": _tsv, ".tab": _tsv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}

TABLE_SUFFIXES = tuple(_READERS)
"""Suffixes of files that are tables."""
