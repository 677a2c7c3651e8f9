"""What the page of a model that labels a text holds: its network, its tokens and n-grams, and its labels."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, cast

from unrolled.exchange.export_job import array_of
from unrolled.interpret.occlusion import MAX_LOG_ODDS, MAX_PARTS
from unrolled.nn.ngram_classifier import MIN_SQUARES, SCALE
from unrolled.runtime.portable import portable_layer
from unrolled.runtime.portable_arithmetic import TableMatrix
from unrolled.runtime.text_network import GATE_NAMES, cell_layer
from unrolled.tables import ngrams
from unrolled.tables.label_columns import LabelsColumn
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.text.tokenizer import CharTokenizer
from unrolled.views.portable_data import linear_layer, packed, packed_products, recurrent_layers
from unrolled.views.text_classifier_page import base_reader_data, reader_data

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.nn.stack import Stack
    from unrolled.options import ModelOptions


def reads_plain_tokens(column: TextColumn) -> bool:
    """Return whether a text is read as words or characters, which a page can find."""
    return type(column.tokenizer) in (WordTokenizer, CharTokenizer)


def unsupported_reader(model_file: TableModelFile, cells: Collection[str], subject: str) -> str | None:
    """Say what of a model's source `subject`, such as "the page", cannot read with these cells, or return None if it can."""
    source, cell = model_file.spec.source, model_file.model.options.cell
    if not isinstance(source, TextColumn) or not reads_plain_tokens(source):
        tokens = source.tokenizer.setting if source.tokenizer else ""
        return f"{subject} reads words and characters, and '{source.name}' has the tokens {tokens:.99}"
    base = source.base
    for name in (cell, *([base.options.cell] if base else [])):
        if name not in cells:
            return f"the cell {name} is not in {subject}; these are: {', '.join(cells)}"
    if base is not None and base.tokenizer.line_format.mask:
        return f"a language model reads '{source.name}' too, with --mask, and {subject} does not mask"
    return None


def page_data(model_file: TableModelFile, title: str, matrix: type[TableMatrix]) -> dict[str, Any]:
    """Return what the page holds of a model as JSON values, its matrices in a number format."""
    spec = model_file.spec
    return {
        "title": title,
        "subtitle": f"{spec.source.describe()} \u2192 {spec.target.describe()}",
        "model": model_data(model_file, matrix),
        "source": spec.source.name,
        "target": spec.target.name,
    }


def model_data(model_file: TableModelFile, matrix: type[TableMatrix]) -> dict[str, Any]:
    """Return the network, how a text is read, and the labels as JSON values."""
    model, spec = model_file.model, model_file.spec
    encoder, head = cast(Any, model.encoder), cast(Any, model.head)
    labels = list(spec.target.labels)
    known = slice(max(1, model.dims.target_size - 1))
    pool, options = encoder.pool, model.options
    has_scores = spec.labels_one_text and pool.hidden is not None
    hidden_weight, hidden_bias = (array_of(pool.hidden.weight), array_of(pool.hidden.bias)) if has_scores else (None, None)
    return {
        "labels": labels[known],
        "threshold": spec.threshold,
        "reader": reader_data(cast(TextColumn, spec.source), spec.step_limit),
        **linear_layer("embedding", array_of(encoder.input_layer.embedding.weight), matrix=matrix),
        "bothWays": [_both_ways(options, layer, matrix) for layer in encoder.layers],
        "stack": None if encoder.stack is None else _layers(options, encoder.stack, matrix),
        "normWeight": packed(array_of(encoder.norm.weight)),
        "normBias": packed(array_of(encoder.norm.bias)),
        "pool": pool.kind if spec.labels_one_text else None,
        **linear_layer("poolHidden", hidden_weight, hidden_bias, matrix),
        **linear_layer("poolScore", array_of(pool.score.weight) if has_scores else None, matrix=matrix),
        **linear_layer("head", array_of(head.weight)[known], array_of(head.bias)[known], matrix),
        "temperature": float(model.temperature),
        "ngrams": _ngram_data(model_file, known, matrix),
        "base": _base_data(model_file, known, matrix),
        "products": packed_products(),
        "separator": "" if spec.labels_each_token and cast(LabelsColumn, spec.target).split == "characters" else " ",
        "maxParts": MAX_PARTS,
        "maxLogOdds": MAX_LOG_ODDS,
    }


def _layers(options: ModelOptions, stack: Stack, matrix: type[TableMatrix]) -> dict[str, Any]:
    """Return layers, cells with the norms before them, as JSON values."""
    read = []
    for layer in stack.layer_list():
        norm = {} if layer.norm is None else {f"norm_{key}": array_of(getattr(layer.norm, key)) for key in ("weight", "bias")}
        read.append(_cell(options, layer.cell, matrix, **norm))
    return recurrent_layers(options.cell, options.hidden, read)


def _cell(options: ModelOptions, cell: Any, matrix: type[TableMatrix], **norm: Any) -> Any:
    arrays = {key: array_of(value) for key, value in cell.state_dict().items()}
    return portable_layer(options.cell, cell_layer(arrays, GATE_NAMES[options.cell], **norm), matrix, matrix)


def _both_ways(options: ModelOptions, layer: Any, matrix: type[TableMatrix]) -> dict[str, Any]:
    size = options.hidden
    cells = {"forward": (layer.forward_cell, size // 2), "backward": (layer.backward_cell, size - size // 2)}
    return {
        "normWeight": packed(array_of(layer.norm.weight)),
        "normBias": packed(array_of(layer.norm.bias)),
        **{
            name: recurrent_layers(options.cell, units, [_cell(options, cell, matrix)]) for name, (cell, units) in cells.items()
        },
    }


def ngram_rules() -> dict[str, int]:
    """Return which n-grams there are, for `static/text_classifier/ngrams.js`."""
    return {
        "caseVersion": ngrams.CASE_VERSION,
        "maxRun": ngrams.MAX_CHARACTER_NGRAM,
        "maxCharacters": ngrams.MAX_CHARACTERS,
        "maxWords": ngrams.MAX_WORDS_COUNTED,
        "maxCountedRun": ngrams.MAX_COUNTED_RUN,
        "maxCount": ngrams.MAX_COUNT,
    }


def _ngram_data(model_file: TableModelFile, known: slice, matrix: type[TableMatrix]) -> dict[str, Any] | None:
    """Return the linear classifier of n-grams, without the row of padding, or None."""
    classifier, source = model_file.model.ngrams, cast(TextColumn, model_file.spec.source)
    if classifier is None:
        return None
    return {
        "version": source.ngram_version,
        **ngram_rules(),
        "buckets": source.ngram_buckets,
        **linear_layer("table", array_of(classifier.table)[:-1, known], matrix=matrix),
        "weights": packed(array_of(classifier.weights)[:-1]),
        "bias": array_of(classifier.bias)[known],
        "share": float(classifier.share),
        "scale": SCALE,
        "minSquares": MIN_SQUARES,
    }


def _base_data(model_file: TableModelFile, known: slice, matrix: type[TableMatrix]) -> dict[str, Any] | None:
    """Return the language model that helps, or None."""
    base, reader = model_file.model.base, model_file.spec.source.base
    if base is None or reader is None:
        return None
    return {
        "reader": base_reader_data(reader),
        **linear_layer("vectors", array_of(base.vectors), matrix=matrix),
        "stack": _layers(reader.options, base.stack, matrix),
        "means": packed(array_of(base.means)),
        "scales": packed(array_of(base.scales)),
        **linear_layer("table", array_of(base.table).T[known], matrix=matrix),
    }
