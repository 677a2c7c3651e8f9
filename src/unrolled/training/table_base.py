"""The columns of a table, the text as a base model reads it: from its weights on, or as it helps to label it."""

from __future__ import annotations

import itertools
import logging
from dataclasses import replace

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import DataError, UsageError
from unrolled.options import TrainRequest
from unrolled.tables.base_text import TOKENS, BaseText
from unrolled.tables.column import MAX_FITTED_ROWS
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import infer_spec, split_kind
from unrolled.tables.table_files import Table
from unrolled.tables.text_column import TextColumn
from unrolled.training.fine_tuning import adopt_encoder, require_common_tokens
from unrolled.training.grown_model import grow_tokenizer, log_growth

logger = logging.getLogger(__name__)


MIN_KNOWN_SHARE = 0.9
"""Share of the characters of a text that a base must know to help to label it."""


def choose_columns(
    request: TrainRequest, table: Table, source: str, target: str, known: TableSpec | None, base: TextModelFile | None
) -> tuple[TableSpec, str]:
    """Return the columns and their kinds, inferred unless they are `known`, with the base that reads them, and a message.

    Raises what `read_as_base` raises.
    """
    spec, message = _infer(request, table, source, target, known)
    if base is None:
        return spec, message
    if spec.labels_one_text:
        _add_reader(spec, table, request, base)
        return spec, message
    request = adopt_encoder(request, base)
    spec, message = _infer(request, table, source, target, known)
    return read_as_base(spec, source, table, request, base), message


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


def read_as_base(spec: TableSpec, source: str, table: Table, request: TrainRequest, base: TextModelFile) -> TableSpec:
    """Return the columns of a table with the text as a base model reads it: its tokens, and the characters that are new.

    `source` is the column as it was named, NAME or NAME:KIND.

    Raises:
        UsageError: The source is not one text in the tokens of the base, or the target has a label for every step.
        DataError: The base knows no character of the text.
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
