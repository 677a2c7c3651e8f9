"""A model's last product and its loss, in one pass forward and back: the scores are never in memory as a whole."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from unrolled.nn.kernels.layer import LINE, packed_back, packed_weight, padded_to, weight_gradients
from unrolled.nn.kernels.library import library

NO_SYMBOL = -1e30
"""The bias of a column that only fills up a tile: its probability is nothing."""


class HeadLoss(torch.autograd.Function):
    """The mean cross-entropy of `weight ys + bias` `(T, B, V)` with `targets` `(T, B)`, those below zero left out.

    All gradients are made with it, as far as they are wanted: a loss is what they start from, and they are as cheap as it is.
    """

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, ys: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        native, threads = cast(Any, library()), torch.get_num_threads()
        symbols, units = weight.shape
        xs, picks = ys.detach().float().reshape(-1, units).contiguous(), targets.reshape(-1).contiguous()
        padded, padded_symbols = padded_to(units), padded_to(symbols)
        count = int((picks >= 0).sum())
        narrowed = torch.empty(1, len(xs), padded + LINE, dtype=dtype)
        dscores = torch.empty(1, len(xs), padded_symbols + LINE, dtype=dtype)
        losses, dxs = torch.empty(len(xs)), torch.empty(len(xs), units)
        dbias = torch.zeros(threads, padded_symbols)
        wide = F.pad(bias.detach(), (0, padded_symbols - symbols), value=NO_SYMBOL)
        native.linear_cross_entropy(
            xs, packed_weight(native, 0, weight, symbols, dtype, threads),
            packed_back(native, 0, weight, symbols, False, dtype, threads), wide, picks, symbols, 1 / max(1, count),
            narrowed[0], dscores[0], losses, dxs, dbias,
        )  # fmt: skip
        dweight, _ = weight_gradients(0, dscores, narrowed, None, padded_symbols, threads)
        ctx.found = (dxs.view(ys.shape), dweight[0, :symbols, :units], dbias.sum(0)[:symbols])
        return losses.sum() / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        found, scale = ctx.found, float(dloss)
        if scale != 1.0:
            found = [gradient * scale for gradient in found]
        return (None, *found, None)
