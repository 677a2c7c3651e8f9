"""Rows of a table, streamed: CSV, TSV, JSON lines, Parquet, or a table that is built in. Nothing here holds more than a row.

A CSV file may use commas, semicolons or tabs; a TSV file has no quotes; both begin with a header, and any of them may be
compressed. A row knows its line, so that whoever finds a fault in it can say where.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import storage_error
from unrolled.datasets.stdlib import PREFIX
from unrolled.datasets.tables import TABLES, BuiltinTable
from unrolled.errors import DataError, UsageError, nearest
from unrolled.text.text_files import DAMAGED, existing_file, fingerprint, open_bytes

Row = dict[str, Any]
"""Cells by column: text from CSV and TSV, any JSON value or array from the others."""

Numbered = Generator[tuple[int, Row], None, None]
"""Rows with their lines; closed by whoever does not read them to the end."""

PARTS = ("train", "test")
"""What a built-in table has: `builtin:NAME` is the first while training and the second everywhere else."""

_PACKED = (".gz", ".bz2", ".xz", ".zst")
_HEAD = 1 << 16

MOST_NAMED = 100
LONGEST = 1 << 23
"""Characters of a cell, and of a row of JSON; beyond that a file is made to harm, or no table."""


@dataclass(frozen=True)
class Table:
    """A table that can be read as often as need be. `rows` yields `(line, row)`; paths in cells are relative to `folder`."""

    name: str
    columns: tuple[str, ...]
    folder: Path
    rows: Callable[[], Numbered]
    digest: Callable[[], str]
    builtin: BuiltinTable | None = None

    def require(self, column: str) -> None:
        """Raise `UsageError` if there is no such column."""
        if column not in self.columns:
            few = self.columns[:MOST_NAMED]
            more = f" and {len(self.columns) - len(few):,} more" if len(self.columns) > len(few) else ""
            near = nearest(column, few) or "."
            raise UsageError(f"{self.name} has no column '{column}'{near} Its columns: {', '.join(few)}{more}.")


def open_table(name: str, part: str = "train") -> Table:
    """Open a table by its path, or `builtin:NAME`, of which `part` is read unless it is named: `builtin:NAME:test`.

    Raises `DataError` for one that is empty, has no header, or names a column twice.
    """
    if name.startswith(PREFIX):
        return _builtin(name, part)
    if name == "-":
        raise UsageError("A table is read more than once, and standard input only once: write it into a file first.")
    path = existing_file(name)
    reader = _READERS.get(_ending(path)) or _guessed(path)
    rows = reader(path)
    with contextlib.closing(rows()) as opened:
        first = next(opened, None)
    if first is None:
        raise DataError(f"{path} has no rows.")
    columns = tuple(first[1])
    return Table(str(path), columns, path.absolute().parent, rows, lambda: fingerprint([path]))


def is_builtin_table(name: str) -> bool:
    """Return whether `name` is a built-in table, perhaps with its part, and no built-in text."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).partition(":")[0] in TABLES


def _builtin(name: str, part: str) -> Table:
    short, _, named = name.removeprefix(PREFIX).partition(":")
    part = named or part
    if short not in TABLES or part not in PARTS:
        near = nearest(short, TABLES) or "."
        raise DataError(
            f"There is no built-in table '{name}'{near} There are: {', '.join(TABLES)}; each has the parts {', '.join(PARTS)}."
        )
    table = TABLES[short]

    def rows() -> Numbered:
        yield from enumerate(table.rows(part), 1)

    def digest() -> str:
        total = hashlib.blake2b(digest_size=20)
        for _, row in rows():
            for cell in row.values():
                total.update(cell.tobytes() if isinstance(cell, np.ndarray) else repr(cell).encode())
        return total.hexdigest()

    return Table(f"{PREFIX}{short}:{part}", table.columns, Path(), rows, digest, table)


def _ending(path: Path) -> str:
    name = path.with_suffix("") if path.suffix.lower() in _PACKED else path
    return name.suffix.lower()


def _guessed(path: Path) -> Callable[[Path], Callable[[], Numbered]]:
    """Return the reader for a file whose ending says nothing, by its first line."""
    first = _head(path).lstrip("\ufeff").split("\n", 1)[0]
    if first.lstrip().startswith("{"):
        return _json_lines
    return _tsv if "\t" in first else _csv


def _head(path: Path) -> str:
    """Return the first line or so of a file."""
    with _faults(path), open_bytes(path) as file:
        return file.read(_HEAD).decode("utf-8", "replace")


