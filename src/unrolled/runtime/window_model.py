"""A text model that predicts from the last tokens alone, in numpy: the network of textgenrnn.

It has no state to carry from step to step: each step reads its whole window again, from the zero state, so a token costs as
much as a window of tokens of an ordinary model. What is passed on are the ids of the window. Letters in shapes: `W` tokens of a
window, `N` windows, `D` features, else as in `numpy_model`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from unrolled.errors import UsageError
from unrolled.nn.kernels.extension import num_threads
from unrolled.nn.unit_clamp import Clamp
from unrolled.runtime.blas import blas_threads
from unrolled.runtime.language_model import Floats, Ids, LanguageModel, Mask, softmax
from unrolled.runtime.numpy_model import LINEAR_TERMS, NumpyModel, ScanModel, lstm_step
from unrolled.runtime.text_network import TextLayer, TextNetwork

BLOCK_TOKENS = 1 << 13
"""Tokens of windows that are computed at once: their features take some 10 MB."""


def numpy_reader(network: TextNetwork, clamps: Sequence[Clamp] = ()) -> NumpyModel | WindowModel:
    """Return what computes a network in numpy over many steps in a call, to score a text. Raises as `numpy_model` does."""
    return ScanModel(network, clamps) if network.cell in LINEAR_TERMS else numpy_model(network, clamps)


def numpy_model(network: TextNetwork, clamps: Sequence[Clamp] = ()) -> NumpyModel | WindowModel:
    """Return what computes a network in numpy. Raises `UsageError` as the two classes do."""
    return NumpyModel(network, clamps) if network.window is None else WindowModel(network, clamps)


class WindowModel(LanguageModel):
    """A text model with a window, computed in numpy, in float32. Its state are the ids of the window, `(B, W)`.

    Args:
        network: The arrays; its `window` is set.
        clamps: Must be empty.

    Raises `UsageError` for clamps.
    """

    def __init__(self, network: TextNetwork, clamps: Sequence[Clamp] = ()) -> None:
        if network.window is None:
            raise ValueError("WindowModel is for a network with a window.")
        if clamps:
            raise UsageError(f"A unit is clamped, and {window_reason(network)}: leave the clamp out.")
        self.network, self.window, self.vocab_size = network, network.window, network.vocab_size
        self._directions = (network.layers, self.window.backward) if self.window.backward else (network.layers,)
        self._embedding = network.embedding_matrix()

    def inference(self) -> contextlib.AbstractContextManager[None]:
        return blas_threads(num_threads())

    def initial_state(self, rows: int) -> Ids:
        return np.zeros((rows, self.window.length), np.int64)

    def repeat_row(self, state: Ids, rows: int) -> Ids:
        return np.repeat(state, rows, axis=0)

    def step(self, ids: Ids, state: Ids) -> tuple[Floats, Ids]:
        logits, state = self.unroll(ids[None], state)
        return logits[0], state

    def unroll(self, ids: Ids, state: Ids, resets: Mask | None = None) -> tuple[Floats, Ids]:
        num_steps, rows = ids.shape
        logits = np.empty((num_steps, rows, self.vocab_size), np.float32)
        block_steps = max(1, BLOCK_TOKENS // max(1, rows * self.window.length))
        for start in range(0, num_steps, block_steps):
            windows = []
            for t in range(start, min(start + block_steps, num_steps)):
                if resets is not None:
                    state = np.where(resets[t][:, None], 0, state)
                state = np.concatenate([state[:, 1:], ids[t][:, None]], axis=1)
                windows.append(state)
            logits[start : start + len(windows)] = self._predict(np.concatenate(windows)).reshape(-1, rows, self.vocab_size)
        return logits, state

    def _predict(self, windows: Ids) -> Floats:
        """Return the logits `(N, V)` after each of `windows` `(N, W)`."""
        x = self._embedding[windows.T]  # (W, N, E)
        features = [x]
        for layers in zip(*self._directions, strict=True):
            outputs = [_read(layer, x[::order])[::order] for layer, order in zip(layers, (1, -1), strict=False)]
            x = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=-1)
            features.append(x)
        joined = np.concatenate(features, axis=-1)  # (W, N, D)
        weights = softmax((joined @ self.window.attention).T)  # (N, W)
        average = np.einsum("nw,wnd->nd", weights, joined)
        logits: Floats = average @ self.network.head_weight.T + self.network.head_bias
        return logits


def window_reason(network: TextNetwork) -> str:
    """Return why a network with a window cannot be used where a state is needed, as half a sentence."""
    length = 0 if network.window is None else network.window.length
    return f"this model reads the last {length} tokens anew at each step (textgenrnn), so it has no state"


def _read(layer: TextLayer, xs: Floats) -> Floats:
    """Return the outputs `(W, N, H)` of an LSTM that reads `xs` `(W, N, I)` from the zero state."""
    from_x = xs @ layer.weight_ih.T + layer.bias
    hidden = layer.weight_hh.shape[1]
    zero = np.zeros((xs.shape[1], hidden), np.float32)
    h, c, outputs = zero, zero, np.empty((*xs.shape[:2], hidden), np.float32)
    for t, step_from_x in enumerate(from_x):
        h, c = lstm_step(layer, step_from_x, h, (h, c))
        outputs[t] = h
    return outputs
