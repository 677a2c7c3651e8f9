"""Soft attention over what was read: each step of the writer looks at all of it, and takes what it needs."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

HEAD = 64
"""Numbers of a head; a layer of H units has H / 64 of them, at least one."""


class Attention(nn.Module):
    """Scaled dot-product attention with several heads (Bahdanau et al. 2015; Vaswani et al. 2017), added to what comes in.

    `x + W_o sum_s a_s W_v m_s`, `a = softmax(W_q norm(x) . W_k m / sqrt(d))` over the steps of the memory that are there.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.heads = max(1, size // HEAD) if size % max(1, size // HEAD) == 0 else 1
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size, bias=False)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(size, size, bias=False)

    def prepare(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values `(B, heads, S, d)` of a memory `(S, B, H)`; they are the same for every step."""
        return self._split(self.key(memory)), self._split(self.value(memory))

    def _split(self, xs: Tensor) -> Tensor:
        steps, rows, size = xs.shape
        return xs.view(steps, rows, self.heads, size // self.heads).permute(1, 2, 0, 3)

    def forward(self, xs: Tensor, keys: Tensor, values: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Return `xs` `(T, B, H)` with what was found added, and the weights `(T, B, S)`, the mean over the heads.

        `there` `(B, S)` is false where a row's memory has ended.
        """
        queries = self._split(self.query(self.norm(xs)))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])  # (B, heads, T, S)
        weights = scores.masked_fill(~there[:, None, None], -torch.inf).float().softmax(-1).to(values.dtype)
        found = (weights @ values).permute(2, 0, 1, 3).flatten(2)
        return xs + self.out(found), weights.mean(1).permute(1, 0, 2)


POOLS = ("last", "mean", "max", "attention")


class Pool(nn.Module):
    """One vector for all that was read: its last step, the mean, the largest, or a mean weighted by a score that is learned."""

    def __init__(self, size: int, kind: str, both_ends: bool) -> None:
        super().__init__()
        self.kind, self.both_ends = kind, both_ends
        self.hidden = nn.Linear(size, size) if kind == "attention" else None
        self.score = nn.Linear(size, 1, bias=False) if kind == "attention" else None

    def forward(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return `(B, H)` of a memory `(S, B, H)`, of which a row has `lengths` `(B,)` steps."""
        steps = torch.arange(len(memory), device=memory.device)[:, None]
        there = (steps < lengths).unsqueeze(-1)  # (S, B, 1)
        if self.kind == "last":
            last = memory[lengths - 1, torch.arange(memory.shape[1], device=memory.device)]
            if not self.both_ends:
                return last
            half = memory.shape[2] // 2  # the second half was read from the end: its last step is the first
            return torch.cat([last[:, :half], memory[0, :, half:]], dim=1)
        if self.kind == "mean":
            return (memory * there).sum(0) / lengths.unsqueeze(-1)
        if self.kind == "max":
            return memory.masked_fill(~there, -torch.inf).amax(0)
        return (self.weights(memory, lengths) * memory).sum(0)

    def weights(self, memory: Tensor, lengths: Tensor) -> Tensor:
        """Return the weights `(S, B, 1)` of `attention`."""
        if self.hidden is None or self.score is None:
            raise ValueError("Only the pool 'attention' has weights.")
        steps = torch.arange(len(memory), device=memory.device)[:, None]
        scores = self.score(torch.tanh(self.hidden(memory))).masked_fill(~(steps < lengths).unsqueeze(-1), -torch.inf)
        return cast(Tensor, scores.float().softmax(0).to(memory.dtype))
