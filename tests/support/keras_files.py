"""Writers of Keras files: the configuration, and weights in the layouts of `.h5` and `.keras`."""

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Layer = tuple[str, str, dict[str, Any], list[np.ndarray]]
"""Class, name, settings and weights (kernel, recurrent kernel, bias) of a layer."""

SETTINGS: dict[str, dict[str, Any]] = {
    "LSTM": {"activation": "tanh", "recurrent_activation": "sigmoid", "return_sequences": True},
    "GRU": {"activation": "tanh", "recurrent_activation": "sigmoid", "return_sequences": True, "reset_after": True},
    "SimpleRNN": {"activation": "tanh", "return_sequences": True},
    "CuDNNLSTM": {"return_sequences": True},
    "Dense": {"activation": "softmax"},
}
PARTS = {"Embedding": ["embeddings"], "Dense": ["kernel", "bias"]}


def config(layers: list[Layer]) -> dict[str, Any]:
    """Return the configuration of a Sequential model."""
    entries = [
        {"class_name": kind, "config": {"name": name, **SETTINGS.get(kind, {}), **settings}}
        for kind, name, settings, _ in layers
    ]
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": entries}}


def write_h5(path: Path, layers: list[Layer], version: int = 2) -> Path:
    """Write the layout of Keras 2 or 3 as `.h5`: groups by layer, then datasets by weight."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = {2: b"2.2.4", 3: "3.15.1"}[version]
        file.attrs["model_config"] = json.dumps(config(layers))
        for kind, name, _, weights in layers:
            below = name if version == 2 else f"sequential/{name}"
            cell = "" if kind in PARTS or version == 2 else f"/{snake_case(kind)}_cell"
            group = file.create_group(f"model_weights/{name}/{below}{cell}")
            for part, values in zip(PARTS.get(kind, ["kernel", "recurrent_kernel", "bias"]), weights, strict=False):
                group[f"{part}:0" if version == 2 else part] = np.asarray(values, np.float32)
    return path


def write_keras_1(path: Path, layers: list[Layer]) -> Path:
    """Write the layout of Keras 1: a matrix and a bias for each gate, and its names of settings."""
    old = {"recurrent_activation": "inner_activation"}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = b"1.2.2"
        entries = config(layers)["config"]["layers"]
        for entry in entries:
            entry["config"] = {old.get(key, key): value for key, value in entry["config"].items()}
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": entries}).encode()
        for kind, name, _, weights in layers:
            gates = {"LSTM": "ifco", "GRU": "zrh"}.get(kind, "")
            for part, values in zip("WUb", weights, strict=False):
                blocks = np.split(np.asarray(values, np.float32), max(1, len(gates)), axis=-1)
                for suffix, block in zip([f"_{gate}" for gate in gates] or [""], blocks, strict=True):
                    file[f"model_weights/{name}/{name}_{part}{suffix}"] = block
    return path


def snake_case(kind: str) -> str:
    """Return the name that Keras makes of a class."""
    return {"SimpleRNN": "simple_rnn"}.get(kind, kind.lower())


def write_keras(path: Path, layers: list[Layer]) -> Path:
    """Write the layout of Keras 3: a zip archive, groups by class and count."""
    content, counts = io.BytesIO(), Counter[str]()
    with h5py.File(content, "w") as file:
        for kind, name, _, weights in layers:
            place = snake_case(kind) + (f"_{counts[kind]}" if counts[kind] else "")
            inner = "vars" if kind in PARTS else "cell/vars"
            group = file.create_group(f"layers/{place}/{inner}")
            group.attrs["name"] = name
            for index, values in enumerate(weights):
                group[str(index)] = np.asarray(values, np.float32)
            counts[kind] += 1
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(config(layers)))
        archive.writestr("model.weights.h5", content.getvalue())
    return path
