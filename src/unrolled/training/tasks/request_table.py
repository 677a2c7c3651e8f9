"""The table that a training request names: opened, its columns, as a base model reads them too, and cells of its rows."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.display import shell_argument
from unrolled.errors import DataError, UsageError
from unrolled.options import TrainRequest
from unrolled.tables.base_text import TOKENS, BaseText
from unrolled.tables.cell_values import Cell
from unrolled.tables.column import MAX_FITTED_ROWS
from unrolled.tables.series_spec import group_table
from unrolled.tables.source_columns import split_source
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import infer_spec, split_kind
from unrolled.tables.table_files import Table, open_table, open_with_columns
from unrolled.tables.table_format import TableFormat
from unrolled.tables.text_column import TextColumn
from unrolled.training.fine_tuning import adopt_encoder, require_common_tokens
from unrolled.training.grown_model import grow_tokenizer, log_growth

logger = logging.getLogger(__name__)

MIN_KNOWN_SHARE = 0.9
"""Share of the characters of a text that a base must know to help to label it."""


def open_request_table(request: TrainRequest) -> Table:
    """Open the table of a request, as it is in the file."""
    if len(request.inputs) != 1:
        both = " ".join(map(shell_argument, request.inputs))
        paired = f"; if their lines belong together: paste {both} > both.tsv" if len(request.inputs) == 2 else ""
        parts = "tables with the same columns are one if they are in one folder"
        raise UsageError(
            f"One table is expected with --source and --target; got {len(request.inputs)} inputs: {parts}{paired}."
        )
    options = request.table
    sources = split_source(options.source) if options.source else []
    named = [*sources, *([options.target] if options.target else [])]
    columns = tuple(split_kind(name)[0] for name in named)
    format = TableFormat(options.header, request.data.encoding, cell_files=options.cell_files)
    return open_with_columns(request.inputs[0], columns, format)


def open_validation_table(request: TrainRequest, spec: TableSpec) -> Table:
    """Open the table that a request validates on, and group its steps as those of the training table."""
    format = spec.table_format(None, request.data.encoding, request.table.cell_files)
    return group_table(open_table(str(request.table.validation), "test", format), spec)


def resolve_columns(request: TrainRequest, table: Table) -> tuple[str, str]:
    """Return the source and target column of a request, or those of a built-in table. A forecast has one column."""
    builtin = table.builtin
    source = request.table.source or (builtin.source if builtin else None)
    target = request.table.target or (builtin.target if builtin else source if request.series.horizon else None)
    if source is None or target is None:
        missing = "--source" if source is None else "--target"
        columns = ", ".join(table.columns)
        raise UsageError(f"A table needs both --source and --target; {missing} is missing. Columns: {columns}.")
    return source, target


def choose_columns(
    request: TrainRequest, table: Table, source: str, target: str, known: TableSpec | None, base: TextModelFile | None
) -> tuple[TableSpec, str]:
    """Return the columns and their kinds, inferred unless they are `known`, with the base that reads them, and a message.

    Raises:
        UsageError: A setting does not go with the base, or the base does not read such columns.
        DataError: The base knows no character of the text, or too few.
    """
    spec, message = _infer(request, table, source, target, known)
    if base is None:
        return spec, message
    if spec.labels_one_text:
        _add_reader(spec, table, request, base)
        return spec, message
    request = adopt_encoder(request, base)
    spec, message = _infer(request, table, source, target, known)
    return _read_as_base(spec, source, table, request, base), message


def _infer(request: TrainRequest, table: Table, source: str, target: str, known: TableSpec | None) -> tuple[TableSpec, str]:
    if known is not None:
        return known, f"{known.source.describe()} -> {known.target.describe()}: {known.mode_text}"
    tokens = request.data.tokens if "tokens" in request.explicit else None
    return infer_spec(table, source, target, tokens, request.data.normalize)


def _add_reader(spec: TableSpec, table: Table, request: TrainRequest, base: TextModelFile) -> None:
    """Let a base model read the text too, whose label is to be predicted.

    Raises:
        UsageError: It has other tokens than characters, or a setting is given that has no effect then.
        DataError: It does not know the script of the text.
    """
    name, column, kind = request.training.init_from, spec.source, base.tokenizer.kind
    if kind not in TOKENS:
        raise UsageError(f"--from {name} has {kind}, and a text to label is read in {' or '.join(TOKENS)}: name another model.")
    if request.training.shrink_vocabulary:
        raise UsageError(f"--shrink-vocabulary has no effect where {name} helps to label a text: leave it out.")
    if not request.pair.ngrams:
        raise UsageError(f"--from {name} is read by the classifier that --no-ngrams leaves out: leave out one of both.")
    reader = BaseText(base.tokenizer, base.model.options)
    cells = (cell for _, (cell, target) in spec.iter_cells(table) if not spec.has_missing(cell, target))
    share = reader.known_share(map(column.read_text, itertools.islice(cells, MAX_FITTED_ROWS)))
    if share < MIN_KNOWN_SHARE:
        raise DataError(
            f"{name} knows {share:.0%} of the characters of '{column.name}', so it cannot read it: leave --from out, or name a "
            "model of this script."
        )
    column.base = reader
    logger.info(f"{name} reads '{column.name}' too, and its states are features of the linear classifier")


def _read_as_base(spec: TableSpec, source: str, table: Table, request: TrainRequest, base: TextModelFile) -> TableSpec:
    """Return the columns of a table with the text as a base model reads it: its tokens, and the characters that are new.

    `source` is the column as it was named, NAME or NAME:KIND.
    """
    name, column, kind = request.training.init_from, spec.source, base.tokenizer.kind
    if not isinstance(column, TextColumn) or spec.others:
        raise UsageError(f"--from {name} reads one text, and the source is {spec.columns_text}: leave it out.")
    if split_kind(source)[1] not in (None, "text", kind):
        raise UsageError(f"--from {name} has {kind}, and the source is {column.describe()}: name it {column.name}:{kind}.")
    if spec.mode.output == "aligned":
        raise UsageError(f"--from {name} is for a target of the whole text, and '{spec.target.name}' has one for every step.")
    cells = (cell for _, (cell, target) in spec.iter_cells(table) if not spec.has_missing(cell, target))
    text = TextColumn.fit(column.name, cells, {"tokens": kind, "normalize": request.data.normalize})
    require_common_tokens(name, base.tokenizer, text.tokenizer)
    grown = TextColumn(column.name, grow_tokenizer(base.tokenizer, text.tokenizer, request.training.shrink_vocabulary))
    grown.normalization, grown.missing_names = text.normalization, column.missing_names
    log_growth(request, base.tokenizer, grown.tokenizer)
    logger.info(f"'{column.name}' is read from {name} on: {grown.describe()}")
    return replace(spec, source=grown)


def cells_of(table: Table, spec: TableSpec, rows: Sequence[int]) -> list[tuple[Cell, Cell]]:
    """Return the source and target cells of the rows at these places among all rows of a table, in the order of `rows`."""
    wanted, found = set(rows), dict[int, tuple[Cell, Cell]]()
    if not wanted:
        return []
    for place, (_, (source, target)) in enumerate(spec.iter_cells(table)):
        if place in wanted:
            found[place] = (source, target)
            if len(found) == len(wanted):
                break
    return [found[place] for place in rows]
