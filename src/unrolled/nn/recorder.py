"""Cells that are listened to while a network runs: what each read, from which state, and what it gave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from unrolled.nn.cells import Cell, GatedCell, Inputs, State, dense


@dataclass
class Heard:
    """One run of a cell over T steps: inputs `(T, B, I)`, the state before them, outputs `(T, B, H)`."""

    cell: GatedCell
    xs: Tensor
    state: State
    ys: Tensor


@dataclass
class Listener:
    """What was heard, by the name of the cell in the network; a cell that ran several times has its last run here."""

    runs: dict[str, Heard] = field(default_factory=dict)


class ListeningCell(Cell):
    """A cell that runs as it did, and tells a listener."""

    def __init__(self, cell: GatedCell, name: str, listener: Listener) -> None:
        super().__init__()
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.cell, self.name, self.listener = cell, name, listener

    def initial_state(self, batch: int) -> State:
        return self.cell.initial_state(batch)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        ys, after = self.cell.unroll(xs, state, resets)
        self.listener.runs[self.name] = Heard(self.cell, dense(xs), state, ys)
        return ys, after


@contextlib.contextmanager
def listening(network: nn.Module) -> Iterator[Listener]:
    """Listen to every cell of a network; afterwards it is as it was."""
    listener = Listener()
    found = [
        (f"{path}.{name}".lstrip("."), module, name, child)
        for path, module in network.named_modules()
        for name, child in module.named_children()
        if isinstance(child, GatedCell)
    ]
    try:
        for path, module, name, child in found:
            setattr(module, name, ListeningCell(child, path, listener))
        yield listener
    finally:
        for _, module, name, child in found:
            setattr(module, name, child)
