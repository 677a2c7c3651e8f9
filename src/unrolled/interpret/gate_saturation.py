"""How units use their range: gates that are wide open or shut, and how often states have which value.

The saturation plot is that of Karpathy, Johnson and Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.interpret.activations import Activations

CLOSED_BELOW, OPEN_ABOVE = 0.1, 0.9
"""A gate below the one is shut, above the other wide open."""

NUM_BINS = 40
SIGMOID_GATES = ("i", "f", "o", "r", "z")
"""Gates that are open or shut; the others of a cell go from -1 to 1."""


@dataclass(frozen=True)
class Histogram:
    """How often a signal has which value, in `BINS` parts between `low` and `high`."""

    name: str
    low: float
    high: float
    counts: npt.NDArray[np.int64]


def gate_saturation(activations: Activations) -> dict[str, npt.NDArray[np.float64]]:
    """Return, for each gate that opens and shuts, the share of time that a unit's is shut and is open, `(L, H, 2)`."""
    return {
        name: np.stack([(values < CLOSED_BELOW).mean(0), (values > OPEN_ABOVE).mean(0)], -1)
        for name, values in activations.gates.items()
        if name in SIGMOID_GATES
    }


def activation_histograms(activations: Activations) -> list[Histogram]:
    """Return how often each layer's h, and tanh of an LSTM's memory c, have which value, all units together."""
    values_by_name = {"h": activations.h} | ({} if activations.c is None else {"tanh c": np.tanh(activations.c)})
    return [
        Histogram(f"{name}, layer {layer}", -1.0, 1.0, np.histogram(values[:, layer], NUM_BINS, (-1.0, 1.0))[0])
        for name, values in values_by_name.items()
        for layer in range(values.shape[1])
    ]
