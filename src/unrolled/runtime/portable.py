"""The portable step: a recurrent language model in arithmetic that every processor and every language does alike.

This module is the definition; the C99 file and the HTML page of `unrolled export` do the same operations in the same order and
so have the same bits in logits, state and text. `docs/portable.md` is its description in words.

Everything is IEEE float32 with one rounding per operation: no fused multiply-add, no wider intermediate, no exp or tanh of a
library. Sums have a fixed order (`ordered_sum`). Products with integer weights are exact integers, so their order does not
matter, and numpy may compute them as float64 matrix products. Random numbers and the draw are integers.

Letters: B batch, V vocabulary size, E input size, H hidden size, G gates, N columns of a matrix.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import ModelError
from unrolled.nn.unit_clamp import Clamp, check_clamps
from unrolled.runtime.language_model import Ids, LanguageModel, Mask
from unrolled.runtime.text_network import GATE_NAMES, TextLayer, TextNetwork

Floats: TypeAlias = NDArray[np.float32]
Weights = Literal["float32", "int8", "int4"]

LANES = 16
"""Partial sums of an ordered sum."""

BLOCK_COLUMNS = 512
"""Columns whose int8 products are added as one integer: 512 * 127 * 32767 is below 2^31."""

GROUP = 32
"""Columns of an int4 matrix that share a scale."""

MAX_INPUT, MAX_INT8, MAX_INT4, MAX_GROUP_SCALE = 32767, 127, 7, 255
LEAST_LARGEST = np.float32(2.0**-100)
"""A vector whose largest number is below this is taken as zero: 32767 divided by a smaller one can be beyond float32."""

ODDS_BITS = 30
"""The odds of the most likely token are 2 to this power."""

ROUND = np.float32(12582912.0)
"""1.5 * 2^23: adding and subtracting it rounds a float32 below 2^22 to the nearest integer, halves to even."""

LOG2_E, LN2_HIGH, LN2_LOW = np.float32(1.4426950408889634), np.float32(0.693359375), np.float32(-2.12194440e-4)
EXP = np.array([1, 1, 0.49999994, 0.1666652, 0.041668396, 0.008368797, 0.0013814433], np.float32)
"""Coefficients of exp(r) for |r| <= ln(2) / 2, the lowest power first; relative error 3e-9 before rounding."""

TANH_LIMIT = np.float32(9.02)
TANH_P = np.array([1, 0.13379648327827454, 0.003493951866403222, 2.0582119759637862e-05, 1.3317177582905515e-08], np.float32)
TANH_Q = np.array([1, 0.467129647731781, 0.025870759040117264, 0.0003282957768533379, 7.761245797155425e-07], np.float32)
"""tanh(x) = x * P(x^2) / Q(x^2) for |x| <= 9.02, the lowest power first; relative error 2e-8 before rounding."""

LAYER_NORM_EPSILON = np.float32(1e-5)
HALF, ONE = np.float32(0.5), np.float32(1)


def _horner(coefficients: Floats, x: Floats) -> Floats:
    """Return the polynomial `c[0] + c[1] x + ...` by Horner's rule, the highest power first."""
    result = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * x + coefficient
    return result


def portable_exp(x: Floats) -> Floats:
    """Return exp(x) for x of at most 88; below -87 it is exp(-87). Largest error: 1.2 units in the last place.

    Example:
        >>> float(portable_exp(np.array([0.0], np.float32))[0])
        1.0
    """
    x = np.maximum(x, np.float32(-87))
    n = (x * LOG2_E + ROUND) - ROUND
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    power_of_two = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return _horner(EXP, r) * power_of_two


def portable_tanh(x: Floats) -> Floats:
    """Return tanh(x). Largest error: 4e-7, or 6 units in the last place.

    Example:
        >>> float(portable_tanh(np.array([20.0], np.float32))[0])
        1.0
    """
    x = np.minimum(np.maximum(x, -TANH_LIMIT), TANH_LIMIT)
    square = x * x
    quotient = (x * _horner(TANH_P, square)) / _horner(TANH_Q, square)
    result: Floats = np.minimum(np.maximum(quotient, -ONE), ONE)
    return result


def portable_sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), computed as 0.5 * tanh(0.5 x) + 0.5."""
    return HALF * portable_tanh(HALF * x) + HALF


def ordered_sum(values: Floats) -> Floats:
    """Return the sum over the last axis: 16 partial sums over the columns j, j + 16, ..., then added as a binary tree.

    Example:
        >>> float(ordered_sum(np.arange(20, dtype=np.float32)))
        190.0
    """
    padding = -values.shape[-1] % LANES
    if padding:
        values = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, padding)])
    lanes = values.reshape(*values.shape[:-1], -1, LANES)
    sums = np.add.accumulate(lanes, axis=-2)[..., -1, :] + np.float32(0)  # in order, one rounding each; from 0, so never -0
    for width in (8, 4, 2, 1):
        sums = sums[..., :width] + sums[..., width:]
    total: Floats = sums[..., 0]
    return total


def quantize_input(x: Floats) -> tuple[NDArray[np.float64], Floats]:
    """Return vectors `(B, N)` as integers of at most 32767 in float64, and the scale `(B, 1)` of each: x is about q * scale."""
    largest = np.max(np.abs(x), axis=-1, keepdims=True)
    is_zero = largest < LEAST_LARGEST
    factor = np.float32(MAX_INPUT) / np.where(is_zero, ONE, largest)
    quantized = np.where(is_zero, np.float32(0), (x * factor + ROUND) - ROUND)
    return quantized.astype(np.float64), largest / np.float32(MAX_INPUT)


class FloatMatrix:
    """A matrix `(R, N)` of float32 weights; a product is an ordered sum."""

    def __init__(self, weight: Floats) -> None:
        self.weight = weight

    def row_vectors(self, ids: NDArray[Any]) -> Floats:
        """Return rows as vectors `(B, N)`, for ids `(B,)`."""
        rows: Floats = self.weight[ids]
        return rows

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`."""
        return np.stack([ordered_sum(self.weight * row) for row in x])


