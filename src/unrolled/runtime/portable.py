"""The portable step: a recurrent language model in arithmetic that every processor and every language does alike.

This module is the definition, with the operations of `portable_arithmetic`; the C99 file and the HTML page of `unrolled
export` do the same ones in the same order and so have the same bits in logits, state and text. `docs/portable.md` is its
description in words. Random numbers and the draw are integers (`portable_draw`).

Letters: B batch, V vocabulary size, E input size, H hidden size, G gates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import ModelError
from unrolled.network_shapes import HARD_SIGMOID_CELLS, LINEAR_CELLS, MOGRIFIER_CELLS, MOGRIFIER_ROUNDS
from unrolled.nn.unit_clamp import Clamp, check_clamps
from unrolled.runtime.language_model import Ids, LanguageModel, Mask
from unrolled.runtime.portable_arithmetic import (
    HALF,
    ONE,
    FloatMatrix,
    Floats,
    Int4Matrix,
    Int8Matrix,
    Matrix,
    TableMatrix,
    hard_sigmoid,
    layer_norm,
    portable_exp,
    portable_expm1,
    portable_log_sigmoid,
    portable_sigmoid,
    portable_tanh,
)
from unrolled.runtime.text_network import TextLayer, TextNetwork

Weights = Literal["float32", "int8", "int4"]

MAX_IDENTITY = 8192
"""Most tokens of a Mogrifier with one-hot inputs, which are rows of an identity matrix."""

MIN_SQUARE = np.float32(1e-12)
"""Least `1 - a^2` of an RG-LRU."""

RESET_BEFORE_CELLS = ("gru-reset-before", HARD_SIGMOID_CELLS["gru-reset-before"])
"""The GRUs whose reset gate is applied before the matrix product."""

DECAY_EXPONENT = np.float32(8)
"""What the gate r of an RG-LRU is multiplied by."""


@dataclass(frozen=True)
class PortableLayer:
    """A layer with its matrices in the number format of the portable step."""

    cell: str
    input: Matrix
    recurrent: Matrix | None
    """None for a cell whose gates depend on the input only."""

    recurrent_n: Matrix | None
    """The rows of the candidate n, where the reset gate is applied before the product; `recurrent` has those of r and z."""

    bias: Floats
    bias_hh: Floats | None
    norm: tuple[Floats, Floats] | None
    mogrifier: tuple[Matrix, ...] = ()
    """The matrices of the rounds of a Mogrifier, `(E, H)` and `(H, E)` in turn."""

    decay: Floats | None = None
    """Of an RG-LRU, `8 ln(sigmoid(decay_logit))`."""


Gate: TypeAlias = Callable[[Floats], Floats]
"""The nonlinearity of gates."""

CellStep: TypeAlias = Callable[[PortableLayer, Floats, Floats, tuple[Floats, ...]], tuple[Floats, ...]]
"""From a layer, the products of its input with the biases added `(B, GH)`, the h that its gates read and its state to its next
state."""

PortableState: TypeAlias = list[tuple[Floats, ...]]
"""For each layer the parts of `STATE_NAMES`, h first, each `(B, H)` float32."""


class PortableNetwork(LanguageModel):
    """A text network as the portable step computes it.

    Args:
        network: The network, float32.
        weights: The number format of the matrices. `int4` is for the matrices of the cells alone: embedding, one-hot input and
            output layer are int8 then. Norms and biases are float32.
        clamps: Units whose output is set to a constant.

    Raises:
        ModelError: A weight is not finite, or a cell has no portable step.
        UsageError: A clamp names no unit of the network.
    """

    def __init__(self, network: TextNetwork, weights: Weights = "int8", clamps: Sequence[Clamp] = ()) -> None:
        _check(network)
        check_clamps(clamps, network.hidden_size, len(network.layers))
        self.network, self.weights, self.clamps, self.vocab_size = network, weights, clamps, network.vocab_size
        table_format: type[TableMatrix] = FloatMatrix if weights == "float32" else Int8Matrix
        cell_formats: dict[str, type[Matrix]] = {"float32": FloatMatrix, "int8": Int8Matrix, "int4": Int4Matrix}
        cell_format = cell_formats[weights]
        has_table = network.embedding is not None or network.residual or network.cell in MOGRIFIER_CELLS
        self.is_one_hot = not has_table
        """Whether the products of the first layer are columns of its matrix; else tokens have vectors, rows of `embedding`."""
        self.embedding = None if self.is_one_hot else table_format(_float32(network.embedding_matrix()))
        self.layers = [
            portable_layer(network.cell, layer, cell_format, table_format if index == 0 and self.is_one_hot else cell_format)
            for index, layer in enumerate(network.layers)
        ]
        self.head, self.head_bias = table_format(_float32(network.head_weight)), _float32(network.head_bias)

    def initial_state(self, rows: int) -> PortableState:
        """Return the zero state of `rows` rows."""
        zero = np.zeros((rows, self.network.hidden_size), np.float32)
        return [(zero,) * len(self.network.state_names) for _ in self.layers]

    def repeat_row(self, state: PortableState, rows: int) -> PortableState:
        """Return a state of one row as one of `rows` equal rows."""
        return [tuple(np.repeat(part, rows, axis=0) for part in layer) for layer in state]

    def step(self, ids: Ids, state: PortableState) -> tuple[Floats, PortableState]:
        """Read ids `(B,)`; return the logits `(B, V)` of the next token and the next state."""
        x = np.zeros((len(ids), 0), np.float32) if self.embedding is None else self.embedding.row_vectors(ids)
        next_state = []
        for index, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True)):
            h = layer_state[0]
            if self.is_one_hot and index == 0:
                products = _one_hot_product(layer.input, ids)
            else:
                cell_input = x if layer.norm is None else layer_norm(x, *layer.norm)
                cell_input, h = _mogrify(layer, cell_input, h)
                products = layer.input.product(cell_input)
            next_state.append(CELL_STEPS[layer.cell](layer, products + layer.bias, h, layer_state))
            y = next_state[-1][0]
            for clamp in self.clamps:
                if clamp.layer == index:
                    y[:, clamp.unit] = clamp.value
            x = y if layer.norm is None else x + y
        return self.head.product(x) + self.head_bias, next_state

    def unroll(self, ids: Ids, state: PortableState, resets: Mask | None = None) -> tuple[Floats, PortableState]:
        """Read ids `(T, B)`; return the logits `(T, B, V)` and the final state, zero before a step where `resets` is true."""
        logits = np.empty((*ids.shape, self.vocab_size), np.float32)
        for t, step_ids in enumerate(ids):
            if resets is not None and resets[t].any():
                state = [tuple(np.where(resets[t][:, None], np.float32(0), part) for part in layer) for layer in state]
            logits[t], state = self.step(step_ids, state)
        return logits, state


def _check(network: TextNetwork) -> None:
    if network.cell not in CELL_STEPS:
        cells = ", ".join(CELL_STEPS)
        raise ModelError(f"The portable step has no cell {network.cell}: its cells are {cells}; leave out --portable.")
    if network.cell in MOGRIFIER_CELLS and network.embedding is None and network.vocab_size > MAX_IDENTITY:
        raise ModelError(
            f"This {network.cell} has one-hot inputs of {network.vocab_size:,} tokens, and the portable step has at most "
            f"{MAX_IDENTITY:,} of a Mogrifier: train with an embedding, or leave out --portable."
        )
    for name, array in network.arrays().items():
        if not np.isfinite(array).all():
            raise ModelError(f"{name} has a weight that is not finite, and finite weights are needed: take another checkpoint.")


def _float32(array: Any) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def portable_layer(cell: str, layer: TextLayer, cell_format: type[Matrix], input_format: type[Matrix]) -> PortableLayer:
    """Return a layer with its cell's matrices, and that of its input, in number formats."""
    rows, size = layer.weight_hh.shape
    split = 2 * size if cell in RESET_BEFORE_CELLS else rows
    rounds = [layer.others[f"mogrifier_{'qr'[i % 2]}"][i // 2] for i in range(MOGRIFIER_ROUNDS * (cell in MOGRIFIER_CELLS))]
    return PortableLayer(
        cell,
        input_format(_float32(layer.weight_ih)),
        None if cell in LINEAR_CELLS else cell_format(_float32(layer.weight_hh[:split])),
        cell_format(_float32(layer.weight_hh[split:])) if split < rows else None,
        _float32(layer.bias),
        None if layer.bias_hh is None else _float32(layer.bias_hh),
        None
        if layer.norm_weight is None or layer.norm_bias is None
        else (_float32(layer.norm_weight), _float32(layer.norm_bias)),
        tuple(cell_format(_float32(weight)) for weight in rounds),
        DECAY_EXPONENT * portable_log_sigmoid(_float32(layer.others["decay_logit"])) if cell == "rg-lru" else None,
    )


def _one_hot_product(matrix: Matrix, ids: NDArray[Any]) -> Floats:
    """Return the columns `(B, GH)` of a matrix: its product with one-hot vectors."""
    columns: Floats = matrix.weight.T[ids].astype(np.float32)
    return columns if isinstance(matrix, FloatMatrix) else columns * matrix.scale


def _mogrify(layer: PortableLayer, x: Floats, h: Floats) -> tuple[Floats, Floats]:
    """Return input and h after the rounds of a Mogrifier: each in turn times `1 + tanh(product / 2)` of the other."""
    for index, matrix in enumerate(layer.mogrifier):
        if index % 2 == 0:
            x = (portable_tanh(HALF * matrix.product(h)) + ONE) * x
        else:
            h = (portable_tanh(HALF * matrix.product(x)) + ONE) * h
    return x, h


def _recurrent(layer: PortableLayer, h: Floats) -> Floats:
    """Return the products of h, with their biases if there are any."""
    if layer.recurrent is None:
        raise ValueError(f"{layer.cell} has no recurrent matrix")
    products = layer.recurrent.product(h)
    return products if layer.bias_hh is None else products + layer.bias_hh[: products.shape[1]]


def _rnn_step(layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    return (portable_tanh(x + _recurrent(layer, h)),)


def _gru_step(
    layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...], gate: Gate = portable_sigmoid
) -> tuple[Floats, ...]:
    size, recurrent = h.shape[1], _recurrent(layer, h)
    r = gate(x[:, :size] + recurrent[:, :size])
    z = gate(x[:, size : 2 * size] + recurrent[:, size : 2 * size])
    if layer.recurrent_n is None:
        n = portable_tanh(x[:, 2 * size :] + r * recurrent[:, 2 * size :])
    else:
        recurrent_n = layer.recurrent_n.product(r * h)
        if layer.bias_hh is not None:
            recurrent_n = recurrent_n + layer.bias_hh[2 * size :]
        n = portable_tanh(x[:, 2 * size :] + recurrent_n)
    return ((ONE - z) * n + z * state[0],)


def _lstm_step(
    layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...], gate: Gate = portable_sigmoid
) -> tuple[Floats, ...]:
    i, f, g, o = np.split(x + _recurrent(layer, h), 4, axis=1)
    c = gate(f) * state[1] + gate(i) * portable_tanh(g)
    return gate(o) * portable_tanh(c), c


def _slstm_step(layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    _, c, n, m = state
    i, f, g, o = np.split(x + _recurrent(layer, h), 4, axis=1)
    kept = np.where(n == 0, i, portable_log_sigmoid(f) + m)
    m = np.where(kept > i, kept, i)
    i, f = portable_exp(i - m), portable_exp(kept - m)
    c, n = f * c + i * portable_tanh(g), f * n + i
    return (portable_sigmoid(o) * c) / n, c, n, m


def _keep(share: Floats, h: Floats, n: Floats) -> tuple[Floats, ...]:
    return ((ONE - share) * h + share * n,)


def _mingru_step(layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    z, n = np.split(x, 2, axis=1)
    return _keep(portable_sigmoid(z), h, n)


def _minlstm_step(layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    i, f, n = np.split(x, 3, axis=1)
    return _keep(portable_sigmoid(portable_log_sigmoid(i) - portable_log_sigmoid(f)), h, n)


def _rg_lru_step(layer: PortableLayer, x: Floats, h: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    r, i, n = np.split(x, 3, axis=1)
    log_a = portable_sigmoid(r) * cast(Floats, layer.decay)
    square = -portable_expm1(log_a + log_a)
    written = np.sqrt(np.where(square > MIN_SQUARE, square, MIN_SQUARE)) * (portable_sigmoid(i) * n)
    return (portable_exp(log_a) * h + written,)


GATED_STEPS = {"gru": _gru_step, "gru-reset-before": _gru_step, "lstm": _lstm_step}
"""The steps that take the nonlinearity of gates."""

CELL_STEPS: dict[str, CellStep] = {
    "rnn": _rnn_step,
    **GATED_STEPS,
    **{HARD_SIGMOID_CELLS[cell]: functools.partial(step, gate=hard_sigmoid) for cell, step in GATED_STEPS.items()},
    "mogrifier-gru": _gru_step,
    "mogrifier-lstm": _lstm_step,
    "mingru": _mingru_step,
    "minlstm": _minlstm_step,
    "rg-lru": _rg_lru_step,
    "slstm": _slstm_step,
}
