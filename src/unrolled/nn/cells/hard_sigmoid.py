"""GRU and LSTM with hard sigmoids as gates, the default of Keras before 2.3: old models, imported, compute with it."""

from __future__ import annotations

from torch import Tensor

from unrolled.nn.cells.contract import GatedCell
from unrolled.nn.cells.gated import GRUCell, GRUResetBeforeCell, LSTMCell


class _HardSigmoid(GatedCell):
    """Gates are `clip(0.2 x + 0.5, 0, 1)`: exactly closed below -2.5 and exactly open above 2.5."""

    @staticmethod
    def gate(x: Tensor) -> Tensor:
        return (0.2 * x + 0.5).clamp(0, 1)


class HardSigmoidGRUCell(_HardSigmoid, GRUCell):
    """`GRUCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""


class HardSigmoidGRUResetBeforeCell(_HardSigmoid, GRUResetBeforeCell):
    """`GRUResetBeforeCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""


class HardSigmoidLSTMCell(_HardSigmoid, LSTMCell):
    """`LSTMCell` with `hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1)` in place of the sigmoid."""
