"""Dynamic evaluation (Krause et al. 2018): a model goes on learning from a text while it reads it.

Each segment is predicted first and learned from afterwards, so that no token is known before it is predicted. The step is that
of RMSprop: the gradient, divided by the root of its running mean square. Krause et al. take that mean from the training text,
which a model file does not have; here it comes from the text that is read. They also decay the weights towards those of the
file, which is left out here.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from unrolled.generation.torch_model import TorchModel
from unrolled.nn.cells import map_state
from unrolled.nn.device import DeviceConfig
from unrolled.nn.language_model import RecurrentLM, cross_entropy
from unrolled.runtime.language_model import Doubles, Floats, Ids, Mask, State
from unrolled.text.batching import IGNORE_INDEX

SEGMENT_TOKENS = 32
"""Tokens between two steps."""

LEARNING_RATE = 1e-4
"""The best for models that have been trained on such a text already; others would learn faster at 3e-4 (benchmarks/LOG.md)."""

DECAY = 0.99
EPSILON = 1e-8


class AdaptiveModel(TorchModel):
    """A copy of a network that learns from what `token_losses` and `loss_sums` read, in the order of the calls, in one row.

    The network that it is made from does not change.
    """

    def __init__(self, model: RecurrentLM, machine: DeviceConfig | None = None) -> None:
        super().__init__(copy.deepcopy(model).eval(), machine)
        self._weights: list[Tensor] = list(self.model.parameters())
        self._mean_squares = [torch.zeros_like(weight) for weight in self._weights]
        self._num_steps = 0

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        yield

    def token_losses(self, inputs: Ids, targets: Ids, state: State, resets: Mask | None) -> tuple[Floats, State]:
        if inputs.shape[1] != 1:
            raise ValueError(f"A text is learned from in its order, in one row; got {inputs.shape[1]}.")
        losses = []
        for start in range(0, len(inputs), SEGMENT_TOKENS):
            part = slice(start, start + SEGMENT_TOKENS)
            segment_losses, state = self._read(inputs[part], targets[part], state, None if resets is None else resets[part])
            losses.append(segment_losses)
        return np.concatenate(losses)[:, None], state

    def loss_sums(
        self, inputs: Ids, targets: Ids, state: State, resets: Mask | None, logit_scale: float | None
    ) -> tuple[Doubles, tuple[float, float], State]:
        losses, state = self.token_losses(inputs, targets, state, resets)
        return losses.sum(0, dtype=np.float64), (0.0, 0.0), state

    def _read(self, inputs: Ids, targets: Ids, state: State, resets: Mask | None) -> tuple[Floats, State]:
        """Return the losses `(T,)` of a segment, with 0 for `IGNORE_INDEX`, and the state after it; then learn from it."""
        for weight in self._weights:
            weight.grad = None
        logits, state = self._forward(inputs, state, resets)
        losses = cross_entropy(logits, self._tensor(targets), "none")
        num_targets = int((targets != IGNORE_INDEX).sum())
        if num_targets:
            (losses.sum() / num_targets).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            self._step()
        return losses.detach().cpu().numpy(), map_state(Tensor.detach, state)

    @torch.no_grad()
    def _step(self) -> None:
        self._num_steps += 1
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in self._weights]
        torch._foreach_mul_(self._mean_squares, DECAY)
        torch._foreach_addcmul_(self._mean_squares, gradients, gradients, value=1 - DECAY)
        roots = torch._foreach_sqrt(torch._foreach_div(self._mean_squares, 1 - DECAY**self._num_steps))
        torch._foreach_add_(roots, EPSILON)
        torch._foreach_addcdiv_(self._weights, gradients, roots, value=-LEARNING_RATE)


def adapt(model: RecurrentLM, ids: Ids, machine: DeviceConfig | None = None) -> RecurrentLM:
    """Return a copy of a network that has learned from a text, `ids` `(T,)`, read once.

    Example:
        >>> adapted = adapt(network, np.array([1, 2, 3, 1, 2, 3]))
        >>> adapted is network
        False
    """
    adaptive = AdaptiveModel(model, machine)
    if len(ids) > 1:
        adaptive.token_losses(ids[:-1, None], ids[1:, None], adaptive.initial_state(1), None)
    return adaptive.model
