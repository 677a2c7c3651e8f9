"""Cells around a cell, for the time of a `with` block: units held at a value, and runs that are recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, GatedCell, Inputs, State, to_dense
from unrolled.nn.stack import Stack
from unrolled.nn.unit_clamp import Clamp, check_clamps


class WrappedCell(Cell):
    """A cell that does what `cell` does; a subclass changes a part of it."""

    def __init__(self, cell: GatedCell) -> None:
        super().__init__()
        self.cell, self.input_size, self.hidden_size = cell, cell.input_size, cell.hidden_size

    def initial_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell.step(x, state)


class ClampedCell(WrappedCell):
    """A cell with some units clamped: `h = where(mask, values, h)` after each step; `mask` and `values` are `(B or 1, H)`.

    The layers above and the next step read the clamped `h`, the output. The cell state `c` of an LSTM is not changed; it has
    no effect on a clamped `h`. Of a cell whose state has no `h`, only the output is clamped.
    """

    def __init__(self, cell: GatedCell, mask: Tensor, values: Tensor) -> None:
        super().__init__(cell)
        self.mask, self.values = mask, values

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, next_state = self.cell.step(x, state)
        y = torch.where(self.mask, self.values.to(y.dtype), y)
        return y, next_state._replace(h=y) if "h" in next_state._fields else next_state


@dataclass
class CellRecord:
    """One run of a cell over T steps: inputs `(T, B, I)`, the state before the first step, outputs `(T, B, H)`."""

    cell: GatedCell
    xs: Tensor
    state: State
    ys: Tensor


class RecordingCell(WrappedCell):
    """A cell that also stores each run in `records`, under `name`."""

    def __init__(self, cell: GatedCell, name: str, records: dict[str, CellRecord]) -> None:
        super().__init__(cell)
        self.name, self.records = name, records

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        ys, final_state = self.cell.unroll(xs, state, resets)
        self.records[self.name] = CellRecord(self.cell, to_dense(xs), state, ys)
        return ys, final_state


@contextlib.contextmanager
def clamped(stack: Stack, clamps: Sequence[Clamp], batch_size: int = 1) -> Iterator[None]:
    """Clamp units of a stack inside a `with` block; the layers concerned are unrolled by steps, as fused kernels cannot clamp.

    `batch_size` is only needed for clamps of single rows. Raises `UsageError` for a layer or unit that does not exist.
    """
    layers = stack.layer_list()
    original_cells: list[nn.Module] = [layer.cell for layer in layers]
    check_clamps(clamps, layers[0].cell.hidden_size, len(layers))
    try:
        for index, layer in enumerate(layers):
            layer_clamps = [clamp for clamp in clamps if clamp.layer == index]
            if layer_clamps and isinstance(layer.cell, GatedCell):
                layer.cell = ClampedCell(layer.cell, *_clamp_tensors(layer.cell, layer_clamps, batch_size))
        yield
    finally:
        for layer, cell in zip(layers, original_cells, strict=True):
            layer.cell = cell  # type: ignore[assignment]  # the Cell that was read above


def _clamp_tensors(cell: GatedCell, clamps: list[Clamp], batch_size: int) -> tuple[Tensor, Tensor]:
    """Return the mask of clamped units and their values, each `(batch_size, H)`."""
    values = cell.weight_ih.new_zeros(batch_size, cell.hidden_size)
    mask = torch.zeros_like(values, dtype=torch.bool)
    for clamp in clamps:
        rows = slice(None) if clamp.row is None else clamp.row
        mask[rows, clamp.unit] = True
        values[rows, clamp.unit] = clamp.value
    return mask, values


@contextlib.contextmanager
def record_cells(network: nn.Module) -> Iterator[dict[str, CellRecord]]:
    """Record every cell of a network inside a `with` block: the latest run of each, by its name in the network."""
    records: dict[str, CellRecord] = {}
    cells = [
        (f"{path}.{name}".lstrip("."), module, name, child)
        for path, module in network.named_modules()
        for name, child in module.named_children()
        if isinstance(child, GatedCell)
    ]
    try:
        for path, module, name, child in cells:
            setattr(module, name, RecordingCell(child, path, records))
        yield records
    finally:
        for _, module, name, child in cells:
            setattr(module, name, child)
