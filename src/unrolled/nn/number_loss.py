"""Losses of numbers at every step. A target that is NaN is a gap: it has no loss and no gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

MIN_LOG_DEVIATION, MAX_LOG_DEVIATION = -6.0, 6.0
"""Limits of the logarithm of a predicted standard deviation, in units of the scaled numbers."""


def split_outputs(outputs: Tensor, num_columns: int) -> Tensor:
    """Return a network's outputs `(..., K * D)` as `(K, ..., D)`: K values for each of the D numbers."""
    return torch.stack(torch.split(outputs, num_columns, dim=-1))


def deviation(log_deviation: Tensor) -> Tensor:
    """Return the standard deviation that the second output of a Gaussian stands for; its limits are smooth."""
    middle, half = (MAX_LOG_DEVIATION + MIN_LOG_DEVIATION) / 2, (MAX_LOG_DEVIATION - MIN_LOG_DEVIATION) / 2
    return (middle + half * torch.tanh((log_deviation - middle) / half)).exp()


def number_losses(outputs: Tensor, targets: Tensor, kind: str, levels: Sequence[float] = ()) -> tuple[Tensor, Tensor]:
    """Return the loss of each step, summed over its numbers, and how many of them are known, both `(...)`.

    Args:
        outputs: Of the network, `(..., K * D)`.
        targets: Scaled numbers `(..., D)`, NaN for gaps.
        kind: `mse`, `mae`, `quantiles` (the mean pinball loss, Koenker and Bassett 1978) or `gaussian` (the negative
            log-likelihood).
        levels: The quantiles, K of them.

    Example:
        >>> sums, counts = number_losses(torch.zeros(2, 1), torch.tensor([[3.0], [math.nan]]), "mse")
        >>> sums.tolist(), counts.tolist()
        ([9.0, 0.0], [1, 0])
    """
    parts = split_outputs(outputs.float(), targets.shape[-1])
    is_known = ~targets.isnan()
    targets = torch.where(is_known, targets, parts[0].detach())
    if kind == "mse":
        losses = (parts[0] - targets).square()
    elif kind == "mae":
        losses = (parts[0] - targets).abs()
    elif kind == "quantiles":
        taus = torch.tensor(levels, device=outputs.device).view(-1, *(1,) * targets.dim())
        errors = targets - parts
        losses = torch.maximum(taus * errors, (taus - 1) * errors).mean(0)
    else:
        losses = F.gaussian_nll_loss(parts[0], targets, deviation(parts[1]).square(), reduction="none")
        losses = losses + 0.5 * math.log(2 * math.pi)
    losses = torch.where(is_known, losses, torch.zeros_like(losses))
    return losses.sum(-1), is_known.sum(-1)
