"""The object of the blog post: a recurrent network that remembers.

    rnn = unrolled.RNN(input_size, hidden_size, output_size)
    y = rnn.step(x)

`x` is a vector `(I,)` or a batch `(B, I)`, of numpy or torch, and `y` comes back in kind, `(O,)` or `(B, O)`. The state is
inside the object, zero at the start. Stacking is `rnn2.step(rnn1.step(x))`. Source: Karpathy, "The Unreasonable
Effectiveness of Recurrent Neural Networks" (2015).
"""

from __future__ import annotations

import copy
import math
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.nn.cells import Cell, GRUCell, LSTMCell, RNNState, State, map_state

Vector = TypeVar("Vector", npt.NDArray[Any], Tensor)


class Stateful(nn.Module):
    """What `RNN`, `GRU` and `LSTM` share: the state inside, `step`, `reset`, `fork`.

    Numpy in: numpy out, in the input's float type, nothing is recorded. Torch in: torch out, and gradients flow through all
    steps since the last `reset` or `detach`.
    """

    cell: Cell

    def __init__(self, input_size: int, hidden_size: int, output_size: int, seed: int | None = None) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("output_size", output_size)):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be a whole number of at least 1; got {size!r}.")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.state: State | None = None
        self._batch_size: int | None = None
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._init_parameters()

    def _init_parameters(self) -> None:
        raise NotImplementedError

    def _zero_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def _cell_step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)

    def step(self, x: Vector) -> Vector:
        """Read `x`, update the state, return the output. Raises `ValueError` for a wrong shape or number of rows."""
        if isinstance(x, Tensor):
            return self._step_tensor(x)
        array = np.asarray(x)
        with torch.no_grad():
            y = self._step_tensor(torch.as_tensor(array, dtype=self.W_hy.dtype, device=self.W_hy.device))
        return y.cpu().numpy().astype(array.dtype if array.dtype.kind == "f" else np.float32)

    def _step_tensor(self, x: Tensor) -> Tensor:
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"step takes ({self.input_size},) or (B, {self.input_size}); got {tuple(x.shape)}.")
        xs = x if x.dim() == 2 else x.unsqueeze(0)
        if self.state is None:
            self.state, self._batch_size = self._zero_state(len(xs)), len(xs)
        elif len(xs) != self._batch_size:
            raise ValueError(
                f"The state has {self._batch_size} rows and x has {len(xs)}: call reset() before another batch size."
            )
        h, self.state = self._cell_step(xs.to(self.W_hy.dtype), self.state)
        y = F.linear(h, self.W_hy)
        return y if x.dim() == 2 else y.squeeze(0)

    def reset(self) -> None:
        """Forget: the next step starts from the zero state."""
        self.state = self._batch_size = None

    def detach(self) -> None:
        """Keep the state but let no gradient flow into the steps before it: truncated backpropagation."""
        if self.state is not None:
            self.state = map_state(torch.Tensor.detach, self.state)

    def fork(self) -> Self:
        """Return a second object with the same weights (shared) and its own copy of the state."""
        other = copy.copy(self)
        other.__dict__ = dict(self.__dict__)
        if self.state is not None:
            other.state = map_state(torch.Tensor.clone, self.state)
        return other

    W_hy: nn.Parameter


class RNN(Stateful):
    """The post's network: exactly three matrices and no bias.

    h = tanh(W_hh h + W_xh x),  y = W_hy h

    `W_xh` `(H, I)`, `W_hh` `(H, H)`, `W_hy` `(O, H)`, drawn at random; `h` `(H,)` or `(B, H)` is zero at the start.
    """

    def _init_parameters(self) -> None:
        self.W_xh = nn.Parameter(torch.randn(self.hidden_size, self.input_size) / math.sqrt(self.input_size))
        self.W_hh = nn.Parameter(torch.randn(self.hidden_size, self.hidden_size) / math.sqrt(self.hidden_size))
        self.W_hy = nn.Parameter(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))

    def _zero_state(self, batch_size: int) -> RNNState:
        return RNNState(self.W_hh.new_zeros(batch_size, self.hidden_size))

    def _cell_step(self, x: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        h = torch.tanh(F.linear(state.h, self.W_hh) + F.linear(x, self.W_xh))
        return h, RNNState(h)


class GRU(Stateful):
    """The same face with a gated recurrent unit inside (`nn.cells.GRUCell`); y = W_hy h."""

    def _init_parameters(self) -> None:
        self.cell = GRUCell(self.input_size, self.hidden_size)
        self.W_hy = nn.Parameter(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))


class LSTM(Stateful):
    """The same face with a long short-term memory inside (`nn.cells.LSTMCell`); y = W_hy h."""

    def _init_parameters(self) -> None:
        self.cell = LSTMCell(self.input_size, self.hidden_size)
        self.W_hy = nn.Parameter(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))
