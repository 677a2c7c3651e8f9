"""Recurrent cells: the equation of one step, and how a cell is unrolled over time.

A cell needs only `step`. `unroll_by_step` calls it in a loop and is the definition that every faster kernel
(`nn.kernels`) is compared with. The state is passed in and returned, never stored in the module.

Shapes: `B` batch size, `T` time steps, `I` input size, `H` hidden size (units), `G` gates, `V` vocabulary size. Sequences are
time-major, `(T, B, ...)`. `W_x` is `weight_ih` and `W_h` is `weight_hh` of `torch.nn`, with the gates stacked in rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.options import REGISTRIES

State: TypeAlias = Any
"""A named tuple of tensors `(B, H)`, or a named tuple of such tuples."""

S = TypeVar("S")


class EmbeddingLookup(NamedTuple):
    """Inputs that are rows of an embedding table: `ids` `(T, B)` and `table` `(V, I)` stand for `table[ids]` `(T, B, I)`.

    A kernel may multiply the V rows of the table by its weights instead of all T * B inputs.
    """

    ids: Tensor
    table: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(T, B, I)`."""
        return (*self.ids.shape, self.table.shape[1])

    def to_dense(self) -> Tensor:
        """Return the inputs as a tensor `(T, B, I)`."""
        return F.embedding(self.ids, self.table)


Inputs: TypeAlias = Tensor | EmbeddingLookup
Kernel: TypeAlias = Callable[["Cell", Inputs, State, Tensor | None], tuple[Tensor, State]]
ResidualKernel: TypeAlias = Callable[["Cell", Inputs, nn.LayerNorm, Tensor | None, State, Tensor | None], tuple[Tensor, State]]


class RNNState(NamedTuple):
    """State of a vanilla RNN: `h` `(B, H)`."""

    h: Tensor


class GRUState(NamedTuple):
    """State of a GRU: `h` `(B, H)`."""

    h: Tensor


class LSTMState(NamedTuple):
    """State of an LSTM: hidden state `h` and cell state `c`, each `(B, H)`."""

    h: Tensor
    c: Tensor


def map_state(fn: Callable[..., Tensor], state: S, *others: S) -> S:
    """Return a state of the same structure: `fn` of each tensor, and of the tensors in the same position of `others`."""
    if isinstance(state, Tensor):
        return cast(S, fn(state, *others))
    mapped = [map_state(fn, *group) for group in zip(cast(Any, state), *cast(Any, others), strict=True)]
    return cast(S, type(state)(*mapped) if hasattr(state, "_fields") else tuple(mapped))


