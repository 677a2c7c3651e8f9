"""Saturation of gates and histograms of states.

The saturation plot is from Karpathy, Johnson and Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.interpret.activations import Activations

CLOSED_BELOW, OPEN_ABOVE = 0.1, 0.9
"""A gate is closed (left-saturated) below the first value, and open (right-saturated) above the second."""

NUM_BINS = 40
SIGMOID_GATES = ("i", "f", "o", "r", "z", "a", "b")
"""Gates with values in 0 to 1; the candidates g and n are in -1 to 1."""


@dataclass(frozen=True)
class Histogram:
    """Counts of an activation's values in `NUM_BINS` equal bins between `low` and `high`."""

    name: str
    low: float
    high: float
    counts: npt.NDArray[np.int64]


def gate_saturation(activations: Activations) -> dict[str, npt.NDArray[np.float64]]:
    """Return, for each sigmoid gate, the fraction of steps in which each unit's gate is closed and is open, `(L, H, 2)`."""
    return {
        name: np.stack([(values < CLOSED_BELOW).mean(0), (values > OPEN_ABOVE).mean(0)], -1)
        for name, values in activations.gates.items()
        if name in SIGMOID_GATES
    }


def activation_histograms(activations: Activations) -> list[Histogram]:
    """Return a histogram of each layer's h, and of tanh of an LSTM's cell state c, over all units.

    The outputs of some cells have no bounds: the first and last bins have all values beyond -1 and 1.
    """
    values_by_name = {"h": activations.h} | ({} if activations.c is None else {"tanh c": np.tanh(activations.c)})
    return [
        Histogram(f"{name}, layer {layer}", -1.0, 1.0, np.histogram(np.clip(values[:, layer], -1, 1), NUM_BINS, (-1.0, 1.0))[0])
        for name, values in values_by_name.items()
        for layer in range(values.shape[1])
    ]
