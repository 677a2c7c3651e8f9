"""How far back a model remembers: its loss by the length of the context, and what its guess owes to symbols further back.

Both figures are those of Karpathy, Johnson and Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks", and of
Khandelwal et al. (2018), "Sharp Nearby, Fuzzy Far Away".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from unrolled.nn.device import Machine
from unrolled.nn.language_model import SequenceModel

CONTEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Symbols of context that are tried."""

PLACES = 512
"""Places of the text that are looked at, spread evenly."""

DISTANCES = 128
"""Symbols back to which gradients are followed."""

GRADIENT_PLACES = 64
NEAR = 0.01
"""Nats from the loss with all context at which a shorter one is called enough."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reach:
    """`nats[i]` is the mean loss with `contexts[i]` symbols before it, the state zero before them; `gradient[d - 1]` the share
    of the gradient of a guess that goes to the symbol `d` before it.
    """

    contexts: tuple[int, ...]
    nats: Floats
    gradient: Floats

    @property
    def enough(self) -> int:
        """The shortest context tried that costs less than 0.01 nats against the longest."""
        return next(n for n, loss in zip(self.contexts, self.nats, strict=True) if loss <= self.nats[-1] + NEAR)


def reach(
    model: SequenceModel,
    machine: Machine,
    ids: npt.NDArray[np.int64],
    end: int | None = None,
    check: Callable[[], None] = lambda: None,
) -> Reach | None:
    """Measure how far back a model remembers on ids `(N,)`; None for a text that is shorter than a few contexts.

    Every context is tried at the same places, so that the losses can be compared; where a document begins with `end`, nothing
    before it is seen.
    """
    contexts = tuple(length for length in CONTEXTS if length <= len(ids) // 4)
    if not contexts:
        return None
    places = np.linspace(contexts[-1], len(ids) - 1, min(PLACES, len(ids) - contexts[-1])).astype(np.int64)
    nats = []
    with torch.inference_mode():
        for length in contexts:
            check()
            inputs = torch.from_numpy(ids[places - length + np.arange(length)[:, None]]).to(machine.device)
            with machine.autocast():
                resets = None if end is None else inputs == end
                logits, _ = model(inputs, model.initial_state(len(places)), resets)
            wanted = torch.from_numpy(ids[places]).to(machine.device)
            nats.append(float(F.cross_entropy(logits[-1].float(), wanted)))
    return Reach(contexts, np.array(nats), _gradient(model, ids, places, min(DISTANCES, contexts[-1])))


def _gradient(model: SequenceModel, ids: npt.NDArray[np.int64], places: npt.NDArray[np.int64], steps: int) -> Floats:
    """Return the share of the gradient's length that goes to the symbol 1, 2, ... `steps` before the guess, in the mean."""
    some = places[:: max(1, len(places) // GRADIENT_PLACES)]
    inputs = torch.from_numpy(ids[some - steps + np.arange(steps)[:, None]]).to(model.device)  # (T, B)
    with torch.enable_grad():
        xs = model.embedding(inputs).detach().requires_grad_()
        ys, _ = model.stack.unroll(xs, model.stack.initial_state(len(some)))
        loss = F.cross_entropy(model.head(ys[-1]).float(), torch.from_numpy(ids[some]).to(model.device), reduction="sum")
        (pull,) = torch.autograd.grad(loss, xs)
    lengths = pull.float().norm(dim=-1)  # (T, B)
    shares = lengths / lengths.sum(0).clamp_min(1e-12)
    return np.asarray(shares.mean(1).flip(0).double().cpu().numpy())
