"""The layers of a text model by the native kernels, over many steps of many rows in one call each: for evaluation.

Buffers have the layout that the C++ code needs: units padded to a multiple of 32, weights packed in tiles.
Products are float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.nn.kernels.extension import ROW_PADDING, native_module, num_threads, padded_size, unavailable_reason
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime.blas import blas_threads
from unrolled.runtime.language_model import Floats, Ids, Mask
from unrolled.runtime.numpy_model import LayerState, NumpyModel, State
from unrolled.runtime.text_network import GATE_NAMES, NORM_EPSILON, TextLayer, TextNetwork

CELL_KINDS = {"rnn": 0, "gru": 1, "lstm": 2}
"""The cells that the native kernels have, by the number that names one there."""

MAX_TABLE_BYTES = 1 << 30
"""Most bytes of a table of first-layer products `(V, G H)`."""


def pack_weight(kind: int, weight: Floats, units: int) -> Floats:
    """Return a weight `(G H, depth)` packed in tiles for the products of the kernels."""
    gates = len(weight) // units
    tiles = np.empty((padded_size(units) // 16 * gates, padded_size(weight.shape[1]), 16), np.float32)
    native_module().pack_forward(kind, np.ascontiguousarray(weight, np.float32), tiles, units, num_threads())
    return tiles


def input_products(kind: int, xs: Floats, packed_weight: Floats, units: int) -> Floats:
    """Return the products of inputs `(N, I)` with packed input weights, `(N, G, padded units)`, the same for any threads."""
    padded_xs, gates = padded_rows(xs[None]), len(packed_weight) * 16 // padded_size(units)
    table = np.empty((len(xs), gates, padded_size(units)), np.float32)
    native_module().input_products(kind, num_threads(), padded_xs[0], packed_weight, table)
    return table


def padded_rows(xs: Floats) -> Floats:
    """Return inputs `(T, B, I)` followed by zeros, `(T, B, padded I + ROW_PADDING)`."""
    width = xs.shape[2]
    padded = np.empty((*xs.shape[:2], padded_size(width) + ROW_PADDING), np.float32)
    padded[:, :, :width], padded[:, :, width:] = xs, 0
    return padded


def normalized_rows(xs: Floats, layer: TextLayer) -> Floats:
    """Return inputs `(T, B, I)` after the layer norm of a layer, laid out as by `padded_rows`."""
    steps, rows, width = xs.shape
    padded = np.empty((steps, rows, padded_size(width) + ROW_PADDING), np.float32)
    moments, norm = np.empty((steps, rows, 2), np.float32), (layer.norm_weight, layer.norm_bias)
    native_module().norm_forward(np.ascontiguousarray(xs), *norm, NORM_EPSILON, padded, moments, num_threads())
    return padded


def unsupported_reason(network: TextNetwork) -> str | None:
    """Say why the native layers cannot run a network, or return None if they can."""
    if native_module() is None:
        return unavailable_reason()
    return None if network.cell in CELL_KINDS else f"there is no native layer for the cell {network.cell}"


@dataclass(frozen=True, eq=False)
class PackedLayer:
    """The weights of a layer, as the kernels read them. `table` has the products of the first layer with every token."""

    weight_hh: Floats
    bias: Floats
    weight_ih: Floats | None = None
    table: Floats | None = None


class NativeModel(NumpyModel):
    """A text model whose `unroll` is computed by the native kernels; single steps are those of numpy.

    Raises `ValueError` where `unsupported_reason` names a reason.
    """

    def __init__(self, network: TextNetwork, clamps: Sequence[Clamp] = ()) -> None:
        super().__init__(network, clamps)
        if reason := unsupported_reason(network):
            raise ValueError(f"The native kernels cannot run this model: {reason}.")
        self._kind = CELL_KINDS[network.cell]
        self._table_fits = network.vocab_size * len(network.layers[0].bias) * 4 <= MAX_TABLE_BYTES
        self._packed = [self._pack(index) for index in range(len(network.layers))]

    def inference(self) -> contextlib.AbstractContextManager[None]:
        return blas_threads(1)  # the kernels have threads already

    def unroll(self, ids: Ids, state: State, resets: Mask | None = None) -> tuple[Floats, State]:
        if self.clamps or not ids.size or not self._table_fits:  # kernels cannot clamp
            return super().unroll(ids, state, resets)
        xs, next_state = np.empty(0, np.float32), []
        for index, layer_state in enumerate(state):
            xs, layer_next = self._unroll_layer(index, np.ascontiguousarray(ids, np.int64), xs, layer_state, resets)
            next_state.append(layer_next)
        return self.head(xs), tuple(next_state)

    def _unroll_layer(
        self, index: int, ids: Ids, xs: Floats, state: LayerState, resets: Mask | None
    ) -> tuple[Floats, LayerState]:
        """Return the outputs of a layer `(T, B, H)` and its final state; the first layer reads `ids`, the others `xs`."""
        layer, packed = self.network.layers[index], self._packed[index]
        native, (steps, rows), units = native_module(), ids.shape, self.network.hidden_size
        inputs: tuple[Any, ...] = (None, None, ids, packed.table)
        residual = None if layer.norm_weight is None else self._embedding
        if index:
            inputs = (
                padded_rows(xs) if layer.norm_weight is None else normalized_rows(xs, layer),
                packed.weight_ih,
                None,
                None,
            )
            residual = None if layer.norm_weight is None else xs.reshape(-1, units)
        ys, final = np.empty((steps, rows, units), np.float32), [np.empty((rows, units), np.float32) for _ in range(2)]
        is_lstm, threads = self.network.cell == "lstm", num_threads()
        native.layer_forward(
            self._kind, threads, native.row_slice_count(self._kind, rows, units, threads, False), *inputs, packed.weight_hh,
            packed.bias, None if resets is None else np.ascontiguousarray(resets), np.ascontiguousarray(state[0]),
            np.ascontiguousarray(state[1]) if is_lstm else None, None, residual,
            np.empty((steps + 1, rows, padded_size(units) + ROW_PADDING), np.float32), None, ys, final[0],
            final[1] if is_lstm else None,
        )  # fmt: skip
        return ys, tuple(final[: len(state)])

    def _pack(self, index: int) -> PackedLayer:
        network, layer, kind, units = self.network, self.network.layers[index], self._kind, self.network.hidden_size
        weight_hh = pack_weight(kind, layer.weight_hh, units)
        weight_ih, bias = pack_weight(kind, layer.weight_ih, units), self._combined_bias(layer)
        if index:
            return PackedLayer(weight_hh, bias, weight_ih)
        if not self._table_fits:
            return PackedLayer(weight_hh, bias)
        return PackedLayer(weight_hh, bias, table=first_products(network, kind, weight_ih))

    def _combined_bias(self, layer: TextLayer) -> Floats:
        """Return the sums of the biases of all gates, `(G, padded)`; for a GRU, `b_hn`, which the reset gate multiplies, is
        added as a last row."""
        gates, units, is_gru = len(layer.gate_names), self.network.hidden_size, self.network.cell == "gru"
        bias = np.zeros((gates + is_gru, padded_size(units)), np.float32)
        bias[:gates, :units] = outer_bias(self.network.cell, layer).reshape(gates, units)
        if is_gru and layer.bias_hh is not None:
            bias[gates, :units] = layer.bias_hh[2 * units :]
        return bias


def first_products(network: TextNetwork, kind: int, packed_weight: Floats) -> Floats:
    """Return the products of the first layer's input weights with every token, `(V, G, padded units)`."""
    layer, vectors = network.layers[0], network.embedding_matrix()
    if layer.norm_weight is not None:
        vectors = normalized_rows(vectors[None], layer)[0, :, : vectors.shape[1]]
    return input_products(kind, vectors, packed_weight, network.hidden_size)


def outer_bias(cell: str, layer: TextLayer) -> Floats:
    """Return the biases `(G H)` to add to `W_x x`: all of them, except the `b_hn` that a GRU's reset gate multiplies."""
    if layer.bias_hh is None:
        return layer.bias
    bias_hh = layer.bias_hh.copy()
    if cell == "gru":
        bias_hh[GATE_NAMES[cell].index("n") * layer.weight_hh.shape[1] :] = 0
    result: Floats = layer.bias + bias_hh
    return result
