"""The native decoder: embedding, layers, head, logits processors and draw of many tokens in one native call.

It decodes one or many streams (samples) at a time. The weights are read once per step for all streams, and the ids of a
stream do not depend on the other streams.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unrolled.nn.cells import GatedCell, GRUCell, LSTMCell, State, map_state, state_tensors
from unrolled.nn.kernels.extension import native_module, unavailable_reason
from unrolled.nn.kernels.native_layer import CELL_KINDS, input_products
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import SampleOptions

Precision = Literal["float32", "bfloat16", "int8"]
"""Number format of the weights. int8: symmetric, one scale per row, times activations of 8 bits; the sums are exact."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")

MAX_TABLE_BYTES = 1 << 30
"""Most bytes of the table of first-layer products `(V, G H)`; larger vocabularies use the reference path."""

MIN_MULTITHREADED_BYTES = 1 << 20
"""Bytes of weights, times `streams / STREAMS_PER_WEIGHT_READ`, from which several threads share a step: for smaller steps,
they would mostly wait for each other."""

STREAMS_PER_WEIGHT_READ = 8
"""Streams that share one read of the weights."""


def unsupported_reason(model: RecurrentLM) -> str | None:
    """Say why the native decoder cannot run this model in its present state, or return None if it can."""
    if native_module() is None:
        return unavailable_reason()
    weight = model.head.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"its weights are {weight.dtype} on {weight.device}"
    layers = model.stack.layer_list()
    for layer in layers:
        if type(layer.cell) not in CELL_KINDS:
            return f"there is no native decoder for {type(layer.cell).__name__}"
        if layer.dropout.active:
            return "it is in training mode, with dropout"
    rows = model.cells()[0].weight_hh.shape[0]
    return (
        "its vocabulary is too large for a table of first-layer products"
        if model.vocab_size * rows * 4 > MAX_TABLE_BYTES
        else None
    )


