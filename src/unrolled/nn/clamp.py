"""Units held at a value while the network runs: what a unit causes, and not only what it follows."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unrolled.errors import UsageError
from unrolled.nn.cells import Cell, GatedCell, State
from unrolled.nn.stack import Stack


class Hold(NamedTuple):
    """A unit of a layer (both counted from 0, the lowest layer first) whose output `h` is `value` at every step.

    `lane` is the only row of a batch in which it is held; None holds it in all of them.
    """

    layer: int
    unit: int
    value: float = 0.0
    lane: int | None = None


class HeldCell(Cell):
    """A cell some of whose units are held: `h = where(held, values, h)` after each step, `held` and `values` `(B or 1, H)`.

    What is held is what the layers above read and what comes back at the next step. An LSTM's memory `c` of the unit goes on
    by itself, and nothing sees it.
    """

    def __init__(self, cell: GatedCell, held: Tensor, values: Tensor) -> None:
        super().__init__()
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.cell, self.held, self.values = cell, held, values

    def initial_state(self, batch: int) -> State:
        return self.cell.initial_state(batch)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        _, after = self.cell.step(x, state)
        h = torch.where(self.held, self.values.to(after.h.dtype), after.h)
        return h, after._replace(h=h)


@contextlib.contextmanager
def holding(stack: Stack, holds: Sequence[Hold], lanes: int = 1) -> Iterator[None]:
    """Run a stack with units held, step by step, since no fused layer can hold one; afterwards it is as it was.

    `lanes` is the height of the batches to come, where units are held in single lanes.

    Raises `UsageError` for a layer or unit that is not there.
    """
    layers = stack.each_layer()
    before: list[nn.Module] = [layer.cell for layer in layers]
    for hold in holds:
        _refuse(hold, layers[0].cell.hidden_size, len(layers))
    try:
        for index, layer in enumerate(layers):
            own = [hold for hold in holds if hold.layer == index]
            if own and isinstance(layer.cell, GatedCell):
                layer.cell = HeldCell(layer.cell, *_masks(layer.cell, own, lanes))
        yield
    finally:
        for layer, cell in zip(layers, before, strict=True):
            layer.cell = cell  # type: ignore[assignment]  # the very cell that was there


def _refuse(hold: Hold, units: int, layers: int) -> None:
    if not 0 <= hold.layer < layers:
        raise UsageError(f"There is no layer {hold.layer} to hold a unit of: the model's are 0 to {layers - 1}.")
    if not 0 <= hold.unit < units:
        raise UsageError(f"Layer {hold.layer} has no unit {hold.unit} to hold: its units are 0 to {units - 1}.")


def _masks(cell: GatedCell, holds: list[Hold], lanes: int) -> tuple[Tensor, Tensor]:
    """Return which units are held `(lanes, H)`, and their values."""
    values = cell.weight_h.new_zeros(lanes, cell.hidden_size)
    held = torch.zeros_like(values, dtype=torch.bool)
    for hold in holds:
        rows = slice(None) if hold.lane is None else hold.lane
        held[rows, hold.unit] = True
        values[rows, hold.unit] = hold.value
    return held, values
