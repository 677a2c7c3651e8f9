"""Our own kernels in C++ (`native/`), for processors: layers forward and backward through time, and the loss behind them.

One parallel region for a whole sequence; weights packed once; threads share the rows of small layers and the units of large
ones, and do a cell's arithmetic while its sums are hot. What the processor offers is found at run time: AMX, AVX-512 BF16,
AVX-512, AVX2, or plain vectors. Resets inside a chunk are part of the loop, so that a chunk is never cut. What is around a
layer that is residual, a normalisation before and a sum behind, is done with it: each pass over memory that is saved is time.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, GatedCell, Gathered, Inputs, LSTMCell, LSTMState, State, dense, unroll_by_step
from unrolled.nn.kernels.head import HeadLoss
from unrolled.nn.kernels.layer import KINDS, Around, NativeLayer
from unrolled.nn.kernels.library import library, why_absent

FEW_ROWS = 4
"""A table with this many times fewer rows than there are inputs is multiplied by the weights once, and its rows are picked."""


def refusal(cell: Cell) -> str | None:
    """Say why these kernels cannot run this cell, or return None if they can."""
    if library() is None:
        return why_absent()
    if type(cell) not in KINDS:
        return f"there is no native layer for {type(cell).__name__}"
    weight = cast(GatedCell, cell).weight_h
    if weight.device.type != "cpu":
        return f"native kernels run on processors, and the model is on {weight.device.type}"
    return None if weight.dtype == torch.float32 else f"native weights are float32, and the model's are {weight.dtype}"


def has_bfloat16() -> bool:
    """Say whether this processor multiplies bfloat16 in these kernels."""
    found = library()
    return found is not None and str(found.active_isa()) in ("amx", "avx512_bf16")


def unroll(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll `cell` as `unroll_by_step` does. Products are in autocast's type, if that is on; all else is float32."""
    return _unroll(cell, xs, state, resets, None, None)


def unroll_residual(
    cell: Cell, xs: Inputs, norm: nn.LayerNorm, mask: Tensor | None, state: State, resets: Tensor | None = None
) -> tuple[Tensor, State]:
    """Return `xs + mask * cell(norm(xs))` `(T, B, H)`, all of it in float32, and the last state; `mask` is `(B, H)`."""
    return _unroll(cell, xs, state, resets, norm, mask)


def loss(ys: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy, in nats, of the scores that `head` gives to `ys` `(T, B, H)` with `targets` `(T, B)`.

    Targets below zero do not count.
    """
    number = _number()
    with torch.autocast("cpu", enabled=False):
        return cast(Tensor, HeadLoss.apply(number, ys, head.weight, head.bias, targets))  # type: ignore[no-untyped-call]


def _number() -> torch.dtype:
    """Return the type that products are in."""
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16()
    return torch.bfloat16 if narrow else torch.float32


def _unroll(
    cell: Cell, xs: Inputs, state: State, resets: Tensor | None, norm: nn.LayerNorm | None, mask: Tensor | None
) -> tuple[Tensor, State]:
    if (reason := refusal(cell)) is not None:
        raise ValueError(f"The native kernel cannot unroll this cell: {reason}.")
    cell, number = cast(GatedCell, cell), _number()
    if xs.shape[0] == 0 or xs.shape[1] == 0:
        return unroll_by_step(cell, xs, state, resets)
    ids = None
    if isinstance(xs, Gathered) and len(xs.rows) * FEW_ROWS <= xs.ids.numel():
        ids, inputs = xs.ids, xs.rows.unsqueeze(0)
    else:
        inputs = dense(xs)
    around = Around(mask=mask) if norm is None else Around(norm.eps, norm.weight, norm.bias, mask)
    with torch.autocast("cpu", enabled=False):
        ys, *last = NativeLayer.apply(
            KINDS[type(cell)], number, torch.is_grad_enabled(), ids, resets, inputs.float(), cell.weight_x, cell.weight_h,
            cell.bias, cell.bias_h, *around, *[s.float() for s in state],
        )  # type: ignore[no-untyped-call]  # fmt: skip
    return ys, LSTMState(*last) if isinstance(cell, LSTMCell) else type(state)(last[0])
