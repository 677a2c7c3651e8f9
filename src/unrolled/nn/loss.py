"""The loss: cross-entropy of every step at once, steps without a target left out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from unrolled.text.batching import IGNORE_INDEX


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the mean (or sum) of -ln p(target) in nats: logits `(T, B, V)`, targets `(T, B)`, in float32."""
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction)
