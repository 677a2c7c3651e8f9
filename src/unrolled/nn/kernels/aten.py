"""torch's own fused recurrent layers: oneDNN on the processor, cuDNN on NVIDIA cards.

A reset inside a chunk cannot be told to them, so a chunk is cut at its resets and run in segments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unrolled.nn.cells import Cell, GatedCell, GRUCell, LSTMCell, LSTMState, RNNCell, State, map_state

_LAYERS = {RNNCell: torch.rnn_tanh, GRUCell: torch.gru, LSTMCell: torch.lstm}


def refusal(cell: Cell) -> str | None:
    """Say why torch's layers cannot run this cell, or return None if they can."""
    return None if type(cell) in _LAYERS else f"torch has no fused layer for {type(cell).__name__}"


def unroll(cell: Cell, xs: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll `cell` as `unroll_by_step` does, through torch's fused layer. Autocast's type is used, if it is on."""
    if not isinstance(cell, GatedCell):
        raise ValueError(f"The aten kernel unrolls gated cells; got {type(cell).__name__}.")
    kind = xs.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else cell.weight_h.dtype
    reason = refusal(cell)
    if reason is not None:
        raise ValueError(f"The aten kernel cannot unroll this cell: {reason}.")
    with torch.autocast(kind, enabled=False):
        weights = [weight.to(dtype) for weight in (cell.weight_x, cell.weight_h, *_biases(cell))]
        xs, old = xs.to(dtype), state
        state = map_state(lambda s: s.to(dtype), state)
        pieces = []
        for start, stop in _segments(resets, len(xs)):
            if resets is not None:
                keep = ~resets[start].unsqueeze(-1)  # (B, 1)
                state = map_state(lambda s, keep=keep: s * keep, state)
            ys, state = _fused(cell, xs[start:stop], state, weights)
            pieces.append(ys)
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0], map_state(lambda s, o: s.to(o.dtype), state, old)


def _biases(cell: GatedCell) -> tuple[Tensor, Tensor]:
    """Return the two biases that torch's layers insist on; the second is zero where the cell has one."""
    return cell.bias, torch.zeros_like(cell.bias) if cell.bias_h is None else cell.bias_h


def _segments(resets: Tensor | None, steps: int) -> list[tuple[int, int]]:
    """Return `(start, stop)` of the stretches inside which no row is reset."""
    if resets is None:
        return [(0, steps)]
    cuts = [0, *(t for t in resets.any(1).nonzero().flatten().tolist() if t > 0), steps]
    return list(zip(cuts[:-1], cuts[1:], strict=True))


def _fused(cell: GatedCell, xs: Tensor, state: State, weights: list[Tensor]) -> tuple[Tensor, State]:
    hidden = [s.unsqueeze(0).contiguous() for s in state]  # (layers = 1, B, H)
    first = hidden if isinstance(cell, LSTMCell) else hidden[0]
    layer = _LAYERS[type(cell)]
    # has_biases, num_layers, dropout, train, bidirectional, batch_first; torch types each of the three otherwise
    ys, *last = layer(xs, first, weights, True, 1, 0.0, torch.is_grad_enabled(), False, False)  # type: ignore[operator]
    return ys, (LSTMState if isinstance(cell, LSTMCell) else type(state))(*(s.squeeze(0) for s in last))
