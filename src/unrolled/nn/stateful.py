"""RNN, GRU, LSTM and every other cell as objects that keep their state: the `rnn.step(x)` of Karpathy's blog post.

    rnn = unrolled.RNN(input_size, hidden_size, output_size)
    y = rnn.step(x)

`x` is a vector `(I,)` or a batch `(B, I)`, a numpy array or a torch tensor, and `y` is of the same type, `(O,)` or `(B, O)`.
The state is zero at first. Layers are stacked with `rnn2.step(rnn1.step(x))`. Source: Karpathy, "The Unreasonable
Effectiveness of Recurrent Neural Networks" (2015).
"""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.nn import cells
from unrolled.nn.cells import GatedCell, RNNState, State, map_state

Vector = TypeVar("Vector", npt.NDArray[Any], Tensor)


class Matrix(nn.Parameter):
    """A weight matrix that numpy's functions take as an array, as in `np.dot(rnn.W_hh, rnn.h)`; without gradients."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the values as an array."""
        array = self.detach().cpu().numpy()
        return array.copy() if dtype is None and copy else array if dtype is None else array.astype(dtype)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        """Call a numpy function with arrays: without this, `np.sum` and others call the tensor's method of that name."""
        return function(*map(_to_array, arguments), **{name: _to_array(value) for name, value in options.items()})

    def __array_wrap__(self, array: npt.NDArray[Any], *context: Any) -> npt.NDArray[Any]:
        """Return the result of a numpy function as it is."""
        return array


def _to_array(value: Any) -> Any:
    """Return a matrix as an array, also in a list; anything else as it is."""
    if isinstance(value, list | tuple):
        return type(value)(map(_to_array, value))
    return value.__array__() if isinstance(value, Matrix) else value


class Stateful(nn.Module):
    """Base class of `RNN`, `GRU`, `LSTM` and others: a cell with its state and an output matrix, `y = W_hy h`.

    Args:
        input_size: I, numbers in an input vector.
        hidden_size: H, units.
        output_size: O, numbers in an output vector.
        seed: makes the initial weights repeatable; None uses torch's global generator.

    A numpy input gives a numpy output of the same float type, without gradients. A torch input gives a torch output, and
    gradients flow through all steps since the last `reset` or `detach`. Raises `ValueError` for a size below 1.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MinGRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class: ClassVar[type[GatedCell]]
    cell: GatedCell
    W_hy: nn.Parameter

    def __init__(self, input_size: int, hidden_size: int, output_size: int, seed: int | None = None) -> None:
        super().__init__()
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size), ("output_size", output_size)):
            if not isinstance(size, int) or size < 1:
                raise ValueError(f"{name} must be an integer of at least 1; got {size!r}.")
        self.input_size, self.hidden_size, self.output_size = input_size, hidden_size, output_size
        self.state: State | None = None
        self._batch_size: int | None = None
        self._is_numpy, self._is_single = True, True
        with torch.random.fork_rng(devices=[], enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            self._init_parameters()

    def _init_parameters(self) -> None:
        self.cell = self.cell_class(self.input_size, self.hidden_size)
        self.W_hy = Matrix(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))

    def _zero_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def _cell_step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)

    def step(self, x: Vector) -> Vector:
        """Update the state with an input `(I,)` or `(B, I)`; return the output `(O,)` or `(B, O)`.

        Raises `ValueError` for a wrong shape, or another batch size than that of the state.
        """
        self._is_numpy = not isinstance(x, Tensor)
        if isinstance(x, Tensor):
            return self._step_tensor(x)
        array = np.asarray(x)
        if array.dtype.kind not in "biuf":
            raise ValueError(f"step takes numbers, ({self.input_size},) or (B, {self.input_size}); got {type(x).__name__}.")
        with torch.no_grad():
            y = self._step_tensor(torch.as_tensor(array, dtype=self.W_hy.dtype, device=self.W_hy.device))
        return y.cpu().numpy().astype(array.dtype if array.dtype.kind == "f" else np.float32)

    def _step_tensor(self, x: Tensor) -> Tensor:
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"step takes ({self.input_size},) or (B, {self.input_size}); got {tuple(x.shape)}.")
        xs, self._is_single = (x, False) if x.dim() == 2 else (x.unsqueeze(0), True)
        if self.state is None:
            self.state, self._batch_size = self._zero_state(len(xs)), len(xs)
        elif len(xs) != self._batch_size:
            raise ValueError(
                f"The state has a batch size of {self._batch_size} and x of {len(xs)}: call reset() before another batch size."
            )
        h, self.state = self._cell_step(xs.to(self.W_hy.dtype), self.state)
        y = F.linear(h, self.W_hy)
        return y if x.dim() == 2 else y.squeeze(0)

    @property
    def h(self) -> Any:
        """The hidden state, `(H,)` or `(B, H)` and of the type of the last input; zero, `(H,)`, before the first step.

        It can be set: to an array or a tensor of one of these shapes.
        """
        return self._state_value("h")

    @h.setter
    def h(self, value: Any) -> None:
        self._set_state("h", value)

    def _state_value(self, name: str) -> Any:
        state = self.state if self.state is not None else self._zero_state(1)
        if name not in state._fields:
            parts = ", ".join(state._fields)
            raise ValueError(f"The state of {type(self).__name__} has no {name}: its parts are {parts}.")
        value = getattr(state, name)
        value = value[0] if self._is_single else value
        return value.detach().cpu().numpy().copy() if self._is_numpy else value

    def _set_state(self, name: str, value: Any) -> None:
        self._state_value(name)
        tensor = torch.as_tensor(value, dtype=self.W_hy.dtype, device=self.W_hy.device)
        self._is_numpy, self._is_single = not isinstance(value, Tensor), tensor.dim() < 2
        rows = tensor.unsqueeze(0) if tensor.dim() == 1 else tensor
        if rows.dim() != 2 or rows.shape[1] != self.hidden_size:
            raise ValueError(f"{name} is ({self.hidden_size},) or (B, {self.hidden_size}); got {tuple(tensor.shape)}.")
        state = self.state if self.state is not None and self._batch_size == len(rows) else self._zero_state(len(rows))
        self.state, self._batch_size = state._replace(**{name: rows}), len(rows)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; an array that is set as a matrix replaces its values."""
        matrix = self.__dict__.get("_parameters", {}).get(name)
        if matrix is None or value is None or isinstance(value, nn.Parameter):
            super().__setattr__(name, value)
            return
        values = torch.as_tensor(value, dtype=matrix.dtype, device=matrix.device)
        if values.shape != matrix.shape:
            raise ValueError(f"{name} is {tuple(matrix.shape)}; got {tuple(values.shape)}.")
        with torch.no_grad():
            matrix.copy_(values)

    def __repr__(self) -> str:
        sizes = f"input_size={self.input_size}, hidden_size={self.hidden_size}, output_size={self.output_size}"
        return f"unrolled.{type(self).__name__}({sizes})"

    def reset(self) -> None:
        """Discard the state: the next step starts from zero."""
        self.state = self._batch_size = None

    def detach(self) -> None:
        """Keep the state but stop gradients at it (truncated backpropagation through time)."""
        if self.state is not None:
            self.state = map_state(torch.Tensor.detach, self.state)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the weights and the values of the state, without the gradients of the steps so far."""
        other = copy.copy(self)
        memo[id(self)] = other
        values = {**self.__dict__, "state": None}
        other.__dict__ = {name: copy.deepcopy(value, memo) for name, value in values.items()}
        if self.state is not None:
            other.state = map_state(lambda value: value.detach().clone(), self.state)
        return other

    def fork(self) -> Self:
        """Return a second object that shares the weights and has its own copy of the state."""
        other = copy.copy(self)
        other.__dict__ = dict(self.__dict__)
        if self.state is not None:
            other.state = map_state(torch.Tensor.clone, self.state)
        return other


class RNN(Stateful):
    """The vanilla RNN of the blog post: three matrices and no bias.

        h' = tanh(W_hh h + W_xh x)
        y  = W_hy h'

    `W_xh` `(H, I)`, `W_hh` `(H, H)`, `W_hy` `(O, H)`, drawn from N(0, 1 / fan-in). Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.RNN(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones(4)).shape
    (3,)
    >>> rnn.state.h.shape
    torch.Size([1, 8])
    >>> rnn.reset()
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    def _init_parameters(self) -> None:
        self.W_xh = Matrix(torch.randn(self.hidden_size, self.input_size) / math.sqrt(self.input_size))
        self.W_hh = Matrix(torch.randn(self.hidden_size, self.hidden_size) / math.sqrt(self.hidden_size))
        self.W_hy = Matrix(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))

    def _zero_state(self, batch_size: int) -> RNNState:
        return RNNState(self.W_hh.new_zeros(batch_size, self.hidden_size))

    def _cell_step(self, x: Tensor, state: RNNState) -> tuple[Tensor, RNNState]:
        h = torch.tanh(F.linear(state.h, self.W_hh) + F.linear(x, self.W_xh))
        return h, RNNState(h)


