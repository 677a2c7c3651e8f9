"""The Mogrifier: input and hidden state modulate each other before the gates of a GRU or an LSTM are computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unrolled.network_shapes import MOGRIFIER_ROUNDS
from unrolled.nn.cells.contract import GatedCell
from unrolled.nn.cells.gated import GRUCell, LSTMCell


class _Mogrifier(GatedCell):
    """The rounds and their parameters: `mogrifier_q` `(3, I, H)` for the inputs, `mogrifier_r` `(2, H, I)` for the states."""

    mogrifier_q: torch.nn.Parameter
    mogrifier_r: torch.nn.Parameter

    @classmethod
    def parameter_shapes(cls, input_size: int, hidden_size: int, two_biases: bool = False) -> dict[str, tuple[int, ...]]:
        return super().parameter_shapes(input_size, hidden_size, two_biases) | {
            "mogrifier_q": (MOGRIFIER_ROUNDS - MOGRIFIER_ROUNDS // 2, input_size, hidden_size),
            "mogrifier_r": (MOGRIFIER_ROUNDS // 2, hidden_size, input_size),
        }

    def mogrify(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return `x` `(..., I)` and `h` `(..., H)` after all rounds."""
        for index in range(MOGRIFIER_ROUNDS):
            if index % 2 == 0:
                x = 2 * torch.sigmoid(F.linear(h, self.mogrifier_q[index // 2])) * x
            else:
                h = 2 * torch.sigmoid(F.linear(x, self.mogrifier_r[index // 2])) * h
        return x, h

    def gate_activations(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        return super().gate_activations(*self.mogrify(x, h))


class MogrifierLSTMCell(_Mogrifier, LSTMCell):
    """The Mogrifier LSTM (Melis, Kocisky and Blunsom 2020), with five rounds.

        x <- 2 sigmoid(Q_1 h) * x
        h <- 2 sigmoid(R_1 x) * h
        x <- 2 sigmoid(Q_2 h) * x
        h <- 2 sigmoid(R_2 x) * h
        x <- 2 sigmoid(Q_3 h) * x

    then the equations of `LSTMCell`, whose gate order and biases it has. Q `(I, H)` and R `(H, I)` have full rank.
    """


class MogrifierGRUCell(_Mogrifier, GRUCell):
    """The rounds of `MogrifierLSTMCell` before the gates of `GRUCell`; `h' = (1 - z) * n + z * h` has `h` before the rounds.

    Gate order r, z, n. Source: Melis, Kocisky and Blunsom (2020), whose rounds are independent of the cell.
    """