class _faults:
    """Turns what can go wrong while a table is read into one sentence with the line, as far as it is known."""

    def __init__(self, path: Path) -> None:
        self.path, self.line = path, 0
        self.reader: Any = None

    def __enter__(self) -> _faults:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        line = self.reader.line_num if self.reader is not None else self.line + 1
        where = f"{self.path}, line {line:,}" if line else str(self.path)
        if isinstance(error, UnicodeDecodeError):
            raise DataError(f"{where}, or soon after it, is not UTF-8. Convert the file: iconv -t UTF-8") from error
        if isinstance(error, csv.Error):
            raise DataError(f"{where}: {error}.") from error
        if isinstance(error, DAMAGED):
            raise DataError(f"{self.path} is damaged or not what its ending says: {error}.") from error
        if isinstance(error, OSError) and error.errno is None:  # of bz2
            raise DataError(f"{self.path} is damaged or not what its ending says: {error}.") from error
        if isinstance(error, OSError):
            raise storage_error(error, self.path, "read") from error


def _csv(path: Path) -> Callable[[], Numbered]:
    """Commas, semicolons or tabs, whichever the header has most of; quotes as spreadsheets write them."""
    header = _head(path).split("\n", 1)[0]
    delimiter = max(",;\t", key=header.count)
    return lambda: _separated(path, delimiter, csv.QUOTE_MINIMAL)


def _tsv(path: Path) -> Callable[[], Numbered]:
    """Tabs; a quotation mark is one, since a text may well begin with it."""
    return lambda: _separated(path, "\t", csv.QUOTE_NONE)


def _separated(path: Path, delimiter: str, quoting: int) -> Numbered:
    csv.field_size_limit(LONGEST)  # a cell may be a long text; the default refuses one of 131,072 characters
    # Lines end at \n or \r\n only: a text may hold other line ends of Unicode, or a lone \r.
    with _faults(path) as faults, io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="") as lines:
        strict = quoting == csv.QUOTE_MINIMAL
        pieces = iter(functools.partial(lines.readline, LONGEST + 2), "")
        reader = csv.reader(pieces, delimiter=delimiter, quoting=quoting, strict=strict)  # type: ignore[arg-type]  # int is one
        faults.reader = reader
        header = next(reader, None)
        if not header:
            raise DataError(f"{path} is empty: a header with the columns' names is expected, then a row a line.")
        _refuse_twins(path, header)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num:,}: {_count(len(cells), 'cell')}, and the header has "
                    f"{_count(len(header), 'column')} ({', '.join(header[:MOST_NAMED])})."
                )
            yield reader.line_num, dict(zip(header, cells, strict=True))


def _refuse_twins(path: Path, header: list[str]) -> None:
    met: set[str] = set()
    for column in header:
        if column in met:
            raise DataError(f"{path} has two columns named '{column}': rename one of them.")
        met.add(column)


def _json_lines(path: Path) -> Callable[[], Numbered]:
    return lambda: _objects(path)


def _objects(path: Path) -> Numbered:
    with _faults(path) as faults, io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="\n") as lines:
        first: Row | None = None
        for line, text in enumerate(iter(functools.partial(lines.readline, LONGEST + 1), ""), 1):
            faults.line = line
            if len(text) > LONGEST:
                raise DataError(f"{path}, line {line:,}: a row of more than {LONGEST:,} characters is not read.")
            if not text.strip():
                continue
            row = _object(path, line, text)
            first = first or row
            for column in first:
                row.setdefault(column, None)
            yield line, row


def _object(path: Path, line: int, text: str) -> Row:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, ValueError) else "nested too deeply"
        raise DataError(f"{path}, line {line:,} is no JSON: {reason}.") from error
    if not isinstance(row, dict):
        told = f"an object with the columns as keys is expected, and it is {text.strip()[:40]}"
        raise DataError(f"{path}, line {line:,}: {told}.")
    return row


def _parquet(path: Path) -> Callable[[], Numbered]:
    return lambda: _parquet_rows(path)


def _parquet_rows(path: Path) -> Numbered:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f"{path} needs a package that reads Parquet: pip install 'unrolled[data]'") from error
    try:
        file = parquet.ParquetFile(path)
        batches = file.iter_batches(batch_size=1024)
        yield from enumerate(itertools.chain.from_iterable(batch.to_pylist() for batch in batches), 1)
    except Exception as error:  # a damaged file may raise anything in pyarrow
        raise DataError(f"{path} is no sound Parquet file: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_READERS = {".csv": _csv, ".tsv": _tsv, ".tab": _tsv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}

TABLE_ENDINGS = tuple(_READERS)
"""Files that are tables by their name."""
