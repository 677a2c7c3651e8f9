"""Every other cell as an object that keeps its state, with the interface of `stateful`: `y = rnn.step(x)`."""

from __future__ import annotations

from unrolled.nn import cells
from unrolled.nn.stateful import Stateful


class MogrifierGRU(Stateful):
    """A Mogrifier GRU (equations: `nn.cells.MogrifierGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MogrifierGRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MogrifierGRUCell


class MogrifierLSTM(Stateful):
    """A Mogrifier LSTM (equations: `nn.cells.MogrifierLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MogrifierLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MogrifierLSTMCell


class MinGRU(Stateful):
    """A minGRU (equations: `nn.cells.MinGRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MinGRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MinGRUCell


class MinLSTM(Stateful):
    """A minLSTM (equations: `nn.cells.MinLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MinLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MinLSTMCell


class RGLRU(Stateful):
    """A real-gated linear recurrent unit (equations: `nn.cells.RGLRUCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.RGLRU(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.RGLRUCell


class SLSTM(Stateful):
    """An sLSTM (equations: `nn.cells.SLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.SLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.SLSTMCell


class MLSTM(Stateful):
    """An mLSTM, with a matrix as memory (equations: `nn.cells.MLSTMCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.MLSTM(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.MLSTMCell


class GatedDeltaNet(Stateful):
    """A Gated DeltaNet, a matrix memory (equations: `nn.cells.GatedDeltaNetCell`) with `y = W_hy h`. Arguments: see `Stateful`.

    >>> import numpy as np
    >>> import unrolled
    >>> rnn = unrolled.GatedDeltaNet(input_size=4, hidden_size=8, output_size=3, seed=1)
    >>> rnn.step(np.ones((2, 4))).shape
    (2, 3)
    """

    cell_class = cells.GatedDeltaNetCell
