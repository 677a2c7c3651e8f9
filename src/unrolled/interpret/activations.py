"""Activations of a language model while it reads a text: states, gates and logits of every step, as arrays.

Shapes: T steps, L layers, H hidden units, V tokens of the vocabulary. Layers are counted from 0, the lowest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.display import Displayed
from unrolled.nn.cell_wrappers import ClampedCell, clamped
from unrolled.nn.cells import Cell, GatedCell, LSTMCell, State, to_dense
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.stack import Layer, StackState
from unrolled.nn.unit_clamp import Clamp
from unrolled.text.tokenized_text import TokenizedText

CHUNK_STEPS = 512
"""Steps of a chunk: long enough for the fused layers, short enough that its gates fit in a CPU cache."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class Activations(Displayed):
    """Activations of T steps, in which the model read `tokenized`.

    `h` `(T, L, H)` is each layer's hidden state after a step, `c` an LSTM's cell state (else None), `gates` the gate
    activations by name (LSTM: i, f, g, o; GRU: r, z, n; none for a vanilla RNN), and `logits` `(T, V)` those of the next token.
    """

    tokenized: TokenizedText
    h: Array
    c: Array | None
    gates: dict[str, Array]
    logits: Array

    @property
    def facts(self) -> Mapping[str, object]:
        num_steps, num_layers, hidden_size = self.h.shape
        names = ", ".join([*self.states_and_gates, "logits"])
        return {"steps": num_steps, "layers": num_layers, "units": hidden_size, "arrays": names}

    @property
    def states_and_gates(self) -> dict[str, Array]:
        """h, c if there is one, and the gates, by name; each `(T, L, H)`."""
        cell_state = {} if self.c is None else {"c": self.c}
        return {"h": self.h, **cell_state, **self.gates}

    def log_probs(self) -> Array:
        """Return the log-probabilities of the next token after each step, `(T, V)`, in nats."""
        return torch.from_numpy(self.logits).log_softmax(-1).numpy()

    def bits(self) -> npt.NDArray[np.float64]:
        """Return the surprisal of each token given those before it, in bits, `(T,)`; nan for the first."""
        ids = self.tokenized.ids
        token_log_probs = self.log_probs()[np.arange(len(ids) - 1), ids[1:]].astype(np.float64)
        return np.append(np.nan, -token_log_probs / math.log(2))[: len(ids)]

    def top_predictions(self, count: int = 5) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the most probable next tokens after each step, in descending order, and their probabilities, `(T, count)`."""
        probs = torch.from_numpy(self.logits).softmax(-1)
        values, ids = probs.topk(min(count, probs.shape[1]), -1)
        return ids.numpy(), values.numpy()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all arrays by name, for `numpy.savez`."""
        return {"ids": self.tokenized.ids, **self.states_and_gates, "logits": self.logits}


def record_activations(model: RecurrentLM, tokenized: TokenizedText, clamps: Sequence[Clamp] = ()) -> Activations:
    """Return the activations of a whole text, with units clamped to fixed values if `clamps` are given."""
    chunks = list(stream_activations(model, tokenized, clamps))
    if not chunks:
        empty = np.zeros((0, len(model.cells()), model.options.hidden), dtype=np.float32)
        cell = model.cells()[0]
        cell_state = empty if isinstance(cell, LSTMCell) else None
        return Activations(
            tokenized,
            empty,
            cell_state,
            dict.fromkeys(cell.gate_names, empty),
            np.zeros((0, model.vocab_size), dtype=np.float32),
        )
    first = chunks[0]
    return Activations(
        tokenized,
        np.concatenate([chunk.h for chunk in chunks]),
        None if first.c is None else np.concatenate([cast(Array, chunk.c) for chunk in chunks]),
        {name: np.concatenate([chunk.gates[name] for chunk in chunks]) for name in first.gates},
        np.concatenate([chunk.logits for chunk in chunks]),
    )


