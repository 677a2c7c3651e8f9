"""The native decoder: embedding, layers, head, logits processors and draw of many tokens in one native call.

It decodes one or many streams (samples) at a time. The weights are read once per step for all streams, and the ids of a
stream do not depend on the other streams.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from unrolled.nn.kernels.extension import FAST_BFLOAT16, native_module, num_threads, unavailable_reason
from unrolled.options import MachineOptions, SampleOptions
from unrolled.runtime.language_model import Floats
from unrolled.runtime.native_model import CELL_KINDS, MAX_TABLE_BYTES, first_products, outer_bias, pack_weight
from unrolled.runtime.numpy_model import State
from unrolled.runtime.text_network import NORM_EPSILON, TextNetwork

Precision = Literal["float32", "bfloat16", "int8"]
"""Number format of the weights. int8: symmetric, one scale per row, times activations of 8 bits; the sums are exact."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")

MIN_MULTITHREADED_BYTES = 1 << 20
"""Bytes of weights, times `streams / STREAMS_PER_WEIGHT_READ`, from which several threads share a step: for smaller steps,
they would mostly wait for each other."""

STREAMS_PER_WEIGHT_READ = 8
"""Streams that share one read of the weights."""


def sampling_precision(options: MachineOptions) -> Precision | None:
    """Return the number format of the weights on the CPU; None where the reference kernel is requested."""
    if options.kernels == "reference":
        return None
    if options.precision != "auto":
        return options.precision
    native = native_module()
    return "bfloat16" if native is not None and FAST_BFLOAT16 & set(native.available_isas()) else "float32"


def unsupported_reason(network: TextNetwork) -> str | None:
    """Say why the native decoder cannot run a network, or return None if it can."""
    if native_module() is None:
        return unavailable_reason()
    if network.cell not in CELL_KINDS:
        return f"there is no native decoder for the cell {network.cell}"
    if network.vocab_size * len(network.layers[0].bias) * 4 > MAX_TABLE_BYTES:
        return "its vocabulary is too large for a table of first-layer products"
    return None


