"""What goes on inside a model while it reads: states, gates and odds of every step, as arrays.

The letters are those of `nn.model`: T steps, L layers, H units, V symbols. Layers are counted from 0, the lowest first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.nn.cells import Cell, GatedCell, LSTMCell, State, dense
from unrolled.nn.clamp import HeldCell, Hold, holding
from unrolled.nn.language_model import SequenceModel
from unrolled.nn.stack import Layer, StackState
from unrolled.text.tokenized_text import Reading

STEPS = 512
"""Steps of a piece: long enough for the fused layers, short enough that its gates fit a cache."""

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """What T steps did.

    `h` `(T, L, H)` is each layer's state after a step, `c` an LSTM's memory (else None), `gates` the open gates by name
    (LSTM: i, f, g, o; GRU: r, z, n; none of a vanilla RNN), and `logits` `(T, V)` the scores of the symbol that comes after a
    step. `reading` is what was read.
    """

    reading: Reading
    h: Array
    c: Array | None
    gates: dict[str, Array]
    logits: Array

    @property
    def signals(self) -> dict[str, Array]:
        """All that units do, by name: h, c if there is one, and the gates; each `(T, L, H)`."""
        memory = {} if self.c is None else {"c": self.c}
        return {"h": self.h, **memory, **self.gates}

    def log_chances(self) -> Array:
        """Return the logarithm of the probability of each symbol after each step, `(T, V)`, in nats."""
        return torch.from_numpy(self.logits).log_softmax(-1).numpy()

    def bits(self) -> npt.NDArray[np.float64]:
        """Return the surprise of each symbol given those before it, in bits, `(T,)`; nan for the first."""
        ids = self.reading.ids
        said = self.log_chances()[np.arange(len(ids) - 1), ids[1:]].astype(np.float64)
        return np.append(np.nan, -said / math.log(2))[: len(ids)]

    def guesses(self, count: int = 5) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the likeliest symbols to come after each step, likeliest first, and their probabilities, `(T, count)`."""
        chances = torch.from_numpy(self.logits).softmax(-1)
        values, ids = chances.topk(min(count, chances.shape[1]), -1)
        return ids.numpy(), values.numpy()

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as named arrays, for `numpy.savez`."""
        return {"ids": self.reading.ids, **self.signals, "logits": self.logits}


def trace(model: SequenceModel, reading: Reading, holds: Sequence[Hold] = ()) -> Trace:
    """Return the trace of a whole text, `holds` being units held at a value."""
    pieces = list(stream(model, reading, holds))
    if not pieces:
        empty = np.zeros((0, len(model.cells()), model.options.hidden), dtype=np.float32)
        kind = model.cells()[0]
        memory = empty if isinstance(kind, LSTMCell) else None
        return Trace(
            reading, empty, memory, dict.fromkeys(kind.gate_names, empty), np.zeros((0, model.symbols), dtype=np.float32)
        )
    first = pieces[0]
    return Trace(
        reading,
        np.concatenate([piece.h for piece in pieces]),
        None if first.c is None else np.concatenate([cast(Array, piece.c) for piece in pieces]),
        {name: np.concatenate([piece.gates[name] for piece in pieces]) for name in first.gates},
        np.concatenate([piece.logits for piece in pieces]),
    )


def stream(model: SequenceModel, reading: Reading, holds: Sequence[Hold] = (), steps: int = STEPS) -> Iterator[Trace]:
    """Yield the trace of a text in pieces of `steps`, so that memory does not grow with it. The state is carried on."""
    ids = torch.from_numpy(reading.ids).to(model.device)
    resets = None if reading.begins is None else torch.from_numpy(reading.begins).to(model.device)
    with holding(model.stack, holds):
        with torch.inference_mode():
            state = model.initial_state(1)
        for start in range(0, len(ids), steps):
            piece = slice(start, start + steps)
            own = None if resets is None else resets[piece].unsqueeze(-1)
            with torch.inference_mode():
                signals, logits, state = _look(model, ids[piece].unsqueeze(-1), state, own)
            part = Reading(
                reading.ids[piece],
                reading.shown[piece],
                reading.known[piece],
                None if reading.begins is None else reading.begins[piece],
            )
            yield Trace(part, signals.pop("h"), signals.pop("c", None), signals, _array(logits[:, 0]))


def _look(
    model: SequenceModel, ids: Tensor, state: StackState, resets: Tensor | None
) -> tuple[dict[str, Array], Tensor, StackState]:
    """Return signals `(T, L, H)`, logits `(T, 1, V)` and the last state of ids `(T, 1)`: what `forward` does, and all of it."""
    xs = model.embedding(ids)
    found: dict[str, list[Tensor]] = {}
    states = []
    for layer, below in zip(model.stack.each_layer(), state.layers, strict=True):
        xs, own, after = _layer(layer, xs, below, resets)
        states.append(after)
        for name, values in own.items():
            found.setdefault(name, []).append(values[:, 0])
    signals = {name: _array(torch.stack(values, 1)) for name, values in found.items()}
    return signals, model.head(xs), StackState(tuple(states))


def _layer(layer: Layer, xs: Tensor, state: State, resets: Tensor | None) -> tuple[Tensor, dict[str, Tensor], State]:
    """Return what a layer hands up, its signals, each `(T, B, H)`, and its last state.

    The states come from the cell's own way of unrolling.
    """
    read = dense(layer.before_all(xs))
    ys, after = layer.cell.unroll(read, state, resets)
    return layer.after(xs, ys), signals_of(_gated(layer.cell), read, state, ys, resets), after


def signals_of(cell: GatedCell, xs: Tensor, state: State, ys: Tensor, resets: Tensor | None = None) -> dict[str, Tensor]:
    """Return h, an LSTM's c, and the gates of a run, each `(T, B, H)`: of inputs `xs`, from `state`, to outputs `ys`.

    All steps' gates follow from the outputs at once, in one product.
    """
    before = torch.cat([state.h.unsqueeze(0).to(ys.dtype), ys[:-1]])
    if resets is not None:
        before = before * ~resets.unsqueeze(-1)
    gates = dict(zip(cell.gate_names, cell.gates_at(xs, before), strict=True))
    memory = {"c": _memory(gates, state.c, resets)} if isinstance(cell, LSTMCell) else {}
    return {"h": ys} | memory | gates


def _gated(cell: Cell) -> GatedCell:
    inner = cell.cell if isinstance(cell, HeldCell) else cell
    if not isinstance(inner, GatedCell):
        raise ValueError(f"A trace shows gated cells; got {type(inner).__name__}.")
    return inner


def _memory(gates: dict[str, Tensor], c: Tensor, resets: Tensor | None) -> Tensor:
    """Return an LSTM's memory after every step `(T, B, H)`, which the fused layers keep to themselves."""
    forget = gates["f"] if resets is None else gates["f"] * ~resets.unsqueeze(-1)
    added, memories = gates["i"] * gates["g"], []
    for kept, new in zip(forget.unbind(), added.unbind(), strict=True):
        c = torch.addcmul(new, kept, c)
        memories.append(c)
    return torch.stack(memories)


def _array(values: Tensor) -> Array:
    return values.float().cpu().numpy()
