"""The text of a table as a base model reads it."""

from __future__ import annotations

import logging
from dataclasses import replace

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import UsageError
from unrolled.options import TrainRequest
from unrolled.tables.spec import TableSpec
from unrolled.tables.spec_inference import split_kind
from unrolled.tables.table_files import Table
from unrolled.tables.text_column import TextColumn
from unrolled.training.fine_tuning import require_common_tokens
from unrolled.training.grown_model import grow_tokenizer, log_growth

logger = logging.getLogger(__name__)


def read_as_base(spec: TableSpec, source: str, table: Table, request: TrainRequest, base: TextModelFile | None) -> TableSpec:
    """Return the columns of a table with the text as a base model reads it: its tokens, and the characters that are new.

    `source` is the column as it was named, NAME or NAME:KIND. Without a base, the columns stay as they are.

    Raises:
        UsageError: The source is not one text in the tokens of the base, or the target has a label for every step.
        DataError: The base knows no character of the text.
    """
    if base is None:
        return spec
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
