"""Common alternatives, as short as possible: the peers that `unrolled bench` compares with.

Each is written the way tutorials write it, with torch's modules, torch's optimizer and no further tuning.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PlainLSTM(nn.Module):
    """Embedding, `nn.LSTM`, linear layer: the character model of most tutorials."""

    def __init__(self, vocab_size: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers)
        self.head = nn.Linear(hidden, vocab_size)

    def forward(self, ids: Tensor, state: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Read ids `(T, B)`; return logits `(T, B, V)` and the state."""
        ys, state = self.lstm(self.embedding(ids), state)
        return self.head(ys), state


class PlainLSTMCells(nn.Module):
    """The same network as a Python loop over `nn.LSTMCell`: what people write to sample faster."""

    def __init__(self, vocab_size: int, embedding: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding)
        self.cells = nn.ModuleList([nn.LSTMCell(embedding if layer == 0 else hidden, hidden) for layer in range(layers)])
        self.head = nn.Linear(hidden, vocab_size)

    def forward(self, ids: Tensor, states: list[tuple[Tensor, Tensor]] | None) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Read ids `(B,)`; return logits `(B, V)` and the states."""
        x, next_states = self.embedding(ids), []
        for index, cell in enumerate(self.cells):
            h, c = cell(x, states[index] if states else None)
            next_states.append((h, c))
            x = h
        return self.head(x), next_states


class TransformerBlock(nn.Module):
    """One layer of a GPT: attention, then a network of four times the width, each residual after a norm."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.mlp_norm = (nn.LayerNorm(width, bias=False) for _ in range(2))
        self.attention = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Mix `(B, T, E)` over what came before."""
        batch_size, steps, width = x.shape
        projections = self.attention(self.attention_norm(x)).chunk(3, -1)
        query, key, value = (
            projection.view(batch_size, steps, self.num_heads, -1).transpose(1, 2) for projection in projections
        )
        query, key = self.add_positions(query), self.add_positions(key)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch_size, steps, width))
        out: Tensor = x + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x))))
        return out

    def add_positions(self, projection: Tensor) -> Tensor:
        """Return queries or keys `(B, heads, T, D)` with their positions: here as they are."""
        return projection


class RotaryBlock(TransformerBlock):
    """A block with rotary position embeddings (Su et al. 2021): pairs of numbers are rotated by an angle that grows with t."""

    def add_positions(self, projection: Tensor) -> Tensor:
        first, second = projection.chunk(2, -1)
        size = first.shape[-1]
        rates = 10_000 ** (-torch.arange(size, dtype=projection.dtype) / size)
        angles = torch.arange(projection.shape[-2], dtype=projection.dtype).unsqueeze(-1) * rates
        cos, sin = torch.cos(angles), torch.sin(angles)
        return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class RotaryTransformer(nn.Module):
    """A small Transformer with rotary positions that labels every symbol of a string, given those up to it."""

    def __init__(self, num_symbols: int, num_labels: int, width: int, num_layers: int, num_heads: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_symbols, width)
        self.blocks = nn.Sequential(*(RotaryBlock(width, num_heads) for _ in range(num_layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_labels)

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits `(T, B, labels)` for ids `(T, B)`."""
        out: Tensor = self.head(self.norm(self.blocks(self.embedding(ids.T))))
        return out.transpose(0, 1)


class SmallGPT(nn.Module):
    """A GPT with the settings that nanoGPT's README gives for a processor: 4 layers, 4 heads, width 128, 64 tokens."""

    def __init__(self, vocab_size: int, context: int = 64, width: int = 128, num_heads: int = 4, num_layers: int = 4) -> None:
        super().__init__()
        self.context = context
        self.embedding, self.position_embedding = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(TransformerBlock(width, num_heads) for _ in range(num_layers)))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                is_residual_projection = name.endswith("out.weight")
                nn.init.normal_(weight, std=0.02 / ((2 * num_layers) ** 0.5 if is_residual_projection else 1))
        self.head.weight = self.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """Return logits `(B, T, V)` for ids `(B, T)`."""
        positions = self.position_embedding(torch.arange(ids.shape[1], device=ids.device))
        out: Tensor = self.head(self.norm(self.blocks(self.embedding(ids) + positions)))
        return out
