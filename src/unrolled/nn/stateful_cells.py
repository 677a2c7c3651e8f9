"""Every other cell as an object that keeps its state, with the interface of `stateful`: `y = rnn.step(x)`."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch

from unrolled.nn import cells
from unrolled.nn.stateful import Matrix, Stateful


class StatefulCell(Stateful):
    """Base class: a cell of the class `cell_class`, with `y = W_hy h`, where `h` is the output of the cell."""

    cell_class: ClassVar[type[cells.GatedCell]]

    def _init_parameters(self) -> None:
        self.cell = self.cell_class(self.input_size, self.hidden_size)
        self.W_hy = Matrix(torch.randn(self.output_size, self.hidden_size) / math.sqrt(self.hidden_size))

    def _state_value(self, name: str) -> Any:
        state = self.state if self.state is not None else self._zero_state(1)
        if name not in state._fields:
            parts = ", ".join(state._fields)
            raise ValueError(f"The state of {type(self).__name__} has no {name}: its parts are {parts}.")
        return super()._state_value(name)

    def _set_state(self, name: str, value: Any) -> None:
        self._state_value(name)
        super()._set_state(name, value)


class MogrifierGRU(StatefulCell):
    """A Mogrifier GRU (equations: `nn.cells.MogrifierGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MogrifierGRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MogrifierGRUCell


class MogrifierLSTM(StatefulCell):
    """A Mogrifier LSTM (equations: `nn.cells.MogrifierLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MogrifierLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MogrifierLSTMCell


class MinGRU(StatefulCell):
    """A minGRU (equations: `nn.cells.MinGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MinGRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MinGRUCell


class MinLSTM(StatefulCell):
    """A minLSTM (equations: `nn.cells.MinLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MinLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MinLSTMCell


class RGLRU(StatefulCell):
    """A real-gated linear recurrent unit (equations: `nn.cells.RGLRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.RGLRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.RGLRUCell


class SLSTM(StatefulCell):
    """An sLSTM (equations: `nn.cells.SLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.SLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.SLSTMCell


class MLSTM(StatefulCell):
    """An mLSTM, with a matrix as memory (equations: `nn.cells.MLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MLSTMCell


class GatedDeltaNet(StatefulCell):
    """A Gated DeltaNet, a matrix memory (equations: `nn.cells.GatedDeltaNetCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.GatedDeltaNet(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.GatedDeltaNetCell
