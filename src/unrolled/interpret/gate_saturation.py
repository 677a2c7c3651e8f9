"""How units use their range: gates that are wide open or shut, and how often states have which value.

The saturation plot is that of Karpathy, Johnson and Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.interpret.activations import Trace

SHUT, OPEN = 0.1, 0.9
"""A gate below the one is shut, above the other wide open."""

BINS = 40
ZERO_TO_ONE = ("i", "f", "o", "r", "z")
"""Gates that are open or shut; the others of a cell go from -1 to 1."""


@dataclass(frozen=True)
class Histogram:
    """How often a signal has which value, in `BINS` parts between `low` and `high`."""

    name: str
    low: float
    high: float
    counts: npt.NDArray[np.int64]


def saturation(found: Trace) -> dict[str, npt.NDArray[np.float64]]:
    """Return, for each gate that opens and shuts, the share of time that a unit's is shut and is open, `(L, H, 2)`."""
    return {
        name: np.stack([(values < SHUT).mean(0), (values > OPEN).mean(0)], -1)
        for name, values in found.gates.items()
        if name in ZERO_TO_ONE
    }


def histograms(found: Trace) -> list[Histogram]:
    """Return how often each layer's h, and tanh of an LSTM's memory c, have which value, all units together."""
    signals = {"h": found.h} | ({} if found.c is None else {"tanh c": np.tanh(found.c)})
    return [
        Histogram(f"{name}, layer {layer}", -1.0, 1.0, np.histogram(values[:, layer], BINS, (-1.0, 1.0))[0])
        for name, values in signals.items()
        for layer in range(values.shape[1])
    ]