def stream_activations(
    model: RecurrentLM, tokenized: TokenizedText, clamps: Sequence[Clamp] = (), chunk_steps: int = CHUNK_STEPS
) -> Iterator[Activations]:
    """Yield the activations of a text in chunks of `chunk_steps`, in constant memory. The state is carried between chunks."""
    ids = torch.from_numpy(tokenized.ids).to(model.device)
    reset_mask = None if tokenized.reset_mask is None else torch.from_numpy(tokenized.reset_mask).to(model.device)
    with clamped(model.stack, clamps):
        with torch.inference_mode():
            state = model.initial_state(1)
        for start in range(0, len(ids), chunk_steps):
            chunk = slice(start, start + chunk_steps)
            chunk_resets = None if reset_mask is None else reset_mask[chunk].unsqueeze(-1)
            with torch.inference_mode():
                values_by_name, logits, state = _forward(model, ids[chunk].unsqueeze(-1), state, chunk_resets)
            chunk_tokenized = TokenizedText(
                tokenized.ids[chunk],
                tokenized.token_texts[chunk],
                tokenized.known_mask[chunk],
                None if tokenized.reset_mask is None else tokenized.reset_mask[chunk],
            )
            yield Activations(
                chunk_tokenized, values_by_name.pop("h"), values_by_name.pop("c", None), values_by_name, _to_numpy(logits[:, 0])
            )


def _forward(
    model: RecurrentLM, ids: Tensor, state: StackState, resets: Tensor | None
) -> tuple[dict[str, Array], Tensor, StackState]:
    """Return activations `(T, L, H)`, logits `(T, 1, V)` and the last state of ids `(T, 1)`, as `RecurrentLM.forward` does."""
    xs = model.embedding(ids)
    layers_by_name: dict[str, list[Tensor]] = {}
    states = []
    for layer, layer_state in zip(model.stack.layer_list(), state.layers, strict=True):
        xs, layer_values, final_state = _layer_forward(layer, xs, layer_state, resets)
        states.append(final_state)
        for name, values in layer_values.items():
            layers_by_name.setdefault(name, []).append(values[:, 0])
    values_by_name = {name: _to_numpy(torch.stack(values, 1)) for name, values in layers_by_name.items()}
    return values_by_name, model.head(xs), StackState(tuple(states))


def _layer_forward(layer: Layer, xs: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
    """Return a layer's outputs, its activations, each `(T, B, H)`, and its last state."""
    cell_inputs = to_dense(layer.cell_inputs(xs))
    ys, final_state = layer.cell.unroll(cell_inputs, state, resets)
    return (
        layer.add_residual(xs, ys),
        cell_activations(_unclamped_cell(layer.cell), cell_inputs, state, ys, resets),
        final_state,
    )


def cell_activations(cell: GatedCell, xs: Tensor, state: State, ys: Tensor, resets: Tensor | None = None) -> dict[str, Tensor]:
    """Return h, an LSTM's c, and the gates, each `(T, B, H)`, given the inputs `xs`, the first state and the outputs `ys`.

    Since all outputs are known, the gates of all steps are computed in one matrix product.
    """
    first_h = state.h if "h" in state._fields else torch.zeros_like(ys[0])  # no gate of those cells depends on it
    previous_h = torch.cat([first_h.unsqueeze(0).to(ys.dtype), ys[:-1]])
    if resets is not None:
        previous_h = previous_h * ~resets.unsqueeze(-1)
    gates = dict(zip(cell.gate_names, cell.gate_activations(xs, previous_h), strict=True))
    cell_state = {"c": _cell_states(gates, state.c, resets)} if isinstance(cell, LSTMCell) else {}
    return {"h": ys} | cell_state | gates


def _unclamped_cell(cell: Cell) -> GatedCell:
    inner = cell.cell if isinstance(cell, ClampedCell) else cell
    if not isinstance(inner, GatedCell):
        raise ValueError(f"Activations can be recorded of a GatedCell; got {type(inner).__name__}.")
    return inner


def _cell_states(gates: dict[str, Tensor], c: Tensor, resets: Tensor | None) -> Tensor:
    """Return an LSTM's cell state after every step `(T, B, H)`, which the fused layers do not return."""
    forget_gate = gates["f"] if resets is None else gates["f"] * ~resets.unsqueeze(-1)
    candidates, cell_states = gates["i"] * gates["g"], []
    for forget, candidate in zip(forget_gate.unbind(), candidates.unbind(), strict=True):
        c = torch.addcmul(candidate, forget, c)
        cell_states.append(c)
    return torch.stack(cell_states)


def _to_numpy(values: Tensor) -> Array:
    return values.float().cpu().numpy()
