"""Our own layers in C++ (`native/`), for processors: forward and backward through time, in float32 and bfloat16.

One parallel region for a whole sequence; weights packed once; threads share the rows of small layers and the units of large
ones, and do a cell's arithmetic while its sums are hot. What the processor offers is found at run time: AMX, AVX-512 BF16,
AVX-512, AVX2, or plain vectors. Resets inside a chunk are part of the loop, so that a chunk is never cut.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from unrolled.nn.cells import (
    Cell,
    GatedCell,
    Gathered,
    GRUCell,
    Inputs,
    LSTMCell,
    LSTMState,
    RNNCell,
    State,
    dense,
    unroll_by_step,
)
from unrolled.nn.kernels.library import library, why_absent

KINDS: dict[type[Cell], int] = {RNNCell: 0, GRUCell: 1, LSTMCell: 2}
GATES, SLOTS, BLOCKS = (1, 3, 4), (1, 5, 6), (1, 4, 4)
"""Gates in the products; numbers a unit keeps for the way back; blocks of gradients (a GRU's gate n has two sides)."""

LINE = 32
"""Numbers between the rows of a buffer beyond what is needed: rows that are a power of two apart share a place in the cache."""

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
    return found is not None and str(found.set_in_use()) in ("amx", "avx512_bf16")


def unroll(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll `cell` as `unroll_by_step` does. Products are in autocast's type, if that is on; all else is float32."""
    if (reason := refusal(cell)) is not None:
        raise ValueError(f"The native kernel cannot unroll this cell: {reason}.")
    if xs.shape[0] == 0 or xs.shape[1] == 0:
        return unroll_by_step(cell, xs, state, resets)
    cell = cast(GatedCell, cell)
    narrow = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16 and has_bfloat16()
    with torch.autocast("cpu", enabled=False):
        if isinstance(xs, Gathered) and len(xs.rows) * FEW_ROWS <= xs.ids.numel():
            number = torch.bfloat16 if narrow else torch.float32
            inputs, ids, weight_x = (xs.rows.to(number) @ cell.weight_x.to(number).T).float(), xs.ids, None
        else:
            inputs, ids, weight_x = dense(xs), None, cell.weight_x
        first = [s.float() for s in state]
        ys, *last = _Layer.apply(
            KINDS[type(cell)], torch.bfloat16 if narrow else torch.float32, torch.is_grad_enabled(), ids, resets,
            inputs, weight_x, cell.weight_h, cell.bias, cell.bias_h, *first,
        )  # type: ignore[no-untyped-call]  # fmt: skip
    return ys, LSTMState(*last) if isinstance(cell, LSTMCell) else type(state)(last[0])


class _Layer(torch.autograd.Function):
    """A layer's forward and backward pass. `inputs` is `(T, B, I)`, or `(V, G H)` products that `ids` `(T, B)` pick from."""

    @staticmethod
    def forward(
        ctx: Any, kind: int, dtype: torch.dtype, record: bool, ids: Tensor | None, resets: Tensor | None,
        inputs: Tensor, weight_x: Tensor | None, weight_h: Tensor, bias: Tensor, bias_h: Tensor | None, *first: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        native, threads = cast(Any, library()), torch.get_num_threads()
        units = weight_h.shape[1]
        steps, rows = inputs.shape[:2] if ids is None else ids.shape
        padded, gates = _padded(rows, units), GATES[kind]
        xs = None if ids is not None else _widened(inputs, padded[0], dtype)
        picks, table = ids, inputs
        if xs is not None and dtype == torch.float32:  # torch's large products are at the processor's peak in float32
            picks = torch.arange(steps * rows).view(steps, rows)
            table = inputs.detach().reshape(steps * rows, -1) @ cast(Tensor, weight_x).detach().T
        hs = torch.empty(steps + 1, padded[0], padded[1] + LINE, dtype=dtype)
        ys = torch.empty(steps, rows, units)
        saved = None
        if record:
            saved = torch.empty(steps, padded[1] // 16, padded[0], SLOTS[kind], 16,
                                dtype=torch.float16 if dtype == torch.bfloat16 else torch.float32)  # fmt: skip
        last = [torch.empty(rows, units) for _ in first]
        picks = None if picks is None else picks.contiguous()
        ids = picks if ids is not None else None
        resets = None if resets is None else resets.contiguous()
        parts = native.layer_parts(kind, rows, units, threads, dtype == torch.bfloat16)
        native.layer_forward(
            kind, threads, parts, None if picks is not None else xs,
            None if picks is not None else _packed(native, kind, cast(Tensor, weight_x), units, dtype, threads),
            picks, None if picks is None else _spread(table, gates, units, padded[1]),
            _packed(native, kind, weight_h, units, dtype, threads),
            _all_biases(kind, bias, bias_h, padded[1]), resets,
            first[0].detach().contiguous(), first[1].detach().contiguous() if kind == 2 else None,
            hs, saved, ys, last[0], last[1] if kind == 2 else None,
        )  # fmt: skip
        ctx.kind, ctx.dtype, ctx.parts, ctx.sizes = kind, dtype, parts, (steps, rows, units, *padded)
        ctx.save_for_backward(ids, resets, inputs if ids is not None else None, weight_x, weight_h, bias_h)
        ctx.kept = (xs, hs, saved)
        return ys, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dys: Tensor, *dlast: Tensor) -> tuple[Tensor | None, ...]:
        native, threads = cast(Any, library()), torch.get_num_threads()
        kind, dtype, (steps, rows, units, padded_rows, padded) = ctx.kind, ctx.dtype, ctx.sizes
        ids, resets, table, weight_x, weight_h, bias_h = ctx.saved_tensors
        xs, hs, saved = ctx.kept
        gates, blocks = GATES[kind], BLOCKS[kind]
        dgates = torch.empty(steps, padded_rows, blocks * padded + LINE, dtype=dtype)
        dbias = torch.empty(ctx.parts, blocks, padded)
        dfirst = [torch.empty(rows, units) for _ in dlast]
        dtable = None if ids is None else torch.zeros(ctx.parts, len(table), gates, padded)
        native.layer_backward(
            kind, threads, _packed_back(native, kind, weight_h, units, True, dtype, threads), resets, saved,
            dys.contiguous(), dlast[0].contiguous(), dlast[1].contiguous() if kind == 2 else None,
            ids, dtable, dgates, dbias, dfirst[0], dfirst[1] if kind == 2 else None,
        )  # fmt: skip
        dweight_h, dweight_x = _weight_gradients(kind, dgates, hs, xs if ctx.needs_input_grad[6] else None, padded, threads)
        dweight_h = dweight_h[:, :units, :units]
        if kind == 1:
            dweight_h = dweight_h.roll(-1, 0)  # n r z, as the state's side has them
        dinputs = None
        if dtable is not None:
            dinputs = _sum(dtable)[:, :, :units].reshape(table.shape)
        elif ctx.needs_input_grad[5]:
            dinputs = _input_gradients(kind, dgates, weight_x, units, threads)[:, :rows, : weight_x.shape[1]]
        if dweight_x is not None:
            dweight_x = dweight_x[:, :units, : weight_x.shape[1]].reshape(weight_x.shape)
        of_bias, of_bias_h = _bias_gradients(kind, _sum(dbias)[:, :units], bias_h is not None)
        return (None, None, None, None, None, dinputs, dweight_x, dweight_h.reshape(weight_h.shape),
                of_bias, of_bias_h, *dfirst)  # fmt: skip


def _weight_gradients(
    kind: int, dgates: Tensor, hs: Tensor, xs: Tensor | None, padded: int, threads: int
) -> tuple[Tensor, Tensor | None]:
    """Return the gradients of the weights of the state `(G, Hp, Hp)` and of the inputs `(G, Hp, Ip)`, in float32."""
    native, gates, blocks = cast(Any, library()), GATES[kind], BLOCKS[kind]
    width = None if xs is None else xs.shape[2] - LINE
    if dgates.dtype == torch.bfloat16 and native.has_gradients():
        of_state = torch.empty(gates * padded, padded)
        of_input = None if width is None else torch.empty(gates * padded, width)
        native.weight_gradients(kind, threads, padded, dgates, hs[:-1], of_state, xs, of_input)
    else:
        flat = dgates.flatten(0, 1)
        of_state = (flat[:, : gates * padded].T @ hs[:-1].flatten(0, 1)[:, :padded]).float()
        of_input = None
        if xs is not None:
            of_input = (flat[:, (blocks - gates) * padded : blocks * padded].T @ xs.flatten(0, 1)[:, :width]).float()
    shaped = None if of_input is None else of_input.view(gates, padded, -1)
    return of_state.view(gates, padded, padded), shaped


def _input_gradients(kind: int, dgates: Tensor, weight_x: Tensor, units: int, threads: int) -> Tensor:
    """Return the gradients of the inputs, `(T, Bp, I or more)`, in float32."""
    native, gates, blocks = cast(Any, library()), GATES[kind], BLOCKS[kind]
    padded = _padded(1, units)[1]
    if dgates.dtype == torch.bfloat16 and native.has_gradients():
        back = _packed_back(native, kind, weight_x, units, False, dgates.dtype, threads)
        dinputs = torch.empty(*dgates.shape[:2], 16 * len(back))
        native.input_gradients(kind, threads, dgates, back, dinputs)
        return dinputs
    of_input = dgates.flatten(0, 1)[:, (blocks - gates) * padded : blocks * padded]
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


def _padded(rows: int, units: int) -> tuple[int, int]:
    """Return rows and units as the kernels' tiles need them: multiples of 16 and 32."""
    return -(-rows // 16) * 16, -(-units // 32) * 32


def _packed(native: Any, kind: int, weight: Tensor, units: int, dtype: torch.dtype, threads: int) -> Tensor:
    """Return a weight `(G H, depth)` in the order in which a product reads it."""
    depth = -(-weight.shape[1] // 32) * 32
    tiles = torch.empty(_padded(1, units)[1] // 16 * GATES[kind], depth, 16, dtype=dtype)
    native.pack_forward(kind, weight.detach().contiguous(), tiles, units, threads)
    return tiles


def _packed_back(
    native: Any, kind: int, weight: Tensor, units: int, of_state: bool, dtype: torch.dtype, threads: int
) -> Tensor:
    """Return a weight `(G H, columns)` in the order in which a product on the way back reads it."""
    deep = GATES[kind] * _padded(1, units)[1]
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
    both = bias.detach().view(gates, -1).clone()
    inner = torch.zeros(1, both.shape[1])
    if bias_h is not None:
        other = bias_h.detach().view(gates, -1)
        both[: 2 if kind == 1 else gates] += other[: 2 if kind == 1 else gates]
        inner[0] = other[-1]
    if kind == 1:
        both = torch.cat([both, inner])
    return _spread(both, 1, both.shape[1], padded).squeeze(1)


def _widened(xs: Tensor, rows: int, dtype: torch.dtype) -> Tensor:
    """Return inputs `(T, B, I)` as `(T, rows, I padded and a line more)`, zero beyond what was there."""
    steps, own, width = xs.shape
    padded = -(-width // 32) * 32
    wide = torch.empty(steps, rows, padded + LINE, dtype=dtype)
    wide[:, :own, :width] = xs.detach()
    if rows > own:
        wide[:, own:].zero_()
    if padded > width:
        wide[:, :own, width:padded].zero_()
    return wide
