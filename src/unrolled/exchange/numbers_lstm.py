"""LSTM and GRU models of audio samples as their files describe them; `numbers_import` makes models of tables of them.

RTNeural writes the layers of Keras (gates i f c o and z r h) or a `state_dict` of PyTorch as JSON; GuitarML puts the latter
next to `model_data`, whose `skip` says how many inputs are added to the output. An LSTM of Neural Amp Modeler (`.nam`) is one
list of weights: for each layer the rows of `[W_ih | W_hh]` (gates i f g o), the bias, and h and c, which are the state after a
long silence.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import storage_error
from unrolled.display import plural
from unrolled.errors import DataError, ModelError
from unrolled.exchange.gate_orders import layer_in_our_order
from unrolled.exchange.pytorch_state_dict import recurrent_layers, tensor_of
from unrolled.exchange.source_model import LayerWeights
from unrolled.runtime.numpy_model import sigmoid

Array = npt.NDArray[np.float64]
MAX_JSON_BYTES = 256 << 20
MAX_WEIGHT, MAX_RATE = float(np.finfo(np.float32).max), 10_000_000
TOLERANCE = 1e-5
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "": lambda x: x,
    "linear": lambda x: x,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: x.clip(0),
}


@dataclass(frozen=True)
class Dense:
    """`activation(W x + b)`; `weight` `(O, I)`, `bias` `(O,)`."""

    weight: Array
    bias: Array
    activation: str = ""


@dataclass(frozen=True)
class Recurrent:
    """A recurrent layer and the state that it starts from: h, and c of an LSTM, each `(H,)`."""

    cell: str
    weights: LayerWeights
    state: tuple[Array, ...]


@dataclass(frozen=True)
class NumbersModel:
    """Layers of a model from numbers to numbers; the first `skip` inputs are added to the outputs."""

    format: str
    layers: tuple[Dense | Recurrent, ...]
    skip: int = 0
    rate: int | None = None
    """Samples per second, if the file says so."""

    def describe(self) -> str:
        """Return format and layers in one line."""
        parts = [
            f"{layer.cell} of {layer.weights.weight_hh.shape[1]} units"
            if isinstance(layer, Recurrent)
            else f"dense to {len(layer.bias)}"
            for layer in self.layers
        ]
        skip = [f"{plural(self.skip, 'input')} added to the output"] if self.skip else []
        return f"{self.format}: {', '.join(parts + skip)}"

    def run(self, inputs: Array) -> Array:
        """Return the outputs `(T, O)` for inputs `(T, I)`, step by step."""
        states = [layer.state if isinstance(layer, Recurrent) else () for layer in self.layers]
        outputs = []
        for sample in inputs:
            x = sample
            for index, layer in enumerate(self.layers):
                if isinstance(layer, Dense):
                    x = ACTIVATIONS[layer.activation](layer.weight @ x + layer.bias)
                else:
                    states[index] = step(layer, x, states[index])
                    x = states[index][0]
            outputs.append(x + np.pad(sample[: self.skip], (0, len(x) - self.skip)))
        return np.array(outputs)


def step(layer: Recurrent, x: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
    """Return the next state of a layer for an input `(I,)`; its first part is the output.

    The equations are those of `nn.cells`.
    """
    weights, h = layer.weights, state[0]
    from_x = np.einsum("ghi,i->gh", weights.weight_ih, x) + weights.bias
    from_h = np.einsum("ghi,i->gh", weights.weight_hh, h) + (0 if weights.bias_hh is None else weights.bias_hh)
    if layer.cell == "lstm":
        i, f, g, o = from_x + from_h
        c = sigmoid(f) * state[1] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if layer.cell == "gru":
        r, z = sigmoid(from_x[:2] + from_h[:2])
        return ((1 - z) * np.tanh(from_x[2] + r * from_h[2]) + z * h,)
    return (np.tanh(from_x + from_h)[0],)


def is_numbers_model(path: Path, head: bytes) -> bool:
    """Return whether a file is JSON of RTNeural or Neural Amp Modeler."""
    return (
        path.is_file()
        and head.lstrip()[:1] == b"{"
        and (path.suffix == ".nam" or any(name in head for name in (b'"in_shape"', b'"weight', b".weight", b'"model_data"')))
    )


def read_numbers_model(path: Path) -> NumbersModel:
    """Return the model of a `.nam` or RTNeural file. Raises `ModelError` for other networks, which are named."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ModelError(f"{path} is larger than {MAX_JSON_BYTES >> 20} MB, and models of this kind are not.")
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is no JSON, or damaged: {error!s:.100}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} is no model: a JSON object is expected.")
    if "architecture" in value:
        return _checked(_nam(value))
    if isinstance(value.get("layers"), list):
        return _checked(NumbersModel("RTNeural JSON", tuple(map(_rtneural_layer, value["layers"]))))
    return _checked(_guitarml(value) if "model_data" in value else _state_dict(value))


