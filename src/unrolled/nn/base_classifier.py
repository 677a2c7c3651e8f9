"""A linear classifier of what a frozen language model makes of a text: the states of its last layer, pooled."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from unrolled.nn.cells import EmbeddingLookup, GatedCell
from unrolled.nn.language_model import RecurrentLM
from unrolled.nn.stack import Stack
from unrolled.tables.model_dims import BaseDims

SCALE = 4.0
"""The length of the vector of a row's features, on average, where that of its n-grams is 8."""

MIN_DEVIATION = 1e-2
"""What is added to the deviation of a feature, so that one that hardly varies is not made large."""

MAX_STEPS = 1 << 14
"""Steps of texts that are read at once, padding included."""


class BaseClassifier(nn.Module):
    """Logits (f - m) a T of the features f of a text, with means m and scales a that give each the same variance.

    The features are the mean, the maximum, the minimum and the last of the states of the last layer, K = 4 H numbers. The
    language model never learns, and the rest is fitted before the first training step (`training.ngram_fit`), so nothing here
    is a parameter. It computes in float32 whatever the rest of the model does.
    """

    vectors: Tensor
    means: Tensor
    scales: Tensor
    table: Tensor

    def __init__(self, dims: BaseDims, num_labels: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            network = RecurrentLM(dims.vocab_size, replace(dims.options, dropout=0.0, token_dropout=0.0))
        num_features = 4 * dims.options.hidden
        self.stack: Stack = network.stack
        self.register_buffer("vectors", network.embedding_matrix().detach())
        self.register_buffer("means", torch.zeros(num_features))
        self.register_buffer("scales", torch.ones(num_features))
        self.register_buffer("table", torch.zeros(num_features, num_labels))
        _freeze(self)

    def cells(self) -> list[GatedCell]:
        """Return the recurrent cells of the language model."""
        return [cast(GatedCell, layer.cell) for layer in self.stack.layer_list()]

    @torch.no_grad()
    def load_base(self, base: RecurrentLM) -> None:
        """Take over the weights of a language model."""
        self.vectors.copy_(base.embedding_matrix())
        self.stack.load_state_dict(base.stack.state_dict())

    @torch.no_grad()
    def features(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the pooled states `(B, K)` of texts `(T, B)` with `lengths` `(B,)`, as many at a time as fit in memory."""
        num_rows = max(1, MAX_STEPS // len(ids))
        with torch.autocast(ids.device.type, enabled=False):
            parts = zip(torch.split(ids, num_rows, 1), torch.split(lengths, num_rows), strict=True)
            return torch.cat([self._pooled(part.contiguous(), part_lengths) for part, part_lengths in parts])

    def _pooled(self, ids: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.stack.unroll(EmbeddingLookup(ids, self.vectors), self.stack.initial_state(ids.shape[1]))
        states = states.float()
        is_padding = (torch.arange(len(ids), device=ids.device)[:, None] >= lengths)[..., None]
        mean = states.masked_fill(is_padding, 0.0).sum(0) / lengths[:, None]
        largest, least = (states.masked_fill(is_padding, fill) for fill in (-torch.inf, torch.inf))
        last = states[lengths - 1, torch.arange(len(lengths), device=ids.device)]
        return torch.cat([mean, largest.amax(0), least.amin(0), last], -1)

    @torch.no_grad()
    def standardize(self, features: Tensor) -> Tensor:
        """Fit means and scales to the features `(N, K)` of the training rows, and return these with them."""
        self.means.copy_(features.mean(0))
        self.scales.copy_(SCALE / features.shape[1] ** 0.5 / (features.std(0, correction=0) + MIN_DEVIATION))
        return (features - self.means) * self.scales

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return logits `(B, V)` of texts `(T, B)` with `lengths` `(B,)`."""
        with torch.autocast(ids.device.type, enabled=False):
            return ((self.features(ids, lengths) - self.means) * self.scales) @ self.table


def _freeze(module: nn.Module) -> None:
    """Make all parameters of a module buffers, under the same names: no optimizer sees them."""
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, weight.detach())
