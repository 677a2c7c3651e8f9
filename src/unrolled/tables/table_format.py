"""What all readers of table files share: numbered rows, how a file is read, limits, and errors with their line."""

from __future__ import annotations

import csv
import datetime
import functools
import io
import math
import os
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unrolled.datasets.tables import Row
from unrolled.errors import DataError, UsageError
from unrolled.tables.other_formats import describe_no_table
from unrolled.text.archives import contents
from unrolled.text.compressed_files import DECOMPRESSION_ERRORS, inner_suffix, open_bytes, read_error
from unrolled.text.encodings import (
    EncodingError,
    conversion_hint,
    display_name,
    encoding_error,
    file_encoding,
    marked_encoding_error,
)
from unrolled.text.file_signatures import marked_encoding

NumberedRows = Generator[tuple[int, Row], None, None]
"""Rows with their line numbers. Close the generator if it is not read to the end."""

TABLE_SUFFIXES = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet",
    ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow",
    ".xlsx": "spreadsheet", ".xlsm": "spreadsheet", ".xlsb": "spreadsheet", ".xls": "spreadsheet", ".ods": "spreadsheet",
    ".arff": "arff", ".conll": "conll", ".conllu": "conll", ".conllup": "conll",
}  # fmt: skip
"""The formats of files by their suffix; files with another one are recognized by their first lines (`table_files`)."""

BINARY_KINDS = ("parquet", "arrow", "spreadsheet")
"""The formats of files that are no text."""

HEAD_BYTES = 1 << 16
MAX_HEADER_ROWS = 1000
"""Rows of a file whose keys are its columns, if it has no header."""

MAX_CHARS = 1 << 23
"""Maximum characters of a cell, and of a row of JSON: a file with more is no table, or an attack on memory."""

MAX_WHOLE_BYTES = 1 << 30
"""Bytes of a file that is held in memory as a whole."""

FIRST_ROW, NO_HEADER = "first", "none"
"""Values of `--header`: the first row has the names of the columns; or it is data, and columns are named 0, 1, 2 ..."""


def table_suffix(path: Path) -> str:
    """Return the suffix of a file without that of its compression; of an archive, that of the file in it."""
    suffix = inner_suffix(path)
    if path.suffix.lower() == ".zip" and suffix not in TABLE_SUFFIXES and path.is_file():
        return next((inner_suffix(Path(name)) for name in contents(path)), suffix)
    return suffix


def split_sheet(name: str) -> tuple[str, str]:
    """Return the file and the sheet that `FILE:SHEET` names, no sheet of any other name or of a file that has this very name.

    Example:
        >>> split_sheet("sales.xlsx:March"), split_sheet("sales.xlsx"), split_sheet("notes.txt:5")
        (('sales.xlsx', 'March'), ('sales.xlsx', ''), ('notes.txt:5', ''))
    """
    file, _, sheet = name.rpartition(":")
    return (
        (file, sheet)
        if sheet and TABLE_SUFFIXES.get(table_suffix(Path(file))) == "spreadsheet" and not os.path.exists(name)
        else (name, "")
    )


def suffix_kind(path: Path) -> str | None:
    """Return the format that the suffix of a file tells, a value of `TABLE_SUFFIXES`, or None."""
    return TABLE_SUFFIXES.get(table_suffix(Path(split_sheet(str(path))[0])))


def has_table_suffix(name: str) -> bool:
    """Return whether the suffix of a file, which may be compressed, is that of a table.

    Example:
        >>> has_table_suffix("words.csv.gz"), has_table_suffix("words.txt")
        (True, False)
    """
    return suffix_kind(Path(name)) is not None


