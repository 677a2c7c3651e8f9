"""From a model of audio samples to a model of a table with numbers at every step, and the comparison of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from unrolled.checkpoints.model_file import TableModelFile
from unrolled.errors import ModelError
from unrolled.exchange.numbers_lstm import TOLERANCE, Dense, NumbersModel, Recurrent, num_inputs
from unrolled.exchange.source_model import cell_weights
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import ModelOptions, PairOptions, from_dict
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.scaling import Scaling
from unrolled.tables.spec import TableSpec

SOURCE, TARGET = "input", "output"
"""The columns of an imported model; of several inputs or outputs, they are numbered."""

LINEAR = ("", "linear")
"""Names of the activation that is none."""

CHECKED_SAMPLES = 1500
"""Samples of the check at the end of an import."""


def to_model_file(model: NumbersModel) -> TableModelFile:
    """Return a model of numbers in the form of this package: plain recurrent layers and a linear one.

    Dense layers without an activation are multiplied into the layers that read them. Raises `ModelError` if there are other
    layers, or sizes do not fit.
    """
    *layers, head = _folded(model.layers)
    recurrent = [layer for layer in layers if isinstance(layer, Recurrent)]
    if not recurrent or len(recurrent) < len(layers) or not isinstance(head, Dense) or head.activation not in LINEAR:
        raise ModelError(
            f"The model is {model.describe()}, and recurrent layers with one linear layer after them are expected."
        )
    cells = {layer.cell for layer in recurrent}
    if len(cells) > 1:
        raise ModelError(f"The model has layers of different cells, {' and '.join(sorted(cells))}; one cell is expected.")
    hidden, inputs = max(layer.weights.weight_hh.shape[1] for layer in recurrent), num_inputs(model)
    two_biases = any(layer.weights.bias_hh is not None for layer in recurrent)
    spec = TableSpec(_column(SOURCE, inputs, model.rate), _column(TARGET, len(head.bias), model.rate))
    settings = {"cell": cells.pop(), "layers": len(recurrent), "hidden": hidden, "dropout": 0.0, "residual": False}
    options = from_dict(ModelOptions, {**settings, "two_biases": two_biases}, "the imported model")
    with torch.random.fork_rng(devices=[]):
        network = EncoderDecoder(spec.dims, options, PairOptions(bidirectional=False)).eval()
    skip = np.zeros((len(head.bias), inputs))
    skip[range(model.skip), range(model.skip)] = 1
    weights: dict[str, npt.NDArray[Any]] = {
        "head.weight": np.pad(head.weight, ((0, 0), (0, hidden - head.weight.shape[1]))),
        "head.bias": head.bias,
    }
    weights |= {"skip.weight": skip, "temperature": np.ones(())}
    for number, layer in enumerate(recurrent):
        padded = layer.weights.padded(hidden if number else inputs, hidden)
        weights |= cell_weights(f"encoder.stack.layers.{number}.cell.", padded, two_biases)
    if any(part.any() for layer in recurrent for part in layer.state):
        weights["encoder.start"] = np.array(
            [[np.pad(part, (0, hidden - len(part))) for part in layer.state] for layer in recurrent]
        )
        network.encoder.add_start()
    network.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in weights.items()})
    return TableModelFile(network, spec)


def _folded(layers: Sequence[Dense | Recurrent]) -> list[Dense | Recurrent]:
    """Return layers of which no linear one is before another one: what reads `W x + b` with weights V reads x with V W."""
    folded: list[Dense | Recurrent] = []
    for layer in layers:
        before = folded[-1] if folded else None
        if isinstance(before, Dense) and before.activation in LINEAR:
            folded.pop()
            if isinstance(layer, Dense):
                layer = Dense(layer.weight @ before.weight, layer.weight @ before.bias + layer.bias, layer.activation)
            else:
                weights = layer.weights
                bias = weights.weight_ih @ before.bias + weights.bias
                weights = dataclasses.replace(weights, weight_ih=weights.weight_ih @ before.weight, bias=bias)
                layer = dataclasses.replace(layer, weights=weights)
        folded.append(layer)
    return folded


def _column(name: str, count: int, rate: int | None) -> NumbersColumn:
    """Return a column of numbers that are read and written as they are."""
    columns = [name] if count == 1 else [f"{name}_{number}" for number in range(1, count + 1)]
    infinite = np.full(count, np.inf)
    return NumbersColumn(name, columns, Scaling(np.zeros(count), np.ones(count), -infinite, infinite), rate)


def check_outputs_equal(model: NumbersModel, model_file: TableModelFile) -> list[str]:
    """Return what a comparison of both forms of a model says, on a decaying tone with noise.

    Raises `ModelError` if their outputs differ from the same state on.
    """
    network = model_file.model
    steps = np.arange(CHECKED_SAMPLES)[:, None]
    noise = np.random.default_rng(1).normal(0, 0.02, (CHECKED_SAMPLES, network.dims.source_size))
    inputs = 0.5 * np.sin(0.05 * steps) * np.exp(-steps / 500) + noise
    with torch.inference_mode():
        outputs, _ = network.stream(torch.from_numpy(inputs[:, None].astype(np.float32)), network.initial_state(1))
    expected = model.run(inputs)
    error = float(np.abs(outputs[:, 0].numpy() - expected).max())
    if not error <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
        raise ModelError(f"The imported model's outputs differ by {error:.2g} from those of the file's own equations.")
    found = [f"check: {CHECKED_SAMPLES:,} samples are those of the file's equations within {error:.1g}"]
    return found if network.encoder.start is None else [*found, "it starts from the state that the file stores"]