def _checked(model: NumbersModel) -> NumbersModel:
    """Return a model. Raises `ModelError` if its layers do not fit each other, or a weight is not finite in float32."""
    width, shapes = num_inputs(model), list[tuple[Any, tuple[int, ...]]]()
    for number, layer in enumerate(model.layers):
        if isinstance(layer, Dense):
            units = len(layer.bias)
            shapes = [(layer.weight, (units, width)), (layer.bias, (units,))]
        else:
            weights, (gates, units) = layer.weights, layer.weights.weight_hh.shape[:2]
            shapes = [(weights.weight_ih, (gates, units, width)), (weights.weight_hh, (gates, units, units))]
            shapes += [(bias, (gates, units)) for bias in (weights.bias, weights.bias_hh) if bias is not None]
        for array, shape in shapes:
            if array.shape != shape or not array.size:
                raise ModelError(f"Layer {number} has weights of shape {array.shape}, and {shape} is expected there.")
            if not np.abs(array).max() <= MAX_WEIGHT:
                raise ModelError("The model holds weights that are not finite: its training had diverged. Take another one.")
        width = units
    return model


def _nam(value: Mapping[str, Any]) -> NumbersModel:
    if value["architecture"] != "LSTM":
        raise ModelError(
            f"The model is a {value['architecture']!r:.60} of Neural Amp Modeler, which is no recurrent network; LSTM is "
            "expected."
        )
    config, weights = value["config"], np.asarray(value["weights"], np.float64).reshape(-1)
    inputs, units, num_layers, outputs = (
        _whole_number(name, config.get(name, default), len(weights))
        for name, default in (("input_size", 1), ("hidden_size", None), ("num_layers", 1), ("out_channels", 1))
    )
    sizes = [inputs] + [units] * num_layers
    position, layers = 0, []

    def take(*shape: int) -> Array:
        nonlocal position
        count = int(np.prod(shape))
        if min(shape) < 1 or position + count > len(weights):
            raise ModelError(f"The file has {len(weights)} weights, fewer than its configuration {dict(config)} needs.")
        position += count
        return weights[position - count : position].reshape(shape)

    for size, units in zip(sizes, sizes[1:], strict=False):
        matrix = take(4, units, size + units)
        layer = LayerWeights(matrix[:, :, :size], matrix[:, :, size:], take(4, units))
        layers.append(Recurrent("lstm", layer, (take(units), take(units))))
    head = Dense(take(outputs, sizes[-1]), take(outputs))
    if position != len(weights):
        raise ModelError(f"The file has {len(weights)} weights, and its configuration {dict(config)} needs {position}.")
    rate = value.get("sample_rate") or None
    rate = None if rate is None else _whole_number("sample_rate", rate, MAX_RATE)
    return NumbersModel("Neural Amp Modeler LSTM", (*layers, head), rate=rate)


