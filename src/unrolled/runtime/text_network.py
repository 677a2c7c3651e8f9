"""A trained text model as plain arrays: what the numpy step, the native step, the portable step and the exporters read.

`read_text_model` makes it of a model file. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.checkpoints.array_file import (
    read_documents,
    read_generation,
    read_history,
    read_model,
    read_tokenizer,
    require_finite,
)
from unrolled.errors import ModelError, UsageError
from unrolled.network_shapes import HARD_SIGMOID_CELLS, text_network_shapes, window_network_shapes
from unrolled.options import ModelOptions, from_dict
from unrolled.text.tokenizer import Tokenizer

Floats: TypeAlias = npt.NDArray[np.floating[Any]]

GATE_NAMES: dict[str, tuple[str, ...]] = {
    "rnn": ("h",),
    "gru": ("r", "z", "n"),
    "gru-reset-before": ("r", "z", "n"),
    "lstm": ("i", "f", "g", "o"),
    "mogrifier-gru": ("r", "z", "n"),
    "mogrifier-lstm": ("i", "f", "g", "o"),
    "mingru": ("z", "n"),
    "minlstm": ("i", "f", "n"),
    "rg-lru": ("r", "i", "n"),
    "slstm": ("i", "f", "g", "o"),
}
GATE_NAMES |= {hard: GATE_NAMES[cell] for cell, hard in HARD_SIGMOID_CELLS.items()}
"""The gates of each cell, in the order in which their rows are stacked in `weight_ih`, `weight_hh` and the biases.

