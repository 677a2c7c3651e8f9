"""One column of a table as a text to learn from: each cell is a document, line ends included."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from unrolled.display import agree
from unrolled.errors import DataError, UsageError
from unrolled.options import DataOptions
from unrolled.tables.cell_values import is_empty, parse_text
from unrolled.tables.row_tally import UnreadableRows
from unrolled.tables.spec_inference import parse_column, split_kind
from unrolled.tables.table_files import Table, open_table_or_lines
from unrolled.tables.table_format import TableFormat
from unrolled.text.corpus import Corpus, cache_folder, open_corpus
from unrolled.text.document_files import write_documents
from unrolled.text.tokenizer import Tokenizer
from unrolled.text.tokenizers import TOKENIZERS

logger = logging.getLogger(__name__)


def open_column(
    inputs: Sequence[str], source: str, format: TableFormat, options: DataOptions, tokenizer: Tokenizer | None = None
) -> Corpus:
    """Return the encoded text of a column (NAME or NAME:KIND) of tables, each cell a document; empty cells are left out.

    Raises the errors of `open_corpus` and of `open_table`.
    """
    column, tokens = column_tokens(source, options)
    paths = [write_column(name, column, format) for name in inputs]
    options = dataclasses.replace(options, documents="cell", encoding=None, tokens=tokens)
    return open_corpus([str(path) for path in paths], options, tokenizer)


def column_tokens(source: str, options: DataOptions) -> tuple[str, str]:
    """Return the column of `--source` and what a token is: as its KIND says, else as the options do."""
    column, kind = split_kind(source)
    is_tokens = kind is not None and kind.partition(":")[0] in TOKENIZERS
    if kind not in (None, "text") and not is_tokens:
        raise UsageError(f"--source {source}: without --target, a text is learned, of {' or '.join(TOKENIZERS)}.")
    return column, kind if kind is not None and is_tokens else options.tokens


def require_column(inputs: Sequence[str], source: str, options: DataOptions, header: str | None = None) -> None:
    """Raise `UsageError` if one of the inputs to learn from has no such column, such as a text; standard input is read once,
    later."""
    column, _ = column_tokens(source, options)
    for name in inputs if "-" not in inputs else ():
        table = open_table_or_lines(name, column, TableFormat(header, options.encoding), learning=True)
        parse_column(column, "source", None if table.is_lines else table)
        if table.is_lines:
            to_do = "leave out --source to learn it as one text; --documents line makes each line one of its own"
            raise UsageError(f"{table.name} has no column '{column}': it is a text, not a table, so {to_do}.")


def write_column(name: str, column: str, format: TableFormat) -> Path:
    """Write the cells of a column as documents to a file in the cache, and return it; a text without it has a cell a line."""
    table = open_table_or_lines(name, column, format, learning=True)
    parse_column(column, "source", None if table.is_lines else table)
    for note in table.notes:
        logger.info(note)
    return write_documents(Path(table.name).name, _texts(table, table.find_column(column)), cache_folder())


def _texts(table: Table, column: str) -> Iterator[str]:
    num_rows, num_empty, unreadable = 0, 0, UnreadableRows()
    for line, row in table.rows():
        cell = table.cell(line, row, column)
        num_rows += 1
        if is_empty(cell.value):
            num_empty += 1
            continue
        try:
            text = parse_text(cell)
        except DataError as error:
            unreadable.add(error)
            continue
        yield text
    unreadable.require_few(num_rows - num_empty)
    if num_empty:
        logger.info(f"{num_empty:,} of {num_rows:,} rows {agree(num_empty, 'are left out')}, since '{column}' is empty there")
    if note := unreadable.message(num_rows, "are left out"):
        logger.info(note)
