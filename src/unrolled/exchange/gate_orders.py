"""The gate orders and conventions of common libraries, and how the same weights read in another of them.

A forget gate without its bias of one, or two swapped gates, give a model that still predicts better than chance. So each import
also measures what the weights would predict if they had been stored in another convention.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.network_shapes import HARD_SIGMOID_CELLS, sigmoid_cell

OUR_ORDERS = {"lstm": "ifgo", "gru": "rzn", "gru-reset-before": "rzn"}
OUR_ORDERS |= {hard: OUR_ORDERS[cell] for cell, hard in HARD_SIGMOID_CELLS.items()}
ORDERS = {
    "lstm": {
        "ifgo": "PyTorch, Keras", "iofg": "ONNX", "igfo": "TensorFlow BasicLSTMCell", "ifog": "char-rnn, torch-rnn, ncnn",
    },
    "gru": {"rzn": "PyTorch", "zrn": "Keras, ONNX, torch-rnn"},
}  # fmt: skip
"""The gate orders in use, by the letters of our cells, with the libraries that store them."""

FORGET_GATE = 1
CANDIDATES = "gn"
"""What is no gate, but the candidate that gates let in: its nonlinearity is tanh."""

HARD_SIGMOIDS = {"0.2 x + 0.5 (Keras before 3)": 1.0, "x / 6 + 0.5 (Keras 3)": 5 / 6}
"""The hard sigmoids in use, at least 0 and at most 1, with the factor of the gates' weights that makes each `0.2 x + 0.5`."""


def reordered(blocks: np.ndarray, order: str, target: str) -> np.ndarray:
    """Return gate blocks `(G, ...)` stored in `order`, in the order `target`, both strings of the same letters."""
    return blocks[[order.index(gate) for gate in target]]


def layer_in_our_order(layer: LayerWeights, cell: str, order: str) -> LayerWeights:
    """Return a layer whose gates are stored in `order`, in the order of our cell."""
    target = OUR_ORDERS.get(cell, "")
    return layer if not target else _map_parts(layer, lambda part: reordered(part, order, target))


def inverted_update_gate(layer: LayerWeights) -> LayerWeights:
    """Return a GRU layer whose update gate z is 1 - z = sigmoid(-a): its weights and biases change their signs."""
    return _scaled(layer, [1, -1, 1])


def with_scaled_gates(layer: LayerWeights, cell: str, factor: float) -> LayerWeights:
    """Return a layer whose gates, but not its candidate, have weights and biases times `factor`."""
    return _scaled(layer, [1 if gate in CANDIDATES else factor for gate in OUR_ORDERS[cell]])


def _scaled(layer: LayerWeights, factors: Sequence[float]) -> LayerWeights:
    """Return a layer with the weights and biases of each gate times a factor."""
    column = np.array(factors, np.float32)
    return _map_parts(layer, lambda part: part * column.reshape(-1, *[1] * (part.ndim - 1)))


def with_forget_bias(layer: LayerWeights, amount: float) -> LayerWeights:
    """Return an LSTM layer with `amount` added to the bias of the forget gate."""
    bias = layer.bias.copy()
    bias[FORGET_GATE] += amount
    return dataclasses.replace(layer, bias=bias)


@dataclass(frozen=True)
class Alternative:
    """Another convention: its name, the model that it gives, and whether it changes little, so that on a text which is not like
    the training text it may be better by chance: a shift of the forget gate, another nonlinearity of gates."""

    name: str
    model: SourceModel
    is_slight: bool = False


def alternatives(source: SourceModel) -> Iterator[Alternative]:
    """Yield the models that the same weights are in other conventions."""
    yield from _other_orders(source)
    yield from _other_gates(source)
    cell = sigmoid_cell(source.cell)
    if cell == "lstm":
        for amount in (1.0, -1.0):
            shifted = functools.partial(with_forget_bias, amount=amount)
            yield _changed(source, f"{amount:+g} on the forget gate", shifted, True)
    if cell.startswith("gru"):
        yield _changed(source, "update gate inverted", inverted_update_gate)
        other = {"gru": "gru-reset-before", "gru-reset-before": "gru"}[cell]
        where = "before" if other == "gru-reset-before" else "after"
        other = other if cell == source.cell else HARD_SIGMOID_CELLS[other]
        yield Alternative(f"reset {where} the matrix product", dataclasses.replace(source, cell=other))
    yield _changed(source, "recurrent weights transposed", _transposed)


def _other_gates(source: SourceModel) -> Iterator[Alternative]:
    """Yield the models that have another nonlinearity of gates, if the format has several."""
    if source.gate_scale is None:
        return
    cell = sigmoid_cell(source.cell)
    forms = {"gates: sigmoid": (cell, 1.0)}
    forms |= {f"gates: hard sigmoid {name}": (HARD_SIGMOID_CELLS[cell], factor) for name, factor in HARD_SIGMOIDS.items()}
    for name, (other, scale) in forms.items():
        if (other, scale) != (source.cell, source.gate_scale):
            change = functools.partial(with_scaled_gates, cell=cell, factor=scale / source.gate_scale)
            model = dataclasses.replace(source.with_layers(change), cell=other, gate_scale=scale)
            yield Alternative(name, model, True)


def _other_orders(source: SourceModel) -> Iterator[Alternative]:
    ours, own = OUR_ORDERS.get(source.cell, ""), source.gate_order
    for order, libraries in ORDERS.get(source.cell.partition("-")[0], {}).items():
        if order == own:
            continue
        name = f"gates in the order {' '.join(order)} ({libraries})"

        def changed(layer: LayerWeights, order: str = order) -> LayerWeights:
            return _map_parts(layer, lambda part: reordered(reordered(part, ours, own), order, ours))

        yield _changed(source, name, changed)
        if ours == OUR_ORDERS["lstm"]:
            shifted = _changed(source, name, changed).model
            open_gate = functools.partial(with_forget_bias, amount=1.0)
            yield _changed(shifted, f"{name}, +1 on the forget gate", open_gate)


def _transposed(layer: LayerWeights) -> LayerWeights:
    return dataclasses.replace(layer, weight_hh=np.ascontiguousarray(layer.weight_hh.transpose(0, 2, 1)))


def _changed(
    source: SourceModel, name: str, change: Callable[[LayerWeights], LayerWeights], is_slight: bool = False
) -> Alternative:
    return Alternative(name, source.with_layers(change), is_slight)


def _map_parts(layer: LayerWeights, change: Callable[[np.ndarray], np.ndarray]) -> LayerWeights:
    parts = (layer.weight_ih, layer.weight_hh, layer.bias)
    weight_ih, weight_hh, bias = map(change, parts)
    return LayerWeights(weight_ih, weight_hh, bias, None if layer.bias_hh is None else change(layer.bias_hh))
