"""The native kernels, C++ code for CPUs (`native/`): recurrent layers forward and backward through time.

One parallel region covers a whole sequence. Weights are packed once per call. Threads share the rows of small layers and the
units of large ones, and apply the nonlinearities of a cell while its sums are in cache. The instruction set is chosen at run
time: AMX, AVX-512 BF16, AVX-512, AVX2, or plain vectors. Resets within a chunk are part of the loop. The layer norm before a
residual layer and the sum after it are computed in the same passes over memory.

`NativeLayer` is an autograd function with the layer norm and the sum of a residual layer around it. Buffers have the layout
that the C++ code needs: units padded to a multiple of 32, weights packed in tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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
    to_dense,
    unroll_by_step,
)
from unrolled.nn.kernels.extension import FAST_BFLOAT16, ROW_PADDING, native_module, padded_size, unavailable_reason

CELL_KINDS: dict[type[Cell], int] = {RNNCell: 0, GRUCell: 1, LSTMCell: 2}
NUM_GATES, SAVED_PER_UNIT, GRAD_BLOCKS = (1, 3, 4), (1, 5, 6), (1, 4, 4)
"""By cell kind: gates in the products; numbers per unit saved for the backward pass; gate gradients (a GRU has two for n)."""

MIN_INPUTS_PER_TABLE_ROW = 4
"""With at least this many inputs per row of an embedding table, the table is multiplied by the input weights once."""

_NO_NORM_GRADIENTS: tuple[Tensor | None, Tensor | None] = (None, None)


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


def product_dtype() -> torch.dtype:
    """Return the dtype of matrix products."""
    use_bfloat16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16()
    return torch.bfloat16 if use_bfloat16 else torch.float32


def _unroll(
    cell: Cell, xs: Inputs, state: State, resets: Tensor | None, norm: nn.LayerNorm | None, mask: Tensor | None
) -> tuple[Tensor, State]:
    if (reason := unsupported_reason(cell)) is not None:
        raise ValueError(f"The native kernel cannot unroll this cell: {reason}.")
    cell, dtype = cast(GatedCell, cell), product_dtype()
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


class ResidualNorm(NamedTuple):
    """What surrounds a residual layer: inputs pass through layer norm, and outputs are `inputs + mask * h`, `mask` `(B, H)`.

    Without `norm_weight` `(I,)`, inputs are neither normalized nor added. Without `mask`, it is one.
    """

    eps: float = 0.0
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None
    mask: Tensor | None = None


class NativeLayer(torch.autograd.Function):
    """Forward and backward pass of a layer. Inputs are `(T, B, I)`, or a table `(1, V, I)` with `ids` `(T, B)` of its rows."""

    @staticmethod
    def forward(
        ctx: Any, kind: int, dtype: torch.dtype, needs_grad: bool, ids: Tensor | None, resets: Tensor | None,
        inputs: Tensor, weight_ih: Tensor, weight_hh: Tensor, bias: Tensor, bias_hh: Tensor | None,
        eps: float, norm_weight: Tensor | None, norm_bias: Tensor | None, mask: Tensor | None, *initial: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        native, threads, units = cast(Any, native_module()), torch.get_num_threads(), weight_hh.shape[1]
        steps, rows = inputs.shape[:2] if ids is None else ids.shape
        padded, inputs = padded_size(units), inputs.detach().contiguous()
        xs, moments = _pad_and_normalize(inputs, dtype, eps, norm_weight, norm_bias)
        hs = torch.empty(steps + 1, rows, padded + ROW_PADDING, dtype=dtype)
        ys, final, saved = torch.empty(steps, rows, units), [torch.empty(rows, units) for _ in initial], None
        if needs_grad:
            saved = torch.empty(steps, padded // 16, rows, SAVED_PER_UNIT[kind], 16,
                                dtype=torch.float16 if dtype == torch.bfloat16 else torch.float32)  # fmt: skip
        ids, resets = (None if tensor is None else tensor.contiguous() for tensor in (ids, resets))
        slices = native.row_slice_count(kind, rows, units, threads, dtype == torch.bfloat16)
        native.layer_forward(
            kind, threads, slices, *_pack_inputs(kind, inputs, xs, ids, weight_ih, units, threads),
            pack_weight(native, kind, weight_hh, units, dtype, threads),
            _combine_biases(kind, bias, bias_hh, padded), resets,
            initial[0].detach().contiguous(), initial[1].detach().contiguous() if kind == 2 else None,
            mask, None if norm_weight is None else inputs.view(-1, units), hs, saved, ys,
            final[0], final[1] if kind == 2 else None,
        )  # fmt: skip
        ctx.kind, ctx.dtype, ctx.sizes = kind, dtype, (steps, rows, units, padded)
        ctx.save_for_backward(ids, resets, inputs, weight_ih, weight_hh, bias_hh, norm_weight, mask)
        ctx.buffers = (xs, hs, saved, moments)
        return ys, *final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dys: Tensor, *dfinal: Tensor) -> tuple[Tensor | None, ...]:
        native, threads = cast(Any, native_module()), torch.get_num_threads()
        kind, dtype, (steps, rows, units, padded) = ctx.kind, ctx.dtype, ctx.sizes
        ids, resets, inputs, weight_ih, weight_hh, bias_hh, norm_weight, mask = ctx.saved_tensors
        xs, hs, saved, moments = ctx.buffers
        dys, table_rows, parts = dys.contiguous(), inputs.shape[1], native.batch_parts(rows)
        slices = native.row_slice_count(kind, rows, units, threads, dtype == torch.bfloat16)
        dgates = torch.empty(steps, rows, GRAD_BLOCKS[kind] * padded + ROW_PADDING, dtype=dtype)
        dbias = torch.empty(parts, GRAD_BLOCKS[kind], padded)
        dinitial = [torch.empty(rows, units) for _ in dfinal]
        dtable = None if ids is None else torch.zeros(parts, table_rows, NUM_GATES[kind], padded)
        dresidual = None if ids is None or norm_weight is None else torch.zeros(parts, table_rows, padded)
        native.layer_backward(
            kind, threads, slices, pack_weight_backward(native, kind, weight_hh, units, True, dtype, threads), resets, saved,
            mask, dys, dfinal[0].contiguous(), dfinal[1].contiguous() if kind == 2 else None,
            ids, dtable, dresidual, dgates, dbias, dinitial[0], dinitial[1] if kind == 2 else None,
        )  # fmt: skip
        layer_inputs = None if ids is not None else xs
        dweight_hh, dweight_ih = weight_gradients(kind, dgates, hs[:-1], layer_inputs, padded, threads)
        dweight_hh = dweight_hh[:, :units, :units]
        if kind == 1:
            dweight_hh = dweight_hh.roll(-1, 0)  # from the order n, r, z of the gradients of W_h h to r, z, n
        input_dgates, layout = dgates, kind
        if dtable is not None:  # from here on, the rows of the table are the inputs
            input_dgates, layout = _pack_table_gradient(dtable, dtype), 0
            dweight_ih, _ = weight_gradients(0, input_dgates, xs, None, NUM_GATES[kind] * padded, threads)
            dweight_ih = dweight_ih.view(NUM_GATES[kind], padded, -1)
        if dresidual is not None:
            dys = sum_parts(dresidual)[None, :, :units].contiguous()
        dweight_ih = cast(Tensor, dweight_ih)[:, :units, : inputs.shape[2]].reshape(weight_ih.shape)
        dinputs, dnorm = None, _NO_NORM_GRADIENTS
        if ctx.needs_input_grad[5] or norm_weight is not None:
            dinputs = _input_gradients(layout, kind, input_dgates, weight_ih, units, threads)
            if norm_weight is not None:
                dinputs, dnorm = _norm_gradients(inputs, moments, norm_weight, dinputs, dys, threads)
            else:
                dinputs = dinputs[:, :, : inputs.shape[2]]
        return (None, None, None, None, None, dinputs, dweight_ih, dweight_hh.reshape(weight_hh.shape),
                *_bias_gradients(kind, sum_parts(dbias)[:, :units], bias_hh is not None), None, *dnorm, None,
                *dinitial)  # fmt: skip


def _pack_inputs(
    kind: int, inputs: Tensor, xs: Tensor, ids: Tensor | None, weight_ih: Tensor, units: int, threads: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Return inputs and their packed weights, or ids and the table of input products that they index."""
    native, gates, padded = cast(Any, native_module()), NUM_GATES[kind], padded_size(units)
    weights = pack_weight(native, kind, weight_ih, units, xs.dtype, threads)
    if ids is None:
        return xs, weights, None, None
    table = torch.empty(inputs.shape[1], gates, padded)
    native.input_products(kind, threads, xs[0], weights, table)
    return None, None, ids, table


