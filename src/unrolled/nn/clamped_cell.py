"""Clamping: units held at a fixed value while the network runs, to see what they cause and not only what they follow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, GatedCell, State
from unrolled.nn.stack import Stack
from unrolled.nn.unit_clamp import Clamp, check_clamps


class ClampedCell(Cell):
    """A cell with some units clamped: `h = where(mask, values, h)` after each step; `mask` and `values` are `(B or 1, H)`.

    The layers above and the next step read the clamped `h`, the output. The cell state `c` of an LSTM is not changed; it has
    no effect on a clamped `h`. Of a cell whose state has no `h`, only the output is clamped.
    """

    def __init__(self, cell: GatedCell, mask: Tensor, values: Tensor) -> None:
        super().__init__()
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.cell, self.mask, self.values = cell, mask, values

    def initial_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        y, next_state = self.cell.step(x, state)
        y = torch.where(self.mask, self.values.to(y.dtype), y)
        return y, next_state._replace(h=y) if "h" in next_state._fields else next_state


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
