"""PyTorch models: a state_dict, a checkpoint with one inside, or a whole model, in a `.pt` or a `.safetensors` file.

The layers are found by the names that `torch.nn` gives their parameters: an embedding or one-hot input, `weight_ih_l0 ...` of
nn.RNN, nn.GRU or nn.LSTM (or `weight_ih ...` of the cells), and nn.Linear. Gates: LSTM i f g o, GRU r z n with the reset after
the product, as ours. Both biases of a gate are added, except those of a GRU, whose reset gate multiplies one of them.

A projection (`proj_size`) is `h = W_hr o tanh(c)`: whatever reads h has `W_hr` multiplied into its weights. Batch normalization
of the last layer's outputs is `scale * h + shift`, and becomes part of the output layer.
"""

from __future__ import annotations

import re
import string
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.torch

from unrolled.atomic_io import storage_error
from unrolled.display import shell_argument
from unrolled.errors import ModelError, UsageError
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.torch7 import Storage, Tensor
from unrolled.exchange.torch_pickle import LEGACY_MAGIC, Instance, read_torch_pickle
from unrolled.exchange.vocabulary import Token, VocabularyFile, build_vocabulary, find_tokens, parts_within
from unrolled.text.compressed_files import ZipArchive

Array: TypeAlias = npt.NDArray[np.float32]
CELLS_BY_GATES = {1: "rnn", 3: "gru", 4: "lstm"}
ORDERS = {"rnn": "", "gru": "rzn", "lstm": "ifgo"}
PARTS_OF_MODULES = {"_parameters", "_buffers", "_modules"}
MAX_DEPTH = 32

_RECURRENT = re.compile(
    r"^(?P<prefix>.*?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)(?P<layer>_l\d+)?(?P<reverse>_reverse)?$"
)


