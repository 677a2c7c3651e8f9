"""Keras models: `.keras` of Keras 3, and `.h5` of Keras 2 and 3. The configuration is JSON; no code in a file is run.

    LSTM       gates i, f, c (our g), o
    GRU        gates z, r, h (our n); reset_after=True is our gru with two biases, False is gru-reset-before
    kernels    (I, G H): transposed here. Those of CuDNNLSTM and CuDNNGRU are stored transposed within each gate. Keras 1 has
               a matrix for each gate
    gates      sigmoid, or a hard sigmoid: clip(0.2 x + 0.5, 0, 1) in Keras 1 and 2, clip(x / 6 + 0.5, 0, 1) in Keras 3

Reading needs h5py: `pip install "unrolled[import]"`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.errors import ModelError, UsageError
from unrolled.exchange.gate_orders import HARD_SIGMOIDS, layer_in_our_order, with_scaled_gates
from unrolled.exchange.keras_config import KerasLayer, KerasNetwork, parse_network
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.vocabulary import VocabularyFile, build_vocabulary
from unrolled.network_shapes import HARD_SIGMOID_CELLS
from unrolled.text.compressed_files import ZipArchive

METADATA = "metadata.json"
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
GATE_ORDERS = {"lstm": "ifgo", "gru": "zrn", "gru-reset-before": "zrn", "rnn": ""}
MAX_RATIO = 16
"""Weights are noise and do not compress: content larger than this multiple of its file is refused unread."""

MAX_DEPTH, MAX_DATASETS = 16, 10_000


def is_keras(path: Path, head: bytes) -> bool:
    """Return whether a file is HDF5, or a `.keras` archive."""
    if head.startswith(HDF5_MAGIC):
        return True
    if head[:4] != b"PK\x03\x04":
        return False
    try:
        with ZipArchive(path) as archive:
            return {"config.json", "model.weights.h5"} <= set(archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return False


def read_keras(path: Path, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a Keras file. Raises `ModelError` that names a layer or setting that cannot be imported."""
    if path.read_bytes()[:8] == HDF5_MAGIC:
        with open_hdf5(path) as file:
            config = _config_attribute(file, path)
            network = parse_network(config)
            weights = _weights_by_name(file, network, path.stat().st_size)
            version = _text(file.attrs.get("keras_version", ""))
    else:
        config, content, version = _read_archive(path)
        network = parse_network(config)
        with open_hdf5(io.BytesIO(content)) as file:
            weights = _weights_by_place(file, network, len(content))
    source = _source_model(path, network, weights, vocabulary_file)
    return _with_gates(source, network, version)


def _with_gates(source: SourceModel, network: KerasNetwork, version: str) -> SourceModel:
    """Return a model whose gates are those of its file: hard sigmoids have another slope in Keras 3."""
    if network.has_hard_sigmoids:
        is_keras_3 = version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) >= 3
        name, factor = list(HARD_SIGMOIDS.items())[is_keras_3]
        note = f"gates are the hard sigmoid {name}, at least 0 and at most 1: the file is of Keras {version or 'before 3'}"
        scaled = f"{note}; weights and biases of the gates are times 5/6, which is the same in a cell with 0.2 x + 0.5"
        source = source.with_layers(functools.partial(with_scaled_gates, cell=source.cell, factor=factor))
        notes = (*source.notes, scaled if is_keras_3 else note)
        return dataclasses.replace(source, cell=HARD_SIGMOID_CELLS[source.cell], gate_scale=factor, notes=notes)
    has_choice = source.cell in HARD_SIGMOID_CELLS and not network.recurrent[0].class_name.startswith("CuDNN")
    return dataclasses.replace(source, gate_scale=1.0) if has_choice else source


