"""Weights of textgenrnn: `NAME_weights.hdf5`, with `NAME_vocab.json` and `NAME_config.json` next to it.

Its network reads a window of the last `max_length` tokens anew for each token, from the zero state:

    embedding -> LSTM rnn_1 -> LSTM rnn_2 ...      layers of one or two directions
    y = [embedding, outputs of all layers]         `(window, D)`
    a = softmax(y attention_W)                     weights over the window
    logits = (sum of a y) output_kernel + output_bias

Token 0 is padding, before the first token of a text. Weights that were trained on a GPU with Keras 2.1 are of CuDNNLSTM: two
biases, and kernels that are transposed within each gate. Source: model.py and AttentionWeightedAverage.py of textgenrnn 2.0.0.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from unrolled.errors import ModelError, UsageError
from unrolled.exchange.keras_config import KerasLayer
from unrolled.exchange.keras_model import GATE_ORDERS, HDF5_MAGIC, arrays_below, child_of, in_order, open_hdf5, read_layer
from unrolled.exchange.source_model import ABSENT_BIAS, Array, LayerWeights, SourceModel, to_rows
from unrolled.exchange.vocabulary import VocabularyFile, build_vocabulary
from unrolled.network_shapes import window_network_shapes
from unrolled.options import ModelOptions
from unrolled.runtime.text_network import MAX_WINDOW, TextModel, build_window_network
from unrolled.text.word_list_tokenizer import ALWAYS_APART, WordListTokenizer

DEFAULT_WINDOW = 40
"""`max_length` of textgenrnn."""

PARTS = {"embedding", "rnn_1", "attention", "output"}
MAX_LAYERS = 64


@dataclass(frozen=True)
class WindowSource(SourceModel):
    """A `SourceModel` that reads windows; `head_weight` is `(V, D)`.

    Attributes:
        window: Tokens of a window.
        attention: `(D,)`.
        backward: The other direction of each layer, if there is one.
    """

    window: int = DEFAULT_WINDOW
    attention: Array = dataclasses.field(default_factory=lambda: np.zeros(0, np.float32))
    backward: tuple[LayerWeights, ...] = ()
    max_checked: ClassVar[int] = 500
    """A token costs as much as a window of tokens of another model."""

    def describe(self) -> str:
        directions = " in two directions" if self.backward else ""
        return f"{super().describe()}, attention over windows of {self.window} tokens{directions}"

    def with_layers(self, change: Callable[[LayerWeights], LayerWeights]) -> SourceModel:
        layers, backward = tuple(map(change, self.layers)), tuple(map(change, self.backward))
        return dataclasses.replace(self, layers=layers, backward=backward)

    def weight_arrays(self) -> list[Array]:
        parts = [part for layer in self.backward for part in dataclasses.astuple(layer) if part is not None]
        return [*super().weight_arrays(), self.attention, *parts]

    def check(self) -> None:
        if len(set(self.hidden_sizes)) > 1:
            raise ModelError(f"The layers have {self.hidden_sizes} units, and textgenrnn gives all layers the same number.")
        num_tokens = len(self.head_bias)
        for name, part in (("embedding", self.embedding), ("output", self.head_weight)):
            if part is None or part.ndim != 2 or len(part) != num_tokens:
                shape = None if part is None else part.shape
                raise ModelError(f"The layer {name} has weights of shape {shape}, and the output has {num_tokens} tokens.")
        self.check_values()

    def to_model_file(self) -> TextModel:
        """Return the model in the form of this package; its logits are those of the source, and padding is never drawn."""
        self.check()
        ids = self.vocabulary.source_ids
        arrays = {
            "embedding.weight": to_rows(np.zeros((0, 0)) if self.embedding is None else self.embedding, ids, 0.0),
            "attention.weight": self.attention.astype(np.float32),
            "head.weight": to_rows(self.head_weight, ids, 0.0),
            "head.bias": to_rows(self.head_bias, ids, ABSENT_BIAS),
        }
        arrays["head.bias"][0] = ABSENT_BIAS
        for direction, layers in (("cell", self.layers), ("backward", self.backward)):
            for index, layer in enumerate(layers):
                parts = {"weight_ih": layer.weight_ih, "weight_hh": layer.weight_hh, "bias": layer.bias}
                for name, part in parts.items():
                    value = np.ascontiguousarray(part.reshape(-1, *part.shape[2:]), np.float32)
                    arrays[f"stack.layers.{index}.{direction}.{name}"] = value
        width = arrays["embedding.weight"].shape[1]
        options = ModelOptions(
            "lstm", len(self.layers), self.hidden_sizes[0], width, dropout=0.0, residual=False, initialization="uniform"
        )
        expected = window_network_shapes(len(ids), bool(self.backward), options)
        for name, shape in expected.items():
            if arrays[name].shape != shape:
                raise ModelError(f"{name} has the shape {arrays[name].shape}, and {shape} is expected by the other layers.")
        network = build_window_network(arrays, len(ids), options, self.window)
        return TextModel(network, self.vocabulary.tokenizer, self.vocabulary.documents, options, dict(self.facts))


def is_textgenrnn(path: Path, head: bytes) -> bool:
    """Return whether a file is HDF5 with the layers of textgenrnn."""
    if not head.startswith(HDF5_MAGIC):
        return False
    with open_hdf5(path) as file:
        return set(_root(file)) >= PARTS


def read_textgenrnn(path: Path, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a file of weights.

    Raises:
        ModelError: The weights are damaged or do not fit each other, the configuration or the vocabulary.
        UsageError: There is no vocabulary.
    """
    with open_hdf5(path) as file:
        root, size = _root(file), path.stat().st_size
        layers = _layers(root, size)
        embedding, attention, output = (_single(root, name, size) for name in ("embedding", "attention", "output"))
        has_context = "context_output" in root
    if len(output) != 2 or any(part.ndim != 2 for part in (embedding[0], attention[0], output[0])):
        raise ModelError(f"{path} holds weights of textgenrnn, but its output, embedding or attention has another shape.")
    head_bias = output[1].reshape(-1)
    config_path, config = _read_config(path, vocabulary_file)
    forward, backward = tuple(pair[0] for pair in layers), tuple(pair[1] for pair in layers if len(pair) > 1)
    window = _window(config_path, config, forward, bool(backward))
    tokens = _vocabulary_file(path, vocabulary_file).tokens(len(head_bias))
    vocabulary = build_vocabulary(tokens, ALWAYS_APART if config.get("word_level") else "")
    are_words = isinstance(vocabulary.tokenizer, WordListTokenizer)
    if bool(config.get("word_level", are_words)) != are_words:
        kind = "words" if are_words else "characters"
        raise ModelError(
            f"{config_path} says word_level {not are_words}, and the vocabulary is of {kind}: it is of another model."
        )
    notes = [*vocabulary.notes, "token 0 is padding: it gets the probability zero, as textgenrnn never writes it"]
    if config_path is None:
        notes.append(f"windows of {window} tokens, textgenrnn's default: its NAME_config.json with max_length was not found")
    if has_context:
        notes.append("the layers for context labels are left out, as textgenrnn does after training")
    return WindowSource(
        "textgenrnn weights", "lstm", forward, output[0].T, head_bias, vocabulary, embedding[0], GATE_ORDERS["lstm"],
        tuple(notes), window=window, attention=attention[0].reshape(-1), backward=backward,
    )  # fmt: skip


