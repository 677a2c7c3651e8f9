"""Soft attention over what was read: each step of the writer looks at all of it, and takes what it needs."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

HEAD_SIZE = 64
"""Numbers of a head; a layer of H units has H / 64 of them, at least one."""


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Bahdanau et al. 2015; Vaswani et al. 2017), added to what comes in.

    `x + W_o sum_s a_s W_v m_s`, `a = softmax(W_q norm(x) . W_k m / sqrt(d))` over the steps of the memory that are there.
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
        """Return keys and values `(B, heads, S, d)` of a memory `(S, B, H)`; they are the same for every step."""
        return self._split_heads(self.key(memory)), self._split_heads(self.value(memory))

    def _split_heads(self, xs: Tensor) -> Tensor:
        steps, batch_size, size = xs.shape
        return xs.view(steps, batch_size, self.num_heads, size // self.num_heads).permute(1, 2, 0, 3)

    def forward(self, xs: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return `xs` `(T, B, H)` with what was found added, and the weights `(T, B, S)`, the mean over the heads.

        `there` `(B, S)` is false where a row's memory has ended.
        """
        queries = self._split_heads(self.query(self.norm(xs)))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])  # (B, heads, T, S)
        weights = scores.masked_fill(~mask[:, None, None], -torch.inf).float().softmax(-1).to(values.dtype)
        context = (weights @ values).permute(2, 0, 1, 3).flatten(2)
        return xs + self.out(context), weights.mean(1).permute(1, 0, 2)


POOLS = ("last", "mean", "max", "attention")


class Pooling(nn.Module):
    """One vector for all that was read: its last step, the mean, the largest, or a mean weighted by a score that is learned."""

    def __init__(self, hidden_size: int, kind: str, bidirectional: bool) -> None:
        super().__init__()
        self.kind, self.bidirectional = kind, bidirectional
        self.hidden = nn.Linear(hidden_size, hidden_size) if kind == "attention" else None
        self.score = nn.Linear(hidden_size, 1, bias=False) if kind == "attention" else None

    def forward(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return `(B, H)` of a memory `(S, B, H)`, of which a row has `lengths` `(B,)` steps."""
        steps = torch.arange(len(memory), device=memory.device)[:, None]
        mask = (steps < lengths).unsqueeze(-1)  # (S, B, 1)
        if self.kind == "last":
            last = memory[lengths - 1, torch.arange(memory.shape[1], device=memory.device)]
            if not self.bidirectional:
                return last
            half = memory.shape[2] // 2  # the second half was read from the end: its last step is the first
            return torch.cat([last[:, :half], memory[0, :, half:]], dim=1)
        if self.kind == "mean":
            return (memory * mask).sum(0) / lengths.unsqueeze(-1)
        if self.kind == "max":
            return memory.masked_fill(~mask, -torch.inf).amax(0)
        return (self.weights(memory, lengths) * memory).sum(0)

    def weights(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights `(S, B, 1)` of `attention`."""
        if self.hidden is None or self.score is None:
            raise ValueError("Only the pool 'attention' has weights.")
        steps = torch.arange(len(memory), device=memory.device)[:, None]
        scores = self.score(torch.tanh(self.hidden(memory))).masked_fill(~(steps < lengths).unsqueeze(-1), -torch.inf)
        return cast(Tensor, scores.float().softmax(0).to(memory.dtype))
