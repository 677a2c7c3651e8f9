"""Sampling in one native call for many symbols: table, layers, head, filters and draw, for one or many streams.

The weights are read once a step, whatever the number of streams, and a stream's symbols are the same alone or among others.
"""

from __future__ import annotations

import weakref
from typing import Any, Literal

import torch
from torch import Tensor, nn

from unrolled.nn.cells import GatedCell, GRUCell, LSTMCell, RNNCell, State, map_state, state_tensors
from unrolled.nn.kernels.layer import input_products
from unrolled.nn.kernels.library import library, why_absent
from unrolled.nn.model import SequenceModel
from unrolled.options import SampleOptions

Precision = Literal["float32", "bfloat16", "int8"]
"""Numbers of the weights. int8: symmetric, a scale a row, times activations of 8 bits, too; the sums are exact."""

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16", "int8")

_KINDS: dict[type, int] = {RNNCell: 0, GRUCell: 1, LSTMCell: 2}

MOST_TABLE = 1 << 30
"""Bytes of the table of first-layer products from which on it is not made."""

WORTH_SHARING = 1 << 20
"""Bytes of weights, times streams by `SHARED_STREAMS`, from which on threads share a step: below, they would mostly wait for
each other (LOG.md)."""

SHARED_STREAMS = 8


def refusal(model: SequenceModel) -> str | None:
    """Say why the native step cannot run this model as it is now, or return None if it can."""
    if library() is None:
        return why_absent()
    weight = model.head.weight
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        return f"its weights are {weight.dtype} on {weight.device}"
    layers = model.stack.each_layer()
    for layer in layers:
        if type(layer.cell) not in _KINDS:
            return f"there is no native step for {type(layer.cell).__name__}"
        if layer.dropout.active:
            return "it is being trained, with dropout"
    rows = model.cells()[0].weight_h.shape[0]
    return "its symbols are too many for a table" if model.symbols * rows * 4 > MOST_TABLE else None


class NativeStep:
    """A model's weights, packed, and the state of `streams` streams.

    Raises `ValueError` where `refusal` names a reason, and for wrong sizes and symbols.
    """

    def __init__(
        self, model: SequenceModel, streams: int, precision: Precision = "float32", threads: int | None = None
    ) -> None:
        reason = refusal(model)
        if reason is not None:
            raise ValueError(f"The native step cannot run this model: {reason}.")
        self.model, self.streams, self.precision, self.symbols = model, streams, precision, model.symbols
        self.read_so_far: list[int] = []
        self._lstm = isinstance(model.cells()[0], LSTMCell)
        weights = _packed(model, precision)
        self.weight_bytes = int(weights.weight_bytes)
        """Bytes of weights that a step reads."""
        self._own = library().Decoder(weights, streams)
        sharing = self.weight_bytes * max(1, streams // SHARED_STREAMS) >= WORTH_SHARING
        self.threads = threads or (torch.get_num_threads() if sharing else 1)

    def read(self, ids: Tensor) -> None:
        """Read ids `(T, B)` int64, the streams 0 to B-1 each their own."""
        self._own.feed(ids.contiguous(), self.threads)

    def draw(self, numbers: Tensor, options: SampleOptions) -> Tensor:
        """Draw by numbers `(T, B)` float64 in [0, 1), each symbol read on by its stream; return the ids `(T, B)` int64."""
        ids = torch.empty(numbers.shape, dtype=torch.int64)
        chosen = (options.temperature, options.top_k, options.top_p, options.min_p)
        self._own.sample(numbers.contiguous(), ids, *chosen, self.threads)
        return ids

    def mark(self, read: list[int]) -> None:
        """Remember where the first stream is, having `read` these ids."""
        self._own.save_prefix()
        self.read_so_far = read

    def clear(self) -> None:
        """Let the first stream begin from zero."""
        self._own.reset()

    def restart(self) -> None:
        """Let every stream go on from the mark, or from zero if there is none."""
        self._own.restore_prefix()

    def logits(self) -> Tensor:
        """Return what each stream expects next, `(B, V)`."""
        logits = torch.empty(self.streams, self.symbols)
        self._own.logits(logits)
        return logits

    @property
    def state(self) -> State:
        """The state of all streams, as the model has it."""
        state = map_state(torch.empty_like, self.model.initial_state(self.streams))
        for index, own in enumerate(state.layers):
            self._copy(index, own, False)
        return state

    @state.setter
    def state(self, state: State) -> None:
        for index, own in enumerate(state.layers):
            self._copy(index, map_state(_plain, own), True)

    def _copy(self, index: int, own: State, into: bool) -> None:
        tensors = state_tensors(own)
        self._own.state(index, tensors[0], tensors[1] if self._lstm else None, into)


_KEPT: weakref.WeakKeyDictionary[SequenceModel, tuple[Any, Any]] = weakref.WeakKeyDictionary()
"""Of each model what was packed last, and of what: packing takes longer than drawing a line of text."""


def _packed(model: SequenceModel, precision: Precision) -> Any:
    """Return the weights of a model as steps read them: those made last time, if they are still the same."""
    weights = [*model.parameters()]
    if any(weight.is_inference() for weight in weights):  # nobody counts their changes
        return _pack(model, precision)
    stamp = (precision, [(weight.data_ptr(), weight._version) for weight in weights])
    kept = _KEPT.get(model)
    if kept is None or kept[0] != stamp:
        kept = _KEPT[model] = (stamp, _pack(model, precision))
    return kept[1]


@torch.no_grad()
def _pack(model: SequenceModel, precision: Precision) -> Any:
    layers, cells, table = model.stack.each_layer(), model.cells(), model.table().detach()
    norm, kind = layers[0].norm, _KINDS[type(cells[0])]
    epsilon = norm.eps if isinstance(norm, nn.LayerNorm) else 0.0
    packed = library().DecoderWeights(
        kind, PRECISIONS.index(precision), cells[0].hidden_size, len(cells), model.symbols, norm is not None, epsilon
    )
    for index, (layer, cell) in enumerate(zip(layers, cells, strict=True)):
        own_norm = layer.norm if index else None
        packed.set_layer(
            index,
            _plain(cell.weight_h),
            _plain(cell.weight_x) if index else None,
            _plain(_bias(cell)) if index else None,
            _plain(cell.bias_h[2 * cell.hidden_size :]) if isinstance(cell, GRUCell) and cell.bias_h is not None else None,
            None if own_norm is None else _plain(own_norm.weight),
            None if own_norm is None else _plain(own_norm.bias),
        )
    first = input_products(kind, layers[0].before(table), cells[0].weight_x, cells[0].hidden_size) + _bias(cells[0])  # (V, G H)
    packed.set_table_and_head(
        _plain(first), None if norm is None else _plain(table), _plain(model.head.weight), _plain(model.head.bias)
    )
    return packed


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().float().contiguous()


def _bias(cell: GatedCell) -> Tensor:
    """Return the biases `(G H)` that can be added to the products of x: all but a GRU's inside its reset gate."""
    if cell.bias_h is None:
        return cell.bias
    if not isinstance(cell, GRUCell):
        return cell.bias + cell.bias_h
    outside = cell.bias_h.clone()
    outside[2 * cell.hidden_size :] = 0
    return cell.bias + outside
