"""What goes on inside a model of a table while it reads one row, and writes its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.evaluation.predictor import Answer, Answerer
from unrolled.interpret.activations import signals_of
from unrolled.nn.encoder_decoder import PairModel
from unrolled.nn.recorder import Heard, Listener, listening
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import TextColumn
from unrolled.tables.pair_batching import source_steps

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class RowTrace:
    """A row's `answer`, and what S steps of reading and M of writing did.

    `read` holds the signals of the reader by name (h, c and the gates; units that read backward behind those that read
    forward), each `(S, L, H)`, and `wrote` those of the writer `(M, L, H)`; both empty for a network without them. `symbols`
    are the source's, if it has any; `chances` `(S, labels)` those of the labels beside each step; `weights` `(M, S)` are of the
    attention.
    """

    symbols: list[str]
    answer: Answer
    read: dict[str, Array]
    wrote: dict[str, Array]
    chances: Array | None
    weights: Array | None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything as named arrays, for `numpy.savez`."""
        named = {f"read.{name}": values for name, values in self.read.items()}
        named |= {f"wrote.{name}": values for name, values in self.wrote.items()}
        if self.weights is not None:
            named["attention"] = self.weights
        return named


@torch.inference_mode()
def row_trace(answerer: Answerer, cell: Cell) -> RowTrace:
    """Return the trace of one source cell. The answer is the one that `predict` gives."""
    model, source = answerer.model, answerer.task.source
    answer, weights = answerer.looked(cell)
    batch = answerer.batch([source_steps(answerer.task, cell)])
    chances = None
    with listening(model) as heard:
        if model.writer is None:
            scores = model.answers(batch)
            if answerer.task.mode.writes == "beside":
                chances = scores[:, 0, :-1].softmax(-1).float().cpu().numpy()
        else:
            ids = torch.from_numpy(np.asarray(answer.values, dtype=np.int64)).to(model.device).unsqueeze(-1)
            memory = model.remember(batch)
            if len(ids):
                model.writer(ids, memory)
    symbols = list(source.symbols(cell)) if isinstance(source, TextColumn) else []
    return RowTrace(symbols, answer, _reader(model, heard), _writer(model, heard), chances, weights)


def _reader(model: PairModel, heard: Listener) -> dict[str, Array]:
    """Return the reader's signals `(S, L, H)`."""
    layers: list[dict[str, Tensor]] = []
    for index in range(model.options.layers):
        forward = heard.runs.get(f"reader.layers.{index}.forward_cell")
        backward = heard.runs.get(f"reader.layers.{index}.backward_cell")
        one_way = heard.runs.get(f"reader.stack.layers.{index}.cell")
        if forward is not None and backward is not None:
            there, back = _signals(forward), _signals(backward)
            layers.append({name: torch.cat([there[name], back[name].flip(0)], -1) for name in there})
        elif one_way is not None:
            layers.append(_signals(one_way))
    return _stacked(layers)


def _writer(model: PairModel, heard: Listener) -> dict[str, Array]:
    """Return the writer's signals `(M, L, H)`."""
    found = [heard.runs.get(f"writer.stack.layers.{index}.cell") for index in range(model.options.layers)]
    return _stacked([_signals(run) for run in found if run is not None])


def _signals(run: Heard) -> dict[str, Tensor]:
    return {name: values[:, 0] for name, values in signals_of(run.cell, run.xs, run.state, run.ys).items()}


def _stacked(layers: list[dict[str, Tensor]]) -> dict[str, Array]:
    if not layers:
        return {}
    return {name: torch.stack([layer[name] for layer in layers], 1).float().cpu().numpy() for name in layers[0]}
