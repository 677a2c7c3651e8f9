"""Attention of a decoder over the encoder outputs, and pooling of the encoder outputs to one vector."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

HEAD_SIZE = 64
"""Size of an attention head; a layer of H units has H / 64 heads, at least one."""


def lengths_to_mask(lengths: Tensor, steps: int) -> Tensor:
    """Return a bool mask `(B, S)` for `lengths` `(B,)` and S = `steps`: true where a row has a step, false at padding."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


class Attention(nn.Module):
    """Multi-head scaled dot-product attention with a residual connection (Bahdanau et al. 2015; Vaswani et al. 2017).

    a = softmax_s(W_q norm(x) . W_k m_s / sqrt(d))      over the encoder steps s that are not padding
    y = x + W_o sum_s a_s W_v m_s
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.num_heads = max(1, hidden_size // HEAD_SIZE) if hidden_size % max(1, hidden_size // HEAD_SIZE) == 0 else 1
        self.norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size, bias=False)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size, bias=False)
        self.out = nn.Linear(hidden_size, hidden_size, bias=False)

    def keys_and_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `(B, heads, S, d)` of encoder outputs `(S, B, H)`; they serve all decoder steps."""
        return self._split_heads(self.key(memory)), self._split_heads(self.value(memory))

    def _split_heads(self, xs: Tensor) -> Tensor:
        steps, batch_size, size = xs.shape
        return xs.view(steps, batch_size, self.num_heads, size // self.num_heads).permute(1, 2, 0, 3)

    def forward(self, xs: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs `(T, B, H)` for decoder states `xs` `(T, B, H)`, and the weights `(T, B, S)`, averaged over heads.

        `mask` `(B, S)` is false at padding.
        """
        queries = self._split_heads(self.query(self.norm(xs)))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])  # (B, heads, T, S)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).float().softmax(-1).to(values.dtype)
        context = (weights @ values).permute(2, 0, 1, 3).flatten(2)
        return xs + self.out(context), weights.mean(1).permute(1, 0, 2)


class Pooling(nn.Module):
    """Pools encoder outputs to one vector: `last` step, `mean`, `max`, or `attention` (a mean with learned weights)."""

    def __init__(self, hidden_size: int, kind: str, bidirectional: bool) -> None:
        super().__init__()
        self.kind, self.bidirectional = kind, bidirectional
        self.hidden = nn.Linear(hidden_size, hidden_size) if kind == "attention" else None
        self.score = nn.Linear(hidden_size, 1, bias=False) if kind == "attention" else None

    def forward(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return `(B, H)` for encoder outputs `(S, B, H)` of `lengths` `(B,)`."""
        mask = lengths_to_mask(lengths, len(memory)).T.unsqueeze(-1)  # (S, B, 1)
        if self.kind == "last":
            last = memory[lengths - 1, torch.arange(memory.shape[1], device=memory.device)]
            if not self.bidirectional:
                return last
            half = memory.shape[2] // 2  # the second half of the units reads backward: its last step is step 0
            return torch.cat([last[:, :half], memory[0, :, half:]], dim=1)
        if self.kind == "mean":
            return (memory * mask).sum(0) / lengths.unsqueeze(-1)
        if self.kind == "max":
            return memory.masked_fill(~mask, -torch.inf).amax(0)
        return (self.weights(memory, lengths) * memory).sum(0)

    def weights(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights `(S, B, 1)` of the pooling `attention`; they sum to one over the steps."""
        if self.hidden is None or self.score is None:
            raise ValueError("Only the pooling 'attention' has weights.")
        mask = lengths_to_mask(lengths, len(memory)).T.unsqueeze(-1)
        scores = self.score(torch.tanh(self.hidden(memory))).masked_fill(~mask, -torch.inf)
        return cast(Tensor, scores.float().softmax(0).to(memory.dtype))
