"""PyTorch models: a `state_dict` in a `.pt` file, read with `weights_only=True`, or in a `.safetensors` file.

The layers are found by the names that `torch.nn` gives their parameters: an embedding or one-hot input, `weight_ih_l0 ...` of
nn.RNN, nn.GRU or nn.LSTM (or `weight_ih ...` of the cells), and nn.Linear. Gates: LSTM i f g o, GRU r z n with the reset after
the product, as ours. Both biases of a gate are added, except those of a GRU, whose reset gate multiplies one of them.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from unrolled.atomic_io import storage_error
from unrolled.errors import ModelError, UsageError
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.vocabulary import Token, VocabularyFile, build_vocabulary, find_tokens
from unrolled.printable import shell_argument

CELLS_BY_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
ORDERS = {"rnn": "", "gru": "rzn", "lstm": "ifgo"}
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of torch.save before version 1.6 begin."""

_RECURRENT = re.compile(
    r"^(?P<prefix>.*?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?P<layer>_l\d+)?(?P<reverse>_reverse)?$"
)


def read_pytorch(path: Path, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a `.pt` or `.safetensors` file.

    Raises `ModelError` for another network, and `UsageError` without a vocabulary.
    """
    content = _load_safetensors(path) if path.suffix == ".safetensors" else _load_pt(path)
    tensors = _state_dict(content)
    if not tensors:
        raise ModelError(f"{path} holds no state_dict: in Python, torch.save(model.state_dict(), ...) writes one.")
    layers, cell, rest = recurrent_layers(tensors)
    embedding, head_weight, head_bias = _embedding_and_head(rest, layers)
    notes = []
    if cell != "gru":
        notes.append("the two biases of each gate are added")
    if cell == "rnn":
        notes.append("the nonlinearity is taken for tanh, the default of nn.RNN: a state_dict does not tell it")
    if any(tensor.dtype not in (torch.float32, torch.float64) for tensor in tensors.values() if tensor.is_floating_point()):
        notes.append("the weights are stored in fewer than 32 bits, and become float32")
    vocabulary = build_vocabulary(_tokens(path, content, vocabulary_file, len(head_bias)))
    return SourceModel(
        "PyTorch state_dict", cell, tuple(layers), head_weight, head_bias, vocabulary, embedding, ORDERS[cell],
        (*notes, *vocabulary.notes),
    )  # fmt: skip


def is_pytorch(path: Path, head: bytes) -> bool:
    """Return whether a file is one of `torch.save`."""
    if head.startswith(LEGACY_MAGIC) or (path.suffix in (".pt", ".pth") and head[:1] == b"\x80"):
        return True
    return head[:4] == b"PK\x03\x04" and any(name.endswith("data.pkl") for name in _zip_names(path))


def _zip_names(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def _load_pt(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ModelError(f"{path} is compressed, as torch.save never does: the size of its content is not known.")
        return torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except Exception as error:  # of many kinds, for a damaged file and for one that would run code
        reason = "holds Python objects, which are never loaded" if "weights_only" in str(error) else "is damaged"
        raise ModelError(
            f"{path} {reason}: a file of torch.save(model.state_dict(), ...) is expected ({str(error).split('.')[0]:.120})."
        ) from error


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if "unrolled" in metadata:
            raise UsageError(
                f"{path} is a model of unrolled already: use it as RUN, for example unrolled sample {shell_argument(path)}"
            )
        return {**metadata, **safetensors.torch.load_file(path)}
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged, or no file of safetensors: {error}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _state_dict(content: Any) -> dict[str, Tensor]:
    """Return the largest map from names to tensors in what a file holds."""
    if not isinstance(content, Mapping):
        return {}
    own = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    inner = [_state_dict(value) for name, value in content.items() if isinstance(value, Mapping) and "optim" not in str(name)]
    return max([own, *inner], key=lambda found: sum(_RECURRENT.match(name) is not None for name in found))


def recurrent_layers(tensors: Mapping[str, Tensor]) -> tuple[list[LayerWeights], str, dict[str, Tensor]]:
    """Return the recurrent layers in order, their cell, and the other tensors."""
    groups: dict[tuple[str, str], dict[str, Tensor]] = {}
    rest: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        match = _RECURRENT.match(name)
        if match is None:
            rest[name] = tensor
            continue
        if match["reverse"]:
            raise ModelError(
                f"The model is bidirectional ({name}), and a model that predicts the next character reads forward only."
            )
        if match["kind"] == "weight_hr":
            raise ModelError(f"The model is an LSTM with projections (proj_size, {name}), which no cell here has.")
        groups.setdefault((match["prefix"], match["layer"] or ""), {})[match["kind"]] = tensor
    if not groups:
        raise ModelError(
            "The state_dict has no parameters of nn.RNN, nn.GRU or nn.LSTM (weight_ih_l0 ...); it has "
            f"{', '.join(list(rest)[:5])}."
        )
    found = [_layer(groups[key], "".join(key)) for key in sorted(groups, key=_layer_place)]
    if len({cell for cell, _ in found}) != 1:
        raise ModelError(
            f"The model has layers of {' and '.join(sorted({cell for cell, _ in found}))}, and one kind is expected."
        )
    return [layer for _, layer in found], found[0][0], rest


def _layer_place(key: tuple[str, str]) -> tuple[list[tuple[bool, int, str]], int]:
    """Return what sorts layers: the name of their module, its numbers as numbers, then their number in it.

    Files of safetensors sort names as texts.
    """
    words = [word for word in re.split(r"(\d+)", key[0].rstrip(".")) if word]
    name = [(not word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in words]
    return name, int(key[1].removeprefix("_l") or 0)


def _layer(parts: Mapping[str, Tensor], name: str) -> tuple[str, LayerWeights]:
    weight_ih, weight_hh = (_array(parts.get(kind), f"{name} {kind}", 2) for kind in ("weight_ih", "weight_hh"))
    units = weight_hh.shape[1]
    cell = CELLS_BY_GATES.get(len(weight_hh) // max(1, units))
    if cell is None or len(weight_hh) % units or len(weight_ih) != len(weight_hh):
        raise ModelError(
            f"The layer {name} has weights {weight_ih.shape} and {weight_hh.shape}: those of no nn.RNN, nn.GRU or nn.LSTM."
        )
    gates = len(weight_hh) // units
    biases = [
        _array(parts[kind], f"{name} {kind}", 1) if kind in parts else np.zeros(gates * units)
        for kind in ("bias_ih", "bias_hh")
    ]
    if any(len(bias) != gates * units for bias in biases):
        raise ModelError(f"The layer {name} has biases that do not fit its weights.")
    first, second = (bias.reshape(gates, units) for bias in biases)
    blocks = weight_ih.reshape(gates, units, -1), weight_hh.reshape(gates, units, units)
    if cell == "gru":
        return cell, LayerWeights(*blocks, np.asarray(first, np.float32), np.asarray(second, np.float32))
    return cell, LayerWeights(*blocks, np.asarray(first + second, np.float32))


def _embedding_and_head(
    rest: Mapping[str, Tensor], layers: list[LayerWeights]
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Return embedding (None: one-hot), head weight and head bias from the tensors that are in no recurrent layer."""
    size, units = layers[0].weight_ih.shape[2], layers[-1].weight_hh.shape[1]
    matrices = {name: _array(tensor, name, 2) for name, tensor in rest.items() if tensor.ndim == 2}
    vectors = {name: _array(tensor, name, 1) for name, tensor in rest.items() if tensor.ndim == 1}
    heads = [
        name
        for name, matrix in matrices.items()
        if name.removesuffix("weight") + "bias" in vectors and matrix.shape[1] == units
    ]
    if not heads:  # without a bias: distinguished from the embedding by its name or its place
        heads = [name for name, matrix in matrices.items() if matrix.shape[1] == units and "emb" not in name.lower()][-1:]
    if len(heads) != 1:
        raise ModelError(
            f"The state_dict has {len(heads)} linear layers on the {units} units of the last layer, and one is expected: "
            f"{', '.join(heads or matrices) or 'there are no matrices'}."
        )
    weight = matrices.pop(heads[0])
    bias = vectors.pop(heads[0].removesuffix("weight") + "bias", np.zeros(len(weight), np.float32))
    embeddings = [name for name, matrix in matrices.items() if matrix.shape == (len(weight), size)]
    others = [name for name in rest if name not in (*embeddings[:1], heads[0], heads[0].removesuffix("weight") + "bias")]
    if others:
        raise ModelError(f"The model has parameters that no model here has, so it cannot be imported: {', '.join(others[:5])}.")
    if not embeddings and size != len(weight):
        raise ModelError(
            f"The first layer reads {size} numbers, and there is neither an embedding of {size} nor one-hot input of "
            f"{len(weight)}."
        )
    return (matrices[embeddings[0]] if embeddings else None), weight, bias


def _array(tensor: Tensor | None, name: str, dimensions: int) -> np.ndarray:
    if tensor is None or tensor.ndim != dimensions or not tensor.is_floating_point() or tensor.is_sparse or 0 in tensor.shape:
        raise ModelError(f"The state_dict has no {name} of {dimensions} dimensions and floating-point numbers.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ModelError(f"The tensor {name} is larger than what is stored of it.")
    return np.asarray(tensor.detach().to(torch.float32).numpy(), np.float32)


def _tokens(path: Path, content: Any, vocabulary_file: VocabularyFile | None, num_tokens: int) -> list[Token]:
    if vocabulary_file is not None:
        return vocabulary_file.tokens(num_tokens)
    tokens = find_tokens(content, num_tokens, depth=2) if isinstance(content, Mapping) else None
    if tokens is None:
        raise UsageError(
            f"{path} holds no vocabulary of {num_tokens} tokens: name it with --vocabulary FILE (JSON: characters in the "
            "order of "
            "their ids, or a map from characters to ids; or the text that the model was trained on)."
        )
    return tokens
