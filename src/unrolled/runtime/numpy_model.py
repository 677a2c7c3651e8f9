"""A text model in numpy: the definition of its step, to be read, and what is used where there is no compiled extension.

The equations of the cells are those of `nn.cells`, and a test holds them equal for every cell. Letters in shapes: `B` rows, `T`
steps, `V` tokens, `E` embedding size, `H` units of a layer, `G` gates of a cell.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from unrolled.network_shapes import HARD_SIGMOID_CELLS, MOGRIFIER_CELLS, MOGRIFIER_ROUNDS
from unrolled.nn.kernels.extension import num_threads
from unrolled.nn.unit_clamp import Clamp, check_clamps
from unrolled.runtime.blas import blas_threads
from unrolled.runtime.language_model import Floats, Ids, LanguageModel, Mask
from unrolled.runtime.text_network import NORM_EPSILON, TextLayer, TextNetwork

LayerState: TypeAlias = tuple[Floats, ...]
"""State of a layer, the parts of `STATE_NAMES`: `h` `(B, H)` first and, of some cells, others of the same shape."""

State: TypeAlias = tuple[LayerState, ...]
"""The state of a model: that of each layer, the first layer first."""

Gate: TypeAlias = Callable[[Floats], Floats]
"""The nonlinearity of gates."""

CellStep: TypeAlias = Callable[[TextLayer, Floats, Floats, LayerState], LayerState]
"""From a layer, its `W_x x + b` `(B, G H)`, the `h` that its gates read and its state to its next state, whose first part is
the output of the cell. The `h` that gates read is that of the state, but for the rounds of a Mogrifier."""


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + e^-x)."""
    with np.errstate(over="ignore"):  # e^-x may be infinite, and the result is 0 then, as it should be
        result: Floats = 1 / (1 + np.exp(-x))
    return result


def hard_sigmoid(x: Floats) -> Floats:
    """Return `0.2 x + 0.5`, at least 0 and at most 1."""
    result: Floats = np.clip(np.float32(0.2) * x + np.float32(0.5), 0, 1)
    return result


def from_hidden(layer: TextLayer, h: Floats) -> Floats:
    """Return `W_h h + b_hh` `(B, G H)`."""
    products: Floats = h @ layer.weight_hh.T
    return products if layer.bias_hh is None else products + layer.bias_hh


def log_sigmoid(x: Floats) -> Floats:
    """Return ln(1 / (1 + e^-x))."""
    result: Floats = np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x)))
    return result


def rnn_step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState) -> LayerState:
    """`h' = tanh(W_x x + W_h h + b)`."""
    return (np.tanh(from_x + from_hidden(layer, h)),)


def gru_step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState, gate: Gate = sigmoid) -> LayerState:
    """`n = tanh(W_xn x + b_n + r (W_hn h + b_hn))`, `h' = (1 - z) n + z h`: the reset gate after the matrix product."""
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(from_x, 3, axis=1), np.split(from_hidden(layer, h), 3, axis=1)
    r, z = gate(r_x + r_h), gate(z_x + z_h)
    return ((1 - z) * np.tanh(n_x + r * n_h) + z * state[0],)


def gru_reset_before_step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState, gate: Gate = sigmoid) -> LayerState:
    """`n = tanh(W_xn x + b_n + W_hn (r h) + b_hn)`, `h' = (1 - z) n + z h`: the reset gate before the matrix product."""
    (r_x, z_x, n_x), (r_h, z_h, _) = np.split(from_x, 3, axis=1), np.split(from_hidden(layer, h), 3, axis=1)
    r, z = gate(r_x + r_h), gate(z_x + z_h)
    n_h = np.split(from_hidden(layer, r * h), 3, axis=1)[2]
    return ((1 - z) * np.tanh(n_x + n_h) + z * state[0],)


def lstm_step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState, gate: Gate = sigmoid) -> LayerState:
    """`c' = f c + i g`, `h' = o tanh(c')`."""
    i, f, g, o = np.split(from_x + from_hidden(layer, h), 4, axis=1)
    c = gate(f) * state[1] + gate(i) * np.tanh(g)
    return gate(o) * np.tanh(c), c


def slstm_step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState) -> LayerState:
    """`c' = f c + i g`, `n' = f n + i`, `h' = o c' / n'`, with i and f divided by the largest of both so far, `e^m'`."""
    _, c, n, m = state
    i, f, g, o = np.split(from_x + from_hidden(layer, h), 4, axis=1)
    kept = np.where(n == 0, i, log_sigmoid(f) + m)  # c is zero where n is, so what is kept of it does not matter
    m = np.maximum(kept, i)
    i, f = np.exp(i - m), np.exp(kept - m)
    c, n = f * c + i * np.tanh(g), f * n + i
    return sigmoid(o) * c / n, c, n, m


