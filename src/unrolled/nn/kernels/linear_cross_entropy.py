"""The native loss: linear head and cross-entropy fused, forward and backward in one pass, without storing all logits."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from unrolled.nn.kernels.extension import ROW_PADDING, native_module, padded_size
from unrolled.nn.kernels.native import pack_weight, pack_weight_backward, product_dtype, sum_parts, weight_gradients

PADDING_BIAS = -1e30
"""Bias of the columns that pad a tile: their probability is zero."""

SERIAL_SUM = 16_384
"""Numbers that torch adds up with one thread, however many there are; the bits of longer sums depend on them (torch 2.13)."""


def loss(ys: Tensor, head: nn.Linear, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats of the logits `head(ys)`, `ys` `(T, B, H)`, with `targets` `(T, B)`.

    Targets below zero do not count.
    """
    dtype = product_dtype()
    with torch.autocast("cpu", enabled=False):
        return cast(Tensor, LinearCrossEntropy.apply(dtype, ys, head.weight, head.bias, targets))  # type: ignore[no-untyped-call]


class LinearCrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of the logits `weight ys + bias` `(T, B, V)` with `targets` `(T, B)`; targets below zero do not count.

    The forward pass computes the gradients as well, and the backward pass only scales them.
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
        dbias = torch.zeros(native.step_parts(len(xs)), padded_vocab)
        padded_bias = F.pad(bias.detach(), (0, padded_vocab - vocab_size), value=PADDING_BIAS)
        native.linear_cross_entropy(
            xs, pack_weight(native, 0, weight, vocab_size, dtype, threads),
            pack_weight_backward(native, 0, weight, vocab_size, False, dtype, threads), padded_bias,
            target_ids, vocab_size, 1 / max(1, num_targets), packed_xs[0], dlogits[0], losses, dxs, dbias, threads,
        )  # fmt: skip
        dweight, _ = weight_gradients(0, dlogits, packed_xs, None, padded_vocab, threads)
        ctx.gradients = (dxs.view(ys.shape), dweight[0, :vocab_size, :hidden_size], sum_parts(dbias)[:vocab_size])
        return torch.stack([block.sum() for block in torch.split(losses, SERIAL_SUM)]).sum() / num_targets

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dloss: Tensor) -> tuple[Tensor | None, ...]:
        gradients, scale = ctx.gradients, float(dloss)
        if scale != 1.0:
            gradients = [gradient * scale for gradient in gradients]
        return (None, *gradients, None)