def input_products(kind: int, xs: Tensor, weight_ih: Tensor, units: int) -> Tensor:
    """Return the products of inputs `(N, I)` with input weights, `(N, G H)`, the same for any number of threads."""
    padded_xs, _ = _pad_and_normalize(xs.detach().float()[None], torch.float32, 0.0, None, None)
    ids, threads = torch.empty(0, 0), torch.get_num_threads()
    _, _, _, table = _pack_inputs(kind, xs[None], padded_xs, ids, weight_ih.float(), units, threads)
    return cast(Tensor, table)[:, :, :units].flatten(1)


def _pack_table_gradient(dtable: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the gradient `(parts, V, G, Hp)` of a table of products, laid out as gate gradients `(1, V, G Hp + padding)`."""
    rows, width = dtable.shape[1], dtable.shape[2] * dtable.shape[3]
    packed = torch.empty(1, rows, width + ROW_PADDING, dtype=dtype)
    packed[0, :, :width] = sum_parts(dtable).flatten(1)
    return packed


def _norm_gradients(
    inputs: Tensor, moments: Tensor, weight: Tensor, dnormed: Tensor, dys: Tensor, threads: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradients of the inputs `(T, B, I)` of a residual layer, and of the layer norm, `(I,)` each."""
    native = cast(Any, native_module())
    dinputs, dweights = torch.empty_like(inputs), torch.zeros(native.step_parts(inputs[..., 0].numel()), 2, len(weight))
    native.norm_backward(inputs, moments, weight.detach(), dnormed, dys, dinputs, dweights, threads)
    dweight, dbias = sum_parts(dweights)
    return dinputs, (dweight, dbias)


def weight_gradients(
    kind: int, dgates: Tensor, hs: Tensor, xs: Tensor | None, padded: int, threads: int
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the weights of the previous states `hs` and, if given, of the inputs `xs`: `(G, Hp, width)`."""
    native, gates = cast(Any, native_module()), NUM_GATES[kind]
    hidden_width, input_width = hs.shape[2] - ROW_PADDING, None if xs is None else xs.shape[2] - ROW_PADDING
    dweight_hh = torch.empty(gates * padded, hidden_width)
    dweight_ih = None if input_width is None else torch.empty(gates * padded, input_width)
    native.weight_gradients(kind, threads, padded, dgates, hs, dweight_hh, xs, dweight_ih)
    dweight_ih_by_gate = None if dweight_ih is None else dweight_ih.view(gates, padded, -1)
    return dweight_hh.view(gates, padded, hidden_width), dweight_ih_by_gate


def _input_gradients(layout: int, kind: int, dgates: Tensor, weight_ih: Tensor, units: int, threads: int) -> Tensor:
    """Return the gradients of the inputs, `(T, B, I or more)`, in float32; `dgates` is laid out for the cell kind `layout`."""
    native = cast(Any, native_module())
    packed = pack_weight_backward(native, kind, weight_ih, units, False, dgates.dtype, threads)
    dinputs = torch.empty(*dgates.shape[:2], 16 * len(packed))
    native.input_gradients(layout, threads, dgates, packed, dinputs)
    return dinputs


def _bias_gradients(kind: int, dbias: Tensor, two_biases: bool) -> tuple[Tensor, Tensor | None]:
    """Return the gradients `(G H,)` of `bias` and, with two biases, of `bias_hh`."""
    dbias_ih = dbias[GRAD_BLOCKS[kind] - NUM_GATES[kind] :].flatten()
    if not two_biases:
        return dbias_ih, None
    return dbias_ih, dbias_ih if kind != 1 else torch.cat([dbias[1:3].flatten(), dbias[0]])


def sum_parts(parts: Tensor) -> Tensor:
    """Return the sum over the first axis, the parts of a sum over rows, added up in their order."""
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def pack_weight(native: Any, kind: int, weight: Tensor, units: int, dtype: torch.dtype, threads: int) -> Tensor:
    """Return a weight `(G H, depth)` packed in tiles for the products of the forward pass."""
    depth = padded_size(weight.shape[1])
    tiles = torch.empty(padded_size(units) // 16 * NUM_GATES[kind], depth, 16, dtype=dtype)
    native.pack_forward(kind, weight.detach().contiguous(), tiles, units, threads)
    return tiles


def pack_weight_backward(
    native: Any, kind: int, weight: Tensor, units: int, of_state: bool, dtype: torch.dtype, threads: int
) -> Tensor:
    """Return a weight `(G H, columns)` packed in tiles for the products of the backward pass."""
    depth = NUM_GATES[kind] * padded_size(units)
    tiles = torch.empty(-(-weight.shape[1] // 32) * 2, depth, 16, dtype=dtype)
    native.pack_backward(kind, weight.detach().contiguous(), tiles, units, of_state, threads)
    return tiles


def _pad_gates(rows: Tensor, gates: int, units: int, padded: int) -> Tensor:
    """Return `(N, G H)` as `(N, G, padded)`, padded with zeros."""
    rows = rows.detach()
    if units == padded:
        return rows.reshape(len(rows), gates, units).contiguous()
    padded_rows = torch.zeros(len(rows), gates, padded)
    padded_rows[:, :, :units] = rows.reshape(len(rows), gates, units)
    return padded_rows


def _combine_biases(kind: int, bias: Tensor, bias_hh: Tensor | None, padded: int) -> Tensor:
    """Return the sums of the biases of all gates, `(G, padded)`; for a GRU, `b_hn`, which the reset gate multiplies, is added
    as a last row."""
    gates = NUM_GATES[kind]
    if bias_hh is None and kind != 1 and len(bias) == gates * padded:
        return bias.detach().view(gates, padded)
    combined = bias.detach().view(gates, -1).clone()
    reset_bias = torch.zeros(1, combined.shape[1])
    if bias_hh is not None:
        bias_hh_by_gate = bias_hh.detach().view(gates, -1)
        combined[: 2 if kind == 1 else gates] += bias_hh_by_gate[: 2 if kind == 1 else gates]
        reset_bias[0] = bias_hh_by_gate[-1]
    if kind == 1:
        combined = torch.cat([combined, reset_bias])
    return _pad_gates(combined, 1, combined.shape[1], padded).squeeze(1)


def _pad_and_normalize(
    xs: Tensor, dtype: torch.dtype, eps: float, norm_weight: Tensor | None, norm_bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return inputs `(T, B, I)` padded with zeros, `(T, B, padded I + ROW_PADDING)`, and layer-normalized if there is a norm.

    With a norm, the means and inverse standard deviations of the inputs are returned too, `(T, B, 2)`.
    """
    steps, rows, width = xs.shape
    padded = padded_size(width)
    padded_xs = torch.empty(steps, rows, padded + ROW_PADDING, dtype=dtype)
    if norm_weight is not None and norm_bias is not None:
        moments, threads = torch.empty(steps, rows, 2), torch.get_num_threads()
        cast(Any, native_module()).norm_forward(xs, norm_weight.detach(), norm_bias.detach(), eps, padded_xs, moments, threads)
        return padded_xs, moments
    padded_xs[:, :, :width] = xs
    if padded > width:
        padded_xs[:, :, width:padded].zero_()
    return padded_xs, None
