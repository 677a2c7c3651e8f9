"""Units held at a value while the network runs: what a unit causes, and not only what it follows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unrolled.errors import UsageError
from unrolled.nn.cells import Cell, GatedCell, State
from unrolled.nn.stack import Stack

MAX_CLAMP_VALUE = torch.finfo(torch.float32).max


class Clamp(NamedTuple):
    """A unit of a layer (both counted from 0, the lowest layer first) whose output `h` is `value` at every step.

    `lane` is the only row of a batch in which it is held; None holds it in all of them.
    """

    layer: int
    unit: int
    value: float = 0.0
    row: int | None = None


def parse_clamp(text: str, flag: str = "--clamp") -> Clamp:
    """Return the clamp that `LAYER.UNIT=VALUE` means; without a value, 0. Raises `UsageError` for any other text."""
    unit_name, equals, value = text.partition("=")
    layer, dot, unit = unit_name.partition(".")
    try:
        clamp = Clamp(int(layer), int(unit), float(value) if equals else 0.0)
    except ValueError:
        clamp = Clamp(0, 0, math.nan)
    if not dot or not abs(clamp.value) <= MAX_CLAMP_VALUE:
        raise UsageError(f"{flag} takes LAYER.UNIT=VALUE, such as 0.17=-1 (layers and units count from 0); got {text!r}.")
    return clamp


class ClampedCell(Cell):
    """A cell some of whose units are held: `h = where(held, values, h)` after each step, `held` and `values` `(B or 1, H)`.

    What is held is what the layers above read and what comes back at the next step. An LSTM's memory `c` of the unit goes on
    by itself, and nothing sees it.
    """

    def __init__(self, cell: GatedCell, mask: Tensor, values: Tensor) -> None:
        super().__init__()
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size
        self.cell, self.mask, self.values = cell, mask, values

    def initial_state(self, batch_size: int) -> State:
        return self.cell.initial_state(batch_size)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        _, next_state = self.cell.step(x, state)
        h = torch.where(self.mask, self.values.to(next_state.h.dtype), next_state.h)
        return h, next_state._replace(h=h)


@contextlib.contextmanager
def clamped(stack: Stack, clamps: Sequence[Clamp], batch_size: int = 1) -> Iterator[None]:
    """Run a stack with units held, step by step, since no fused layer can hold one; afterwards it is as it was.

    `lanes` is the height of the batches to come, where units are held in single lanes.

    Raises `UsageError` for a layer or unit that is not there.
    """
    layers = stack.layer_list()
    original_cells: list[nn.Module] = [layer.cell for layer in layers]
    for clamp in clamps:
        _check_clamp(clamp, layers[0].cell.hidden_size, len(layers))
    try:
        for index, layer in enumerate(layers):
            layer_clamps = [clamp for clamp in clamps if clamp.layer == index]
            if layer_clamps and isinstance(layer.cell, GatedCell):
                layer.cell = ClampedCell(layer.cell, *_clamp_tensors(layer.cell, layer_clamps, batch_size))
        yield
    finally:
        for layer, cell in zip(layers, original_cells, strict=True):
            layer.cell = cell  # type: ignore[assignment]  # the very cell that was there


def _check_clamp(clamp: Clamp, hidden_size: int, num_layers: int) -> None:
    if not 0 <= clamp.layer < num_layers:
        raise UsageError(f"There is no layer {clamp.layer} to hold a unit of: the model's are 0 to {num_layers - 1}.")
    if not 0 <= clamp.unit < hidden_size:
        raise UsageError(f"Layer {clamp.layer} has no unit {clamp.unit} to hold: its units are 0 to {hidden_size - 1}.")


def _clamp_tensors(cell: GatedCell, clamps: list[Clamp], batch_size: int) -> tuple[Tensor, Tensor]:
    """Return which units are held `(lanes, H)`, and their values."""
    values = cell.weight_hh.new_zeros(batch_size, cell.hidden_size)
    mask = torch.zeros_like(values, dtype=torch.bool)
    for clamp in clamps:
        rows = slice(None) if clamp.row is None else clamp.row
        mask[rows, clamp.unit] = True
        values[rows, clamp.unit] = clamp.value
    return mask, values
