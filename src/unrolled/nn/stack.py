"""Cells on cells, itself a cell: residual, normalisation, dropout."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, EmbeddingLookup, Inputs, State, state_tensors, to_dense

EMBEDDING_INIT_SCALE = 0.1
"""Size of a symbol's numbers at the start under residual layers: larger ones drown what the layers add to them (LOG.md)."""


class StackState(NamedTuple):
    """State of a stack: one state a layer, the lowest first."""

    layers: tuple[State, ...]


class SeededDropout(nn.Module):
    """Silences a `share` while training, by random numbers of its own, so that a training step can be repeated exactly."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    @property
    def active(self) -> bool:
        """Whether anything is silenced now."""
        return self.training and self.p > 0


def find_dropouts(model: nn.Module) -> list[SeededDropout]:
    """Return every dropout of a model, in their order."""
    return [module for module in model.modules() if isinstance(module, SeededDropout)]


def seed_dropouts(dropouts: Iterable[SeededDropout], seed: int, device: torch.device) -> None:
    """Give each dropout its own stream of random numbers, all of them following from `seed`."""
    for dropout in dropouts:
        if dropout.generator is None:
            dropout.generator = torch.Generator(device)
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**63
        dropout.generator.manual_seed(seed)


class TokenDropout(SeededDropout):
    """Hides whole symbols (Gal and Ghahramani 2016): what is hidden reads as one symbol more, whose vector is zero."""

    def forward(self, ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids and the table `(V, E)` they are rows of, changed: `(V + 1, E)`, scaled to the same mean."""
        if not self.active:
            return ids, table
        drop_mask = torch.empty(ids.shape, device=ids.device).bernoulli_(self.p, generator=self.generator).bool()
        zero_row = table.new_zeros(1, table.shape[1])
        return ids.masked_fill(drop_mask, len(table)), torch.cat([table / (1 - self.p), zero_row])


class LockedDropout(SeededDropout):
    """Dropout with one mask for all steps of a chunk (Gal and Ghahramani 2016).

    Locked masks disturb a memory less than fresh ones at every step, and cost T times fewer random numbers.
    """

    def forward(self, ys: Tensor) -> Tensor:
        """Silence the same units at every step: `(T, B, H)` or, for one step, `(B, H)`."""
        mask = self.mask(ys.shape[-2:], ys.device, ys.dtype)
        return ys if mask is None else ys * mask

    def mask(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """Return the next mask, of `shape` `(B, H)`: zero, or what keeps the mean. None if nothing is silenced now."""
        if not self.active:
            return None
        keep_prob = 1 - self.p
        return torch.empty(shape, device=device, dtype=dtype).bernoulli_(keep_prob, generator=self.generator).div_(keep_prob)


class Layer(nn.Module):
    """One cell of a stack with what surrounds it: `dropout(cell(x))`, or residual `x + dropout(cell(norm(x)))`."""

    def __init__(self, cell: Cell, dropout: float, residual: bool) -> None:
        super().__init__()
        if residual and cell.input_size != cell.hidden_size:
            raise ValueError(f"A residual layer needs as many inputs as units; got {cell.input_size} and {cell.hidden_size}.")
        self.cell = cell
        self.norm = nn.LayerNorm(cell.input_size) if residual else None
        self.dropout = LockedDropout(dropout)

    def cell_input(self, x: Tensor) -> Tensor:
        """Return what the cell reads, given the layer's input."""
        return x if self.norm is None else cast(Tensor, self.norm(x))

    def cell_inputs(self, xs: Inputs) -> Inputs:
        """Return what the cell reads over time: the table normalised once, if the inputs are rows of one."""
        return EmbeddingLookup(xs.ids, self.cell_input(xs.table)) if isinstance(xs, EmbeddingLookup) else self.cell_input(xs)

    def add_residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the layer's output, given its input and the cell's output."""
        dropped = cast(Tensor, self.dropout(y))
        return dropped if self.norm is None else x + dropped

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Return what the layer makes of inputs `(T, B, I)`, `(T, B, H)`, and its cell's last state."""
        fused_kernel = self.cell.residual_kernel
        if fused_kernel is None or self.norm is None:
            ys, final_state = self.cell.unroll(self.cell_inputs(xs), state, resets)
            return self.add_residual(to_dense(xs), ys), final_state
        device = state_tensors(state)[0].device
        mask = self.dropout.mask(torch.Size((xs.shape[1], self.cell.hidden_size)), device, torch.float32)
        return fused_kernel(self.cell, xs, self.norm, mask, state, resets)


class Stack(Cell):
    """Layers on layers. The input `(T, B, I)` passes through them from the lowest to the highest, to `(T, B, H)`."""

    def __init__(self, cells: list[Cell], dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(cell, dropout, residual) for cell in cells])
        self.input_size, self.hidden_size = cells[0].input_size, cells[-1].hidden_size

    def layer_list(self) -> list[Layer]:
        """Return the layers, the lowest first."""
        return [cast(Layer, layer) for layer in self.layers]

    def initial_state(self, batch_size: int) -> StackState:
        return StackState(tuple(layer.cell.initial_state(batch_size) for layer in self.layer_list()))

    def step(self, x: Tensor, state: StackState) -> tuple[Tensor, StackState]:
        states = []
        for layer, layer_state in zip(self.layer_list(), state.layers, strict=True):
            y, next_state = layer.cell.step(layer.cell_input(x), layer_state)
            x = layer.add_residual(x, y)
            states.append(next_state)
        return x, StackState(tuple(states))

    def unroll(self, xs: Inputs, state: StackState, resets: Tensor | None = None) -> tuple[Tensor, StackState]:
        states = []
        for layer, layer_state in zip(self.layer_list(), state.layers, strict=True):
            xs, final_state = layer.unroll(xs, layer_state, resets)
            states.append(final_state)
        return to_dense(xs), StackState(tuple(states))