def read_pytorch(path: Path, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a `.pt` or `.safetensors` file.

    Raises `ModelError` for another network, and `UsageError` without a vocabulary.
    """
    content = _load_safetensors(path) if path.suffix == ".safetensors" else read_torch_pickle(path)
    tensors = _state_dict(content)
    if not tensors:
        raise ModelError(f"{path} holds no tensors: in Python, torch.save(model.state_dict(), ...) writes them.")
    layers, cell, rest, projection = recurrent_layers(tensors)
    size, units = layers[0].weight_ih.shape[2], len(layers[-1].bias[0] if projection is None else projection)
    rest, norm = _without_normalization(
        rest, units, {size, *(tensor.sizes[0] for tensor in rest.values() if len(tensor.sizes) == 2)}
    )
    embedding, head_weight, head_bias = _embedding_and_head(rest, size, units)
    notes = _notes_of_modules(content, cell)
    if norm is not None:
        head_weight, head_bias = head_weight * norm[0], head_bias + head_weight @ norm[1]
        notes.append("batch normalization, with its running statistics, is taken to be of the last layer's outputs")
    head_weight = _through(head_weight, projection, "the output layer")
    notes += _notes_of_weights(tensors, cell)
    vocabulary = build_vocabulary(_tokens(path, content, vocabulary_file, len(head_bias), notes))
    return SourceModel(
        "PyTorch model", cell, tuple(layers), head_weight, head_bias, vocabulary, embedding, ORDERS[cell],
        (*notes, *vocabulary.notes),
    )  # fmt: skip


def _notes_of_weights(tensors: Mapping[str, Tensor], cell: str) -> list[str]:
    """Return what was done with the weights of recurrent layers."""
    notes = [] if cell == "gru" else ["the two biases of each gate are added"]
    if any("weight_hr" in name for name in tensors):
        notes.append("the projections (proj_size) are multiplied into the weights that read them")
    storages = [tensor.storage for tensor in tensors.values() if tensor.storage is not None and _is_float(tensor.storage)]
    if any(storage.elements.itemsize < 4 for storage in storages):
        notes.append("the weights are stored in fewer than 32 bits, and become float32")
    return notes


def is_pytorch(path: Path, head: bytes) -> bool:
    """Return whether a file is one of `torch.save`."""
    if head.startswith(LEGACY_MAGIC) or (path.suffix in (".pt", ".pth") and head[:1] == b"\x80"):
        return True
    return head[:4] == b"PK\x03\x04" and any(name.endswith("data.pkl") for name in _zip_names(path))


def _zip_names(path: Path) -> list[str]:
    try:
        with ZipArchive(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return []


def _load_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        if "unrolled" in metadata:
            raise UsageError(
                f"{path} is a model of unrolled already: use it as RUN, for example unrolled sample {shell_argument(path)}"
            )
        tensors = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged, or no file of safetensors: {error}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error
    numbers = {name: tensor.float().numpy() for name, tensor in tensors.items() if tensor.is_floating_point()}
    return {**metadata, **{name: tensor_of(array) for name, array in numbers.items()}}


def tensor_of(array: npt.NDArray[Any]) -> Tensor:
    """Return an array as what the readers of files return."""
    array = np.ascontiguousarray(array)
    strides = tuple(stride // array.itemsize for stride in array.strides)
    return Tensor("torch.Tensor", array.shape, strides, 0, Storage(array.reshape(-1)))


def _state_dict(content: Any) -> dict[str, Tensor]:
    """Return the map from names to tensors, in what a file holds, that has most recurrent weights.

    A map of the file is taken as it is, and a module with all that is below it. Where recurrent and other layers are in maps of
    their own, these are joined.
    """
    found = [_own_tensors(part) for part in parts_within(content) if isinstance(part, Mapping)]
    best = max(found, key=lambda tensors: (sum(map(_is_recurrent, tensors)), len(tensors)), default={})
    if all(map(_is_recurrent, best)) and best:
        best = dict(_tensors_below(content))
    return best


def _is_recurrent(name: str) -> bool:
    return _RECURRENT.match(name) is not None


def _own_tensors(part: Mapping[Any, Any]) -> dict[str, Tensor]:
    if isinstance(part, Instance):
        return dict(_tensors_below(part))
    return {name: value for name, value in part.items() if isinstance(name, str) and isinstance(value, Tensor)}


def _tensors_below(part: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors of a module with their names, as `state_dict` has them; those of an optimizer are left out."""
    is_module = "_parameters" in part
    for name, value in part.items():
        if not isinstance(name, str) or "optim" in name or (is_module and name not in PARTS_OF_MODULES):
            continue
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from _tensors_below(value, prefix if name in PARTS_OF_MODULES else f"{prefix}{name}.", depth + 1)


def _notes_of_modules(content: Any, cell: str) -> list[str]:
    """Return what the modules of the file, if it has any, tell beyond their weights. Raises `ModelError` for nn.RNN of relu."""
    modules = [part for part in parts_within(content) if isinstance(part, Instance) and part.class_name]
    kinds = {str(module.get("mode", module.get("nonlinearity", ""))) for module in modules} & {
        "RNN_TANH",
        "RNN_RELU",
        "tanh",
        "relu",
    }
    if cell == "rnn" and kinds & {"RNN_RELU", "relu"}:
        raise ModelError("The model is an nn.RNN with the nonlinearity relu, and the cell here has tanh.")
    notes = []
    if cell == "rnn" and not kinds:
        notes.append("the nonlinearity is taken for tanh, the default of nn.RNN: a state_dict does not tell it")
    whole = [module for module in modules if "_modules" in module or module.class_name.startswith("__torch__")]
    if whole:
        name = whole[0].class_name.rpartition(" ")[2]
        notes.append(
            f"the file holds a whole model, {name:.60}; its code is not run, and its layers are taken in their usual order"
        )
    return notes


def recurrent_layers(tensors: Mapping[str, Tensor]) -> tuple[list[LayerWeights], str, dict[str, Tensor], Array | None]:
    """Return the recurrent layers in order, their cell, the other tensors, and the projection of the last layer or None."""
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
        groups.setdefault((match["prefix"], match["layer"] or ""), {})[match["kind"]] = tensor
    if not groups:
        raise ModelError(
            "The state_dict has no parameters of nn.RNN, nn.GRU or nn.LSTM (weight_ih_l0 ...); it has "
            f"{', '.join(list(rest)[:5])}."
        )
    layers, cells, projection = [], set(), None
    for key in sorted(groups, key=_layer_place):
        cell, layer, projection = _layer(groups[key], "".join(key), projection)
        layers.append(layer)
        cells.add(cell)
    if len(cells) != 1:
        raise ModelError(f"The model has layers of {' and '.join(sorted(cells))}, and one kind is expected.")
    return layers, cells.pop(), rest, projection


def _layer_place(key: tuple[str, str]) -> tuple[list[tuple[bool, int, str]], int]:
    """Return what sorts layers: the name of their module, its numbers as numbers, then their number in it.

    Files of safetensors sort names as texts.
    """
    words = [word for word in re.split(r"(\d+)", key[0].rstrip(".")) if word]
    name = [(not word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in words]
    return name, int(key[1].removeprefix("_l") or 0)


def _layer(parts: Mapping[str, Tensor], name: str, below: Array | None) -> tuple[str, LayerWeights, Array | None]:
    """Return the cell and the weights of a layer, and its projection; `below` is that of the layer before it."""
    weight_ih, weight_hh = (_array(parts.get(kind), f"{name} {kind}", 2) for kind in ("weight_ih", "weight_hh"))
    projection = _array(parts["weight_hr"], f"{name} weight_hr", 2) if "weight_hr" in parts else None
    weight_ih, weight_hh = _through(weight_ih, below, name), _through(weight_hh, projection, name)
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
    first, second = (np.asarray(bias.reshape(gates, units), np.float32) for bias in biases)
    blocks = weight_ih.reshape(gates, units, -1), weight_hh.reshape(gates, units, units)
    layer = LayerWeights(*blocks, first, second) if cell == "gru" else LayerWeights(*blocks, first + second)
    return cell, layer, projection


def _through(weight: Array, projection: Array | None, name: str) -> Array:
    """Return weights that read what a projection reads, in place of its result."""
    if projection is None:
        return weight
    if weight.shape[1] != len(projection):
        raise ModelError(f"{name} has weights {weight.shape}, which do not fit the projection {projection.shape} before them.")
    return np.asarray(weight.astype(np.float64) @ projection, np.float32)


def _without_normalization(rest: dict[str, Tensor], units: int, taken: set[int]) -> tuple[dict[str, Tensor], Array | None]:
    """Return tensors without batch normalization of the last layer's outputs, and its scale and shift, `(2, H)`, or None.

    A state_dict does not tell where it is used: it must be the only one, and of a size that nothing else (`taken`) has.
    """
    prefixes = [name.removesuffix("running_mean") for name in rest if name.endswith("running_mean")]
    if len(prefixes) != 1 or units in taken:
        return rest, None
    names = [prefixes[0] + part for part in ("running_mean", "running_var", "weight", "bias")]
    if any(name not in rest or rest[name].sizes != (units,) for name in names):
        return rest, None
    mean, variance, weight, bias = (_array(rest[name], name, 1) for name in names)
    scale = weight / np.sqrt(variance + np.float32(1e-5))
    left = {name: tensor for name, tensor in rest.items() if name not in (*names, prefixes[0] + "num_batches_tracked")}
    return left, np.stack([scale, bias - mean * scale])


def _embedding_and_head(rest: Mapping[str, Tensor], size: int, units: int) -> tuple[Array | None, Array, Array]:
    """Return embedding (None: one-hot), head weight and head bias from the tensors that are in no recurrent layer.

    The first layer reads `size` numbers, and the last one returns `units`.
    """
    matrices = {name: _array(tensor, name, 2) for name, tensor in rest.items() if len(tensor.sizes) == 2}
    vectors = {name: _array(tensor, name, 1) for name, tensor in rest.items() if len(tensor.sizes) == 1}
    heads = [name for name, matrix in matrices.items() if _bias_of(name) in vectors and matrix.shape[1] == units]
    if not heads:  # without a bias: distinguished from the embedding by its name or its place
        fitting = [name for name, matrix in matrices.items() if matrix.shape[1] == units]
        heads = [name for name in fitting if "emb" not in name.lower()][-1:] or fitting[:1]
    if len(heads) != 1:
        raise ModelError(
            f"The state_dict has {len(heads)} linear layers on the {units} units of the last layer, and one is expected: "
            f"{', '.join(heads or matrices) or 'there are no matrices'}."
        )
    weight = matrices[heads[0]]
    named = [name for name, vector in vectors.items() if name == _bias_of(heads[0])]
    biases = named or [name for name, vector in vectors.items() if name.endswith("bias") and len(vector) == len(weight)]
    embeddings = [name for name, matrix in matrices.items() if matrix.shape == (len(weight), size) and name not in heads]
    others = [name for name in rest if name not in (*embeddings[:1], *heads, *biases[:1])]
    if others:
        raise ModelError(f"The model has parameters that no model here has, so it cannot be imported: {', '.join(others[:5])}.")
    if not embeddings and size == units != len(weight):
        embeddings = heads  # one matrix for both, as safetensors stores tied weights
    if not embeddings and size != len(weight):
        raise ModelError(
            f"The first layer reads {size} numbers, and there is neither an embedding of {size} nor one-hot input of "
            f"{len(weight)}."
        )
    bias = vectors[biases[0]] if biases else np.zeros(len(weight), np.float32)
    return (matrices[embeddings[0]] if embeddings else None), weight, bias


def _bias_of(name: str) -> str:
    return name.removesuffix("weight") + "bias"


def _array(tensor: Tensor | None, name: str, dimensions: int) -> Array:
    is_float = tensor is not None and tensor.storage is not None and _is_float(tensor.storage)
    if tensor is None or not is_float or len(tensor.sizes) != dimensions or 0 in tensor.sizes:
        raise ModelError(f"The state_dict has no {name} of {dimensions} dimensions and floating-point numbers.")
    return tensor.array()


def _is_float(storage: Storage) -> bool:
    return storage.is_bfloat16 or storage.elements.dtype.kind == "f"


def _tokens(path: Path, content: Any, vocabulary_file: VocabularyFile | None, num_tokens: int, notes: list[str]) -> list[Token]:
    """Return the tokens, and add to `notes` where they are not those of a file."""
    if vocabulary_file is not None:
        return vocabulary_file.tokens(num_tokens)
    tokens = find_tokens(content, num_tokens) if isinstance(content, Mapping | list | tuple) else None
    if tokens is None and num_tokens == len(string.printable):
        notes.append(
            f"the file has no vocabulary: its {num_tokens} tokens are taken to be the characters of Python's string.printable, "
            "as in char-rnn.pytorch; --vocabulary names others"
        )
        return list(string.printable)
    if tokens is None:
        raise UsageError(
            f"{path} holds no vocabulary of {num_tokens} tokens: name it with --vocabulary FILE (JSON: characters in the "
            "order of their ids, or a map from characters to ids; or the text that the model was trained on)."
        )
    return tokens
