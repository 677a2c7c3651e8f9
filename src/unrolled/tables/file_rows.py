"""The rows of a table file, by its format."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unrolled.errors import UsageError
from unrolled.tables.arff_files import arff_rows
from unrolled.tables.arrow_files import arrow_rows, classes_note, columnar_kind
from unrolled.tables.conll_files import LabeledLines, conll_rows, with_labels
from unrolled.tables.delimited_files import Dialect, delimited_rows, infer_dialect, with_layout
from unrolled.tables.fasttext_files import fasttext_rows
from unrolled.tables.file_kinds import kind_of_file
from unrolled.tables.json_files import comments_note, json_array, json_columns, json_lines, rows_note
from unrolled.tables.json_lists import list_rows
from unrolled.tables.printed_tables import find_printed_table
from unrolled.tables.span_rows import find_spans, rows_with_tags
from unrolled.tables.spreadsheet_files import open_sheet
from unrolled.tables.table_format import FIRST_ROW, NumberedRows, Source, TableFormat, suffix_kind

TABLE_READERS: dict[str, Callable[[Source], NumberedRows]] = {
    "jsonl": json_lines, "json": json_array, "columns": json_columns, "parquet": arrow_rows, "arrow": arrow_rows,
    "arff": arff_rows, "fasttext": fasttext_rows,
}  # fmt: skip
"""The readers of formats in which each value has the name of its column. Others, which may have no header, are opened in
`open_rows`."""

JSON_KINDS = ("jsonl", "json", "columns")


@dataclass(frozen=True)
class FileRows:
    """A file as rows, which can be read many times; `kind` is its format, and the rest is as in `Table`."""

    kind: str
    rows: Callable[[], NumberedRows]
    header: str | None = None
    has_decimal_commas: bool = False
    notes: tuple[str, ...] = ()
    labeled: LabeledLines | None = None


def open_rows(path: Path, format: TableFormat, name: str) -> FileRows:
    """Open a file by its format. Raises `DataError` for what is no table, `UsageError` for a header where names are known."""
    if suffix_kind(path) == "spreadsheet":
        sheet = open_sheet(path, format.sheet)
        dialect, notes = with_layout(Dialect("\t", "doubled"), sheet, format.known_header == FIRST_ROW)
        return _delimited("spreadsheet", sheet, dialect, format, [sheet.note, *notes])
    columnar = columnar_kind(path)
    source = Source(path, "") if columnar else Source.open(path, format.encoding)
    kind = columnar or kind_of_file(source)
    if kind in ("csv", "tsv"):
        printed = find_printed_table(source)
        kind, source = (kind, source) if printed is None else ("tsv", printed)
        dialect, notes = infer_dialect(source, kind == "tsv", format.known_header == FIRST_ROW)
        return _delimited(kind, source, dialect, format, [printed.note if printed else "", *notes])
    if kind in ("conll", "lists"):
        reader, header = (conll_rows, None) if kind == "conll" else (list_rows, format.known_header)
        labeled = functools.partial(with_labels, source, format.known_header) if kind == "conll" else None
        plain = functools.partial(reader, source, format.known_header)
        rows, note = (plain, "") if kind == "conll" else _with_tags(plain, path)
        return FileRows(kind, rows, header, notes=(note,), labeled=labeled)
    if format.header is not None:
        raise UsageError(
            f"--header is for CSV, TSV, CoNLL and lists in JSON, and {name} is {kind}, with a name for each value."
        )
    notes = [
        classes_note(source) if columnar else "",
        rows_note(source) if kind == "columns" else "",
        comments_note(source) if kind in JSON_KINDS else "",
    ]
    with_tags, note = _with_tags(functools.partial(TABLE_READERS[kind], source), path)
    return FileRows(kind, with_tags, notes=(*notes, note))


def _with_tags(rows: Callable[[], NumberedRows], path: Path) -> tuple[Callable[[], NumberedRows], str]:
    """Return rows, with a label for each word if they have places in a text, and a sentence about these or an empty one."""
    if (column := find_spans(rows)) is None:
        return rows, ""
    return functools.partial(rows_with_tags, rows, column, path, set[str]()), column.note(path)


def _delimited(kind: str, source: Source, dialect: Dialect, format: TableFormat, notes: list[str]) -> FileRows:
    header = format.known_header
    rows = functools.partial(delimited_rows, source, dialect, header, reported=set[str]())
    return FileRows(kind, rows, header, dialect.delimiter != ",", tuple(notes))
