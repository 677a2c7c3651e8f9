"""The vanilla RNN, the GRU in its two forms, and the LSTM; the last two also with hard sigmoids as gates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.nn.cells.contract import GatedCell


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
        r = self.gate(r_x + r_h)
        return r, self.gate(z_x + z_h), torch.tanh(n_x + r * n_h)

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
        r = self.gate(r_x + r_h)
        return r, self.gate(z_x + z_h), torch.tanh(n_x + F.linear(r * h, self.weight_hh[2 * size :], bias_n))


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
    def init_gates(self) -> None:
        """Set the bias of the forget gate to one."""
        self.bias[self.hidden_size : 2 * self.hidden_size] = 1.0

    def initial_state(self, batch_size: int) -> LSTMState:
        zero = self.weight_hh.new_zeros(batch_size, self.hidden_size)
        return LSTMState(zero, zero)

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        i, f, g, o = (F.linear(x, self.weight_ih, self.bias) + F.linear(h, self.weight_hh, self.bias_hh)).chunk(4, -1)
        return self.gate(i), self.gate(f), torch.tanh(g), self.gate(o)

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        i, f, g, o = self.gate_activations(x, state.h)  # each (B, H)
        c = f * state.c + i * g
        h = o * torch.tanh(c)
        return h, LSTMState(h, c)


class _HardSigmoid(GatedCell):
    """Gates are `clip(0.2 x + 0.5, 0, 1)`: exactly closed below -2.5 and exactly open above 2.5.

    That was the default of Keras before 2.3: old models, imported, compute with it.
    """

    @staticmethod
    def gate(x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0, 1)


class HardSigmoidGRUCell(_HardSigmoid, GRUCell):
    """`GRUCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""


class HardSigmoidGRUResetBeforeCell(_HardSigmoid, GRUResetBeforeCell):
    """`GRUResetBeforeCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""


class HardSigmoidLSTMCell(_HardSigmoid, LSTMCell):
    """`LSTMCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""