The equations are those of `nn.cells`. "gru" has the reset gate after the matrix product, `n = tanh(W_xn x + b_n + r (W_hn h +
b_hn))`, as torch.nn.GRU and cuDNN; "gru-reset-before" before it, `n = tanh(W_xn x + b_n + W_hn (r h) + b_hn)`. Both end with
`h' = (1 - z) n + z h`. The forget gate of the LSTM has its whole bias stored: nothing is added to it when it runs.
"""

_LSTM_STATE = dict.fromkeys(("lstm", "mogrifier-lstm", HARD_SIGMOID_CELLS["lstm"]), ("h", "c"))
STATE_NAMES = _LSTM_STATE | {"slstm": ("h", "c", "n", "m")}
"""The parts of the state of a layer, each of H numbers; of a cell that is not named here, `h` alone."""

WINDOW_CELL = "lstm-window"
"""The cell of a `TextNetwork` that reads windows: in no table of cells, so that what needs a state refuses it by name."""

MAX_WINDOW = 4096
"""Most tokens of a window."""

NORM_EPSILON = 1e-5
"""What layer norm adds to the variance."""


@dataclass(frozen=True, eq=False)
class TextLayer:
    """The arrays of one layer of H units and G gates with an input of I numbers; `gate` gives the rows of one gate.

    `bias` is added to `W_x x`, and `bias_hh`, if there is one, to `W_h h`. `norm_weight` and `norm_bias` are those of the layer
    norm before a residual layer.
    """

    gate_names: tuple[str, ...]
    weight_ih: Floats
    """`(G H, I)`"""
    weight_hh: Floats
    """`(G H, H)`; empty for a cell whose gates depend on the input only"""
    bias: Floats
    """`(G H,)`"""
    bias_hh: Floats | None = None
    """`(G H,)`"""
    norm_weight: Floats | None = None
    """`(H,)`"""
    norm_bias: Floats | None = None
    """`(H,)`"""
    others: Mapping[str, Floats] = field(default_factory=dict)
    """What few cells have, by name; all arrays of a cell that is not in `GATE_NAMES`: those above are empty then."""

    def gate(self, name: str) -> dict[str, Floats]:
        """Return the rows of one gate: `weight_ih` `(H, I)`, `weight_hh` `(H, H)`, `bias` and `bias_hh` `(H,)`; no copies.

        `bias_hh` is left out where there is one bias only.
        """
        size = len(self.bias) // len(self.gate_names)
        rows = slice(self.gate_names.index(name) * size, (self.gate_names.index(name) + 1) * size)
        arrays = {"weight_ih": self.weight_ih, "weight_hh": self.weight_hh, "bias": self.bias, "bias_hh": self.bias_hh}
        return {key: array[rows] for key, array in arrays.items() if array is not None and array.size}


@dataclass(frozen=True, eq=False)
class Window:
    """What a network has that predicts from the last tokens alone, as textgenrnn does. D is E plus the widths of all layers."""

    length: int
    """Tokens of a window; before the first one there is padding, token 0."""
    attention: Floats
    """`(D,)`"""
    backward: tuple[TextLayer, ...] = ()
    """The other direction of each layer, where layers read in both."""


@dataclass(frozen=True, eq=False)
class TextNetwork:
    """A recurrent language model of V tokens: embedding, L layers of H units, output layer.

    A plain layer is `cell(x)`, a residual layer `x + cell(norm(x))`; the output layer is `head_weight y + head_bias`. The
    temperature that a training is calibrated with is part of the output layer already.

    With a `window`, each token is predicted from the last `window.length` tokens, which the layers (LSTMs) read from the zero
    state: embeddings and outputs of all layers, joined to D numbers per step, are averaged over the window with the weights
    `softmax(attention y)`, and the output layer reads this average.
    """

    cell: str
    """A key of `GATE_NAMES`, `WINDOW_CELL`, or a cell from elsewhere, which only torch can run."""
    layers: tuple[TextLayer, ...]
    head_weight: Floats
    """`(V, H)`; `(V, D)` with a window"""
    head_bias: Floats
    """`(V,)`"""
    embedding: Floats | None = None
    """`(V, E)`; None for one-hot inputs, whose E is V."""
    residual: bool = False
    window: Window | None = None

    @property
    def vocab_size(self) -> int:
        """V."""
        return len(self.head_bias)

    @property
    def hidden_size(self) -> int:
        """H; D with a window."""
        return int(self.head_weight.shape[1])

    @property
    def state_names(self) -> tuple[str, ...]:
        """The parts of the state of a layer: `h`, and what else its cell keeps."""
        return STATE_NAMES.get(self.cell, ("h",))

    @property
    def num_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(array.size for array in self.arrays().values())

    def arrays(self) -> dict[str, Floats]:
        """Return all arrays, under their names in a model file."""
        arrays = {"embedding.weight": self.embedding, "head.weight": self.head_weight, "head.bias": self.head_bias}
        for index, layer in enumerate(self.layers):
            prefix = f"stack.layers.{index}."
            names = ("weight_ih", "weight_hh", "bias", "bias_hh")
            named = {name: array for name in names if (array := getattr(layer, name)) is not None and array.size}
            arrays |= {f"{prefix}cell.{name}": array for name, array in (named | dict(layer.others)).items()}
            arrays |= {f"{prefix}norm.weight": layer.norm_weight, f"{prefix}norm.bias": layer.norm_bias}
        if self.window is not None:
            arrays["attention.weight"] = self.window.attention
            for index, layer in enumerate(self.window.backward):
                prefix = f"stack.layers.{index}.backward."
                arrays |= {f"{prefix}{name}": getattr(layer, name) for name in ("weight_ih", "weight_hh", "bias")}
        return {name: array for name, array in arrays.items() if array is not None}

    def embedding_matrix(self) -> Floats:
        """Return the vectors of all tokens, `(V, E)`; the identity matrix for one-hot inputs."""
        return np.eye(self.vocab_size, dtype=self.head_weight.dtype) if self.embedding is None else self.embedding


@dataclass(frozen=True, eq=False)
class TextModel:
    """The content of the file of a text model: the network, the tokenizer, and what is known about it.

    `documents` is a choice of `--documents`; `options` is what the network was built with, `history` has facts of its training,
    `generation` its own defaults of sampling.
    """

    network: TextNetwork
    tokenizer: Tokenizer
    documents: str = "none"
    options: ModelOptions = field(default_factory=ModelOptions)
    history: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the JSON value of the header of its file."""
        texts = {"tokenizer": self.tokenizer.to_json(), "documents": self.documents, "history": self.history}
        window = {} if self.network.window is None else {"window": self.network.window.length}
        generation = {"generation": self.generation} if self.generation else {}
        return {"kind": "text", "options": asdict(self.options), **window, **generation, **texts}


def read_text_model(path: Path) -> TextModel:
    """Read the model file of a text model, with numpy only.

    Args:
        path: The file.

    Returns:
        The model. Its arrays are float32; those that are stored in bfloat16 or float16 are converted exactly.

    Raises:
        ModelError: The file is missing, damaged, no model file, newer than this version, or a model of a table.

    Example:
        >>> model = read_text_model(Path("runs/book/model.safetensors"))
        >>> model.network.cell, model.network.layers[0].gate_names
        ('lstm', ('i', 'f', 'g', 'o'))
    """
    header, arrays = read_model(path)
    return to_text_model(path, header, arrays)


