"""A linear classifier of the hashed n-grams of a text, next to the recurrent layers: wide and deep (Cheng et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SCALE = 8.0
"""The weight of all n-grams of a row together. It sets how fast they learn, at the rate of the recurrent layers: alone, on TREC
after 8 epochs, 1 is right in 0.842 of the questions, 3 in 0.896, 8 in 0.916, and 16 in 0.908 (benchmarks/LOG.md)."""

SHARES = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Weights of the logits of this classifier next to those of the recurrent layers: one is chosen on held-out rows."""

DEFAULT_SHARE = 2.0
"""The weight where too few rows are held out to choose one: of 50 questions of TREC, 5 rows chose 0: 0.296 right, not 0.474."""


class NgramClassifier(nn.Module):
    """Logits b + s / sqrt(K) sum_k W[n_k] of the K n-grams n of each row, with s = `SCALE`; n-grams not seen in training add 0.

    `share` is the weight of these logits in the answers of the model. In training both parts learn on their own, each from its
    own loss: with one loss of their sum, the recurrent layers would not learn what the n-grams have memorized.
    """

    share: Tensor

    def __init__(self, buckets: int, num_labels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets + 1, num_labels, padding_idx=buckets)
        nn.init.zeros_(self.embedding.weight)
        self.bias = nn.Parameter(torch.zeros(num_labels))
        self.register_buffer("share", torch.full((), DEFAULT_SHARE))

    def forward(self, ngrams: Tensor) -> Tensor:
        """Return logits `(1, B, V)` for `ngrams` `(K, B)`: rows of the table, padded with its last one."""
        counts = ngrams.ne(self.embedding.num_embeddings - 1).sum(0).clamp_min(1)
        sums: Tensor = self.embedding(ngrams).sum(0)
        return (sums * (SCALE * counts.rsqrt()).unsqueeze(-1) + self.bias)[None]