def _root(file: Any) -> Any:
    return child_of(file, "model_weights") if "model_weights" in file else file


def _single(root: Any, name: str, size: int) -> list[np.ndarray]:
    """Return the weights of a layer; the only one of attention has a name of its own."""
    arrays = dict(arrays_below(child_of(root, name), size))
    found = list(arrays.values()) if name == "attention" else in_order(arrays)
    if not found:
        raise ModelError(f"The layer {name} has no weights: the file is damaged.")
    return found


def _layers(root: Any, size: int) -> list[list[LayerWeights]]:
    """Return each recurrent layer, as a list of its directions."""
    found: list[list[LayerWeights]] = []
    while (name := f"rnn_{len(found) + 1}") in root and len(found) < MAX_LAYERS:
        arrays = dict(arrays_below(child_of(root, name), size))
        directions = [{path: array for path, array in arrays.items() if word in path} for word in ("forward", "backward")]
        found.append([_layer(name, in_order(parts)) for parts in (directions if any(directions) else [arrays])])
    if len({len(directions) for directions in found}) > 1:
        raise ModelError("Some layers read in both directions and others do not, which textgenrnn never does.")
    return found


def _layer(name: str, parts: list[np.ndarray]) -> LayerWeights:
    is_cudnn = len(parts) == 3 and parts[1].ndim == 2 and parts[2].size == 8 * len(parts[1])
    return read_layer(KerasLayer("CuDNNLSTM" if is_cudnn else "LSTM", name, {}), parts, "lstm")


def _stem(path: Path) -> str:
    """Return the NAME of `NAME_weights.hdf5` or `NAME_vocab.json`."""
    return path.stem.removesuffix("_weights").removesuffix("_vocab")


def _vocabulary_file(path: Path, given: VocabularyFile | None) -> VocabularyFile:
    default = path.with_name(f"{_stem(path)}_vocab.json")
    if given is None and not default.is_file():
        raise UsageError(
            f"{path} holds weights of textgenrnn without its vocabulary, and there is no {default.name} next to it: name it "
            "with --vocabulary FILE (textgenrnn's NAME_vocab.json, or textgenrnn_vocab.json of the package)."
        )
    return VocabularyFile.read(default) if given is None else given


def _read_config(path: Path, vocabulary_file: VocabularyFile | None) -> tuple[Path | None, dict[str, Any]]:
    """Return the configuration next to the weights, or next to the vocabulary, with its path; None if there is none."""
    named = [path] if vocabulary_file is None else [path, vocabulary_file.path]
    places = [place.with_name(f"{_stem(place)}_config.json") for place in named]
    place = next((place for place in places if place.is_file()), None)
    if place is None:
        return None, {}
    try:
        config = json.loads(place.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{place} is no JSON: {str(error):.80}. Move it away to import with textgenrnn's defaults.") from error
    if not isinstance(config, dict):
        raise ModelError(f"{place} is no configuration of textgenrnn, which is a JSON object with max_length.")
    return place, config


def _window(path: Path | None, config: dict[str, Any], layers: tuple[LayerWeights, ...], is_bidirectional: bool) -> int:
    """Return the length of the window. Raises `ModelError` if the configuration is of another model than the weights."""
    found = {
        "rnn_layers": len(layers), "rnn_size": layers[0].weight_hh.shape[1], "rnn_bidirectional": is_bidirectional,
        "dim_embeddings": layers[0].weight_ih.shape[2],
    }  # fmt: skip
    for name, value in found.items():
        if config.get(name, value) != value:
            raise ModelError(f"{path} says {name} {config[name]!r:.40}, and the weights have {value}: it is of another model.")
    window = config.get("max_length", DEFAULT_WINDOW)
    if type(window) is not int or not 1 <= window <= MAX_WINDOW:
        raise ModelError(f"{path} says max_length {window!r:.40}, and 1 to {MAX_WINDOW} tokens are expected.")
    return window
