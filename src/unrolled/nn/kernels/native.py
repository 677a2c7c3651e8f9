"""The native kernels, C++ code for CPUs (`native/`): recurrent layers forward and backward through time, and the loss.

One parallel region covers a whole sequence. Weights are packed once per call. Threads share the rows of small layers and the
units of large ones, and apply the nonlinearities of a cell while its sums are in cache. The instruction set is chosen at run
time: AMX, AVX-512 BF16, AVX-512, AVX2, or plain vectors. Resets within a chunk are part of the loop. The layer norm before a
residual layer and the sum after it are computed in the same passes over memory.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, EmbeddingLookup, GatedCell, Inputs, LSTMCell, LSTMState, State, to_dense, unroll_by_step
from unrolled.nn.kernels.extension import FAST_BFLOAT16, native_module, unavailable_reason
from unrolled.nn.kernels.linear_cross_entropy import LinearCrossEntropy
from unrolled.nn.kernels.native_layer import CELL_KINDS, NativeLayer, ResidualNorm

MIN_INPUTS_PER_TABLE_ROW = 4
"""With at least this many inputs per row of an embedding table, the table is multiplied by the input weights once."""


def unsupported_reason(cell: Cell) -> str | None:
    """Say why the native kernels cannot run this cell, or return None if they can."""
    if native_module() is None:
        return unavailable_reason()
    if type(cell) not in CELL_KINDS:
        return f"there is no native layer for {type(cell).__name__}"
    weight = cast(GatedCell, cell).weight_hh
    if weight.device.type != "cpu":
        return f"native kernels run on CPUs, and the model is on {weight.device.type}"
    return None if weight.dtype == torch.float32 else f"native weights are float32, and the model's are {weight.dtype}"


def has_bfloat16() -> bool:
    """Return whether the native kernels multiply in bfloat16 on this CPU."""
    module = native_module()
    return module is not None and module.active_isa() in FAST_BFLOAT16


def unroll(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll `cell` as `unroll_by_step` does. Products are in the dtype of autocast if that is on; all else is float32."""
    return _unroll(cell, xs, state, resets, None, None)


def unroll_residual(
    cell: Cell, xs: Inputs, norm: nn.LayerNorm, mask: Tensor | None, state: State, resets: Tensor | None = None
) -> tuple[Tensor, State]:
    """Return `xs + mask * cell(norm(xs))` `(T, B, H)` in float32, and the final state; `mask` is `(B, H)`."""
    return _unroll(cell, xs, state, resets, norm, mask)


def loss(ys: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of the logits `head(ys)`, `ys` `(T, B, H)`, with `targets` `(T, B)`.

    Targets below zero do not count.
    """
    dtype = _product_dtype()
    with torch.autocast("cpu", enabled=False):
        return cast(Tensor, LinearCrossEntropy.apply(dtype, ys, head.weight, head.bias, targets))  # type: ignore[no-untyped-call]


def _product_dtype() -> torch.dtype:
    """Return the dtype of matrix products."""
    use_bfloat16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16()
    return torch.bfloat16 if use_bfloat16 else torch.float32


def _unroll(
    cell: Cell, xs: Inputs, state: State, resets: Tensor | None, norm: nn.LayerNorm | None, mask: Tensor | None
) -> tuple[Tensor, State]:
    if (reason := unsupported_reason(cell)) is not None:
        raise ValueError(f"The native kernel cannot unroll this cell: {reason}.")
    cell, dtype = cast(GatedCell, cell), _product_dtype()
    if xs.shape[0] == 0 or xs.shape[1] == 0:
        return unroll_by_step(cell, xs, state, resets)
    ids = None
    if isinstance(xs, EmbeddingLookup) and len(xs.table) * MIN_INPUTS_PER_TABLE_ROW <= xs.ids.numel():
        ids, inputs = xs.ids, xs.table.unsqueeze(0)
    else:
        inputs = to_dense(xs)
    residual_norm = ResidualNorm(mask=mask) if norm is None else ResidualNorm(norm.eps, norm.weight, norm.bias, mask)
    with torch.autocast("cpu", enabled=False):
        ys, *final = NativeLayer.apply(
            CELL_KINDS[type(cell)], dtype, torch.is_grad_enabled(), ids, resets, inputs.float(), cell.weight_ih, cell.weight_hh,
            cell.bias, cell.bias_hh, *residual_norm, *[s.float() for s in state],
        )  # type: ignore[no-untyped-call]  # fmt: skip
    return ys, LSTMState(*final) if isinstance(cell, LSTMCell) else type(state)(final[0])
