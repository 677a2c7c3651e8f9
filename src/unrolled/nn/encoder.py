"""The encoder: tokens, numbers or an image, one step or a sequence, to outputs `(S, B, H)` and a pooled vector `(B, H)`."""

from __future__ import annotations

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.attention import Pooling, lengths_to_mask
from unrolled.nn.cells import CELLS, Cell, GatedCell, State, map_state, state_tensors
from unrolled.nn.stack import EMBEDDING_INIT_SCALE, LockedDropout, SeededDropout, Stack, StackState
from unrolled.options import ModelOptions, PairOptions

MAX_GRID_SIDE = 8
"""The convolutions halve an image until its longer side is at most this; attention is over the cells of that grid."""


class UnkDropout(SeededDropout):
    """Replaces tokens by `unk_id` with probability `p` in training, so that unknown tokens are learned too."""

    def __init__(self, p: float, unk_id: int) -> None:
        super().__init__(p)
        self.unk_id = unk_id

    def forward(self, ids: Tensor) -> Tensor:
        """Return `ids` with some of them replaced."""
        return ids.masked_fill(self.drop_mask(ids), self.unk_id) if self.active else ids


class TokenEmbedding(nn.Module):
    """Embedding of ids `(T, B)` to vectors `(T, B, H)`, with dropout to the unknown token."""

    def __init__(self, vocab_size: int, width: int, options: ModelOptions) -> None:
        super().__init__()
        self.unk_dropout = UnkDropout(options.token_dropout, vocab_size - 1)
        self.embedding = nn.Embedding(vocab_size, width)
        with torch.no_grad():
            self.embedding.weight.mul_(EMBEDDING_INIT_SCALE)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors `(T, B, H)` of `ids` `(T, B)`."""
        return cast(Tensor, self.embedding(self.unk_dropout(ids)))


class LinearProjection(nn.Module):
    """Linear projection of numbers `(T, B, D)` to `(T, B, H)`; an input of a single step passes through an MLP as well."""

    def __init__(self, num_features: int, width: int, is_sequence: bool) -> None:
        super().__init__()
        self.proj = nn.Linear(num_features, width)
        self.mlp = (
            None if is_sequence else nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        )

    def forward(self, xs: Tensor) -> Tensor:
        """Return `(T, B, H)` for `xs` `(T, B, D)`."""
        ys = self.proj(xs)
        return cast(Tensor, ys if self.mlp is None else ys + self.mlp(ys))


class ConvStem(nn.Module):
    """A small convolutional network: an image `(1, B, height, width, channels)` to a grid of vectors `(S, B, H)`.

    There is one group norm per resolution: one after each convolution would take a third of a training step.
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
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # a Conv2d has a bias by default
        num_positions = 1
        for size in image_shape[:2]:
            for _ in range(num_halvings):
                size = -(-size // 2)
            num_positions *= size
        self.proj = nn.Linear(channels, width)
        self.position = nn.Parameter(torch.randn(num_positions, 1, width) * EMBEDDING_INIT_SCALE)

    def forward(self, xs: Tensor) -> Tensor:
        """Return `(S, B, H)`, the grid read in rows, for images `xs` `(1, B, height, width, channels)`."""
        grid = self.layers(xs[0].permute(0, 3, 1, 2))  # (B, channels, h, w)
        return cast(Tensor, self.proj(grid.flatten(2).permute(2, 0, 1)) + self.position)


class BidirectionalLayer(nn.Module):
    """A bidirectional residual layer: half of the units read forward, half backward, concatenated.

    The backward half reverses each row within its own length, so that padding is always read last.
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
        """Return `(T, B, H)` for `xs` `(T, B, H)`; `reverse_index` is that of `make_reverse_index`."""
        normed = self.norm(xs)
        forward_out, _ = self.forward_cell.unroll(normed, self.forward_cell.initial_state(xs.shape[1]))
        backward_out, _ = self.backward_cell.unroll(
            reverse_padded(normed, reverse_index), self.backward_cell.initial_state(xs.shape[1])
        )
        return xs + cast(Tensor, self.dropout(torch.cat([forward_out, reverse_padded(backward_out, reverse_index)], dim=-1)))


def reverse_padded(xs: Tensor, reverse_index: Tensor) -> Tensor:
    """Return `xs` `(T, B, H)` with the steps of each row in the order `reverse_index` `(T, B)`."""
    return xs.gather(0, reverse_index.unsqueeze(-1).expand_as(xs))


def make_reverse_index(steps: int, lengths: Tensor) -> Tensor:
    """Return the index `(T, B)` that reverses each row within its `lengths` `(B,)`; padding stays in place."""
    position = torch.arange(steps, device=lengths.device)[:, None]
    return torch.where(position < lengths, lengths - 1 - position, position)


class Encoder(nn.Module):
    """Input layer, recurrent layers and pooling of a source.

    Without residual layers, which only a series may lack, its numbers are read by the recurrent layers themselves, and there is
    no norm.

    Args:
        tensor_kind: `ids`, `floats` or `image`.
        input_size: vocabulary size of ids, or D of floats.
        image_shape: `(height, width, channels)` of an image, else empty.
        is_sequence: whether a source has several steps, and so recurrent layers.
        options: cell, layers and sizes.
        pair: direction, pooling, and how an image is read.

    Attributes:
        start: the state `(L, P, H)` that a series starts from: P parts for each layer; None: zeros.
    """

    start: Tensor | None

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
            self.input_layer = LinearProjection(num_features, width, self.is_sequence) if options.residual else nn.Identity()
        self.flatten_image = tensor_kind == "image" and pair.image_encoder == "mlp"
        self.dropout = LockedDropout(options.dropout)
        self.bidirectional = self.is_sequence and pair.bidirectional
        cell_class = CELLS[options.cell]
        self.layers = nn.ModuleList([BidirectionalLayer(options) for _ in range(options.layers)] if self.bidirectional else [])
        sizes = [width if options.residual else input_size, *[width] * (options.layers - 1)]
        cells: list[Cell] = [cell_class(size, width, options.two_biases) for size in sizes]
        has_stack = self.is_sequence and not self.bidirectional
        self.stack = Stack(cells, options.dropout, options.residual) if has_stack else None
        self.register_buffer("start", None)
        self.norm = nn.LayerNorm(width) if options.residual else None
        self.pool = Pooling(width, pair.pool if self.is_sequence and options.residual else "mean", self.bidirectional)

    def forward(self, source: Tensor, lengths: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return outputs `(S, B, H)`, their lengths `(B,)` and the pooled vector `(B, H)` of a batch of padded sources.

        `condition` `(B, H)` or `(S, B, H)`, if it is given, is added to the input of every step.
        """
        xs = self.input_layer(self._to_sequence(source))
        xs = self.dropout(xs if condition is None else xs + condition)
        if not self.is_sequence or self.image_as != "whole":
            lengths = torch.full_like(lengths, len(xs))
        if self.bidirectional:
            reverse_index = make_reverse_index(len(xs), lengths)
            for layer in self.layers:
                xs = layer(xs, reverse_index)
        elif self.stack is not None:
            xs, _ = self.stack.unroll(xs, self.stack.initial_state(xs.shape[1]))
        memory = self._normalized(xs)
        return memory, lengths, self.pool(memory, lengths)

    def stream(self, source: Tensor, state: State, resets: Tensor | None = None) -> tuple[Tensor, State]:
        """Return outputs `(T, B, H)` of the steps `source` `(T, B, D)` after `state`, and the new state of the layers.

        `resets` `(T, B)` is true where the state is the initial one before the step.
        """
        if self.stack is None:
            raise ValueError("This encoder does not read step by step.")
        xs, outputs = self.dropout(self.input_layer(source)), []
        for steps in self._parts(resets, len(xs)):
            if resets is not None and self.start is not None:  # the layers themselves reset a state to zero
                is_first = resets[steps.start, :, None]
                begun = self.initial_state(xs.shape[1])
                state = map_state(lambda s, new, is_first=is_first: torch.where(is_first, new, s), state, begun)
            part_resets = resets if self.start is None else None
            ys, state = self.stack.unroll(xs[steps], cast(StackState, state), part_resets)
            outputs.append(ys)
        return self._normalized(torch.cat(outputs) if len(outputs) > 1 else outputs[0]), state

    def _parts(self, resets: Tensor | None, steps: int) -> list[slice]:
        """Return the parts of a series to read: one, or with a stored state, one from each step where a series begins."""
        if resets is None or self.start is None:
            return [slice(0, steps)]
        bounds = [0, *(1 + resets[1:].any(1).nonzero()[:, 0]).tolist(), steps]
        return [slice(*pair) for pair in itertools.pairwise(bounds)]

    def _normalized(self, xs: Tensor) -> Tensor:
        return xs if self.norm is None else cast(Tensor, self.norm(xs))

    def initial_state(self, batch_size: int) -> State:
        """Return the state that a series starts from."""
        if self.stack is None:
            raise ValueError("This encoder does not read step by step.")
        zeros = self.stack.initial_state(batch_size)
        if self.start is None:
            return zeros
        parts = iter(self.start.flatten(0, 1))
        return map_state(lambda zero: zero + next(parts), zeros)

    def add_start(self) -> Tensor:
        """Have a state other than zero that a series starts from; return it, zeros to be filled."""
        layers = self.initial_state(1).layers
        self.start = torch.stack([torch.cat(state_tensors(layer)) for layer in layers])
        return self.start

    def _to_sequence(self, source: Tensor) -> Tensor:
        """Return an image `(1, B, height, width, channels)` as a sequence if it is read as one; other sources unchanged."""
        if source.dim() != 5:
            return source
        if self.image_as == "whole":
            return source.flatten(2) if self.flatten_image else source
        image = source[0]
        if self.image_as == "pixels":
            return image.flatten(1, 2).transpose(0, 1)
        lines = image.permute(2, 0, 1, 3) if self.image_as == "columns" else image.permute(1, 0, 2, 3)
        return lines.flatten(2)


class SourceJoin(nn.Module):
    """Joins the readings of several source columns, each by an encoder of its own (late fusion).

    With k pooled vectors p, the joined one is norm(mean(p) + W_2 gelu(W_1 [p_1; ...; p_k])): the sum alone could not learn
    that one column changes what another means. Outputs of all encoders follow each other in time, without the padding
    between them, so that a decoder attends to all columns.
    """

    def __init__(self, num_sources: int, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(num_sources * width, width), nn.GELU(), nn.Linear(width, width))
        self.norm = nn.LayerNorm(width)

    def pool(self, pooled: list[Tensor]) -> Tensor:
        """Return one vector `(B, H)` for those of the columns."""
        return cast(Tensor, self.norm(torch.stack(pooled).mean(0) + self.mlp(torch.cat(pooled, dim=-1))))


def concatenate_padded(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return padded outputs `(S_i, B, H)` with lengths `(B,)`, joined in time to `(S, B, H)` with all padding at the end."""
    masks = torch.cat([lengths_to_mask(lengths, len(outputs)) for outputs, lengths in parts], dim=1)  # (B, S)
    outputs = torch.cat([outputs for outputs, _ in parts])
    order = torch.argsort((~masks).to(torch.uint8), dim=1, stable=True).T  # (S, B)
    lengths = masks.sum(1)
    return outputs.gather(0, order.unsqueeze(-1).expand_as(outputs))[: int(lengths.max())], lengths