class GRU(Stateful):
    """A gated recurrent unit (equations: `nn.cells.GRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import torch
    >>> import unrolled
    >>> gru = unrolled.GRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> x = torch.ones(2, 4, requires_grad=True)
    >>> gru.step(x).sum().backward()
    >>> x.grad.shape
    torch.Size([2, 4])
    """

    cell_class = cells.GRUCell


class LSTM(Stateful):
    """A long short-term memory (equations: `nn.cells.LSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> lstm = unrolled.LSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> y = lstm.step(np.ones(4))
    >>> other = lstm.fork()
    >>> bool((lstm.step(np.ones(4)) == other.step(np.ones(4))).all())
    True
    >>> lstm.state.c.shape
    torch.Size([1, 8])
    """

    cell_class = cells.LSTMCell

    @property
    def c(self) -> Any:
        """The cell state, with shapes and types as for `h`. It can be set."""
        return self._state_value("c")

    @c.setter
    def c(self, value: Any) -> None:
        self._set_state("c", value)


class MogrifierGRU(Stateful):
    """A Mogrifier GRU (equations: `nn.cells.MogrifierGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.MogrifierGRUCell


class MogrifierLSTM(Stateful):
    """A Mogrifier LSTM (equations: `nn.cells.MogrifierLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.MogrifierLSTMCell


class MinGRU(Stateful):
    """A minGRU (equations: `nn.cells.MinGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.MinGRUCell


class MinLSTM(Stateful):
    """A minLSTM (equations: `nn.cells.MinLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.MinLSTMCell


class RGLRU(Stateful):
    """A real-gated linear recurrent unit (equations: `nn.cells.RGLRUCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.RGLRUCell


class SLSTM(Stateful):
    """An sLSTM (equations: `nn.cells.SLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.SLSTMCell


class MLSTM(Stateful):
    """An mLSTM, with a matrix as memory (equations: `nn.cells.MLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`."""

    cell_class = cells.MLSTMCell


class GatedDeltaNet(Stateful):
    """A Gated DeltaNet, with a matrix as memory (equations: `nn.cells.GatedDeltaNetCell`), and `y = W_hy h`.

    Arguments: see `Stateful`.
    """

    cell_class = cells.GatedDeltaNetCell
