"""What is read: symbols, numbers or a picture, of one step or many, becomes a memory `(S, B, H)` and one vector `(B, H)`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.attention import Pool
from unrolled.nn.cells import CELLS, Cell, GatedCell
from unrolled.nn.stack import SMALL_EMBEDDING, LockedDropout, SeededDropout, Stack
from unrolled.options import ModelOptions, PairOptions

SMALLEST_GRID = 8
"""A picture is halved until its longer side is no more than this: the cells that attention looks at."""


class SymbolHiding(SeededDropout):
    """Shows `unknown` in place of a share of the symbols while training: what was never seen is then nothing strange."""

    def __init__(self, share: float, unknown: int) -> None:
        super().__init__(share)
        self.unknown = unknown

    def forward(self, ids: Tensor) -> Tensor:
        """Return ids, some of them `unknown`."""
        if not self.active:
            return ids
        hidden = torch.empty(ids.shape, device=ids.device).bernoulli_(self.share, generator=self.generator).bool()
        return ids.masked_fill(hidden, self.unknown)


class Symbols(nn.Module):
    """Ids `(T, B)` to vectors `(T, B, H)`."""

    def __init__(self, symbols: int, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.hiding = SymbolHiding(options.symbol_dropout, symbols - 1)
        self.embedding = nn.Embedding(symbols, width)
        with torch.no_grad():
            self.embedding.weight.mul_(SMALL_EMBEDDING)

    def forward(self, ids: Tensor) -> Tensor:
        """Look the vectors up."""
        return cast(Tensor, self.embedding(self.hiding(ids)))


class Numbers(nn.Module):
    """Numbers `(T, B, D)` to vectors `(T, B, H)`; a row of one step has no time to compute in, and gets a hidden layer."""

    def __init__(self, numbers: int, width: int, many: bool) -> None:
        super().__init__()
        self.into = nn.Linear(numbers, width)
        self.deep = None if many else nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, xs: Tensor) -> Tensor:
        """Project."""
        ys = self.into(xs)
        return cast(Tensor, ys if self.deep is None else ys + self.deep(ys))


class Convolution(nn.Module):
    """A picture `(1, B, H, W, C)` to a grid of vectors `(S, B, units)`, by a few convolutions of torch's.

    They are normalised once a size only: after each convolution it took a third of a step (LOG.md).
    """

    def __init__(self, picture: tuple[int, ...], width: int) -> None:
        super().__init__()
        side, channels = max(picture[:2]), 32
        layers: list[nn.Module] = [nn.Conv2d(picture[2], channels, 3, padding=1), nn.ReLU()]
        halved = 0
        while side > SMALLEST_GRID or halved == 0:
            wider = min(128, 2 * channels)
            layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(wider, wider, 3, padding=1), nn.GroupNorm(8, wider), nn.ReLU()]
            side, channels, halved = -(-side // 2), wider, halved + 1
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is one
        cells = 1
        for size in picture[:2]:
            for _ in range(halved):
                size = -(-size // 2)
            cells *= size
        self.into = nn.Linear(channels, width)
        self.place = nn.Parameter(torch.randn(cells, 1, width) * SMALL_EMBEDDING)

    def forward(self, xs: Tensor) -> Tensor:
        """Look at the pictures."""
        grid = self.layers(xs[0].permute(0, 3, 1, 2))  # (B, channels, h, w)
        return cast(Tensor, self.into(grid.flatten(2).permute(2, 0, 1)) + self.place)


class BothWays(nn.Module):
    """A layer that reads from both ends: half of the units forward, half backward, side by side; residual, as in `Stack`.

    The backward half turns each row round within its own length, so that padding is never read first.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        size = options.hidden
        self.norm = nn.LayerNorm(size)
        kind = CELLS[options.cell]
        self.forward_cell: GatedCell = kind(size, size // 2, options.two_biases)
        self.backward_cell: GatedCell = kind(size, size - size // 2, options.two_biases)
        self.dropout = LockedDropout(options.dropout)

    def forward(self, xs: Tensor, turned: Tensor) -> Tensor:
        """Return `(T, B, H)`; `turned` `(T, B)` holds, for each step, the step that it becomes when the row is turned round."""
        read = self.norm(xs)
        there, _ = self.forward_cell.unroll(read, self.forward_cell.initial_state(xs.shape[1]))
        back, _ = self.backward_cell.unroll(turn(read, turned), self.backward_cell.initial_state(xs.shape[1]))
        return xs + cast(Tensor, self.dropout(torch.cat([there, turn(back, turned)], dim=-1)))


def turn(xs: Tensor, turned: Tensor) -> Tensor:
    """Return `xs` `(T, B, H)` with the steps of each row in the order `turned` `(T, B)`."""
    return xs.gather(0, turned.unsqueeze(-1).expand_as(xs))


def turning(steps: int, lengths: Tensor) -> Tensor:
    """Return `(T, B)`: each step's place when a row of `lengths` `(B,)` is turned round; padding stays where it is."""
    at = torch.arange(steps, device=lengths.device)[:, None]
    return torch.where(at < lengths, lengths - 1 - at, at)


class Reader(nn.Module):
    """Source -> memory `(S, B, H)`, lengths `(B,)` and one vector `(B, H)`."""

    def __init__(
        self, form: str, size: int, picture: tuple[int, ...], many: bool, options: ModelOptions, pair: PairOptions
    ) -> None:
        super().__init__()
        width, self.read = options.hidden, pair.read if picture else "whole"
        self.many = many or self.read != "whole"
        self.front: nn.Module
        if form == "symbols":
            self.front = Symbols(size, width, options)
        elif form == "picture" and self.read == "whole":
            flat = pair.pictures == "flat"
            self.front = Numbers(picture[0] * picture[1] * picture[2], width, False) if flat else Convolution(picture, width)
        else:
            height, across, channels = picture or (0, 0, 0)
            numbers = {"rows": across * channels, "columns": height * channels, "pixels": channels}.get(self.read, size)
            self.front = Numbers(numbers, width, self.many)
        self.flat = form == "picture" and pair.pictures == "flat"
        self.dropout = LockedDropout(options.dropout)
        self.both_ways = self.many and pair.bidirectional
        kind = CELLS[options.cell]
        self.layers = nn.ModuleList([BothWays(options) for _ in range(options.layers)] if self.both_ways else [])
        one_way: list[Cell] = [kind(width, width, options.two_biases) for _ in range(options.layers)]
        self.stack = Stack(one_way, options.dropout, residual=True) if self.many and not self.both_ways else None
        self.norm = nn.LayerNorm(width)
        self.pool = Pool(width, pair.pool if self.many else "mean", self.both_ways)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read a batch of sources, padded behind their `lengths`."""
        xs = self.dropout(self.front(self._steps(source)))
        if not self.many or self.read != "whole":
            lengths = torch.full_like(lengths, len(xs))
        if self.both_ways:
            turned = turning(len(xs), lengths)
            for layer in self.layers:
                xs = layer(xs, turned)
        elif self.stack is not None:
            xs, _ = self.stack.unroll(xs, self.stack.initial_state(xs.shape[1]))
        memory = self.norm(xs)
        return memory, lengths, self.pool(memory, lengths)

    def _steps(self, source: Tensor) -> Tensor:
        """Return a picture `(1, B, H, W, C)` as the steps that it is to be read in; anything else as it is."""
        if source.dim() != 5:
            return source
        if self.read == "whole":
            return source.flatten(2) if self.flat else source
        picture = source[0]
        if self.read == "pixels":
            return picture.flatten(1, 2).transpose(0, 1)
        across = picture.permute(2, 0, 1, 3) if self.read == "columns" else picture.permute(1, 0, 2, 3)
        return across.flatten(2)


def spread(lengths: Tensor, steps: int) -> Tensor:
    """Return `(B, S)`, true where a row has a step."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
