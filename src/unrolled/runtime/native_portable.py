"""The portable step by the native module: the bits of `runtime.portable`, some hundred times as fast.

Its code for each instruction set is compiled without fused operations, and integer products are exact, so logits, states and
drawn tokens are those of the definition.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unrolled.nn.kernels.extension import native_module, num_threads
from unrolled.nn.unit_clamp import Clamp
from unrolled.options import SampleOptions
from unrolled.runtime.language_model import Ids, Mask
from unrolled.runtime.native_decoder import MIN_MULTITHREADED_BYTES, STREAMS_PER_WEIGHT_READ
from unrolled.runtime.portable import PortableLayer, PortableNetwork, PortableState
from unrolled.runtime.portable_arithmetic import Floats, Int8Matrix, Matrix
from unrolled.runtime.text_network import TextNetwork

CELL_KINDS = {
    "rnn": 0,
    "gru": 1,
    "gru-reset-before": 2,
    "lstm": 3,
    "mogrifier-gru": 1,
    "mogrifier-lstm": 3,
    "mingru": 4,
    "minlstm": 5,
    "rg-lru": 6,
    "slstm": 7,
}
"""The cells, by the number that names one in the native module; a Mogrifier is a GRU or an LSTM with rounds before it. Numpy
computes the cells that are not here, those with hard sigmoids."""

MAX_UNITS, MAX_LAYERS, MAX_VOCAB = 1 << 16, 1 << 10, 1 << 22

MASK_64 = 2**64 - 1


def open_portable(network: TextNetwork, clamps: Sequence[Clamp] = ()) -> PortableNetwork:
    """Return a network in portable arithmetic with int8 weights, by the native module where there is one.

    The last network without clamps is kept, because quantizing its weights takes longer than drawing a line of text.

    Raises:
        ModelError: A weight is not finite, or the cell has no portable step.
        UsageError: A clamp names no unit of the network.
    """
    cached = _CACHE.get(network) if not clamps else None
    if cached is None:
        is_native = native_module() is not None and _fits(network)
        cached = (NativePortableNetwork if is_native else PortableNetwork)(network, clamps=clamps)
        if not clamps:
            _CACHE.clear()
            _CACHE[network] = cached
    return cached


_CACHE: weakref.WeakKeyDictionary[TextNetwork, PortableNetwork] = weakref.WeakKeyDictionary()


def _fits(network: TextNetwork) -> bool:
    sizes = (network.hidden_size / MAX_UNITS, len(network.layers) / MAX_LAYERS, network.vocab_size / MAX_VOCAB)
    return network.cell in CELL_KINDS and max(sizes) <= 1


class NativePortableNetwork(PortableNetwork):
    """A text network with int8 weights as the native module computes the portable step.

    Args:
        network: The network, float32.
        clamps: Units whose output is set to a constant.

    Raises:
        ModelError: A weight is not finite, or the cell has no portable step.
        UsageError: A clamp names no unit of the network.
        ValueError: The sizes are beyond those of the native module.
    """

    def __init__(self, network: TextNetwork, *, clamps: Sequence[Clamp] = ()) -> None:
        super().__init__(network, "int8", clamps)
        size = 0 if self.embedding is None else self.embedding.weight.shape[1]
        self._native = native_module().Portable(
            CELL_KINDS[network.cell], network.hidden_size, len(self.layers), network.vocab_size, size, network.residual
        )
        one_hot = self.layers[0].input
        self._native.set_input(*(_arrays(self.embedding) if self.embedding is not None else _arrays(one_hot, transposed=True)))
        for index, layer in enumerate(self.layers):
            self._set_layer(index, layer)
        self._native.set_head(*_arrays(self.head), self.head_bias)
        for clamp in clamps:
            self._native.clamp(clamp.layer, clamp.unit, clamp.value)
        self._weight_bytes = sum(layer.weight_hh.size + layer.weight_ih.size for layer in network.layers)

    def _set_layer(self, index: int, layer: PortableLayer) -> None:
        has_input = index > 0 or not self.is_one_hot
        none = (None, None)
        self._native.set_layer(
            index,
            *(_arrays(layer.input) if has_input else none),
            *(none if layer.recurrent is None else _arrays(layer.recurrent)),
            *(none if layer.recurrent_n is None else _arrays(layer.recurrent_n)),
            layer.bias,
            layer.bias_hh,
            *(layer.norm or none),
        )
        for number, matrix in enumerate(layer.mogrifier):
            self._native.set_round(index, number, *_arrays(matrix))
        if layer.decay is not None:
            self._native.set_decay(index, layer.decay)

    def _threads(self, rows: int) -> int:
        return num_threads() if self._weight_bytes * (rows // STREAMS_PER_WEIGHT_READ) >= MIN_MULTITHREADED_BYTES else 1

    def step(self, ids: Ids, state: PortableState) -> tuple[Floats, PortableState]:
        """Read ids `(B,)`; return the logits `(B, V)` of the next token and the next state."""
        logits, state = self.unroll(np.asarray(ids)[None], state)
        return logits[0], state

    def unroll(self, ids: Ids, state: PortableState, resets: Mask | None = None) -> tuple[Floats, PortableState]:
        """Read ids `(T, B)`; return the logits `(T, B, V)` and the final state, zero before a step where `resets` is true."""
        h, c = _stack(state)
        logits = np.empty((*ids.shape, self.vocab_size), np.float32)
        mask = None if resets is None else np.ascontiguousarray(resets, np.bool_)
        if logits.size:
            self._native.read(np.ascontiguousarray(ids, np.int64), mask, h, c, logits, self._threads(ids.shape[1]))
        return logits, _unstack(h, c)

    def sample(
        self, logits: Floats, state: PortableState, seeds: Sequence[int], position: int, length: int, options: SampleOptions
    ) -> tuple[NDArray[np.int64], Floats, PortableState]:
        """Draw `length` tokens for each of B rows; return the ids `(B, T)`, the logits of the next token and the state.

        Args:
            logits: Of the first token to draw, `(B, V)`.
            state: The state of the rows.
            seeds: A seed for each row; its lower 64 bits count.
            position: The number of tokens that were drawn before.
            length: T.
            options: Of these, temperature, top_k, top_p and min_p are used.
        """
        h, c = _stack(state)
        next_logits = np.array(logits, np.float32)
        ids = np.empty((length, len(seeds)), np.int64)
        words = np.array([seed & MASK_64 for seed in seeds], np.uint64).view(np.int64)
        filters = (options.temperature, options.top_k, options.top_p, options.min_p)
        self._native.sample(words, position, h, c, next_logits, ids, *filters, self._threads(len(seeds)))
        return np.ascontiguousarray(ids.T), next_logits, _unstack(h, c)


def _arrays(matrix: Matrix, transposed: bool = False) -> tuple[NDArray[np.int8], Floats]:
    """Return the weights and the scales of an int8 matrix; `transposed` for that of one-hot inputs."""
    if not isinstance(matrix, Int8Matrix):
        raise TypeError(f"the native step has int8 weights; got {type(matrix).__name__}")
    return np.ascontiguousarray(matrix.weight.T if transposed else matrix.weight), matrix.scale


def _stack(state: PortableState) -> tuple[Floats, Floats | None]:
    """Return copies of h of all layers, `(L, B, H)`, and of the P other parts of a state, `(P L, B, H)`."""
    h, *others = (np.stack(parts).astype(np.float32, copy=False) for parts in zip(*state, strict=True))
    return h, np.concatenate(others) if others else None


def _unstack(h: Floats, others: Floats | None) -> PortableState:
    parts = [] if others is None else np.split(others, len(others) // len(h))
    return list(zip(h, *parts, strict=True))