def _whole_number(name: str, value: Any, largest: int) -> int:
    """Return a number that a file states. Raises `ModelError` if it is not whole, or not from 1 to `largest`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or not 1 <= value <= largest:
        raise ModelError(f"The file says {name}={value!r:.40}, and a whole number from 1 to {largest:,} is expected.")
    return int(value)


def _rtneural_layer(value: Mapping[str, Any]) -> Dense | Recurrent:
    kind, activation = value["type"], value.get("activation", "")
    if kind not in ("dense", "time-distributed-dense", "lstm", "gru"):
        raise ModelError(f"The model has a layer {kind!r:.60}: dense, lstm and gru layers of RTNeural can be read.")
    arrays = [np.asarray(part, np.float64) for part in value["weights"]]
    if kind in ("dense", "time-distributed-dense"):
        if activation not in ACTIVATIONS:
            raise ModelError(
                f"A dense layer has the activation {activation!r:.60}; known are {', '.join(filter(None, ACTIVATIONS))}."
            )
        return Dense(arrays[0].T, arrays[1].reshape(-1), activation)
    kernel, recurrent, bias = arrays
    units = len(recurrent)
    gates = recurrent.shape[1] // units
    biases = bias.reshape(-1, gates, units)
    layer = LayerWeights(
        kernel.T.reshape(gates, units, -1),
        recurrent.T.reshape(gates, units, units),
        biases[0],
        biases[1] if len(biases) == 2 else None,
    )
    layer = layer_in_our_order(layer, kind, "ifgo" if kind == "lstm" else "zrn")
    return Recurrent(kind, layer, (np.zeros(units),) * (2 if kind == "lstm" else 1))


def _state_dict(value: Mapping[str, Any]) -> NumbersModel:
    """Return the model of a `state_dict` that was written as JSON: recurrent layers, then one linear layer."""
    arrays = {name: np.asarray(part, np.float32) for name, part in value.items() if isinstance(part, Sequence)}
    layers, cell, rest, projection = recurrent_layers({name: tensor_of(array) for name, array in arrays.items()})
    matrices = [name for name in rest if arrays[name].ndim == 2]
    if len(matrices) != 1:
        raise ModelError(
            f"The state_dict has {len(matrices)} matrices besides its recurrent layers, and one linear layer is expected."
        )
    weight = arrays[matrices[0]].astype(np.float64)
    bias = arrays.get(matrices[0].removesuffix("weight") + "bias", np.zeros(len(weight))).astype(np.float64)
    weight = weight if projection is None else weight @ projection
    states = 2 if cell == "lstm" else 1
    recurrent = tuple(Recurrent(cell, layer, (np.zeros(layer.weight_hh.shape[1]),) * states) for layer in layers)
    return NumbersModel("PyTorch state_dict as JSON", (*recurrent, Dense(weight, bias)))


def _guitarml(value: Mapping[str, Any]) -> NumbersModel:
    """Return the model of a file of GuitarML: a `state_dict`, and the settings of its network."""
    settings = value["model_data"]
    if settings.get("model", "SimpleRNN") != "SimpleRNN":
        raise ModelError(f"The model is a {settings['model']!r:.60} of GuitarML, and SimpleRNN is expected.")
    model = _state_dict(value["state_dict"])
    skip = settings.get("skip") or 0
    return dataclasses.replace(model, format="GuitarML JSON", skip=skip and _whole_number("skip", skip, num_inputs(model)))


def num_inputs(model: NumbersModel) -> int:
    """Return the number of inputs."""
    first = model.layers[0]
    return int(first.weights.weight_ih.shape[2] if isinstance(first, Recurrent) else first.weight.shape[1])


def check_vectors(model: NumbersModel, paths: Sequence[str]) -> str:
    """Return what recorded inputs and outputs (two CSV files) say.

    Raises `ModelError` if the outputs differ by more than 1e-5.
    """
    if len(paths) != 2:
        raise DataError(
            f"{len(paths)} files of recorded vectors are given, and two are expected: --vectors IN.csv --vectors OUT.csv."
        )
    inputs, expected = (_read_csv(Path(path)) for path in paths)
    outputs = model.run(inputs)
    if outputs.shape != expected.shape:
        raise ModelError(f"The model gives outputs of shape {outputs.shape}, and {paths[1]} has {expected.shape}.")
    error = float(np.abs(outputs - expected).max())
    if not error <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            f"The outputs differ by {error:.2g} from those in {paths[1]}: the file has another convention, or is another model."
        )
    return f"{len(expected):,} recorded outputs are met within {error:.1g}"


def _read_csv(path: Path) -> Array:
    try:
        return np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no CSV file of numbers: {error!s:.100}.") from error
