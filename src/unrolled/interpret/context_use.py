"""How much context a model uses: its loss by the length of the context, and the gradient of the loss by earlier inputs.

After Karpathy, Johnson and Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks", and Khandelwal et al. (2018),
"Sharp Nearby, Fuzzy Far Away".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM

CONTEXT_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Lengths of context that are measured, in tokens."""

MAX_POSITIONS = 512
"""Positions of the text that are predicted, spread evenly."""

MAX_GRADIENT_DISTANCE = 128
"""Largest distance of an earlier token for which the gradient is measured."""

MAX_GRADIENT_POSITIONS = 64
LOSS_TOLERANCE = 0.01
"""A context is long enough if its loss is within this many nats of the loss with the longest context."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ContextUse:
    """`nats[i]` is the mean loss with `context_lengths[i]` tokens of context, starting from a zero state.

    `gradient_share[d - 1]` is the share of the gradient's norm at the input token `d` positions before the predicted one.
    """

    context_lengths: tuple[int, ...]
    nats: Floats
    gradient_share: Floats

    @property
    def effective_context(self) -> int:
        """The shortest measured context whose loss is within `LOSS_TOLERANCE` of that of the longest."""
        return next(
            n for n, loss in zip(self.context_lengths, self.nats, strict=True) if loss <= self.nats[-1] + LOSS_TOLERANCE
        )


def measure_context_use(
    model: RecurrentLM, machine: DeviceConfig, ids: npt.NDArray[np.int64], eos_id: int | None = None
) -> ContextUse | None:
    """Measure the use of context on ids `(N,)`; None if the text has fewer than 4 tokens.

    All context lengths are measured at the same positions, so that the losses can be compared. The state is reset at each
    `eos_id`, so that a context never reaches into an earlier document.
    """
    context_lengths = tuple(length for length in CONTEXT_LENGTHS if length <= len(ids) // 4)
    if not context_lengths:
        return None
    positions = np.linspace(context_lengths[-1], len(ids) - 1, min(MAX_POSITIONS, len(ids) - context_lengths[-1])).astype(
        np.int64
    )
    nats = []
    with torch.inference_mode():
        for length in context_lengths:
            inputs = torch.from_numpy(ids[positions - length + np.arange(length)[:, None]]).to(machine.device)
            with machine.autocast():
                resets = None if eos_id is None else inputs == eos_id
                logits, _ = model(inputs, model.initial_state(len(positions)), resets)
            targets = torch.from_numpy(ids[positions]).to(machine.device)
            nats.append(float(F.cross_entropy(logits[-1].float(), targets)))
    return ContextUse(
        context_lengths, np.array(nats), _gradient_share(model, ids, positions, min(MAX_GRADIENT_DISTANCE, context_lengths[-1]))
    )


def _gradient_share(model: RecurrentLM, ids: npt.NDArray[np.int64], positions: npt.NDArray[np.int64], num_steps: int) -> Floats:
    """Return the mean share of the gradient's norm at the token 1, 2, ... `num_steps` before the predicted one."""
    sampled_positions = positions[:: max(1, len(positions) // MAX_GRADIENT_POSITIONS)]
    inputs = torch.from_numpy(ids[sampled_positions - num_steps + np.arange(num_steps)[:, None]]).to(model.device)  # (T, B)
    with torch.enable_grad():
        xs = model.embedding(inputs).detach().requires_grad_()
        ys, _ = model.stack.unroll(xs, model.stack.initial_state(len(sampled_positions)))
        loss = F.cross_entropy(
            model.head(ys[-1]).float(), torch.from_numpy(ids[sampled_positions]).to(model.device), reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, xs)
    norms = gradient.float().norm(dim=-1)  # (T, B)
    shares = norms / norms.sum(0).clamp_min(1e-12)
    return np.asarray(shares.mean(1).flip(0).double().cpu().numpy())
