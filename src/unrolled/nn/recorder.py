"""Recording the inputs, states and outputs of the cells of a network while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from unrolled.nn.cells import Cell, GatedCell, Inputs, State, to_dense


@dataclass
class CellRecord:
    """One run of a cell over T steps: inputs `(T, B, I)`, the state before the first step, outputs `(T, B, H)`."""

    cell: GatedCell
    xs: Tensor
    state: State
    ys: Tensor


@dataclass
class ActivationRecorder:
    """Records by the name of the cell in the network; for a cell that ran several times, the latest."""

    records: dict[str, CellRecord] = field(default_factory=dict)


class RecordingCell(Cell):
    """A cell that also stores each run in a recorder."""

    def __init__(self, cell: GatedCell, name: str, recorder: ActivationRecorder) -> None:
        super().__init__()
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.cell, self.name, self.recorder = cell, name, recorder

    def initial_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        ys, final_state = self.cell.unroll(xs, state, resets)
        self.recorder.records[self.name] = CellRecord(self.cell, to_dense(xs), state, ys)
        return ys, final_state


@contextlib.contextmanager
def record_cells(network: nn.Module) -> Iterator[ActivationRecorder]:
    """Record every cell of a network inside a `with` block."""
    recorder = ActivationRecorder()
    cells = [
        (f"{path}.{name}".lstrip("."), module, name, child)
        for path, module in network.named_modules()
        for name, child in module.named_children()
        if isinstance(child, GatedCell)
    ]
    try:
        for path, module, name, child in cells:
            setattr(module, name, RecordingCell(child, path, recorder))
        yield recorder
    finally:
        for _, module, name, child in cells:
            setattr(module, name, child)
