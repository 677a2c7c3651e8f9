"""What is read: symbols, numbers or a picture, of one step or many, becomes a memory `(S, B, H)` and one vector `(B, H)`."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.attention import Pooling
from unrolled.nn.cells import CELLS, Cell, GatedCell
from unrolled.nn.stack import EMBEDDING_INIT_SCALE, LockedDropout, SeededDropout, Stack
from unrolled.options import ModelOptions, PairOptions

MAX_GRID_SIDE = 8
"""A picture is halved until its longer side is no more than this: the cells that attention looks at."""


class UnkDropout(SeededDropout):
    """Shows `unknown` in place of a share of the symbols while training: what was never seen is then nothing strange."""

    def __init__(self, p: float, unk_id: int) -> None:
        super().__init__(p)
        self.unk_id = unk_id

    def forward(self, ids: Tensor) -> Tensor:
        """Return ids, some of them `unknown`."""
        if not self.active:
            return ids
        drop_mask = torch.empty(ids.shape, device=ids.device).bernoulli_(self.p, generator=self.generator).bool()
        return ids.masked_fill(drop_mask, self.unk_id)


class TokenEmbedding(nn.Module):
    """Ids `(T, B)` to vectors `(T, B, H)`."""

    def __init__(self, vocab_size: int, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.unk_dropout = UnkDropout(options.token_dropout, vocab_size - 1)
        self.embedding = nn.Embedding(vocab_size, width)
        with torch.no_grad():
            self.embedding.weight.mul_(EMBEDDING_INIT_SCALE)

    def forward(self, ids: Tensor) -> Tensor:
        """Look the vectors up."""
        return cast(Tensor, self.embedding(self.unk_dropout(ids)))


class LinearProjection(nn.Module):
    """Numbers `(T, B, D)` to vectors `(T, B, H)`; a row of one step has no time to compute in, and gets a hidden layer."""

    def __init__(self, num_features: int, width: int, is_sequence: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(num_features, width)
        self.mlp = (
            None if is_sequence else nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        )

    def forward(self, xs: Tensor) -> Tensor:
        """Project."""
        ys = self.proj(xs)
        return cast(Tensor, ys if self.mlp is None else ys + self.mlp(ys))


class ConvStem(nn.Module):
    """A picture `(1, B, H, W, C)` to a grid of vectors `(S, B, units)`, by a few convolutions of torch's.

    They are normalised once a size only: after each convolution it took a third of a step (LOG.md).
    """

    def __init__(self, image_shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        side, channels = max(image_shape[:2]), 32
        layers: list[nn.Module] = [nn.Conv2d(image_shape[2], channels, 3, padding=1), nn.ReLU()]
        num_halvings = 0
        while side > MAX_GRID_SIDE or num_halvings == 0:
            out_channels = min(128, 2 * channels)
            layers += [nn.Conv2d(channels, out_channels, 3, stride=2, padding=1), nn.ReLU()]
            layers += [nn.Conv2d(out_channels, out_channels, 3, padding=1), nn.GroupNorm(8, out_channels), nn.ReLU()]
            side, channels, num_halvings = -(-side // 2), out_channels, num_halvings + 1
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # there is one
        num_positions = 1
        for size in image_shape[:2]:
            for _ in range(num_halvings):
                size = -(-size // 2)
            num_positions *= size
        self.proj = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(num_positions, 1, width) * EMBEDDING_INIT_SCALE)

    def forward(self, xs: Tensor) -> Tensor:
        """Look at the pictures."""
        grid = self.layers(xs[0].permute(0, 3, 1, 2))  # (B, channels, h, w)
        return cast(Tensor, self.proj(grid.flatten(2).permute(2, 0, 1)) + self.position)


class BidirectionalLayer(nn.Module):
    """A layer that reads from both ends: half of the units forward, half backward, side by side; residual, as in `Stack`.

    The backward half turns each row round within its own length, so that padding is never read first.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__()
        size = options.hidden
        self.norm = nn.LayerNorm(size)
        cell_class = CELLS[options.cell]
        self.forward_cell: GatedCell = cell_class(size, size // 2, options.two_biases)
        self.backward_cell: GatedCell = cell_class(size, size - size // 2, options.two_biases)
        self.dropout = LockedDropout(options.dropout)

    def forward(self, xs: Tensor, reverse_index: Tensor) -> Tensor:
        """Return `(T, B, H)`; `turned` `(T, B)` holds, for each step, the step that it becomes when the row is turned round."""
        normed = self.norm(xs)
        forward_out, _ = self.forward_cell.unroll(normed, self.forward_cell.initial_state(xs.shape[1]))
        backward_out, _ = self.backward_cell.unroll(
            reverse_padded(normed, reverse_index), self.backward_cell.initial_state(xs.shape[1])
        )
        return xs + cast(Tensor, self.dropout(torch.cat([forward_out, reverse_padded(backward_out, reverse_index)], dim=-1)))


def reverse_padded(xs: Tensor, reverse_index: Tensor) -> Tensor:
    """Return `xs` `(T, B, H)` with the steps of each row in the order `turned` `(T, B)`."""
    return xs.gather(0, reverse_index.unsqueeze(-1).expand_as(xs))


def make_reverse_index(steps: int, lengths: Tensor) -> Tensor:
    """Return `(T, B)`: each step's place when a row of `lengths` `(B,)` is turned round; padding stays where it is."""
    position = torch.arange(steps, device=lengths.device)[:, None]
    return torch.where(position < lengths, lengths - 1 - position, position)


class Encoder(nn.Module):
    """Source -> memory `(S, B, H)`, lengths `(B,)` and one vector `(B, H)`."""

    def __init__(
        self,
        tensor_kind: str,
        input_size: int,
        image_shape: tuple[int, ...],
        is_sequence: bool,
        options: ModelOptions,
        pair: PairOptions,
    ) -> None:
        super().__init__()
        width, self.image_as = options.hidden, pair.image_as if image_shape else "whole"
        self.is_sequence = is_sequence or self.image_as != "whole"
        self.input_layer: nn.Module
        if tensor_kind == "ids":
            self.input_layer = TokenEmbedding(input_size, width, options)
        elif tensor_kind == "image" and self.image_as == "whole":
            use_mlp = pair.image_encoder == "mlp"
            self.input_layer = (
                LinearProjection(image_shape[0] * image_shape[1] * image_shape[2], width, False)
                if use_mlp
                else ConvStem(image_shape, width)
            )
        else:
            height, image_width, channels = image_shape or (0, 0, 0)
            num_features = {"rows": image_width * channels, "columns": height * channels, "pixels": channels}.get(
                self.image_as, input_size
            )
            self.input_layer = LinearProjection(num_features, width, self.is_sequence)
        self.flatten_image = tensor_kind == "image" and pair.image_encoder == "mlp"
        self.dropout = LockedDropout(options.dropout)
        self.bidirectional = self.is_sequence and pair.bidirectional
        cell_class = CELLS[options.cell]
        self.layers = nn.ModuleList([BidirectionalLayer(options) for _ in range(options.layers)] if self.bidirectional else [])
        cells: list[Cell] = [cell_class(width, width, options.two_biases) for _ in range(options.layers)]
        self.stack = Stack(cells, options.dropout, residual=True) if self.is_sequence and not self.bidirectional else None
        self.norm = nn.LayerNorm(width)
        self.pool = Pooling(width, pair.pool if self.is_sequence else "mean", self.bidirectional)

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read a batch of sources, padded behind their `lengths`."""
        xs = self.dropout(self.input_layer(self._to_sequence(source)))
        if not self.is_sequence or self.image_as != "whole":
            lengths = torch.full_like(lengths, len(xs))
        if self.bidirectional:
            reverse_index = make_reverse_index(len(xs), lengths)
            for layer in self.layers:
                xs = layer(xs, reverse_index)
        elif self.stack is not None:
            xs, _ = self.stack.unroll(xs, self.stack.initial_state(xs.shape[1]))
        memory = self.norm(xs)
        return memory, lengths, self.pool(memory, lengths)

    def _to_sequence(self, source: Tensor) -> Tensor:
        """Return a picture `(1, B, H, W, C)` as the steps that it is to be read in; anything else as it is."""
        if source.dim() != 5:
            return source
        if self.image_as == "whole":
            return source.flatten(2) if self.flatten_image else source
        image = source[0]
        if self.image_as == "pixels":
            return image.flatten(1, 2).transpose(0, 1)
        lines = image.permute(2, 0, 1, 3) if self.image_as == "columns" else image.permute(1, 0, 2, 3)
        return lines.flatten(2)


def lengths_to_mask(lengths: Tensor, steps: int) -> Tensor:
    """Return `(B, S)`, true where a row has a step."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
