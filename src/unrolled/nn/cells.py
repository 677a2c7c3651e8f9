"""Recurrent cells. A cell is something with a `step`; whatever is not a step is a way of unrolling it through time.

Letters: `B` rows, `T` steps, `I` inputs, `H` units, `G` gates. Tensors are time-major `(T, B, ...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeAlias, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State: TypeAlias = Any
"""A named tuple of tensors `(B, H)`, or of such tuples. It is passed in and handed back, never hidden in a module."""

S = TypeVar("S")


class EmbeddingLookup(NamedTuple):
    """Inputs that are rows of a table: `ids` `(T, B)` of `rows` `(V, I)`, which stands for `rows[ids]` `(T, B, I)`.

    A kernel may multiply the V rows by its weights instead of the T B inputs.
    """

    ids: Tensor
    table: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(T, B, I)`."""
        return (*self.ids.shape, self.table.shape[1])

    def to_dense(self) -> Tensor:
        """Return the inputs themselves, `(T, B, I)`."""
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
    """State of an LSTM: the output `h` and the memory `c`, each `(B, H)`."""

    h: Tensor
    c: Tensor


def map_state(fn: Callable[..., Tensor], state: S, *others: S) -> S:
    """Apply `change` to every tensor of a state (and the tensors at the same place of `others`); return a state alike."""
    if isinstance(state, Tensor):
        return cast(S, fn(state, *others))
    mapped = [map_state(fn, *group) for group in zip(cast(Any, state), *cast(Any, others), strict=True)]
    return cast(S, type(state)(*mapped) if hasattr(state, "_fields") else tuple(mapped))


def state_tensors(state: State) -> list[Tensor]:
    """Return the tensors of a state in their order."""
    return [state] if isinstance(state, Tensor) else [tensor for part in state for tensor in state_tensors(part)]


def to_dense(xs: Inputs) -> Tensor:
    """Return inputs as a tensor `(T, B, I)`, whatever they came as."""
    return xs.to_dense() if isinstance(xs, EmbeddingLookup) else xs


def unroll_by_step(cell: Cell, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
    """The definition of unrolling: `step` in a loop, the state zero before a step where `resets` is true."""
    xs, ys = to_dense(xs), []
    for t in range(len(xs)):
        if resets is not None:
            keep = ~resets[t].unsqueeze(-1)  # (B, 1)
            state = map_state(lambda s, keep=keep: s * keep, state)
        y, state = cell.step(xs[t], state)
        ys.append(y)
    return (torch.stack(ys) if ys else xs.new_zeros(0, xs.shape[1], cell.hidden_size)), state


class Cell(nn.Module):
    """What every recurrent thing is: `initial_state`, `step`, `unroll`."""

    input_size: int
    hidden_size: int
    kernel: Kernel | None = None
    """How this cell is unrolled; `nn.kernels.use` sets it. None means `unroll_by_step`."""
    residual_kernel: ResidualKernel | None = None
    """How `xs + mask * cell(norm(xs))` is, in one go; None means as it is written."""

    def initial_state(self, batch_size: int) -> State:
        """Return the zero state of `batch` rows."""
        raise NotImplementedError

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: `x` `(B, I)` -> output `(B, H)` and the next state."""
        raise NotImplementedError

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Take T steps: `xs` `(T, B, I)`, perhaps as `Gathered` -> outputs `(T, B, H)` and the last state.

        `resets` `(T, B)` bool: where true, the state is zero before that step. Raises `ValueError` for wrong shapes.
        """
        if len(xs.shape) != 3 or xs.shape[2] != self.input_size:
            raise ValueError(f"unroll takes inputs (T, B, {self.input_size}), time first; got {tuple(xs.shape)}.")
        if resets is not None and resets.shape != xs.shape[:2]:
            raise ValueError(f"resets must be (T, B) = {tuple(xs.shape[:2])}; got {tuple(resets.shape)}.")
        return (self.kernel or unroll_by_step)(self, xs, state, resets)


class GatedCell(Cell):
    """A cell of G gates, each a sum of `W_x x`, `W_h h` and a bias, in one matrix of G blocks of H rows.

    `bias` is added on the side of x. With `two_biases` there is `bias_h` on the side of h as well, as Torch's and cuDNN's
    cells have it: it changes nothing that can be learned, except in a GRU.

    Weights start uniform in +-1/sqrt(H), biases at zero.
    """

    num_gates: ClassVar[int]
    gate_names: ClassVar[tuple[str, ...]] = ()
    """The gates that `gates_at` gives, in its order; a cell whose only gate is its output names none."""

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
        """Draw the weights anew, uniform in +-`bound`; biases start at zero (an LSTM's forget gate at one)."""
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.weight_hh, -bound, bound)
        self.bias.zero_()
        if self.bias_hh is not None:
            self.bias_hh.zero_()

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        """Return the open gates, each `(..., H)`, for inputs `x` `(..., I)` and the state's `h` `(..., H)` before them."""
        return ()

    @classmethod
    def parameter_count(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> int:
        """Return the number of weights: G H (I + H + 1), and G H more with two biases."""
        return cls.num_gates * hidden_size * (input_size + hidden_size + 1 + two_biases)


class RNNCell(GatedCell):
    """The vanilla recurrent network (Elman 1990).

    h' = tanh(W_x x + W_h h + b),  y = h'
    """

    num_gates = 1

    def initial_state(self, batch_size: int) -> RNNState:
        return RNNState(self.weight_hh.new_zeros(batch_size, self.hidden_size))

    def step(self, x: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        h = torch.tanh(F.linear(x, self.weight_ih, self.bias) + F.linear(state.h, self.weight_hh, self.bias_hh))
        return h, RNNState(h)


class GRUCell(GatedCell):
    """The gated recurrent unit (Cho et al. 2014), the reset gate after the matrix product, as cuDNN has it.

    r = sigmoid(W_xr x + W_hr h + b_r)      gate order r, z, n
    z = sigmoid(W_xz x + W_hz h + b_z)
    n = tanh(W_xn x + b_n + r (W_hn h + b_hn))
    h' = (1 - z) n + z h,  y = h'           b_h only with two biases
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
    """The gated recurrent unit as first published (Cho et al. 2014) and as char-rnn has it: reset before the product.

    r, z as in `GRUCell`;  n = tanh(W_xn x + b_n + W_hn (r h) + b_hn);  h' = (1 - z) n + z h,  y = h'
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

    i = sigmoid(W_xi x + W_hi h + b_i)      gate order i, f, g, o
    f = sigmoid(W_xf x + W_hf h + b_f)      b_f starts at one (Jozefowicz et al. 2015): remember until told otherwise
    g = tanh(W_xg x + W_hg h + b_g)
    o = sigmoid(W_xo x + W_ho h + b_o)
    c' = f c + i g,  h' = o tanh(c'),  y = h'
    """

    num_gates = 4
    gate_names = ("i", "f", "g", "o")

    @torch.no_grad()
    def reset_parameters(self, bound: float) -> None:
        super().reset_parameters(bound)
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