def plain_value(value: Any) -> Any:
    """Return a cell as a JSON value; what other libraries have for a missing value is None, and dates and decimals are texts,
    and durations are seconds.

    Example:
        >>> plain_value([datetime.date(2024, 3, 31), np.float32(0.5), math.nan])
        ['2024-03-31', 0.5, None]
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, list | tuple):
        return [plain_value(element) for element in value]
    if isinstance(value, Mapping):
        return {str(key): plain_value(element) for key, element in value.items()}
    return value if isinstance(value, str | int | float | bool) else str(value)


def path_of_table(table: Any) -> str:
    """Return the name of a table file as a string. Raises `UsageError` for what is no name."""
    if not isinstance(table, str | os.PathLike):
        raise UsageError(
            f"A table is expected, and a {type(table).__name__} is given: name a file, or give a frame, a dictionary of "
            "columns, a list of dictionaries or tuples, or an array of rows."
        )
    path: str = os.fspath(table)
    return path


@dataclass(frozen=True)
class TableFormat:
    """How a file is read, where its content does not say it.

    `header` is `first`, `none` or the names of the columns, separated by commas; if it is None, `default_header` is used
    for files of which the header is not known otherwise (CSV, TSV, CoNLL). `encoding` is that of a file that is not UTF-8.
    `sheet` is the one of a spreadsheet that is read, the first one if it is empty. Without `cell_files`, cells may not name
    files, as WAV files and images are named.
    """

    header: str | None = None
    encoding: str | None = None
    default_header: str = FIRST_ROW
    cell_files: bool = True
    sheet: str = ""

    @property
    def known_header(self) -> str:
        """The header that is given, else the default one."""
        return self.header or self.default_header


def header_names(header: str) -> list[str] | None:
    """Return the names that a header lists; None for `first` and `none`. Raises `UsageError` if a name occurs twice."""
    if header in (FIRST_ROW, NO_HEADER):
        return None
    names = [name.strip() for name in next(csv.reader([header]))]
    if len(set(names)) < len(names) or not all(names):
        raise UsageError(f"--header {header}: a different name is expected for each column, as in --header text,label.")
    return names


@dataclass(frozen=True)
class Source:
    """A file and its encoding."""

    path: Path
    encoding: str

    @staticmethod
    def open(path: Path, encoding: str | None) -> Source:
        """Return a file with the encoding to read it with (see `file_encoding`). Raises `EncodingError` for NUL bytes."""
        with ReadErrors(path):
            source = Source(path, file_encoding(path, encoding))
            with open_bytes(path) as file:
                head = file.read(HEAD_BYTES)
        if source.encoding == "utf-8-sig" and b"\0" in head and marked_encoding(head) is None:
            line = head.count(b"\n", 0, head.index(b"\0")) + 1
            hint = conversion_hint(path, head, has_nul=True)
            raise EncodingError(
                f"{display_name(path)}, line {line:,}: there is a NUL byte, so it is no table in UTF-8. {hint}."
            )
        if encoding is None and (error := marked_encoding_error(path, head)) is not None:
            raise error
        if (found := describe_no_table(path.name, head.decode(source.encoding, "replace"))) is not None:
            raise DataError(f"{display_name(path)} is {found}.")
        return source

    def head(self) -> str:
        """Return the first 64 KiB of the file, decompressed and decoded."""
        with ReadErrors(self.path), open_bytes(self.path) as file:
            return file.read(HEAD_BYTES).decode(self.encoding, "replace")

    def lines(self, newline: Literal["", "\n"] = "\n") -> Iterator[str]:
        """Yield the lines of the file with their ends; one of more than `MAX_CHARS` characters is divided.

        Lines end at \\n, or with `newline=""` at \\r and \\r\\n too; not at other line ends of Unicode, which a text may have.
        """
        with io.TextIOWrapper(open_bytes(self.path), encoding=self.encoding, newline=newline) as file:
            yield from iter(functools.partial(file.readline, MAX_CHARS + 2), "")


def whole_file(path: Path, kind: str) -> io.BytesIO:
    """Return the content of a file, decompressed, for readers that begin at its end. Raises `DataError` if it is too large."""
    with ReadErrors(path), open_bytes(path) as file:
        content = file.read(MAX_WHOLE_BYTES + 1)
    if len(content) > MAX_WHOLE_BYTES:
        raise DataError(f"{path} holds more than {MAX_WHOLE_BYTES >> 20:,} MB of {kind}: write it as CSV, and name that file.")
    return io.BytesIO(content)


class ReadErrors:
    """Turns exceptions while a table is read into `DataError` or `StorageError`, with the line if it is known."""

    def __init__(self, path: Path, encoding: str = "utf-8") -> None:
        self.path, self.encoding, self.line = path, encoding, 0
        self.row_end = 0
        self.reader: Any = None

    def __enter__(self) -> ReadErrors:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        line = self.reader.line_num if self.reader is not None else self.line + 1
        location = f"{self.path}, line {line:,}" if line else str(self.path)
        if isinstance(error, UnicodeError):
            raise DataError(f"{encoding_error(self.path, self.encoding)}.") from error
        if isinstance(error, csv.Error) and str(error) == "unexpected end of data":
            raise DataError(
                f"{self.path}: a quotation mark after line {max(1, self.row_end):,} opens a cell that is never closed; one "
                "that is part of a cell is written twice, and the cell in quotes."
            ) from error
        if isinstance(error, csv.Error):
            raise DataError(f"{location}: {error}.") from error
        if isinstance(error, (OSError, *DECOMPRESSION_ERRORS)):
            raise read_error(error, self.path) from error
