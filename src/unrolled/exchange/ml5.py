"""Folders of ml5's charRNN: one file of float32 a variable, `vocab.json`, and mostly `manifest.json` with the shapes.

The network is that of char-rnn-tensorflow: embedding, `BasicLSTMCell` layers, softmax. A cell has one matrix `(I + H, 4 H)` of
input and recurrent weights, the gates in the order i, j, f, o (our i, g, f, o). TensorFlow adds one to the forget gate when it
runs, which is not stored: it is added to the bias here.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import storage_error
from unrolled.errors import ModelError
from unrolled.exchange.gate_orders import layer_in_our_order, with_forget_bias
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.vocabulary import VocabularyFile, build_vocabulary

GATE_ORDER = "igfo"
MAX_SHARD_BYTES = 1 << 30
_CELL = re.compile(r"(?:cell|lstm)_(\d+)[/_].*?(kernels?|weights?|bias(?:es)?|w|b)$")
_PART = re.compile(r"^[\w.-]{1,200}$")


def is_ml5(path: Path, head: bytes) -> bool:
    """Return whether a path is such a folder, or the manifest in one."""
    folder = path.parent if path.name == "manifest.json" else path
    return folder.is_dir() and (folder / "vocab.json").is_file() and (folder / "embedding").is_file()


def read_ml5(path: Path, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a folder. Raises `ModelError` if a file is missing, damaged, or of another network."""
    folder = path.parent if path.name == "manifest.json" else path
    variables = _variables(folder)
    tokens_file = vocabulary_file or VocabularyFile.read(folder / "vocab.json")
    cells: dict[int, dict[str, np.ndarray]] = {}
    rest: dict[str, np.ndarray] = {}
    for name, value in variables.items():
        match = _CELL.search(name)
        if match is not None:
            cells.setdefault(int(match[1]), {})["bias" if match[2].startswith("b") else "kernel"] = value
        else:
            rest[re.sub(r"^.*(softmax_[wb]|embedding)$", r"\1", name)] = value
    missing = [name for name in ("embedding", "softmax_w", "softmax_b") if name not in rest]
    if missing or not cells or any(set(parts) != {"kernel", "bias"} for parts in cells.values()):
        raise ModelError(f"{folder} lacks parts of a charRNN of ml5: {', '.join(missing) or 'kernel and bias of a cell'}.")
    head_bias = rest["softmax_b"].reshape(-1)
    num_tokens = len(head_bias)
    kernels = [(cells[number]["kernel"], cells[number]["bias"].reshape(-1)) for number in sorted(cells)]
    layers = [_layer(kernel, bias, number) for number, (kernel, bias) in enumerate(kernels)]
    units = layers[-1].weight_hh.shape[1]
    if rest["embedding"].size % num_tokens or rest["softmax_w"].size != units * num_tokens:
        raise ModelError(f"The embedding or softmax_w in {folder} does not fit the {num_tokens} tokens of softmax_b.")
    embedding, head_weight = rest["embedding"].reshape(num_tokens, -1), rest["softmax_w"].reshape(units, num_tokens).T
    vocabulary = build_vocabulary(tokens_file.tokens(num_tokens))
    notes = ("the one that TensorFlow adds to the forget gate is now part of its bias",)
    return SourceModel(
        "ml5 charRNN", "lstm", tuple(layers), head_weight, head_bias, vocabulary, embedding, GATE_ORDER,
        (*notes, *vocabulary.notes),
    )  # fmt: skip


def _layer(kernel: np.ndarray, bias: np.ndarray, number: int) -> LayerWeights:
    units = len(bias) // 4
    if not units or len(bias) % 4 or kernel.size % len(bias) or kernel.size // len(bias) <= units:
        raise ModelError(f"Cell {number} has {kernel.size} weights and {len(bias)} biases, which do not fit a BasicLSTMCell.")
    rows = kernel.size // len(bias)
    blocks = np.moveaxis(kernel.reshape(rows, 4, units), 0, 2)  # (G, H, I + H)
    layer = LayerWeights(blocks[:, :, : rows - units], blocks[:, :, rows - units :], bias.reshape(4, units))
    return with_forget_bias(layer_in_our_order(layer, "lstm", GATE_ORDER), 1.0)


def _variables(folder: Path) -> dict[str, np.ndarray]:
    """Return all variables by name; without a manifest, flat, by the names of their files."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        names = [file.name for file in sorted(folder.iterdir()) if file.is_file() and _is_variable(file.name)]
        return {name: _shard(folder, name) for name in names}
    try:
        entries: dict[str, Any] = dict(json.loads(manifest.read_text("utf-8")))
    except (ValueError, RecursionError, TypeError) as error:
        raise ModelError(f"{manifest} is no JSON object.") from error
    variables = {}
    for name, entry in entries.items():
        if not _is_variable(name):
            continue
        filename, shape = str(entry["filename"]), [int(size) for size in entry["shape"]]
        if not _PART.match(filename) or filename.startswith(".."):
            raise ModelError(f"{manifest} names the file {filename!r:.60}, which is not in its folder.")
        values = _shard(folder, filename)
        if any(size < 0 for size in shape) or math.prod(shape) != len(values):
            raise ModelError(f"{folder / filename} has {len(values)} numbers, and {manifest.name} says {shape}.")
        variables[name] = values.reshape(shape)
    return variables


def _is_variable(name: str) -> bool:
    return _CELL.search(name) is not None or name.endswith(("softmax_w", "softmax_b", "embedding"))


def _shard(folder: Path, name: str) -> np.ndarray:
    path = folder / name
    try:
        if path.stat().st_size % 4 or path.stat().st_size > MAX_SHARD_BYTES:
            raise ModelError(f"{path} has {path.stat().st_size} bytes: float32 numbers are expected. It may be cut short.")
        return np.frombuffer(path.read_bytes(), "<f4")
    except OSError as error:
        raise storage_error(error, path, "read") from error
