"""A model's last product and its loss, in one pass forward and back: the scores are never in memory as a whole."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from unrolled.nn.kernels.extension import native_module
from unrolled.nn.kernels.native_layer import ROW_PADDING, pack_weight, pack_weight_backward, padded_size, weight_gradients

PADDING_BIAS = -1e30
"""The bias of a column that only fills up a tile: its probability is nothing."""


class LinearCrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of `weight ys + bias` `(T, B, V)` with `targets` `(T, B)`, those below zero left out.

    All gradients are made with it, as far as they are wanted: a loss is what they start from, and they are as cheap as it is.
    """

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, ys: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        native, threads = cast(Any, native_module()), torch.get_num_threads()
        vocab_size, hidden_size = weight.shape
        xs, target_ids = ys.detach().float().reshape(-1, hidden_size).contiguous(), targets.reshape(-1).contiguous()
        padded_hidden, padded_vocab = padded_size(hidden_size), padded_size(vocab_size)
        num_targets = int((target_ids >= 0).sum())
        packed_xs = torch.empty(1, len(xs), padded_hidden + ROW_PADDING, dtype=dtype)
        dlogits = torch.empty(1, len(xs), padded_vocab + ROW_PADDING, dtype=dtype)
        losses, dxs = torch.empty(len(xs)), torch.empty(len(xs), hidden_size)
        dbias = torch.zeros(threads, padded_vocab)
        padded_bias = F.pad(bias.detach(), (0, padded_vocab - vocab_size), value=PADDING_BIAS)
        native.linear_cross_entropy(
            xs, pack_weight(native, 0, weight, vocab_size, dtype, threads),
            pack_weight_backward(native, 0, weight, vocab_size, False, dtype, threads), padded_bias,
            target_ids, vocab_size, 1 / max(1, num_targets), packed_xs[0], dlogits[0], losses, dxs, dbias,
        )  # fmt: skip
        dweight, _ = weight_gradients(0, dlogits, packed_xs, None, padded_vocab, threads)
        ctx.found = (dxs.view(ys.shape), dweight[0, :vocab_size, :hidden_size], dbias.sum(0)[:vocab_size])
        return losses.sum() / num_targets

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        gradients, scale = ctx.found, float(dloss)
        if scale != 1.0:
            gradients = [gradient * scale for gradient in gradients]
        return (None, *gradients, None)