class NativeDecoder:
    """The packed weights of a model and the state of several streams.

    Args:
        model: the language model, in eval mode, on the CPU.
        streams: number of streams.
        precision: number format of the packed weights.
        threads: None: all threads where a step is large enough to share.

    Raises `ValueError` where `unsupported_reason` names a reason, and for wrong sizes and ids.
    """

    def __init__(self, model: RecurrentLM, streams: int, precision: Precision = "float32", threads: int | None = None) -> None:
        reason = unsupported_reason(model)
        if reason is not None:
            raise ValueError(f"The native decoder cannot run this model: {reason}.")
        self.model, self.streams, self.precision, self.vocab_size = model, streams, precision, model.vocab_size
        self.prefix_ids: list[int] = []
        self._is_lstm = isinstance(model.cells()[0], LSTMCell)
        weights = _cached_weights(model, precision)
        self.weight_bytes = int(weights.weight_bytes)
        """Bytes of weights that one step reads."""
        self._decoder = native_module().Decoder(weights, streams)
        multithreaded = self.weight_bytes * max(1, streams // STREAMS_PER_WEIGHT_READ) >= MIN_MULTITHREADED_BYTES
        self.threads = threads or (torch.get_num_threads() if multithreaded else 1)

    def read(self, ids: Tensor) -> None:
        """Advance the streams 0 to B-1 by ids `(T, B)` int64, one column for each."""
        self._decoder.feed(ids.contiguous(), self.threads)

    def sample(self, numbers: Tensor, options: SampleOptions) -> Tensor:
        """Draw T tokens for each stream with the random numbers `(T, B)` float64 in [0, 1); return the ids `(T, B)` int64.

        Of the options, temperature, top_k, top_p and min_p are used, in this order.
        """
        ids = torch.empty(numbers.shape, dtype=torch.int64)
        filters = (options.temperature, options.top_k, options.top_p, options.min_p)
        self._decoder.sample(numbers.contiguous(), ids, *filters, self.threads)
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

    def logits(self) -> Tensor:
        """Return the logits of the next token of each stream, `(B, V)`."""
        logits = torch.empty(self.streams, self.vocab_size)
        self._decoder.logits(logits)
        return logits

    @property
    def state(self) -> State:
        """The state of all streams, as the model's `step` returns it."""
        state = map_state(torch.empty_like, self.model.initial_state(self.streams))
        for index, layer_state in enumerate(state.layers):
            self._copy_state(index, layer_state, False)
        return state

    @state.setter
    def state(self, state: State) -> None:
        for index, layer_state in enumerate(state.layers):
            self._copy_state(index, map_state(_contiguous_float32, layer_state), True)

    def _copy_state(self, index: int, layer_state: State, to_native: bool) -> None:
        tensors = state_tensors(layer_state)
        self._decoder.state(index, tensors[0], tensors[1] if self._is_lstm else None, to_native)


_PACKED_CACHE: weakref.WeakKeyDictionary[RecurrentLM, tuple[Any, Any]] = weakref.WeakKeyDictionary()
"""For each model, the version of its weights and the packed weights: packing takes longer than drawing a line of text."""


def _cached_weights(model: RecurrentLM, precision: Precision) -> Any:
    """Return the packed weights of a model, from the cache if the weights have not changed since."""
    weights = [*model.parameters()]
    if any(weight.is_inference() for weight in weights):  # inference tensors have no version counter
        return _pack_weights(model, precision)
    version = (precision, [(weight.data_ptr(), weight._version) for weight in weights])
    cached = _PACKED_CACHE.get(model)
    if cached is None or cached[0] != version:
        cached = _PACKED_CACHE[model] = (version, _pack_weights(model, precision))
    return cached[1]


@torch.no_grad()
def _pack_weights(model: RecurrentLM, precision: Precision) -> Any:
    layers, cells, table = model.stack.layer_list(), model.cells(), model.embedding_matrix().detach()
    norm, kind = layers[0].norm, CELL_KINDS[type(cells[0])]
    epsilon = norm.eps if isinstance(norm, nn.LayerNorm) else 0.0
    packed = native_module().DecoderWeights(
        kind, PRECISIONS.index(precision), cells[0].hidden_size, len(cells), model.vocab_size, norm is not None, epsilon
    )
    for index, (layer, cell) in enumerate(zip(layers, cells, strict=True)):
        layer_norm = layer.norm if index else None
        packed.set_layer(
            index,
            _contiguous_float32(cell.weight_hh),
            _contiguous_float32(cell.weight_ih) if index else None,
            _contiguous_float32(_input_bias(cell)) if index else None,
            _contiguous_float32(cell.bias_hh[2 * cell.hidden_size :])
            if isinstance(cell, GRUCell) and cell.bias_hh is not None
            else None,
            None if layer_norm is None else _contiguous_float32(layer_norm.weight),
            None if layer_norm is None else _contiguous_float32(layer_norm.bias),
        )
    products = input_products(kind, layers[0].cell_input(table), cells[0].weight_ih, cells[0].hidden_size)
    first_products = products + _input_bias(cells[0])  # (V, G H)
    packed.set_table_and_head(
        _contiguous_float32(first_products),
        None if norm is None else _contiguous_float32(table),
        _contiguous_float32(model.head.weight),
        _contiguous_float32(model.head.bias),
    )
    return packed


def _contiguous_float32(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _input_bias(cell: GatedCell) -> Tensor:
    """Return the biases `(G H)` to add to `W_x x`: all of them, except the `b_hn` that a GRU's reset gate multiplies."""
    if cell.bias_hh is None:
        return cell.bias
    if not isinstance(cell, GRUCell):
        return cell.bias + cell.bias_hh
    outer_bias = cell.bias_hh.clone()
    outer_bias[2 * cell.hidden_size :] = 0
    return cell.bias + outer_bias