class Int8Matrix:
    """A matrix `(R, N)` of int8 weights with a float32 scale for each row."""

    def __init__(self, weight: Floats) -> None:
        largest = np.max(np.abs(weight), axis=1)
        self.scale = (largest / np.float32(MAX_INT8)).astype(np.float32)
        safe_scale = np.where(self.scale == 0, ONE, self.scale)[:, None]
        self.weight = np.clip(np.rint(weight / safe_scale), -MAX_INT8, MAX_INT8).astype(np.int8)

    @functools.cached_property
    def _blocks(self) -> list[NDArray[np.float64]]:
        """The weights as numpy multiplies them, in blocks of columns; the native step has no use for them."""
        columns = range(0, self.weight.shape[1], BLOCK_COLUMNS)
        return [self.weight[:, i : i + BLOCK_COLUMNS].T.astype(np.float64) for i in columns]

    def row_vectors(self, ids: NDArray[Any]) -> Floats:
        """Return rows as vectors `(B, N)`, for ids `(B,)`."""
        rows: Floats = self.weight[ids].astype(np.float32) * self.scale[ids][:, None]
        return rows

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`: integers in blocks of columns, added as float32 in order."""
        quantized, input_scale = quantize_input(x)
        total = np.zeros((len(x), len(self.scale)), np.float32)
        for index, block in enumerate(self._blocks):
            part = quantized[:, index * BLOCK_COLUMNS : (index + 1) * BLOCK_COLUMNS]
            total = total + (part @ block).astype(np.float32)
        products: Floats = total * (self.scale * input_scale)
        return products


class Int4Matrix:
    """A matrix `(R, N)` of weights of -7 to 7; a group of 32 columns has the scale `row scale * group scale` (1 to 255)."""

    def __init__(self, weight: Floats) -> None:
        self.columns = weight.shape[1]
        padded = np.pad(weight, ((0, 0), (0, -self.columns % GROUP)))
        groups = padded.reshape(len(weight), -1, GROUP)
        largest = np.max(np.abs(groups), axis=2)  # (R, groups)
        self.scale = (np.max(largest, axis=1) / np.float32(MAX_INT4 * MAX_GROUP_SCALE)).astype(np.float32)
        safe_scale = np.where(self.scale == 0, ONE, self.scale)[:, None]
        codes = np.ceil(largest / np.float32(MAX_INT4) / safe_scale)
        self.group_scale = np.clip(codes, 1, MAX_GROUP_SCALE).astype(np.uint8)
        step = (safe_scale * self.group_scale)[:, :, None]
        self.weight = np.clip(np.rint(groups / step), -MAX_INT4, MAX_INT4).astype(np.int8).reshape(len(weight), -1)
        self._groups = self.weight.reshape(groups.shape).transpose(1, 2, 0).astype(np.float64)  # (groups, 32, R)

    def product(self, x: Floats) -> Floats:
        """Return the products `(B, R)` with vectors `(B, N)`: an integer for each group, added as float32 in order."""
        quantized, input_scale = quantize_input(x)
        padded = np.pad(quantized, ((0, 0), (0, self.weight.shape[1] - x.shape[1])))
        total = np.zeros((len(x), len(self.scale)), np.float32)
        for index, group in enumerate(self._groups):
            exact = (padded[:, index * GROUP : (index + 1) * GROUP] @ group) * self.group_scale[:, index]
            total = total + exact.astype(np.float32)
        products: Floats = total * (self.scale * input_scale)
        return products


Matrix: TypeAlias = FloatMatrix | Int8Matrix | Int4Matrix
TableMatrix: TypeAlias = FloatMatrix | Int8Matrix


def layer_norm(x: Floats, weight: Floats, bias: Floats) -> Floats:
    """Return `(x - mean) / sqrt(variance + 1e-5) * weight + bias` of vectors `(B, N)`."""
    size = np.float32(x.shape[-1])
    centered = x - (ordered_sum(x) / size)[:, None]
    variance = ordered_sum(centered * centered) / size
    factor = ONE / np.sqrt(variance + LAYER_NORM_EPSILON)
    normed: Floats = (centered * factor[:, None]) * weight + bias
    return normed


@dataclass(frozen=True)
class PortableLayer:
    """A layer with its matrices in the number format of the portable step."""

    cell: str
    input: Matrix
    recurrent: Matrix
    recurrent_n: Matrix | None
    """The rows of the candidate n, where the reset gate is applied before the product; `recurrent` has those of r and z."""

    bias: Floats
    bias_hh: Floats | None
    norm: tuple[Floats, Floats] | None


PortableState: TypeAlias = list[tuple[Floats, ...]]
"""For each layer `(h,)` or, of an LSTM, `(h, c)`, each `(B, H)` float32."""


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
        self.is_one_hot = network.embedding is None and not network.residual
        self.embedding = None if self.is_one_hot else table_format(_float32(network.embedding_matrix()))
        self.layers = [
            _portable_layer(network.cell, layer, cell_format, table_format if index == 0 and self.is_one_hot else cell_format)
            for index, layer in enumerate(network.layers)
        ]
        self.head, self.head_bias = table_format(_float32(network.head_weight)), _float32(network.head_bias)

    def initial_state(self, rows: int) -> PortableState:
        """Return the zero state of `rows` rows."""
        zero = np.zeros((rows, self.network.hidden_size), np.float32)
        return [(zero, zero) if layer.cell == "lstm" else (zero,) for layer in self.layers]

    def repeat_row(self, state: PortableState, rows: int) -> PortableState:
        """Return a state of one row as one of `rows` equal rows."""
        return [tuple(np.repeat(part, rows, axis=0) for part in layer) for layer in state]

    def step(self, ids: Ids, state: PortableState) -> tuple[Floats, PortableState]:
        """Read ids `(B,)`; return the logits `(B, V)` of the next token and the next state."""
        x = np.zeros((len(ids), 0), np.float32) if self.embedding is None else self.embedding.row_vectors(ids)
        next_state = []
        for index, (layer, layer_state) in enumerate(zip(self.layers, state, strict=True)):
            if self.is_one_hot and index == 0:
                products = _one_hot_product(layer.input, ids)
            else:
                products = layer.input.product(x if layer.norm is None else layer_norm(x, *layer.norm))
            next_state.append(_cell_step(layer, products + layer.bias, layer_state))
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
    if network.cell not in GATE_NAMES:
        raise ModelError(f"The portable step has no cell {network.cell}: its cells are {', '.join(GATE_NAMES)}.")
    for name, array in network.arrays().items():
        if not np.isfinite(array).all():
            raise ModelError(f"{name} has a weight that is not finite, and finite weights are needed: take another checkpoint.")


def _float32(array: Any) -> Floats:
    return np.ascontiguousarray(array, np.float32)


def _portable_layer(cell: str, layer: TextLayer, cell_format: type[Matrix], input_format: type[Matrix]) -> PortableLayer:
    rows, size = layer.weight_hh.shape
    split = 2 * size if cell == "gru-reset-before" else rows
    return PortableLayer(
        cell,
        input_format(_float32(layer.weight_ih)),
        cell_format(_float32(layer.weight_hh[:split])),
        cell_format(_float32(layer.weight_hh[split:])) if split < rows else None,
        _float32(layer.bias),
        None if layer.bias_hh is None else _float32(layer.bias_hh),
        None
        if layer.norm_weight is None or layer.norm_bias is None
        else (_float32(layer.norm_weight), _float32(layer.norm_bias)),
    )


def _one_hot_product(matrix: Matrix, ids: NDArray[Any]) -> Floats:
    """Return the columns `(B, GH)` of a matrix: its product with one-hot vectors."""
    columns: Floats = matrix.weight.T[ids].astype(np.float32)
    return columns if isinstance(matrix, FloatMatrix) else columns * matrix.scale


def _cell_step(layer: PortableLayer, x: Floats, state: tuple[Floats, ...]) -> tuple[Floats, ...]:
    """Return the next state of a cell, given the products of its input with the biases added, `(B, GH)`."""
    h, size = state[0], state[0].shape[1]
    recurrent = layer.recurrent.product(h)
    if layer.bias_hh is not None:
        recurrent = recurrent + layer.bias_hh[: recurrent.shape[1]]
    if layer.cell == "rnn":
        return (portable_tanh(x + recurrent),)
    if layer.cell == "lstm":
        i, f, g, o = np.split(x + recurrent, 4, axis=1)
        c = portable_sigmoid(f) * state[1] + portable_sigmoid(i) * portable_tanh(g)
        return portable_sigmoid(o) * portable_tanh(c), c
    r = portable_sigmoid(x[:, :size] + recurrent[:, :size])
    z = portable_sigmoid(x[:, size : 2 * size] + recurrent[:, size : 2 * size])
    if layer.recurrent_n is None:
        n = portable_tanh(x[:, 2 * size :] + r * recurrent[:, 2 * size :])
    else:
        recurrent_n = layer.recurrent_n.product(r * h)
        if layer.bias_hh is not None:
            recurrent_n = recurrent_n + layer.bias_hh[2 * size :]
        n = portable_tanh(x[:, 2 * size :] + recurrent_n)
    return ((ONE - z) * n + z * h,)
