"""The tables of the C file of a model that reads a text: its weights, its tokens, and what it knows of Unicode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from unrolled.exchange.c_source import Tables, number_literal
from unrolled.exchange.export_job import array_of
from unrolled.exchange.unicode_tables import character_classes, lower_cases
from unrolled.generation.prompt_replacements import prompt_replacements
from unrolled.nn.ngram_classifier import MIN_SQUARES, SCALE
from unrolled.options import ModelOptions
from unrolled.runtime.portable import Weights
from unrolled.runtime.portable_arithmetic import Floats, Int8Matrix
from unrolled.tables import ngrams
from unrolled.tables.base_text import MAX_CHARACTERS, BaseText
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer
from unrolled.text.tokenizer import CharTokenizer, Tokenizer

if TYPE_CHECKING:
    from unrolled.checkpoints.model_file import TableModelFile

CELLS = ("rnn", "gru", "gru-reset-before", "lstm")
"""The cells of the file, in the order of their numbers there."""

GATES = {"rnn": 1, "gru": 3, "gru-reset-before": 3, "lstm": 4}


class _Weights:
    """Adds the arrays of a model to tables in a number format."""

    def __init__(self, tables: Tables, weights: Weights) -> None:
        self.tables, self.is_rounded, self.lines = tables, weights == "int8", list[str]()

    def matrix(self, name: str, array: Floats) -> str:
        """Add a matrix; return its initializer."""
        rows, columns = array.shape
        if not self.is_rounded:
            return f"{{{rows}, {columns}, {self.tables.add(f'{name}_WEIGHT', np.ascontiguousarray(array))}, 0}}"
        rounded = Int8Matrix(array)
        weight, scale = (self.tables.add(f"{name}_{key}", getattr(rounded, key.lower())) for key in ("WEIGHT", "SCALE"))
        return f"{{{rows}, {columns}, {weight}, {scale}}}"

    def define(self, name: str, tensor: Any) -> None:
        """Add a matrix and its definition."""
        self.lines.append(f"static const rnn_matrix {name} = {self.matrix(name, array_of(tensor))};")

    def layer(self, name: str, cell_name: str, cell: Any, norm: Any) -> str:
        """Add a layer; return its initializer."""
        arrays = {key: array_of(value) for key, value in cell.state_dict().items()}
        hidden = arrays["weight_hh"].shape[1]
        parts = [self.matrix(f"{name}_{key}", arrays[f"weight_{end}"]) for key, end in (("INPUT", "ih"), ("RECURRENT", "hh"))]
        vectors = {"BIAS": arrays["bias"], "BIAS_HH": arrays.get("bias_hh")}
        vectors |= {f"NORM_{key.upper()}": norm and array_of(getattr(norm, key)) for key in ("weight", "bias")}
        parts += ["0" if array is None else self.tables.add(f"{name}_{key}", array) for key, array in vectors.items()]
        return f"    {{{CELLS.index(cell_name)}, {hidden}, {', '.join(parts)}}},"

    def layers(self, name: str, layers: list[str]) -> None:
        """Define layers."""
        self.lines += [f"static const rnn_layer {name}[] = {{", *layers, "};"]


def weight_tables(tables: Tables, model_file: TableModelFile, weights: Weights) -> tuple[list[str], dict[str, Any]]:
    """Add the arrays of a network; return the definitions of its matrices, and sizes as macros without their prefix."""
    model, spec, options = model_file.model, model_file.spec, model_file.model.options
    encoder, head, target = cast(Any, model.encoder), cast(Any, model.head), cast(Any, spec.target)
    is_number, is_tagger, store = target.kind == "number", spec.labels_each_token, _Weights(tables, weights)
    known = slice(None if is_number else max(1, model.dims.target_size - 1))
    store.define("EMBEDDING", encoder.input_layer.embedding.weight)
    both_ways, stack = list(encoder.layers), [] if encoder.stack is None else encoder.stack.layer_list()
    ahead = [(layer.norm, layer.forward_cell) for layer in both_ways] or [(layer.norm, layer.cell) for layer in stack]
    store.layers("LAYERS", [store.layer(f"LAYER_{i}", options.cell, cell, norm) for i, (norm, cell) in enumerate(ahead)])
    if both_ways:
        backward = [layer.backward_cell for layer in both_ways]
        store.layers("BACKWARD", [store.layer(f"BACKWARD_{i}", options.cell, cell, None) for i, cell in enumerate(backward)])
    tables.add("NORM_WEIGHT", array_of(encoder.norm.weight))
    tables.add("NORM_BIAS", array_of(encoder.norm.bias))
    pool = None if is_tagger else encoder.pool
    answers = _output_tables(store, pool, head, target, known)
    macros = {
        "ANSWERS": answers,
        "TAGGER": int(is_tagger),
        "NUMBER": int(is_number),
        "BOTH_WAYS": int(bool(both_ways)),
        **{f"POOL_{kind.upper()}": int(pool is not None and pool.kind == kind) for kind in ("last", "max", "attention")},
        "TEMPERATURE": number_literal(np.float32(1.0 if is_number else float(model.temperature))),
        "THRESHOLD": number_literal(np.float32(-1.0 if spec.threshold is None else spec.threshold)),
        **_linear_macros(store, model_file, known),
    }
    macros |= _sizes(options, spec.source.base, bool(both_ways))
    return store.lines, macros


def _output_tables(store: _Weights, pool: Any, head: Any, target: Any, known: slice) -> int:
    """Add what follows the recurrent layers; return how many logits or numbers there are."""
    if pool is not None and pool.kind == "attention":
        store.define("POOL_HIDDEN", pool.hidden.weight)
        store.tables.add("POOL_HIDDEN_BIAS", array_of(pool.hidden.bias))
        store.define("POOL_SCORE", pool.score.weight)
    store.define("HEAD", head.weight[known])
    store.tables.add("HEAD_BIAS", array_of(head.bias[known]))
    answers = len(head.bias[known])
    if target.kind == "number":
        for name, values in (("CENTER", target.mean), ("SPREAD", target.scale)):
            store.tables.add(name, np.broadcast_to(np.asarray(values, np.float32), (answers,)).copy())
    return answers


def _sizes(options: ModelOptions, base: BaseText | None, both_ways: bool) -> dict[str, int]:
    """Return the sizes of the network, and of work space that is enough for the language model, too."""
    units, layers, gates = (base.options.hidden, base.options.layers, GATES[base.options.cell]) if base else (0, 0, 0)
    largest = max(options.hidden, units)
    return {
        "HIDDEN": options.hidden,
        "LAYERS": options.layers,
        "UNITS": largest,
        "WIDTH": largest,
        "GATES": max(GATES[options.cell] * options.hidden, gates * units),
        "STATES": max(1 if both_ways else options.layers, layers),
    }


def _linear_macros(store: _Weights, model_file: TableModelFile, known: slice) -> dict[str, Any]:
    """Add the classifier of n-grams, and the language model that helps it; return their macros."""
    model, source, tables = model_file.model, cast(TextColumn, model_file.spec.source), store.tables
    linear, base, reader = model.ngrams, model.base, source.base
    macros: dict[str, Any] = {"BUCKETS": 0 if linear is None else source.ngram_buckets, "BASE": 0, "BASE_LAYERS": 0}
    is_counted = source.ngram_version >= ngrams.CASE_VERSION
    counted_run = ngrams.MAX_COUNTED_RUN if is_counted else 0
    if linear is not None:
        store.define("NGRAM_TABLE", linear.table[:-1, known])
        tables.add("NGRAM_WEIGHTS", array_of(linear.weights)[:-1])
        tables.add("NGRAM_BIAS", array_of(linear.bias)[known])
        macros |= {
            "SHARE": number_literal(np.float32(linear.share)),
            "NGRAM_SCALE": repr(SCALE),
            "MIN_SQUARES": repr(MIN_SQUARES),
            "NGRAM_VERSION": source.ngram_version,
            "KEEPS_CASE": int(is_counted),
            "COUNTED_RUN": counted_run,
            "MAX_COUNT": ngrams.MAX_COUNT,
            "MAX_RUN": ngrams.MAX_CHARACTER_NGRAM,
            "MAX_WORDS": ngrams.MAX_WORDS_COUNTED,
        }
    if base is not None and reader is not None:
        store.define("BASE_VECTORS", base.vectors)
        cells = [(layer.norm, layer.cell) for layer in base.stack.layer_list()]
        options = reader.options
        store.layers(
            "BASE_LAYERS", [store.layer(f"BASE_{i}", options.cell, cell, norm) for i, (norm, cell) in enumerate(cells)]
        )
        tables.add("BASE_MEANS", array_of(base.means))
        tables.add("BASE_SCALES", array_of(base.scales))
        store.define("BASE_TABLE", base.table.T[known])
        macros |= {"BASE": options.hidden, "BASE_LAYERS": options.layers, "BASE_CHARACTERS": MAX_CHARACTERS}
    return macros | {"NGRAM_CHARACTERS": ngrams.MAX_CHARACTERS, "RUN_HASHES": ngrams.MAX_CHARACTER_NGRAM + counted_run}


def reader_tables(tables: Tables, column: TextColumn) -> dict[str, Any]:
    """Add what a text is read with; return macros."""
    tokenizer, is_words = column.tokenizer, isinstance(column.tokenizer, WordTokenizer)
    has_case = is_words or column.ngram_buckets > 0
    macros: dict[str, Any] = {
        "UNKNOWN": column.unk_id,
        "WORDS": 0,
        "SPACES": 0,
        "LOOKS_UP_CASE": int(has_case or bool(column.base)),
    }
    tables.add("CLASSES", character_classes())
    macros["CLASSES"] = len(character_classes())
    if macros["LOOKS_UP_CASE"]:
        for name, codes in zip(("CAPITALS", "SMALL"), lower_cases(), strict=True):
            tables.add(name, codes)
        macros["CAPITALS"] = len(lower_cases()[0])
    if isinstance(tokenizer, WordTokenizer):
        macros |= {"WORDS": len(tokenizer.tokens), "SPACES": int(tokenizer.spaces), **_word_tables(tables, tokenizer)}
    else:
        codes, ids, other = _character_ids(tokenizer, cast(int, column.unk_id))
        tables.add("CHARACTERS", codes)
        tables.add("CHARACTER_IDS", ids)
        macros |= {"CHARACTERS": len(codes), "UNKNOWN": other}
    if column.base is not None:
        macros |= _base_tables(tables, column.base)
    return macros


def _word_tables(tables: Tables, tokenizer: WordTokenizer) -> dict[str, Any]:
    encoded = sorted((token.encode("utf-8", "replace"), index) for index, token in enumerate(tokenizer.tokens))
    starts = np.cumsum([0, *(len(token) for token, _ in encoded)]).astype(np.uint32)
    tables.add("WORD_BYTES", np.frombuffer(b"".join(token for token, _ in encoded) or b"\0", np.uint8))
    tables.add("WORD_STARTS", starts)
    tables.add("WORD_IDS", np.array([index for _, index in encoded] or [0], np.int32))
    return {"LONGEST_WORD": max((len(token) for token, _ in encoded), default=1)}


def _character_ids(tokenizer: Tokenizer, unknown: int) -> tuple[NDArray[np.uint32], NDArray[np.int32], int]:
    """Return characters, sorted, with their ids: known ones, and those that similar ones replace; and the id of all others."""
    id_of = {token: index for index, token in enumerate(tokenizer.token_strings())}
    replacements = prompt_replacements(tokenizer)

    def replaced(text: str) -> int:
        return id_of.get(text, unknown) if len(text) == 1 and text.strip() else unknown

    found = {character: replaced(text) for text, group in replacements.characters.items() for character in group}
    found |= id_of
    codes = sorted(found)
    return (
        np.array([ord(c) for c in codes], np.uint32),
        np.array([found[c] for c in codes], np.int32),
        replaced(replacements.other),
    )


def _base_tables(tables: Tables, base: BaseText) -> dict[str, Any]:
    tokenizer = base.tokenizer
    if not isinstance(tokenizer, CharTokenizer):
        return {"BASE_BYTES": 1}
    id_of = {token: index for index, token in enumerate(tokenizer.tokens)}
    replacements = prompt_replacements(tokenizer)
    other = id_of.get(replacements.other[:1], tokenizer.bos_id)
    found = {c: id_of.get(text[:1], tokenizer.bos_id) for text, group in replacements.characters.items() for c in group} | id_of
    codes = sorted(found)
    tables.add("BASE_CODES", np.array([ord(c) for c in codes], np.uint32))
    tables.add("BASE_IDS", np.array([found[c] for c in codes], np.int32))
    return {"BASE_BYTES": 0, "BASE_CODES": len(codes), "BASE_OTHER": other}


def ram_bytes(macros: dict[str, Any], steps: int, text: int) -> int:
    """Return the size of the C struct that reads texts."""
    hidden, units = macros["HIDDEN"], macros["UNITS"]
    hashes = macros["RUN_HASHES"] * (2 * macros["NGRAM_CHARACTERS"] + 2) + 3 * text + 2 if macros["BUCKETS"] else 1
    words = (text + 2) + (2 * text + 2) + hashes + steps + 2
    floats = steps * hidden + (steps if macros["BOTH_WAYS"] else 1) * hidden + hidden + steps
    floats += 2 * macros["STATES"] * units + macros["WIDTH"] + 2 * macros["GATES"]
    floats += units + 4 * macros["BASE"] if macros["BASE"] and macros["BUCKETS"] else 0
    return int(4 * (words + floats + macros["ANSWERS"] * (steps if macros["TAGGER"] else 1)))