def _source_model(
    path: Path, network: KerasNetwork, weights: dict[str, list[np.ndarray]], vocabulary_file: VocabularyFile | None
) -> SourceModel:
    dense = weights[network.dense.name]
    if not 1 <= len(dense) <= 2 or dense[0].ndim != 2:
        raise ModelError(f"The Dense layer {network.dense.name} has no kernel and bias.")
    head_weight = dense[0].T
    head_bias = dense[1] if len(dense) == 2 else np.zeros(len(head_weight), np.float32)
    layers = [read_layer(layer, weights[layer.name], network.cell) for layer in network.recurrent]
    embedding = None
    if network.embedding is not None:
        embedding = weights[network.embedding.name][0]
    elif layers[0].weight_ih.shape[2] != len(head_bias):
        raise ModelError(
            f"The first layer reads {layers[0].weight_ih.shape[2]} numbers, and one-hot input of the {len(head_bias)} "
            "tokens is expected."
        )
    if vocabulary_file is None:
        raise UsageError(
            f"{path} holds no vocabulary: name it with --vocabulary FILE (JSON: {len(head_bias)} characters in the order of "
            "their ids, "
            "or a map from characters to ids; or the text that the model was trained on)."
        )
    vocabulary = build_vocabulary(vocabulary_file.tokens(len(head_bias)))
    return SourceModel(
        "Keras model", network.cell, tuple(layers), head_weight, head_bias, vocabulary, embedding, GATE_ORDERS[network.cell],
        (*network.notes, *vocabulary.notes),
    )  # fmt: skip


def read_layer(layer: KerasLayer, parts: list[np.ndarray], cell: str) -> LayerWeights:
    """Return the weights of a recurrent layer, from its kernel, recurrent kernel and bias."""
    if not 2 <= len(parts) <= 3 or parts[0].ndim != 2 or parts[1].ndim != 2:
        raise ModelError(
            f"The layer {layer.name} has {len(parts)} weights, and kernel, recurrent kernel and bias are expected."
        )
    kernel, recurrent = parts[0], parts[1]
    units = len(recurrent)
    gates = recurrent.shape[1] // max(1, units)
    if gates * units != recurrent.shape[1] or gates not in (1, 3, 4) or kernel.shape[1] != gates * units:
        raise ModelError(f"The layer {layer.name} has kernels {kernel.shape} and {recurrent.shape}, which do not fit.")
    if layer.class_name.startswith("CuDNN"):
        blocks = [block.reshape(units, -1) for block in np.split(kernel, gates, axis=1)]
        weight_ih, weight_hh = np.stack(blocks), np.stack(np.split(recurrent, gates, axis=1))
    else:
        weight_ih, weight_hh = kernel.T.reshape(gates, units, -1), recurrent.T.reshape(gates, units, units)
    bias = parts[2].reshape(-1) if len(parts) == 3 else np.zeros(gates * units, np.float32)
    if len(bias) not in (gates * units, 2 * gates * units):
        raise ModelError(f"The layer {layer.name} has {len(bias)} biases for {gates} gates of {units} units.")
    biases = bias.reshape(-1, gates, units)
    if cell == "gru":
        second = biases[1] if len(biases) == 2 else np.zeros_like(biases[0])
        weights = LayerWeights(weight_ih, weight_hh, biases[0], second)
    else:
        weights = LayerWeights(weight_ih, weight_hh, biases.sum(0))
    return layer_in_our_order(weights, cell, GATE_ORDERS[cell])


@contextlib.contextmanager
def open_hdf5(source: Any) -> Iterator[Any]:
    """Open an HDF5 file for reading.

    Raises `UsageError` without h5py, and `ModelError` if the file is damaged: h5py may find that at any access.
    """
    try:
        h5py = importlib.import_module("h5py")
    except ImportError as error:
        raise UsageError('Keras models are HDF5 files, and h5py is not installed: pip install "unrolled[import]".') from error
    try:
        with h5py.File(source, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, TypeError, ValueError, MemoryError, OverflowError) as error:
        name, reason = source if isinstance(source, Path) else "model.weights.h5", " ".join(str(error).split())
        raise ModelError(f"{name} is damaged: {(reason or type(error).__name__)[:120]}.") from error


def _read_archive(path: Path) -> tuple[Any, bytes, str]:
    """Return configuration, weights and version of Keras of a `.keras` file; 3, if it does not name one."""
    with ZipArchive(path) as archive:
        has_version = METADATA in archive.namelist()
        names = ("config.json", "model.weights.h5", *([METADATA] if has_version else []))
        members = {name: archive.getinfo(name) for name in names}
        for name, member in members.items():
            if member.file_size > MAX_RATIO * path.stat().st_size:
                raise ModelError(
                    f"{path} is no sound model: {name} in it is {member.file_size:,} bytes, more than the file can hold."
                )
        try:
            metadata = json.loads(archive.read(METADATA)) if has_version else {}
            version = str(metadata.get("keras_version", 3))
            return json.loads(archive.read("config.json")), archive.read("model.weights.h5"), version
        except (RuntimeError, OSError) as error:  # encrypted, an unknown compression, or places that are not in the file
            raise ModelError(f"{path} cannot be read: {error}.") from error