class NativeDecoder:
    """The packed weights of a network and the state of several streams.

    Args:
        network: the network; its arrays must not change.
        streams: number of streams.
        precision: number format of the packed weights.
        threads: None: all threads where a step is large enough to share.

    Raises `ValueError` where `unsupported_reason` names a reason, and for wrong sizes and ids.
    """

    def __init__(
        self, network: TextNetwork, streams: int, precision: Precision = "float32", threads: int | None = None
    ) -> None:
        reason = unsupported_reason(network)
        if reason is not None:
            raise ValueError(f"The native decoder cannot run this model: {reason}.")
        self.network, self.streams, self.precision, self.vocab_size = network, streams, precision, network.vocab_size
        self.prefix_ids: list[int] = []
        weights = _cached_weights(network, precision)
        self.weight_bytes = int(weights.weight_bytes)
        """Bytes of weights that one step reads."""
        self._decoder = native_module().Decoder(weights, streams)
        self.threads = threads or self.threads_for(streams)

    def threads_for(self, rows: int) -> int:
        """Return how many threads steps of so many streams are worth."""
        multithreaded = self.weight_bytes * max(1, rows // STREAMS_PER_WEIGHT_READ) >= MIN_MULTITHREADED_BYTES
        return num_threads() if multithreaded else 1

    def read(self, ids: npt.NDArray[np.int64]) -> None:
        """Advance the streams 0 to B-1 by ids `(T, B)` int64, one column for each."""
        self._decoder.feed(np.ascontiguousarray(ids), self.threads)

    def sample(self, numbers: npt.NDArray[np.float64], *options: SampleOptions) -> npt.NDArray[np.int64]:
        """Draw T tokens for each of the streams 0 to B-1 with random numbers `(T, B)` float64 in [0, 1); return ids `(T, B)`.

        Of `options`, one for all streams or one for each, temperature, top_k, top_p and min_p are used, in this order.
        """
        ids = np.empty(numbers.shape, np.int64)
        filters = np.array([(o.temperature, o.top_k, o.top_p, o.min_p) for o in options], np.float64)
        self._decoder.sample(np.ascontiguousarray(numbers), ids, filters, self.threads)
        return ids

    def save_prefix(self, prefix_ids: list[int]) -> None:
        """Store the state of the first stream, after it has read `prefix_ids`."""
        self._decoder.save_prefix()
        self.prefix_ids = prefix_ids

    def reset_prefix(self) -> None:
        """Set the state of the first stream to zero."""
        self._decoder.reset()

    def restore_prefix(self) -> None:
        """Set every stream to the state of `save_prefix`, or to zero if there is none."""
        self._decoder.restore_prefix()

    def logits(self, rows: int | None = None) -> Floats:
        """Return the logits of the next token of the first `rows` streams (None: of each), `(B, V)`."""
        logits = np.empty((rows or self.streams, self.vocab_size), np.float32)
        self._decoder.logits(logits)
        return logits

    @property
    def state(self) -> State:
        """The state of all streams, as `NumpyModel.step` returns it. The state of the first ones alone may be set, too."""
        return self.first_states(self.streams)

    @state.setter
    def state(self, state: State) -> None:
        for index, (h, *c) in enumerate(state):
            self._decoder.state(index, _contiguous(h), _contiguous(c[0]) if c else None, True)

    def first_states(self, rows: int) -> State:
        """Return the state of the first `rows` streams."""
        shape, state = (rows, self.network.hidden_size), []
        for index in range(len(self.network.layers)):
            h, *c = (np.empty(shape, np.float32) for _ in self.network.state_names)
            self._decoder.state(index, h, c[0] if c else None, False)
            state.append((h, *c))
        return tuple(state)


_PACKED_CACHE: weakref.WeakKeyDictionary[TextNetwork, dict[Precision, Any]] = weakref.WeakKeyDictionary()
"""The packed weights of each network: packing takes longer than drawing a line of text."""


def _cached_weights(network: TextNetwork, precision: Precision) -> Any:
    """Return the packed weights of a network, from the cache if they were packed before."""
    cached = _PACKED_CACHE.setdefault(network, {})
    if precision not in cached:
        cached.clear()  # one format at a time: they are as large as the model
        cached[precision] = _pack_weights(network, precision)
    return cached[precision]


def _pack_weights(network: TextNetwork, precision: Precision) -> Any:
    kind, units, first = CELL_KINDS[network.cell], network.hidden_size, network.layers[0]
    packed = native_module().DecoderWeights(
        kind, PRECISIONS.index(precision), units, len(network.layers), network.vocab_size, network.residual,
        NORM_EPSILON if network.residual else 0.0,
    )  # fmt: skip
    for index, layer in enumerate(network.layers):
        packed.set_layer(
            index,
            _contiguous(layer.weight_hh),
            _contiguous(layer.weight_ih) if index else None,
            _contiguous(outer_bias(network.cell, layer)) if index else None,
            _contiguous(layer.bias_hh[2 * units :]) if network.cell == "gru" and layer.bias_hh is not None else None,
            _contiguous(layer.norm_weight) if index and layer.norm_weight is not None else None,
            _contiguous(layer.norm_bias) if index and layer.norm_bias is not None else None,
        )
    products = first_products(network, kind, pack_weight(kind, first.weight_ih, units))[:, :, :units]
    packed.set_table_and_head(
        _contiguous(products.reshape(network.vocab_size, -1) + outer_bias(network.cell, first)),
        _contiguous(network.embedding_matrix()) if network.residual else None,
        _contiguous(network.head_weight),
        _contiguous(network.head_bias),
    )
    return packed


def _contiguous(array: Floats) -> Floats:
    return np.ascontiguousarray(array, np.float32)