def mingru_terms(layer: TextLayer, from_x: Floats) -> tuple[Floats, Floats]:
    """`h' = (1 - z) h + z n`."""
    z, n = np.split(from_x, 2, axis=-1)
    z = sigmoid(z)
    return 1 - z, z * n


def minlstm_terms(layer: TextLayer, from_x: Floats) -> tuple[Floats, Floats]:
    """`h' = f / (f + i) h + i / (f + i) n`."""
    i, f, n = np.split(from_x, 3, axis=-1)
    share = sigmoid(log_sigmoid(i) - log_sigmoid(f))
    return 1 - share, share * n


def rg_lru_terms(layer: TextLayer, from_x: Floats) -> tuple[Floats, Floats]:
    """`h' = a h + sqrt(1 - a^2) (i n)`, `a = sigmoid(decay_logit)^(8 r)`."""
    r, i, n = np.split(from_x, 3, axis=-1)
    log_a = 8 * sigmoid(r) * log_sigmoid(layer.others["decay_logit"])
    return np.exp(log_a), np.sqrt(np.maximum(-np.expm1(2 * log_a), MIN_SQUARE)) * (sigmoid(i) * n)


LINEAR_TERMS: dict[str, Callable[[TextLayer, Floats], tuple[Floats, Floats]]] = {
    "mingru": mingru_terms,
    "minlstm": minlstm_terms,
    "rg-lru": rg_lru_terms,
}
"""For each cell whose gates depend on the input only, `a` and `b` of `h' = a h + b`, of `W_x x + b` `(..., G H)`."""


def linear_step(cell: str) -> CellStep:
    """Return the step of a cell in `LINEAR_TERMS`."""

    def step(layer: TextLayer, from_x: Floats, h: Floats, state: LayerState) -> LayerState:
        kept, written = LINEAR_TERMS[cell](layer, from_x)
        return (kept * h + written,)

    return step


GATED_STEPS = {"gru": gru_step, "gru-reset-before": gru_reset_before_step, "lstm": lstm_step}
"""The steps that take the nonlinearity of gates."""

CELL_STEPS: dict[str, CellStep] = {
    "rnn": rnn_step,
    **GATED_STEPS,
    **{HARD_SIGMOID_CELLS[cell]: functools.partial(step, gate=hard_sigmoid) for cell, step in GATED_STEPS.items()},
    "mogrifier-gru": gru_step,
    "mogrifier-lstm": lstm_step,
    "slstm": slstm_step,
    **{cell: linear_step(cell) for cell in LINEAR_TERMS},
}
"""The step of each cell; those of a Mogrifier come after `mogrify`."""

MIN_SQUARE = np.float32(1e-12)
"""Least `1 - a^2` of an RG-LRU, as in `nn.cells.linear`."""


def has_numpy_model(network: TextNetwork) -> bool:
    """Return whether numpy can run a network, by `CELL_STEPS` or, if it has a window, by `window_model`."""
    return network.window is not None or network.cell in CELL_STEPS


