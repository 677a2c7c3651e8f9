"""Cross-entropy over all time steps; steps whose target is `IGNORE_INDEX` do not count."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from unrolled.text.batching import IGNORE_INDEX


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Return the mean of -ln p(target) in nats, computed in float32: `logits` `(T, B, V)`, `targets` `(T, B)`.

    With the `reduction` "sum", their sum; with "none", each of them, `(T * B,)`.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORE_INDEX, reduction=reduction)
