"""A stack of cells, itself a cell: layer norm, residual connections and dropout around each cell."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from unrolled.nn.cells import Cell, EmbeddingLookup, Inputs, State, state_tensors, to_dense

EMBEDDING_INIT_SCALE = 0.1
"""Factor of the initial embedding weights under residual layers: larger embeddings dominate what the layers add to them."""


class StackState(NamedTuple):
    """State of a stack: the state of each layer, the first layer first."""

    layers: tuple[State, ...]


class SeededDropout(nn.Module):
    """Base class of dropout with probability `p`, active in training, with its own generator for exact repeats."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    @property
    def active(self) -> bool:
        """Whether it drops anything now."""
        return self.training and self.p > 0

    def drop_mask(self, ids: Tensor) -> Tensor:
        """Return a random bool mask of the shape of `ids`, true with probability `p`."""
        return torch.empty(ids.shape, device=ids.device).bernoulli_(self.p, generator=self.generator).bool()


def find_dropouts(model: nn.Module) -> list[SeededDropout]:
    """Return every dropout of a model, in the order of `model.modules()`."""
    return [module for module in model.modules() if isinstance(module, SeededDropout)]


def seed_dropouts(dropouts: Iterable[SeededDropout], seed: int, device: torch.device) -> None:
    """Seed the generator of each dropout with a different number derived from `seed`."""
    for dropout in dropouts:
        if dropout.generator is None:
            dropout.generator = torch.Generator(device)
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**63
        dropout.generator.manual_seed(seed)


class TokenDropout(SeededDropout):
    """Drops whole tokens (Gal and Ghahramani 2016): a dropped token is read as an additional id whose vector is zero."""

    def forward(self, ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """Return ids and an embedding table `(V + 1, E)` for `ids` of `table` `(V, E)`; vectors are scaled to the same mean."""
        if not self.active:
            return ids, table
        zero_row = table.new_zeros(1, table.shape[1])
        return ids.masked_fill(self.drop_mask(ids), len(table)), torch.cat([table / (1 - self.p), zero_row])


class LockedDropout(SeededDropout):
    """Dropout with the same mask at all steps of a chunk ("variational" dropout, Gal and Ghahramani 2016).

    It disturbs what a cell remembers less than a new mask at every step, and draws T times fewer random numbers.
    """

    def forward(self, ys: Tensor) -> Tensor:
        """Drop the same units at every step of `ys`, `(T, B, H)` or, for one step, `(B, H)`."""
        mask = self.mask(ys.shape[-2:], ys.device, ys.dtype)
        return ys if mask is None else ys * mask

    def mask(self, shape: torch.Size, device: torch.device, dtype: torch.dtype) -> Tensor | None:
        """Return a new mask of `shape` `(B, H)`, whose values are 0 or 1 / (1 - p); None if dropout is not active."""
        if not self.active:
            return None
        keep_prob = 1 - self.p
        return torch.empty(shape, device=device, dtype=dtype).bernoulli_(keep_prob, generator=self.generator).div_(keep_prob)


class Layer(nn.Module):
    """A cell with dropout, `dropout(cell(x))`, or as a residual layer, `x + dropout(cell(norm(x)))`."""

    def __init__(self, cell: Cell, dropout: float, residual: bool) -> None:
        super().__init__()
        if residual and cell.input_size != cell.hidden_size:
            raise ValueError(f"A residual layer needs input_size == hidden_size; got {cell.input_size} and {cell.hidden_size}.")
        self.cell = cell
        self.norm = nn.LayerNorm(cell.input_size) if residual else None
        self.dropout = LockedDropout(dropout)

    def cell_input(self, x: Tensor) -> Tensor:
        """Return the input of the cell, given the input `x` of the layer."""
        return x if self.norm is None else cast(Tensor, self.norm(x))

    def cell_inputs(self, xs: Inputs) -> Inputs:
        """Return the inputs of the cell over time; an embedding table is normalized once instead of at every step."""
        return EmbeddingLookup(xs.ids, self.cell_input(xs.table)) if isinstance(xs, EmbeddingLookup) else self.cell_input(xs)

    def add_residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the output of the layer, given its input `x` and the output `y` of the cell."""
        dropped = cast(Tensor, self.dropout(y))
        return dropped if self.norm is None else x + dropped

    def unroll(self, xs: Inputs, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Return the outputs `(T, B, H)` for inputs `(T, B, I)`, and the final state of the cell."""
        fused_kernel = self.cell.residual_kernel
        if fused_kernel is None or self.norm is None:
            ys, final_state = self.cell.unroll(self.cell_inputs(xs), state, resets)
            return self.add_residual(to_dense(xs), ys), final_state
        device = state_tensors(state)[0].device
        mask = self.dropout.mask(torch.Size((xs.shape[1], self.cell.hidden_size)), device, torch.float32)
        return fused_kernel(self.cell, xs, self.norm, mask, state, resets)


class Stack(Cell):
    """Layers one above the other: inputs `(T, B, I)` of the first layer, outputs `(T, B, H)` of the last."""

    def __init__(self, cells: list[Cell], dropout: float = 0.0, residual: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Layer(cell, dropout, residual) for cell in cells])
        self.input_size, self.hidden_size = cells[0].input_size, cells[-1].hidden_size

    def layer_list(self) -> list[Layer]:
        """Return the layers, the first one first."""
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
