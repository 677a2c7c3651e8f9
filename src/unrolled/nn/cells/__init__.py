"""Recurrent cells: `contract` says what a cell is, the other modules have the equations, and `CELLS` names all of them."""

from __future__ import annotations

from unrolled.nn.cells.contract import (
    Cell,
    EmbeddingLookup,
    GatedCell,
    Inputs,
    Kernel,
    ResidualKernel,
    State,
    keep_rows,
    map_state,
    state_tensors,
    to_dense,
    unroll_by_step,
)
from unrolled.nn.cells.gated import (
    GRUCell,
    GRUResetBeforeCell,
    GRUState,
    HardSigmoidGRUCell,
    HardSigmoidGRUResetBeforeCell,
    HardSigmoidLSTMCell,
    LSTMCell,
    LSTMState,
    RNNCell,
    RNNState,
)
from unrolled.nn.cells.linear import LinearCell, LinearState, MinGRUCell, MinLSTMCell, RGLRUCell
from unrolled.nn.cells.matrix_memory import (
    GatedDeltaNetCell,
    GatedDeltaNetPositiveCell,
    GatedDeltaNetState,
    MLSTMCell,
    MLSTMState,
)
from unrolled.nn.cells.mogrifier import MogrifierGRUCell, MogrifierLSTMCell
from unrolled.nn.cells.slstm import SLSTMCell, SLSTMState
from unrolled.options import REGISTRIES

__all__ = [
    "CELLS", "Cell", "EmbeddingLookup", "GRUCell", "GRUResetBeforeCell", "GRUState", "GatedCell", "GatedDeltaNetCell",
    "GatedDeltaNetPositiveCell", "GatedDeltaNetState", "HardSigmoidGRUCell",
    "HardSigmoidGRUResetBeforeCell", "HardSigmoidLSTMCell", "Inputs", "Kernel", "LSTMCell", "LSTMState", "LinearCell",
    "LinearState", "MLSTMCell", "MLSTMState", "MinGRUCell", "MinLSTMCell", "MogrifierGRUCell", "MogrifierLSTMCell",
    "RGLRUCell", "RNNCell", "RNNState", "ResidualKernel", "SLSTMCell", "SLSTMState", "State", "keep_rows", "map_state",
    "state_tensors", "to_dense", "unroll_by_step",
]  # fmt: skip

CELLS: dict[str, type[GatedCell]] = {
    "rnn": RNNCell,
    "gru": GRUCell,
    "gru-reset-before": GRUResetBeforeCell,
    "lstm": LSTMCell,
    "mogrifier-gru": MogrifierGRUCell,
    "mogrifier-lstm": MogrifierLSTMCell,
    "mingru": MinGRUCell,
    "minlstm": MinLSTMCell,
    "rg-lru": RGLRUCell,
    "slstm": SLSTMCell,
    "mlstm": MLSTMCell,
    "gated-deltanet": GatedDeltaNetCell,
    "gated-deltanet-positive": GatedDeltaNetPositiveCell,
    "gru-hard-sigmoid": HardSigmoidGRUCell,
    "gru-reset-before-hard-sigmoid": HardSigmoidGRUResetBeforeCell,
    "lstm-hard-sigmoid": HardSigmoidLSTMCell,
}
"""The cells that a model can be made of, by the name in `ModelOptions.cell`: `CELLS["name"] = MyCell` adds one."""

REGISTRIES["cell"] = CELLS
