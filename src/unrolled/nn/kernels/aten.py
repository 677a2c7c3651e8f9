"""torch's fused recurrent layers: oneDNN on CPUs, cuDNN on NVIDIA GPUs. Other cells have `unroll_fused`, in torch's operations.

The fused layers cannot reset the state within a sequence, so a chunk is cut at its resets and run in segments.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.nn.cells import (
    Cell,
    EmbeddingLookup,
    GatedCell,
    GRUCell,
    Inputs,
    LSTMCell,
    LSTMState,
    RNNCell,
    State,
    keep_rows,
    map_state,
    to_dense,
    unroll_by_step,
)

MAX_TABLE_RATIO = 0.6
"""An embedding table with at most this many rows per column is multiplied by the input weights once."""

_FUSED_LAYERS = {RNNCell: torch.rnn_tanh, GRUCell: torch.gru, LSTMCell: torch.lstm}


def unsupported_reason(cell: Cell) -> str | None:
    """Say why torch's layers cannot run this cell, or return None if they can."""
    return (
        None if type(cell) in _FUSED_LAYERS or cell.has_fused_unroll else f"torch has no fused layer for {type(cell).__name__}"
    )


def unroll(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll `cell` as `unroll_by_step` does, with torch's fused layer, in the dtype of autocast if that is on.

    Rows of a small embedding table are passed as one-hot vectors, with the products of the table as input weights: V columns
    to multiply instead of I. For 65 tokens and 256 units this takes 0.71 of the time, forward and backward.
    """
    if not isinstance(cell, GatedCell):
        raise ValueError(f"The torch kernel unrolls gated cells; got {type(cell).__name__}.")
    if xs.shape[0] == 0:
        return unroll_by_step(cell, xs, state, resets)  # torch's layers need at least one step
    if cell.has_fused_unroll:
        return cell.unroll_fused(xs, state, resets)
    device_type = cell.weight_ih.device.type
    dtype = torch.get_autocast_dtype(device_type) if torch.is_autocast_enabled(device_type) else cell.weight_ih.dtype
    reason = unsupported_reason(cell)
    if reason is not None:
        raise ValueError(f"The torch kernel cannot unroll this cell: {reason}.")
    with torch.autocast(device_type, enabled=False):
        xs, weight_ih = _layer_inputs(cell, xs)
        weights = [weight.to(dtype) for weight in (weight_ih, cell.weight_hh, *_biases(cell))]
        xs, initial_state = xs.to(dtype), state
        state = map_state(lambda s: s.to(dtype), state)
        outputs = []
        for start, stop in _segments(resets, len(xs)):
            if resets is not None:
                state = keep_rows(state, ~resets[start])
            ys, state = _run_fused(cell, xs[start:stop], state, weights)
            outputs.append(ys)
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0], map_state(
            lambda s, o: s.to(o.dtype), state, initial_state
        )


def _layer_inputs(cell: GatedCell, xs: Inputs) -> tuple[Tensor, Tensor]:
    """Return inputs `(T, B, D)` and their weights `(G H, D)`; D is I, or V for one-hot vectors."""
    if not isinstance(xs, EmbeddingLookup) or len(xs.table) > MAX_TABLE_RATIO * xs.table.shape[1]:
        return to_dense(xs), cell.weight_ih
    one_hot = F.one_hot(xs.ids, len(xs.table))
    return one_hot, cell.weight_ih @ xs.table.to(cell.weight_ih.dtype).T


def _biases(cell: GatedCell) -> tuple[Tensor, Tensor]:
    """Return the two biases that torch's layers need; the second is zero if the cell has only one."""
    return cell.bias, torch.zeros_like(cell.bias) if cell.bias_hh is None else cell.bias_hh


def _segments(resets: Tensor | None, steps: int) -> list[tuple[int, int]]:
    """Return `(start, stop)` of the segments within which no row is reset."""
    if resets is None:
        return [(0, steps)]
    bounds = [0, *(t for t in resets.any(1).nonzero().flatten().tolist() if t > 0), steps]
    return list(zip(bounds[:-1], bounds[1:], strict=True))


def _run_fused(cell: GatedCell, xs: Tensor, state: State, weights: list[Tensor]) -> tuple[Tensor, State]:
    hidden = [s.unsqueeze(0).contiguous() for s in state]  # (layers = 1, B, H)
    initial = hidden if isinstance(cell, LSTMCell) else hidden[0]
    layer = _FUSED_LAYERS[type(cell)]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first; the three functions have different type stubs
    ys, *final = layer(xs, initial, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)  # type: ignore[operator]
    return ys, (LSTMState if isinstance(cell, LSTMCell) else type(state))(*(s.squeeze(0) for s in final))
