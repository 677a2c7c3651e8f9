"""What a run was asked to do and the text that it read, from its `config.json`; without torch."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

from unrolled.checkpoints.run_dir import Run
from unrolled.datasets.tables import is_builtin_table
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.options import TrainRequest
from unrolled.tables.column_text import open_column
from unrolled.tables.table_format import TableFormat
from unrolled.text.corpus import Corpus, cached_corpus, open_corpus
from unrolled.text.line_format import LineFormat, old_masks
from unrolled.text.recoding import recode
from unrolled.text.tokenizers import tokenizer_from_json

logger = logging.getLogger(__name__)


def load_request(run: Run) -> tuple[TrainRequest, dict[str, Any]]:
    """Return the request of a run, and the content hash and cache key of its data."""
    config = run.config
    try:
        inputs, options = tuple(config["inputs"]), dict(config["options"])
        if config.get("format", 1) < 3:  # its data were read and split by the rules of that time
            is_table = options.get("source") is not None or any(map(is_builtin_table, inputs))
            options |= {"test_fraction": 0.0, "split_by": "row" if is_table else "order", "normalize": "none"}
        if config.get("format", 1) < 4 and options.get("mask"):
            options["mask"] = old_masks(options["mask"])
        request = TrainRequest.build(inputs, options, str(run.path / "config.json"))
        request = dataclasses.replace(request, explicit=frozenset(map(str, config.get("explicit_options", []))))
        vocabulary = {"vocabulary": config["vocabulary"]} if "vocabulary" in config else {}
        return request, {"cache_key": str(config["cache_key"]), "content_hash": str(config["content_hash"]), **vocabulary}
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise ModelError(f"{run.path / 'config.json'} is not that of a run this version can use: {error}.") from error


def open_text(request: TrainRequest) -> Corpus:
    """Return the text of a request, encoded: of its files, or of a column of tables."""
    if request.table.source is None:
        line_format = LineFormat.parse(request.data.mask, request.series.group_by)
        corpus = open_corpus(request.inputs, request.data, line_format=line_format)
        corpus.tokenizer.line_format = line_format
        return corpus
    format = TableFormat(request.table.header, request.data.encoding)
    return open_column(request.inputs, request.table.source, format, request.data)


def reopen_corpus(request: TrainRequest, origin: dict[str, Any]) -> Corpus:
    """Return the text a run was trained on: read again, or from the cache if the files are gone."""
    key = str(origin["cache_key"])
    try:
        corpus = None if "-" in request.inputs else open_text(request)
        if corpus is not None and "vocabulary" in origin:  # the vocabulary of a base model, with the tokens that the text added
            corpus = recode(corpus, tokenizer_from_json(origin["vocabulary"]))
    except DataError as error:
        corpus = cached_corpus(key)
        if corpus is None:
            raise DataError(
                f"The text of this run is gone, and its encoded copy is no longer in the cache: {error} Put it back; eval, "
                "score and explain also take another text: unrolled eval RUN FILE."
            ) from error
        logger.warning(f"{error} The copy that was encoded for this run is used.")
    if corpus is None:
        corpus = cached_corpus(key)
    if corpus is None:
        raise DataError("The text of this run came from standard input, and its encoded copy is no longer in the cache.")
    if corpus.content_hash != str(origin["content_hash"]):
        raise DataError(f"The text of this run has changed since: {', '.join(request.inputs)}. Start a new run with it.")
    if request.table.source is None:
        corpus.tokenizer.line_format = LineFormat.parse(request.data.mask, request.series.group_by)
    return corpus
