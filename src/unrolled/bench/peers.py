"""What people write instead, as small as it can be: the peers that `unrolled bench` measures against.

Each is written the way tutorials write it, with torch's modules, torch's optimiser and no tuning beyond that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainLSTM(nn.Module):
    """Embedding, `nn.LSTM`, linear layer: the character model of most tutorials."""

    def __init__(self, symbols: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers)
        self.head = nn.Linear(hidden, symbols)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read ids `(T, B)`; return logits `(T, B, V)` and the state."""
        ys, state = self.lstm(self.embedding(ids), state)
        return self.head(ys), state


class PlainLSTMCells(nn.Module):
    """The same network as a Python loop over `nn.LSTMCell`: what people write to sample faster."""

    def __init__(self, symbols: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, embedding)
        self.cells = nn.ModuleList([nn.LSTMCell(embedding if layer == 0 else hidden, hidden) for layer in range(layers)])
        self.head = nn.Linear(hidden, symbols)

    def forward(self, ids: Tensor, states: list[tuple[Tensor, Tensor]] | None) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Read ids `(B,)`; return logits `(B, V)` and the states."""
        x, after = self.embedding(ids), []
        for index, cell in enumerate(self.cells):
            h, c = cell(x, states[index] if states else None)
            after.append((h, c))
            x = h
        return self.head(x), after


class Block(nn.Module):
    """One layer of a GPT: attention, then a network of four times the width, each residual after a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_network = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.wide, self.narrow = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix `(B, T, E)` over what came before."""
        rows, steps, width = x.shape
        parts = self.attention(self.before_attention(x)).chunk(3, -1)
        query, key, value = (part.view(rows, steps, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(rows, steps, width))
        out: Tensor = x + self.narrow(F.gelu(self.wide(self.before_network(x))))
        return out


class SmallGPT(nn.Module):
    """A GPT with the settings that nanoGPT's README gives for a processor: 4 layers, 4 heads, width 128, 64 symbols."""

    def __init__(self, symbols: int, context: int = 64, width: int = 128, heads: int = 4, layers: int = 4) -> None:
        super().__init__()
        self.context = context
        self.embedding, self.place = nn.Embedding(symbols, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, symbols, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                deep = name.endswith(("out.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / ((2 * layers) ** 0.5 if deep else 1))
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits `(B, T, V)` for ids `(B, T)`."""
        places = self.place(torch.arange(ids.shape[1], device=ids.device))
        out: Tensor = self.head(self.norm(self.blocks(self.embedding(ids) + places)))
        return out