def _config_attribute(file: Any, path: Path) -> Any:
    value = file.attrs.get("model_config")
    if value is None:
        names = ", ".join(list(file)[:8])
        raise ModelError(
            f"{path} holds weights without a configuration ({names}): save the whole model in Keras, model.save(...)."
        )
    return json.loads(_text(value))


def _text(value: Any) -> str:
    """Return an attribute as text; Keras 2 writes bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _weights_by_name(file: Any, network: KerasNetwork, file_size: int) -> dict[str, list[np.ndarray]]:
    """Return the weights of each layer of an `.h5` file: groups have the names of the layers."""
    root = child_of(file, "model_weights") if "model_weights" in file else file
    found = {}
    for layer in network.ordered:
        if layer.class_name not in ("Activation", "Dropout") and layer.name in root:
            arrays = dict(arrays_below(child_of(root, layer.name), file_size))
            found[layer.name] = in_order(arrays)
    return _require(found, network)


def _weights_by_place(file: Any, network: KerasNetwork, file_size: int) -> dict[str, list[np.ndarray]]:
    """Return the weights of each layer of `model.weights.h5` in a `.keras` file: groups are numbered within each class."""
    root = child_of(file, "layers") if "layers" in file else file
    counts: dict[str, int] = {}
    found = {}
    for layer in network.ordered:
        class_name = "time_distributed" if layer.is_wrapped else _snake_case(layer.class_name)
        number = counts.get(class_name, 0)
        counts[class_name] = number + 1
        place = class_name if number == 0 else f"{class_name}_{number}"
        if place in root:
            arrays = list(arrays_below(child_of(root, place), file_size))
            found[layer.name] = [array for path, array in sorted(arrays) if "seed_generator" not in path]
    return _require(found, network)


def _require(found: dict[str, list[np.ndarray]], network: KerasNetwork) -> dict[str, list[np.ndarray]]:
    wanted = [*network.recurrent, network.dense] + ([] if network.embedding is None else [network.embedding])
    missing = [layer.name for layer in wanted if not found.get(layer.name)]
    if missing:
        raise ModelError(f"The file has no weights for the layers {', '.join(missing)}: it is damaged.")
    return found


def _snake_case(name: str) -> str:
    """Return the name of a group for a class, as Keras makes it: SimpleRNN is `simple_rnn`."""
    spaced = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", spaced).lower()


def in_order(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return arrays in the order kernel, recurrent kernel, bias, by their names (`lstm/lstm_cell/recurrent_kernel:0`)."""
    names = ("embeddings", "kernel", "recurrent_kernel", "bias")
    by_name = {path.rsplit("/", 1)[-1].partition(":")[0]: array for path, array in arrays.items()}
    return [by_name[name] for name in names if name in by_name] or _of_keras_1(by_name)


def _of_keras_1(by_name: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return the arrays of a layer of Keras 1, `lstm_1_W_i` and others, joined in the order of the gates of Keras 2."""
    joined = []
    for part in "WUb":
        gates = {found[1]: array for name, array in by_name.items() if (found := re.search(f"_{part}(?:_([ifcozrh]))?$", name))}
        if gates:
            joined.append(np.concatenate([gates[gate] for gate in (None, *"ifcozrh") if gate in gates], axis=-1))
    return joined


def child_of(group: Any, name: str) -> Any:
    """Return what a group holds under a name, if it is in this file: a link to another file is not followed."""
    link = group.get(name, getlink=True)
    if type(link).__name__ != "HardLink":
        raise ModelError(f"The file links to {name!r:.60} instead of holding it, which Keras never does.")
    return group[name]


def arrays_below(group: Any, file_size: int, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array below a group with its path."""
    if depth > MAX_DEPTH or len(group) > MAX_DATASETS:
        raise ModelError("The file nests its groups deeper than Keras does: it is damaged.")
    for name in group:
        child = child_of(group, name)
        if hasattr(child, "shape"):
            yield f"{prefix}/{name}", _array(child, file_size)
        else:
            yield from arrays_below(child, file_size, f"{prefix}/{name}", depth + 1)


def _array(dataset: Any, file_size: int) -> np.ndarray:
    if dataset.external or dataset.is_virtual or dataset.dtype.kind not in "fiu" or dataset.nbytes > MAX_RATIO * file_size:
        raise ModelError(f"The weights {dataset.name!r:.60} are not numbers within the file, or more than it can hold.")
    return np.asarray(dataset[()], np.float32)
