"""A native layer as an autograd function, with what is around it; `native` says which cells may have one.

Everything here works on memory that is laid out for the products: units padded to 32, weights in tiles.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unrolled.nn.cells import Cell, GRUCell, LSTMCell, RNNCell
from unrolled.nn.kernels.library import library

KINDS: dict[type[Cell], int] = {RNNCell: 0, GRUCell: 1, LSTMCell: 2}
GATES, SLOTS, BLOCKS = (1, 3, 4), (1, 5, 6), (1, 4, 4)
"""Gates in the products; numbers a unit keeps for the way back; blocks of gradients (a GRU's gate n has two sides)."""

LINE = 32
"""Numbers between the rows of a buffer beyond what is needed: rows that are a power of two apart share a place in the cache."""


_NOTHING: tuple[Tensor | None, Tensor | None] = (None, None)


class Around(NamedTuple):
    """What is around a layer: it reads its inputs normalised, and gives out `inputs + mask * h`; `mask` is `(B, H)`.

    Without `norm_weight` `(I,)` inputs are read as they are, and not added. Without `mask`, it is one.
    """

    epsilon: float = 0.0
    norm_weight: Tensor | None = None
    norm_bias: Tensor | None = None
    mask: Tensor | None = None


class NativeLayer(torch.autograd.Function):
    """A layer's forward and backward pass. Inputs are `(T, B, I)`, or rows `(1, V, I)` that `ids` `(T, B)` pick from."""

    @staticmethod
    def forward(
        ctx: Any, kind: int, dtype: torch.dtype, record: bool, ids: Tensor | None, resets: Tensor | None,
        inputs: Tensor, weight_x: Tensor, weight_h: Tensor, bias: Tensor, bias_h: Tensor | None,
        epsilon: float, norm_weight: Tensor | None, norm_bias: Tensor | None, mask: Tensor | None, *first: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        native, threads, units = cast(Any, library()), torch.get_num_threads(), weight_h.shape[1]
        steps, rows = inputs.shape[:2] if ids is None else ids.shape
        padded, inputs = padded_to(units), inputs.detach().contiguous()
        xs, moments = _widened(inputs, dtype, epsilon, norm_weight, norm_bias)
        hs = torch.empty(steps + 1, rows, padded + LINE, dtype=dtype)
        ys, last, saved = torch.empty(steps, rows, units), [torch.empty(rows, units) for _ in first], None
        if record:
            saved = torch.empty(steps, padded // 16, rows, SLOTS[kind], 16,
                                dtype=torch.float16 if dtype == torch.bfloat16 else torch.float32)  # fmt: skip
        ids, resets = (None if given is None else given.contiguous() for given in (ids, resets))
        parts = native.row_slice_count(kind, rows, units, threads, dtype == torch.bfloat16)
        native.layer_forward(
            kind, threads, parts, *_read_by(kind, inputs, xs, ids, weight_x, units, threads),
            packed_weight(native, kind, weight_h, units, dtype, threads),
            _all_biases(kind, bias, bias_h, padded), resets,
            first[0].detach().contiguous(), first[1].detach().contiguous() if kind == 2 else None,
            mask, None if norm_weight is None else inputs.view(-1, units), hs, saved, ys,
            last[0], last[1] if kind == 2 else None,
        )  # fmt: skip
        ctx.kind, ctx.dtype, ctx.parts, ctx.sizes = kind, dtype, parts, (steps, rows, units, padded)
        ctx.save_for_backward(ids, resets, inputs, weight_x, weight_h, bias_h, norm_weight, mask)
        ctx.kept = (xs, hs, saved, moments)
        return ys, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dys: Tensor, *dlast: Tensor) -> tuple[Tensor | None, ...]:
        native, threads = cast(Any, library()), torch.get_num_threads()
        kind, dtype, (steps, rows, units, padded) = ctx.kind, ctx.dtype, ctx.sizes
        ids, resets, inputs, weight_x, weight_h, bias_h, norm_weight, mask = ctx.saved_tensors
        xs, hs, saved, moments = ctx.kept
        dys, symbols = dys.contiguous(), inputs.shape[1]
        dgates = torch.empty(steps, rows, BLOCKS[kind] * padded + LINE, dtype=dtype)
        dbias = torch.empty(ctx.parts, BLOCKS[kind], padded)
        dfirst = [torch.empty(rows, units) for _ in dlast]
        dtable = None if ids is None else torch.zeros(ctx.parts, symbols, GATES[kind], padded)
        dbelow = None if ids is None or norm_weight is None else torch.zeros(ctx.parts, symbols, padded)
        native.layer_backward(
            kind, threads, packed_back(native, kind, weight_h, units, True, dtype, threads), resets, saved,
            mask, dys, dlast[0].contiguous(), dlast[1].contiguous() if kind == 2 else None,
            ids, dtable, dbelow, dgates, dbias, dfirst[0], dfirst[1] if kind == 2 else None,
        )  # fmt: skip
        read = None if ids is not None else xs
        dweight_h, dweight_x = weight_gradients(
            kind, dgates, hs[:-1], read, padded, threads, weight_h if kind != 1 else None, weight_x
        )
        dweight_h = dweight_h[:, :units, :units]
        if kind == 1:
            dweight_h = dweight_h.roll(-1, 0)  # n r z, as the state's side has them
        of_read, laid_out = dgates, kind
        if dtable is not None:  # from here on the table's rows are the inputs
            of_read, laid_out = _narrowed(dtable, dtype), 0
            dweight_x, _ = weight_gradients(0, of_read, xs, None, GATES[kind] * padded, threads, weight_x)
            dweight_x = dweight_x.view(GATES[kind], padded, -1)
        if dbelow is not None:
            dys = _sum(dbelow)[None, :, :units].contiguous()
        dweight_x = cast(Tensor, dweight_x)[:, :units, : inputs.shape[2]].reshape(weight_x.shape)
        dinputs, dnorm = None, _NOTHING
        if ctx.needs_input_grad[5] or norm_weight is not None:
            dinputs = _input_gradients(laid_out, kind, of_read, weight_x, units, threads)
            if norm_weight is not None:
                dinputs, dnorm = _norm_gradients(inputs, moments, norm_weight, dinputs, dys, threads)
            else:
                dinputs = dinputs[:, :, : inputs.shape[2]]
        return (None, None, None, None, None, dinputs, dweight_x, dweight_h.reshape(weight_h.shape),
                *_bias_gradients(kind, _sum(dbias)[:, :units], bias_h is not None), None, *dnorm, None, *dfirst)  # fmt: skip


def _read_by(
    kind: int, inputs: Tensor, xs: Tensor, ids: Tensor | None, weight_x: Tensor, units: int, threads: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Return what the layer reads: inputs with their packed weights, or ids with the table of products that they pick from."""
    native, gates, padded = cast(Any, library()), GATES[kind], padded_to(units)
    weights = packed_weight(native, kind, weight_x, units, xs.dtype, threads)
    if ids is None:
        return xs, weights, None, None
    table = torch.empty(inputs.shape[1], gates, padded)
    native.input_products(kind, threads, xs[0], weights, table)
    return None, None, ids, table


def input_products(kind: int, xs: Tensor, weight_x: Tensor, units: int) -> Tensor:
    """Return the products of inputs `(N, I)` with a layer's weights, `(N, G H)`, the same for any number of threads."""
    wide, _ = _widened(xs.detach().float()[None], torch.float32, 0.0, None, None)
    _, _, _, table = _read_by(kind, xs[None], wide, torch.empty(0, 0), weight_x.float(), units, torch.get_num_threads())
    return cast(Tensor, table)[:, :, :units].flatten(1)


def _narrowed(dtable: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the gradient of a table, `(parts, V, G, Hp)`, as gates' are laid out, `(1, V, G Hp and a line more)`."""
    rows, width = dtable.shape[1], dtable.shape[2] * dtable.shape[3]
    narrow = torch.empty(1, rows, width + LINE, dtype=dtype)
    narrow[0, :, :width] = _sum(dtable).flatten(1)
    return narrow


def _norm_gradients(
    inputs: Tensor, moments: Tensor, weight: Tensor, dnormed: Tensor, dys: Tensor, threads: int
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the gradients of inputs `(T, B, I)`, normalised and added to the outputs, and of the norm, `(I,)` each."""
    dinputs, dweights = torch.empty_like(inputs), torch.zeros(threads, 2, len(weight))
    cast(Any, library()).norm_backward(inputs, moments, weight.detach(), dnormed, dys, dinputs, dweights)
    of_weight, of_bias = _sum(dweights)
    return dinputs, (of_weight, of_bias)


def keep_place(weight: Tensor) -> None:
    """Let a weight's next gradient be made where its last one is: DistributedDataParallel has it there, and copies others."""
    weight.__dict__[_PLACE] = weight.grad


_PLACE = "_unrolled_place"


def _place(weight: Tensor | None, rows: int, width: int) -> Tensor:
    """Return memory for a weight's gradient `(rows, width)`: where the last one was, for the first that asks, or new."""
    kept = None if weight is None else weight.__dict__.pop(_PLACE, None)
    if kept is None or kept.numel() != rows * width or not kept.is_contiguous() or kept.dtype != torch.float32:
        return torch.empty(rows, width)
    return cast(Tensor, kept.detach().view(rows, width))


def weight_gradients(
    kind: int,
    dgates: Tensor,
    hs: Tensor,
    xs: Tensor | None,
    padded: int,
    threads: int,
    of_hs: Tensor | None = None,
    of_xs: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the weights of `hs`, the state that was read, `(G, Hp, width)` and of `xs` `(G, Hp, width)`.

    They are made in the places of the weights `of_hs` and `of_xs`, if those have any.
    """
    native, gates, blocks = cast(Any, library()), GATES[kind], BLOCKS[kind]
    wide, width = hs.shape[2] - LINE, None if xs is None else xs.shape[2] - LINE
    if native.has_gradient_gemm(dgates.dtype == torch.bfloat16):
        of_state = _place(of_hs, gates * padded, wide)
        of_input = None if width is None else _place(of_xs, gates * padded, width)
        native.weight_gradients(kind, threads, padded, dgates, hs, of_state, xs, of_input)
    else:
        flat = dgates.flatten(0, 1)
        of_state = (flat[:, : gates * padded].T @ hs.flatten(0, 1)[:, :wide]).float()
        of_input = None
        if xs is not None:
            of_input = (flat[:, (blocks - gates) * padded : blocks * padded].T @ xs.flatten(0, 1)[:, :width]).float()
    shaped = None if of_input is None else of_input.view(gates, padded, -1)
    return of_state.view(gates, padded, wide), shaped


def _input_gradients(laid_out: int, kind: int, dgates: Tensor, weight_x: Tensor, units: int, threads: int) -> Tensor:
    """Return the gradients of the inputs, `(T, B, I or more)`, in float32; `dgates` may be laid out as another kind's."""
    native, gates = cast(Any, library()), GATES[kind]
    padded = padded_to(units)
    if native.has_gradient_gemm(dgates.dtype == torch.bfloat16):
        back = packed_back(native, kind, weight_x, units, False, dgates.dtype, threads)
        dinputs = torch.empty(*dgates.shape[:2], 16 * len(back))
        native.input_gradients(laid_out, threads, dgates, back, dinputs)
        return dinputs
    first = (BLOCKS[laid_out] - GATES[laid_out]) * padded
    of_input = dgates.flatten(0, 1)[:, first : first + gates * padded]
    weights = _spread(weight_x.T, gates, units, padded).flatten(1).T.to(dgates.dtype)
    return (of_input @ weights).float().view(*dgates.shape[:2], -1)


def _bias_gradients(kind: int, dbias: Tensor, two: bool) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the biases `(G H,)` of the inputs' side and, if there are `two`, of the state's."""
    of_bias = dbias[BLOCKS[kind] - GATES[kind] :].flatten()
    if not two:
        return of_bias, None
    return of_bias, of_bias if kind != 1 else torch.cat([dbias[1:3].flatten(), dbias[0]])


def _sum(parts: Tensor) -> Tensor:
    """Return the sum over the first axis: what the threads that share the rows each had."""
    return parts[0] if len(parts) == 1 else parts.sum(0)


def padded_to(units: int) -> int:
    """Return a number of units as the kernels' tiles need it: a multiple of 32."""
    return -(-units // 32) * 32


def packed_weight(native: Any, kind: int, weight: Tensor, units: int, dtype: torch.dtype, threads: int) -> Tensor:
    """Return a weight `(G H, depth)` in the order in which a product reads it."""
    depth = -(-weight.shape[1] // 32) * 32
    tiles = torch.empty(padded_to(units) // 16 * GATES[kind], depth, 16, dtype=dtype)
    native.pack_forward(kind, weight.detach().contiguous(), tiles, units, threads)
    return tiles


def packed_back(native: Any, kind: int, weight: Tensor, units: int, of_state: bool, dtype: torch.dtype, threads: int) -> Tensor:
    """Return a weight `(G H, columns)` in the order in which a product on the way back reads it."""
    deep = GATES[kind] * padded_to(units)
    tiles = torch.empty(-(-weight.shape[1] // 32) * 2, deep, 16, dtype=dtype)
    native.pack_backward(kind, weight.detach().contiguous(), tiles, units, of_state, threads)
    return tiles


def _spread(rows: Tensor, gates: int, units: int, padded: int) -> Tensor:
    """Return `(N, G H)` as `(N, G, padded)`, zero between the gates."""
    rows = rows.detach()
    if units == padded:
        return rows.reshape(len(rows), gates, units).contiguous()
    wide = torch.zeros(len(rows), gates, padded)
    wide[:, :, :units] = rows.reshape(len(rows), gates, units)
    return wide


def _all_biases(kind: int, bias: Tensor, bias_h: Tensor | None, padded: int) -> Tensor:
    """Return the biases of all gates `(G, padded)`; of a GRU, that inside its reset gate behind them."""
    gates = GATES[kind]
    if bias_h is None and kind != 1 and len(bias) == gates * padded:
        return bias.detach().view(gates, padded)
    both = bias.detach().view(gates, -1).clone()
    inner = torch.zeros(1, both.shape[1])
    if bias_h is not None:
        other = bias_h.detach().view(gates, -1)
        both[: 2 if kind == 1 else gates] += other[: 2 if kind == 1 else gates]
        inner[0] = other[-1]
    if kind == 1:
        both = torch.cat([both, inner])
    return _spread(both, 1, both.shape[1], padded).squeeze(1)


def _widened(
    xs: Tensor, dtype: torch.dtype, epsilon: float, norm_weight: Tensor | None, norm_bias: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Return inputs `(T, B, I)` as `(T, B, I padded and a line more)`, zero beyond what was there; normalised, if they are.

    Then their means and one over their deviations come with them, `(T, B, 2)`.
    """
    steps, rows, width = xs.shape
    padded = padded_to(width)
    wide = torch.empty(steps, rows, padded + LINE, dtype=dtype)
    if norm_weight is not None and norm_bias is not None:
        moments, threads = torch.empty(steps, rows, 2), torch.get_num_threads()
        cast(Any, library()).norm_forward(xs, norm_weight.detach(), norm_bias.detach(), epsilon, wide, moments, threads)
        return wide, moments
    wide[:, :, :width] = xs
    if padded > width:
        wide[:, :, width:padded].zero_()
    return wide, None