def mogrify(layer: TextLayer, x: Floats, h: Floats) -> tuple[Floats, Floats]:
    """Return input and state after the rounds of a Mogrifier: `x <- 2 sigmoid(Q h) x` and `h <- 2 sigmoid(R x) h` in turn."""
    for index in range(MOGRIFIER_ROUNDS):
        if index % 2 == 0:
            x = 2 * sigmoid(h @ layer.others["mogrifier_q"][index // 2].T) * x
        else:
            h = 2 * sigmoid(x @ layer.others["mogrifier_r"][index // 2].T) * h
    return x, h


def layer_input(layer: TextLayer, x: Floats) -> Floats:
    """Return the input of a layer's cell for `x` `(B, H)`: itself or, in a residual layer, its layer norm.

    Layer norm is `x` with mean 0 and variance 1, times `norm_weight`, plus `norm_bias`.
    """
    if layer.norm_weight is None or layer.norm_bias is None:
        return x
    centered = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt(np.square(centered).mean(-1, keepdims=True) + np.float32(NORM_EPSILON))
    normed: Floats = centered / deviation * layer.norm_weight + layer.norm_bias
    return normed


class NumpyModel(LanguageModel):
    """A text model that is computed in numpy, in float32.

    Args:
        network: The arrays. Its cell must be in `CELL_STEPS`.
        clamps: Units whose output is set to a constant, as in `nn.cell_wrappers`.

    Raises `UsageError` for a clamp of a layer or unit that does not exist.
    """

    def __init__(self, network: TextNetwork, clamps: Sequence[Clamp] = ()) -> None:
        check_clamps(clamps, network.hidden_size, len(network.layers))
        self.network, self.clamps, self.vocab_size = network, clamps, network.vocab_size
        self._cell_step = CELL_STEPS[network.cell]
        self._mogrifies = network.cell in MOGRIFIER_CELLS
        is_plain_one_hot = network.embedding is None and not network.residual
        self._selects_columns = is_plain_one_hot and not self._mogrifies  # of the weight, by one-hot vectors
        is_wide = is_plain_one_hot and self._mogrifies  # V may be any size: no identity matrix
        self._embedding = None if self._selects_columns or is_wide else network.embedding_matrix()

    def inference(self) -> contextlib.AbstractContextManager[None]:
        return blas_threads(num_threads())

    def initial_state(self, rows: int) -> State:
        zero = np.zeros((rows, self.network.hidden_size), np.float32)
        return ((zero,) * len(self.network.state_names),) * len(self.network.layers)

    def repeat_row(self, state: State, rows: int) -> State:
        return _map_state(lambda s: np.repeat(s, rows, axis=0), state)

    def step(self, ids: Ids, state: State) -> tuple[Floats, State]:
        ys, state = self._stack_step(ids, state)
        return self.head(ys), state

    def unroll(self, ids: Ids, state: State, resets: Mask | None = None) -> tuple[Floats, State]:
        ys = np.empty((*ids.shape, self.network.hidden_size), np.float32)
        for t, step_ids in enumerate(ids):
            if resets is not None and resets[t].any():
                state = _map_state(functools.partial(np.multiply, ~resets[t][:, None]), state)
            ys[t], state = self._stack_step(step_ids, state)
        return self.head(ys), state

    def head(self, ys: Floats) -> Floats:
        """Return the logits `(..., V)` for outputs of the last layer `(..., H)`."""
        logits: Floats = ys @ self.network.head_weight.T
        logits += self.network.head_bias
        return logits

    def _stack_step(self, ids: Ids, state: State) -> tuple[Floats, State]:
        """Return the output of the last layer `(B, H)`, and the next state."""
        x, next_state = self._vectors(ids), []  # (B, E)
        for index, (layer, layer_state) in enumerate(zip(self.network.layers, state, strict=True)):
            h = layer_state[0]
            if index == 0 and self._selects_columns:
                from_x = layer.weight_ih.T[ids]
            else:
                cell_input = layer_input(layer, x)
                if self._mogrifies:
                    cell_input, h = mogrify(layer, cell_input, h)
                from_x = cell_input @ layer.weight_ih.T
            cell_state = self._clamped(index, self._cell_step(layer, from_x + layer.bias, h, layer_state))
            x = x + cell_state[0] if self.network.residual else cell_state[0]
            next_state.append(cell_state)
        return x, tuple(next_state)

    def _vectors(self, ids: Ids) -> Floats:
        """Return the inputs of the first layer, `(B, E)`; empty where it selects columns of its weight."""
        if self._selects_columns:
            return np.empty(0, np.float32)
        if self._embedding is not None:
            return self._embedding[ids]
        one_hot = np.zeros((len(ids), self.vocab_size), np.float32)
        one_hot[np.arange(len(ids)), ids] = 1
        return one_hot

    def _clamped(self, index: int, state: LayerState) -> LayerState:
        for clamp in self.clamps:
            if clamp.layer == index:
                state[0][:, clamp.unit] = clamp.value
        return state


class ScanModel(NumpyModel):
    """A text model of a linear cell, whose `unroll` computes the products of all steps at once: for evaluation.

    Its results are those of the steps but for rounding, which depends on the number of steps in a call. Raises `ValueError` for
    another cell.
    """

    def __init__(self, network: TextNetwork, clamps: Sequence[Clamp] = ()) -> None:
        super().__init__(network, clamps)
        if network.cell not in LINEAR_TERMS:
            raise ValueError(f"ScanModel is for the cells {', '.join(LINEAR_TERMS)}; got {network.cell}.")

    def unroll(self, ids: Ids, state: State, resets: Mask | None = None) -> tuple[Floats, State]:
        if self.clamps or not ids.size:
            return super().unroll(ids, state, resets)
        xs = np.empty(0, np.float32) if self._embedding is None else self._embedding[ids]  # (T, B, E)
        finals = []
        for index, (layer, (h,)) in enumerate(zip(self.network.layers, state, strict=True)):
            is_column = index == 0 and self._selects_columns
            from_x = layer.weight_ih.T[ids] if is_column else layer_input(layer, xs) @ layer.weight_ih.T
            kept, hs = LINEAR_TERMS[self.network.cell](layer, from_x + layer.bias)
            if resets is not None:
                kept = kept * ~resets[..., None]
            for t in range(len(ids)):
                hs[t] += kept[t] * h
                h = hs[t]
            xs = xs + hs if self.network.residual else hs
            finals.append((h,))
        return self.head(xs), tuple(finals)


def _map_state(fn: Callable[[Floats], Floats], state: State) -> State:
    return tuple(tuple(fn(part) for part in layer) for layer in state)