def state_tensors(state: State) -> list[Tensor]:
    """Return the tensors of a state as a flat list."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in state_tensors(part)]


def to_dense(xs: Inputs) -> Tensor:
    """Return inputs as a tensor `(T, B, I)`."""
    return xs.to_dense() if isinstance(xs, EmbeddingLookup) else xs


def unroll_by_step(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """Unroll a cell by calling `step` in a loop; the state is set to zero before a step where `resets` is true."""
    xs, ys = to_dense(xs), []
    for t in range(len(xs)):
        if resets is not None:
            keep = ~resets[t].unsqueeze(-1)  # (B, 1)
            state = map_state(lambda s, keep=keep: s * keep, state)
        y, state = cell.step(xs[t], state)
        ys.append(y)
    return (torch.stack(ys) if ys else xs.new_zeros(0, xs.shape[1], cell.hidden_size)), state


class Cell(nn.Module):
    """Base class of everything recurrent, a stack of layers included: `initial_state`, `step`, `unroll`."""

    input_size: int
    hidden_size: int
    kernel: Kernel | None = None
    """The kernel that unrolls this cell, set by `nn.kernels.select.set_kernel`. None means `unroll_by_step`."""
    residual_kernel: ResidualKernel | None = None
    """A kernel that computes `xs + mask * cell(norm(xs))` in one call; None means one operation after the other."""

    def initial_state(self, batch_size: int) -> State:
        """Return the zero state of `batch_size` rows."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: from `x` `(B, I)` and a state, return the output `(B, H)` and the next state."""
        raise NotImplementedError

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Take T steps: from `xs` `(T, B, I)` and a state, return the outputs `(T, B, H)` and the final state.

        `resets` `(T, B)` bool: where true, the state is set to zero before that step. Raises `ValueError` for wrong shapes.
        """
        if len(xs.shape) != 3 or xs.shape[2] != self.input_size:
            raise ValueError(f"unroll takes inputs (T, B, {self.input_size}), time first; got {tuple(xs.shape)}.")
        if resets is not None and resets.shape != xs.shape[:2]:
            raise ValueError(f"resets must be (T, B) = {tuple(xs.shape[:2])}; got {tuple(resets.shape)}.")
        return (self.kernel or unroll_by_step)(self, xs, state, resets)


class GatedCell(Cell):
    """Base class of cells with G gates, each computed from `W_x x + W_h h + b`.

    Parameters, the gates stacked in rows in the order of the subclass:

        weight_ih  (G H, I)     weight_hh  (G H, H)     bias  (G H)     bias_hh  (G H), only with `two_biases`

    One bias is enough: `bias` is added to `W_x x`. `two_biases` adds `bias_hh` to `W_h h`, as `torch.nn` and cuDNN do; their
    sum is what counts, except in `GRUCell`, where the reset gate multiplies `bias_hh`. Weights are initialized uniform in
    +-1/sqrt(H), biases to zero.

    To add a cell, derive from this class, set `num_gates`, write `initial_state` and `step`, and register it in `CELLS`.
    """

    num_gates: ClassVar[int]
    gate_names: ClassVar[tuple[str, ...]] = ()
    """Names of the gates that `gate_activations` returns, in the same order; empty if the output is the only gate."""

    def __init__(self, input_size: int, hidden_size: int, two_biases: bool = False) -> None:
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.num_gates * hidden_size
        self.weight_ih = nn.Parameter(torch.empty(rows, input_size))
        self.weight_hh = nn.Parameter(torch.empty(rows, hidden_size))
        self.bias = nn.Parameter(torch.empty(rows))
        self.bias_hh = nn.Parameter(torch.empty(rows)) if two_biases else None
        self.reset_parameters(1 / math.sqrt(hidden_size))

    @torch.no_grad()
    def reset_parameters(self, bound: float) -> None:
        """Initialize the weights uniform in +-`bound` and the biases to zero."""
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.weight_hh, -bound, bound)
        self.bias.zero_()
        if self.bias_hh is not None:
            self.bias_hh.zero_()

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return each gate after its nonlinearity, `(..., H)`, for an input `x` `(..., I)` and the previous `h` `(..., H)`."""
        return ()

    @classmethod
    def parameter_count(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> int:
        """Return the number of parameters: G H (I + H + 1), plus G H with two biases."""
        return cls.num_gates * hidden_size * (input_size + hidden_size + 1 + two_biases)


class RNNCell(GatedCell):
    """The vanilla recurrent network (Elman 1990).

        h' = tanh(W_x x + W_h h + b)
        y  = h'

    `x` `(B, I)`, `h` and `y` `(B, H)`; `weight_ih` `(H, I)`, `weight_hh` `(H, H)`. Biases: see `GatedCell`.
    """

    num_gates = 1

    def initial_state(self, batch_size: int) -> RNNState:
        return RNNState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def step(self, x: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        h = torch.tanh(F.linear(x, self.weight_ih, self.bias) + F.linear(state.h, self.weight_hh, self.bias_hh))
        return h, RNNState(h)


class GRUCell(GatedCell):
    """The gated recurrent unit (Cho et al. 2014), with the reset gate after the matrix product, as in cuDNN and `torch.nn.GRU`.

        r  = sigmoid(W_xr x + W_hr h + b_r)
        z  = sigmoid(W_xz x + W_hz h + b_z)
        n  = tanh(W_xn x + b_n + r * (W_hn h + b_hn))
        h' = (1 - z) * n + z * h
        y  = h'

    Gate order r, z, n. `x` `(B, I)`, `h` and `y` `(B, H)`; `weight_ih` `(3 H, I)`, `weight_hh` `(3 H, H)`. `b_hn` exists only
    with two biases; the reset gate multiplies it, so it is not the same as a larger `b_n`.
    """

    num_gates = 3
    gate_names = ("r", "z", "n")

    def initial_state(self, batch_size: int) -> GRUState:
        return GRUState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        r_x, z_x, n_x = F.linear(x, self.weight_ih, self.bias).chunk(3, -1)  # each (..., H)
        r_h, z_h, n_h = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, -1)
        r = torch.sigmoid(r_x + r_h)
        return r, torch.sigmoid(z_x + z_h), torch.tanh(n_x + r * n_h)

    def step(self, x: Tensor, state: GRUState) -> tuple[Tensor, GRUState]:
        _, z, n = self.gate_activations(x, state.h)
        h = (1 - z) * n + z * state.h
        return h, GRUState(h)


class GRUResetBeforeCell(GRUCell):
    """The gated recurrent unit as published (Cho et al. 2014) and as in char-rnn: the reset gate before the matrix product.

        n  = tanh(W_xn x + b_n + W_hn (r * h) + b_hn)

    All else, gate order and shapes included, as in `GRUCell`.
    """

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        size = self.hidden_size
        r_x, z_x, n_x = F.linear(x, self.weight_ih, self.bias).chunk(3, -1)  # each (..., H)
        bias_rz, bias_n = (None, None) if self.bias_hh is None else (self.bias_hh[: 2 * size], self.bias_hh[2 * size :])
        r_h, z_h = F.linear(h, self.weight_hh[: 2 * size], bias_rz).chunk(2, -1)
        r = torch.sigmoid(r_x + r_h)
        return r, torch.sigmoid(z_x + z_h), torch.tanh(n_x + F.linear(r * h, self.weight_hh[2 * size :], bias_n))


class LSTMCell(GatedCell):
    """Long short-term memory with a forget gate (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

        i  = sigmoid(W_xi x + W_hi h + b_i)
        f  = sigmoid(W_xf x + W_hf h + b_f)
        g  = tanh(W_xg x + W_hg h + b_g)
        o  = sigmoid(W_xo x + W_ho h + b_o)
        c' = f * c + i * g
        h' = o * tanh(c')
        y  = h'

    Gate order i, f, g, o. `x` `(B, I)`; `h`, `c` and `y` `(B, H)`; `weight_ih` `(4 H, I)`, `weight_hh` `(4 H, H)`. `b_f` starts
    at one, so that the cell remembers at first (Jozefowicz et al. 2015); all other biases at zero.
    """

    num_gates = 4
    gate_names = ("i", "f", "g", "o")

    @torch.no_grad()
    def reset_parameters(self, bound: float) -> None:
        super().reset_parameters(bound)
        self.open_forget_gate()

    @torch.no_grad()
    def open_forget_gate(self) -> None:
        """Set the bias of the forget gate to one."""
        self.bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    def initial_state(self, batch_size: int) -> LSTMState:
        zero = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return LSTMState(zero, zero)

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        i, f, g, o = (F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh, self.bias_hh)).chunk(4, -1)
        return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        i, f, g, o = self.gate_activations(x, state.h)  # each (B, H)
        c = f * state.c + i * g
        h = o * torch.tanh(c)
        return h, LSTMState(h, c)


CELLS: dict[str, type[GatedCell]] = {"rnn": RNNCell, "gru": GRUCell, "gru-reset-before": GRUResetBeforeCell, "lstm": LSTMCell}
"""The cells that a model can be made of, by the name in `ModelOptions.cell`: `CELLS["name"] = MyCell` adds one."""

REGISTRIES["cell"] = CELLS