def to_text_model(path: Path, header: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> TextModel:
    """Return the model in what `read_model` read from `path`. Raises `ModelError` as `read_text_model` does."""
    kind = header.get("kind")
    if kind != "text":
        raise ModelError(
            f"{path} is a model of a table, and one of texts is expected."
            if kind == "table"
            else f"{path} holds no model but {kind!r}."
        )
    try:
        tokenizer = read_tokenizer(header)
        options = from_dict(ModelOptions, header["options"], "model")
        weights = {name: _to_float32(array) for name, array in arrays.items()}
        require_finite(weights)
        window = header.get("window")
        if window is None:
            network = build_network(weights, tokenizer.vocab_size, options)
        else:
            network = build_window_network(weights, tokenizer.vocab_size, options, window)
        facts = read_history(header), read_generation(header)
        return TextModel(network, tokenizer, read_documents(header), options, *facts)
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
        raise ModelError(f"{path} is no model that this version can read: {error}.") from error


def build_network(arrays: Mapping[str, Floats], vocab_size: int, options: ModelOptions) -> TextNetwork:
    """Return a network of `vocab_size` tokens with these options and these arrays, under their names in a model file.

    Raises `ValueError` if the names or shapes are not those of the options; `UsageError` as `embedding_dim` does.
    """
    gate_names = GATE_NAMES.get(options.cell, ())
    expected, given = text_network_shapes(vocab_size, len(gate_names), options), {n: a.shape for n, a in arrays.items()}
    if not gate_names:  # torch knows the arrays of its other cells, and compares them when it builds the network
        expected, given = ({n: s for n, s in shapes.items() if ".cell." not in n} for shapes in (expected, given))
    if given != expected:
        raise ValueError("the weights are not those of its options")
    layers = tuple(_layer(arrays, gate_names, f"stack.layers.{index}.") for index in range(options.layers))
    return TextNetwork(
        options.cell, layers, arrays["head.weight"], arrays["head.bias"], arrays.get("embedding.weight"), options.residual
    )


def _layer(arrays: Mapping[str, Floats], gate_names: tuple[str, ...], prefix: str) -> TextLayer:
    """Return the layer whose arrays have names that begin with `prefix`."""
    norm: dict[str, Any] = {f"norm_{key}": arrays.get(f"{prefix}norm.{key}") for key in ("weight", "bias")}
    start = f"{prefix}cell."
    cell = {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
    return cell_layer(cell, gate_names, **norm)


def cell_layer(cell: Mapping[str, Floats], gate_names: tuple[str, ...], **norm: Any) -> TextLayer:
    """Return a layer of the arrays of a cell, under their names in it, and those of its norm, if there is one."""
    named: dict[str, Any] = {name: cell[name] for name in GATE_ARRAYS if gate_names and name in cell}
    others = {name: array for name, array in cell.items() if name not in named}
    return TextLayer(gate_names, **(_NO_ARRAYS | named), **norm, others=others)


def build_window_network(arrays: Mapping[str, Floats], vocab_size: int, options: ModelOptions, length: Any) -> TextNetwork:
    """Return a network that reads windows of `length` tokens, as `build_network` does."""
    backward_names = [name for name in arrays if ".backward." in name]
    if options.cell != "lstm" or type(length) is not int or not 1 <= length <= MAX_WINDOW:
        raise ValueError(f"its window is {str(length)[:40]!r}, and LSTMs over 1 to {MAX_WINDOW} tokens are expected")
    expected = window_network_shapes(vocab_size, bool(backward_names), options)
    if {name: array.shape for name, array in arrays.items()} != expected:
        raise ValueError("the weights are not those of its options")
    directions = ("cell", "backward") if backward_names else ("cell",)
    layers, *backward = (
        tuple(_lstm_layer(arrays, f"stack.layers.{index}.{direction}.") for index in range(options.layers))
        for direction in directions
    )
    window = Window(length, arrays["attention.weight"], *backward)
    head_weight, head_bias = arrays["head.weight"], arrays["head.bias"]
    return TextNetwork(WINDOW_CELL, layers, head_weight, head_bias, arrays["embedding.weight"], window=window)


def _lstm_layer(arrays: Mapping[str, Floats], prefix: str) -> TextLayer:
    return cell_layer({name: arrays[f"{prefix}{name}"] for name in GATE_ARRAYS[:3]}, GATE_NAMES["lstm"])


GATE_ARRAYS = ("weight_ih", "weight_hh", "bias", "bias_hh")
"""The arrays of a cell that have rows for each gate."""

_NO_ARRAYS: dict[str, Any] = {
    "weight_ih": np.empty((0, 0), np.float32),
    "weight_hh": np.empty((0, 0), np.float32),
    "bias": np.empty(0, np.float32),
}


def _to_float32(array: npt.NDArray[Any]) -> Floats:
    """Return a weight in float32, which has every value of the shorter formats."""
    if array.dtype not in (np.float32, np.float16):
        raise ValueError("the weights are not float32")
    return array.astype(np.float32, copy=False)
