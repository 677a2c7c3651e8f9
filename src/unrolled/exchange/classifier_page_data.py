"""What the page of a model that labels a text holds: its network, its tokens and n-grams, and its labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from unrolled.exchange.export_job import array_of
from unrolled.interpret.occlusion import MAX_LOG_ODDS, MAX_PARTS
from unrolled.nn.ngram_classifier import MIN_SQUARES, SCALE
from unrolled.runtime.portable import portable_layer
from unrolled.runtime.portable_arithmetic import FloatMatrix
from unrolled.runtime.text_network import GATE_NAMES, cell_layer
from unrolled.tables import ngrams
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.text.tokenizer import CharTokenizer
from unrolled.views.portable_data import linear_layer, packed, packed_products, recurrent_layers
from unrolled.views.text_classifier_page import reader_data

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile
    from unrolled.nn.encoder_decoder import EncoderDecoder


def reads_plain_tokens(column: TextColumn) -> bool:
    """Return whether a text is read as words or characters, which a page can find."""
    return type(column.tokenizer) in (WordTokenizer, CharTokenizer)


def page_data(model_file: TableModelFile, title: str) -> dict[str, Any]:
    """Return what the page holds of a model as JSON values."""
    spec = model_file.spec
    return {
        "title": title,
        "subtitle": f"{spec.source.describe()} \u2192 {spec.target.describe()}",
        "model": model_data(model_file),
        "source": spec.source.name,
        "target": spec.target.name,
    }


def model_data(model_file: TableModelFile) -> dict[str, Any]:
    """Return the network, how a text is read, and the labels as JSON values."""
    model, spec = model_file.model, model_file.spec
    encoder, head = cast(Any, model.encoder), cast(Any, model.head)
    labels = list(spec.target.labels)
    known = slice(max(1, model.dims.target_size - 1))
    pool = encoder.pool
    return {
        "labels": labels[known],
        "threshold": spec.threshold,
        "reader": reader_data(cast(TextColumn, spec.source), spec.step_limit),
        **linear_layer("embedding", array_of(encoder.input_layer.embedding.weight)),
        "bothWays": [_both_ways(model, layer) for layer in encoder.layers],
        "stack": None if encoder.stack is None else _layers(model, encoder.stack.layer_list()),
        "normWeight": packed(array_of(encoder.norm.weight)),
        "normBias": packed(array_of(encoder.norm.bias)),
        "pool": pool.kind,
        **linear_layer("poolHidden", *((array_of(pool.hidden.weight), array_of(pool.hidden.bias)) if pool.hidden else (None,))),
        **linear_layer("poolScore", array_of(pool.score.weight) if pool.score else None),
        **linear_layer("head", array_of(head.weight)[known], array_of(head.bias)[known]),
        "temperature": float(model.temperature),
        "ngrams": _ngram_data(model_file, known),
        "products": packed_products(),
        "maxParts": MAX_PARTS,
        "maxLogOdds": MAX_LOG_ODDS,
    }


def _layers(model: EncoderDecoder, layers: list[Any]) -> dict[str, Any]:
    """Return layers, cells with the norms before them, as JSON values."""
    read = []
    for layer in layers:
        norm = {f"norm_{key}": array_of(getattr(layer.norm, key)) for key in ("weight", "bias")}
        read.append(_cell(model, layer.cell, **norm))
    return recurrent_layers(model.options.cell, model.options.hidden, read)


def _cell(model: EncoderDecoder, cell: Any, **norm: Any) -> Any:
    arrays, name = {key: array_of(value) for key, value in cell.named_parameters()}, model.options.cell
    return portable_layer(name, cell_layer(arrays, GATE_NAMES[name], **norm), FloatMatrix, FloatMatrix)


def _both_ways(model: EncoderDecoder, layer: Any) -> dict[str, Any]:
    size = model.options.hidden
    cells = {"forward": (layer.forward_cell, size // 2), "backward": (layer.backward_cell, size - size // 2)}
    return {
        "normWeight": packed(array_of(layer.norm.weight)),
        "normBias": packed(array_of(layer.norm.bias)),
        **{name: recurrent_layers(model.options.cell, units, [_cell(model, cell)]) for name, (cell, units) in cells.items()},
    }


def _ngram_data(model_file: TableModelFile, known: slice) -> dict[str, Any] | None:
    """Return the linear classifier of n-grams, without the row of padding, or None."""
    classifier, source = model_file.model.ngrams, cast(TextColumn, model_file.spec.source)
    if classifier is None:
        return None
    return {
        "version": source.ngram_version,
        "maxRun": ngrams.MAX_CHARACTER_NGRAM,
        "maxCharacters": ngrams.MAX_CHARACTERS,
        "maxWords": ngrams.MAX_WORDS_COUNTED,
        "buckets": source.ngram_buckets,
        "table": packed(array_of(classifier.table)[:-1, known]),
        "weights": packed(array_of(classifier.weights)[:-1]),
        "bias": array_of(classifier.bias)[known],
        "share": float(classifier.share),
        "scale": SCALE,
        "minSquares": MIN_SQUARES,
    }
