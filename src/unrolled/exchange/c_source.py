"""One C99 file with a text model: its weights, `init`, `step`, `sample`, and test vectors. The arithmetic is the portable step.

The code is `templates/portable.c`; here its tables and definitions are filled in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled import __version__
from unrolled.display import shell_argument
from unrolled.exchange.vectors import TestVectors, make_vectors
from unrolled.generation.prompt_replacements import PromptReplacements, prompt_replacements
from unrolled.network_shapes import LINEAR_CELLS, sigmoid_cell
from unrolled.runtime import portable_arithmetic as step
from unrolled.runtime.portable import PortableLayer, PortableNetwork
from unrolled.runtime.portable_arithmetic import FloatMatrix, Int4Matrix, Int8Matrix, Matrix
from unrolled.runtime.text_network import GATE_NAMES
from unrolled.text.tokenizer import Tokenizer

TEMPLATE = Path(__file__).parent / "templates" / "portable.c"
WEIGHT_BITS = {"float32": 32, "int8": 8, "int4": 4}
C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "uint32": "uint32_t", "int32": "int32_t"}
LINE_WIDTH = 120
SAME_TEXT = ", and for a seed\n   the same text as `unrolled sample --portable` and as the HTML page"


@dataclass
class Tables:
    """C arrays, and the bytes that they take."""

    parts: list[str] = field(default_factory=list)
    num_bytes: int = 0

    def add(self, name: str, array: NDArray[Any]) -> str:
        """Add an array under a name; return the name."""
        c_type = C_TYPES[array.dtype.name]
        self.parts.append(f"static const {c_type} {name}[{array.size}] = {{\n{_numbers(array)}}};\n")
        self.num_bytes += array.nbytes
        return name

    def matrix(self, name: str, matrix: Matrix) -> str:
        """Add the arrays of a matrix; return its initializer."""
        rows, columns = matrix.weight.shape
        if isinstance(matrix, FloatMatrix):
            return f"{{{rows}, {columns}, {self.add(name, matrix.weight)}}}"
        scale = self.add(f"{name}_SCALE", matrix.scale)
        if isinstance(matrix, Int8Matrix):
            return f"{{{rows}, {columns}, {self.add(name, matrix.weight)}, {scale}}}"
        groups = self.add(f"{name}_GROUP_SCALE", matrix.group_scale)
        return f"{{{rows}, {matrix.columns}, {self.add(name, pack_int4(matrix))}, {groups}, {scale}}}"


def pack_int4(matrix: Int4Matrix) -> NDArray[np.uint8]:
    """Return the weights plus 8, two in each byte: of each group of 32 columns, j in the low half and j + 16 in the high."""
    groups = (matrix.weight + np.int8(8)).astype(np.uint8).reshape(-1, 2, 16)
    packed: NDArray[np.uint8] = groups[:, 0] | groups[:, 1] << np.uint8(4)
    return packed


def c_source(portable: PortableNetwork, tokenizer: Tokenizer, title: str, file_name: str) -> tuple[str, int, int]:
    """Return the C file of a model, the bytes of its tables, and the bytes of RAM of one text.

    Args:
        portable: The model, in the number format of the file.
        tokenizer: Its tokenizer.
        title: A line about the model.
        file_name: The name of the file; its names in C begin with its stem.
    """
    tables = Tables()
    layers = _add_tables(tables, portable, tokenizer)
    macros = _definitions(portable, tokenizer)
    ram = ram_bytes(macros)
    values = {
        "TITLE": title.replace("*/", "* /").replace("\n", " "),
        "VERSION": __version__,
        "FILE": shell_argument(file_name),
        "RAM": f"{ram:,}",
        "FLASH": f"{tables.num_bytes:,}",
        "SAME_TEXT": SAME_TEXT if portable.weights == "int8" else "",
        "DEFINES": "".join(f"#define RNN_{name} {value}\n" for name, value in macros.items()) + _table_value(portable),
        "TABLES": "\n".join([*tables.parts, layers]),
        "VECTORS": _vectors(make_vectors(portable)),
        "REPLACED": _replaced(prompt_replacements(tokenizer)),
        "GATE_ORDER": ", ".join(GATE_NAMES[portable.network.cell]),
        "TANH_P": _horner(step.TANH_P, "s"),
        "TANH_Q": _horner(step.TANH_Q, "s"),
        "EXP": _horner(step.EXP, "r"),
        "EXPM1": _horner(step.EXP[1:], "x"),
        "LOG1P": _horner(step.LOG1P, "square"),
        **{name: number_literal(getattr(step, name)) for name in ("LOG2_E", "LN2_HIGH", "LN2_LOW")},
    }
    source = re.sub("@([A-Z0-9_]+)@", lambda found: values[found[1]], TEMPLATE.read_text("utf-8"))
    return re.sub(r"\brnn_", c_prefix(file_name), source), tables.num_bytes, ram


def c_prefix(file_name: str) -> str:
    """Return what the C names of a file begin with: its stem, `rnn_` if there is nothing usable in it."""
    stem = re.sub("[^a-z0-9]+", "_", Path(file_name).stem.lower()).strip("_")
    return f"{stem}_" if stem and stem[0].isalpha() else "rnn_"


def _add_tables(tables: Tables, portable: PortableNetwork, tokenizer: Tokenizer) -> str:
    """Add all arrays; return the C definitions of matrices and layers."""
    lines = []
    if portable.embedding is not None:
        lines.append(f"static const table_matrix EMBEDDING = {tables.matrix('EMBEDDING_WEIGHT', portable.embedding)};")
    else:
        one_hot = portable.layers[0].input
        rows, columns = one_hot.weight.shape
        weight = tables.add("ONE_HOT_WEIGHT", np.ascontiguousarray(one_hot.weight.T))
        scale = f", {tables.add('ONE_HOT_SCALE', one_hot.scale)}" if isinstance(one_hot, Int8Matrix) else ""
        lines.append(f"static const table_matrix ONE_HOT = {{{columns}, {rows}, {weight}{scale}}};")
    lines.append(f"static const table_matrix HEAD = {tables.matrix('HEAD_WEIGHT', portable.head)};")
    tables.add("HEAD_BIAS", portable.head_bias)
    items = [_layer(tables, layer, i, portable.is_one_hot and i == 0) for i, layer in enumerate(portable.layers)]
    if not tokenizer.reads_bytes:
        tables.add("CHARACTERS", tokenizer.code_point_of_id[: _num_characters(tokenizer)].astype(np.uint32))
    return "\n".join([*lines, "static const rnn_layer LAYERS[RNN_LAYERS] = {", *items, "};"])


def _layer(tables: Tables, layer: PortableLayer, index: int, is_one_hot: bool) -> str:
    name = f"LAYER_{index}"
    none = "{0}"
    matrices = [none if is_one_hot else tables.matrix(f"{name}_INPUT", layer.input)]
    matrices.append(none if layer.recurrent is None else tables.matrix(f"{name}_RECURRENT", layer.recurrent))
    matrices.append(none if layer.recurrent_n is None else tables.matrix(f"{name}_RECURRENT_N", layer.recurrent_n))
    vectors = {"BIAS": layer.bias, "BIAS_HH": layer.bias_hh}
    vectors |= dict(zip(("NORM_WEIGHT", "NORM_BIAS"), layer.norm or (None, None), strict=True))
    names = ["0" if array is None else tables.add(f"{name}_{key}", array) for key, array in vectors.items()]
    if layer.mogrifier:
        rounds = [tables.matrix(f"{name}_ROUND_{number}", matrix) for number, matrix in enumerate(layer.mogrifier)]
        names.append(f"{{{', '.join(rounds)}}}")
    if layer.decay is not None:
        names.append(tables.add(f"{name}_DECAY", layer.decay))
    return f"    {{{', '.join(matrices + names)}}},"


def _num_characters(tokenizer: Tokenizer) -> int:
    return tokenizer.vocab_size - (tokenizer.eos_id is not None)


def _definitions(portable: PortableNetwork, tokenizer: Tokenizer) -> dict[str, int]:
    """Return the sizes of a model as the macros of the template, without their prefix."""
    network, cell = portable.network, sigmoid_cell(portable.network.cell)
    embedding = 0 if portable.embedding is None else portable.embedding.weight.shape[1]
    return {
        "WEIGHTS": WEIGHT_BITS[portable.weights],
        "VOCAB": network.vocab_size,
        "CHARACTERS": _num_characters(tokenizer),
        "BYTES": int(tokenizer.reads_bytes),
        "EMBEDDING": embedding,
        "ONE_HOT": int(portable.is_one_hot),
        "HIDDEN": network.hidden_size,
        "LAYERS": len(network.layers),
        "GATES": len(GATE_NAMES[cell]),
        "PLAIN": int(cell == "rnn"),
        "LSTM": int(cell in ("lstm", "mogrifier-lstm")),
        "GRU": int(cell in ("gru", "gru-reset-before", "mogrifier-gru")),
        "HARD_SIGMOID": int(cell != network.cell),
        "SLSTM": int(cell == "slstm"),
        "LINEAR": int(cell in LINEAR_CELLS),
        "MINGRU": int(cell == "mingru"),
        "MINLSTM": int(cell == "minlstm"),
        "RG_LRU": int(cell == "rg-lru"),
        "MOGRIFIER": len(portable.layers[0].mogrifier),
        "RESIDUAL": int(network.residual),
        "WIDTH": max(embedding, network.hidden_size),
        "BEGIN": tokenizer.bos_id,
        "END": -1 if tokenizer.eos_id is None else tokenizer.eos_id,
    }


def ram_bytes(macros: dict[str, int]) -> int:
    """Return the size of the C struct of one text, from the macros of its file."""
    state = macros["LAYERS"] * macros["HIDDEN"] * (4 if macros["SLSTM"] else 2 if macros["LSTM"] else 1)
    floats = state + macros["VOCAB"] + 2 * macros["WIDTH"] + (1 if macros["LINEAR"] else 2) * macros["GATES"] * macros["HIDDEN"]
    floats += (macros["WIDTH"] + macros["HIDDEN"]) * bool(macros["MOGRIFIER"])
    return 4 * floats + (2 * (macros["WIDTH"] + 31) + 3) // 4 * 4


def _table_value(portable: PortableNetwork) -> str:
    value = "(table).weight[(long)(row) * (table).columns + (column)]"
    scaled = value if portable.weights == "float32" else f"((float){value} * (table).scale[scaled_by])"
    return f"#define TABLE_VALUE(table, row, column, scaled_by) {scaled}\n"


def _vectors(vectors: TestVectors) -> str:
    lists = {"TOKENS": vectors.tokens, "DRAWN": vectors.drawn}
    arrays = [f"static const int TEST_{name}[] = {{\n{wrap_lines(map(str, items))}}};" for name, items in lists.items()]
    hashes = wrap_lines(f"{item:#010x}u" for item in vectors.hashes)
    return "\n".join(
        [
            f"#define TEST_STEPS {len(vectors.tokens)}",
            f"#define TEST_DRAWS {len(vectors.drawn)}",
            f"#define TEST_TEMPERATURE {number_literal(np.float32(vectors.temperature))}",
            f"#define TEST_SEED {vectors.seed}",
            *arrays,
            f"static const uint32_t TEST_HASHES[] = {{\n{hashes}}};",
        ]
    )


def _replaced(replacements: PromptReplacements) -> str:
    """Return the replacements as a C array: characters, 0, their replacement, 0, and so on; those of all others come last."""
    groups = [*replacements.characters.items(), (replacements.other, "")]
    numbers = [str(ord(character)) for text, characters in groups for character in f"{characters}\0{text}\0"]
    return f"static const uint32_t REPLACED[] = {{\n{wrap_lines(numbers)}}};"


def _horner(coefficients: NDArray[np.float32], variable: str) -> str:
    """Return a polynomial as a C expression, in the order of operations of `portable._horner`."""
    result = number_literal(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = f"({result} * {variable} + {number_literal(coefficient)})"
    return result


def number_literal(value: np.float32) -> str:
    """Return a C literal that reads as exactly this float32."""
    text = f"{value:.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def _numbers(array: NDArray[Any]) -> str:
    flat = array.reshape(-1)
    return wrap_lines(map(number_literal, flat) if array.dtype == np.float32 else map(str, flat.tolist()))


def wrap_lines(items: Iterable[str]) -> str:
    """Return items with commas between them, in lines."""
    lines: list[str] = []
    line: list[str] = []
    width = 0
    for item in items:
        if width + len(item) >= LINE_WIDTH:
            lines.append(",".join(line) + ",\n")
            line, width = [], 0
        line.append(item)
        width += len(item) + 1
    return "".join(lines) + ",".join(line) + "\n"
