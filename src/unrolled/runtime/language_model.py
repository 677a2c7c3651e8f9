"""What sampling and evaluation ask of a language model, whatever computes it: numpy arrays in, numpy arrays out.

Letters in shapes: `B` rows, `T` time steps, `V` tokens. The state is opaque; it is passed in and returned.
"""

from __future__ import annotations

import contextlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from unrolled.text.batching import IGNORE_INDEX

Floats: TypeAlias = npt.NDArray[np.floating[Any]]
Doubles: TypeAlias = npt.NDArray[np.float64]
Ids: TypeAlias = npt.NDArray[np.integer[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]
State: TypeAlias = Any

PROMPT_CHUNK_TOKENS = 1024
"""Tokens of a prompt that are read in one call."""


class LanguageModel:
    """Base class of what computes a language model; a subclass has `initial_state`, `step` and `repeat_row`."""

    vocab_size: int

    def inference(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which the other methods are to be called."""
        return contextlib.nullcontext()

    def initial_state(self, rows: int) -> State:
        """Return the zero state of `rows` rows."""
        raise NotImplementedError

    def step(self, ids: Ids, state: State) -> tuple[Floats, State]:
        """Take one step: from `ids` `(B,)` and a state, return the logits `(B, V)` and the next state."""
        raise NotImplementedError

    def repeat_row(self, state: State, rows: int) -> State:
        """Return a state of one row as one of `rows` equal rows."""
        raise NotImplementedError

    def unroll(self, ids: Ids, state: State, resets: Mask | None = None) -> tuple[Floats, State]:
        """Take T steps: from `ids` `(T, B)` and a state, return the logits `(T, B, V)` and the final state.

        `resets` `(T, B)`: where true, the state is set to zero before that step.
        """
        raise NotImplementedError

    def prefill(self, prefix_ids: list[int]) -> tuple[Floats, State]:
        """Read a prompt of any length; return the logits `(1, V)` after it and the state of that one row."""
        logits, state = np.zeros((1, self.vocab_size), np.float32), self.initial_state(1)
        ids = np.array(prefix_ids, np.int64)[:, None]  # (T, 1)
        for start in range(0, len(ids), PROMPT_CHUNK_TOKENS):
            chunk, state = self.unroll(ids[start : start + PROMPT_CHUNK_TOKENS], state)
            logits = chunk[-1]
        return logits, state

    def token_losses(self, inputs: Ids, targets: Ids, state: State, resets: Mask | None) -> tuple[Floats, State]:
        """Return the losses `(T, B)` in nats of `targets` `(T, B)`, each given the inputs so far, and the final state."""
        logits, state = self.unroll(inputs, state, resets)
        return target_losses(logits, targets), state

    def loss_sums(
        self, inputs: Ids, targets: Ids, state: State, resets: Mask | None, logit_scale: float | None
    ) -> tuple[Doubles, tuple[float, float], State]:
        """Return the sum of the losses of each row `(B,)`, two derivatives, and the final state.

        Targets that are `IGNORE_INDEX` do not count. The logits are multiplied by `logit_scale`, and the derivatives are the
        first two of the sum of all losses by it; without it, they are zero. The first one is the mean logit under the model
        minus the target's; the second is their variance.
        """
        logits, state = self.unroll(inputs, state, resets)
        is_scored = targets != IGNORE_INDEX
        scaled = logits if logit_scale is None else logits * np.float32(logit_scale)
        losses = np.where(is_scored, target_losses(scaled, np.where(is_scored, targets, 0)), 0).sum(0, dtype=np.float64)
        if logit_scale is None:
            return losses, (0.0, 0.0), state
        scored_logits, target_ids = logits[is_scored], targets[is_scored]  # (N, V), (N,)
        probs = softmax(scaled[is_scored])
        mean = (probs * scored_logits).sum(-1)
        variance = (probs * np.square(scored_logits)).sum(-1) - np.square(mean)
        slope = mean - np.take_along_axis(scored_logits, target_ids[:, None].astype(np.int64), -1)[:, 0]
        return losses, (float(slope.sum(dtype=np.float64)), float(variance.sum(dtype=np.float64))), state


def target_losses(logits: Floats, targets: Ids) -> Floats:
    """Return -ln p(target) in nats, `(...)`, for logits `(..., V)` and `targets` `(...)`."""
    shifted = logits - logits.max(-1, keepdims=True)
    target_logits = np.take_along_axis(shifted, targets[..., None].astype(np.int64, copy=False), -1)[..., 0]
    losses: Floats = np.log(np.exp(shifted, out=shifted).sum(-1)) - target_logits
    return losses


def softmax(logits: Floats) -> Floats:
    """Return the probabilities of logits `(..., V)`."""
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    probs: Floats = weights / weights.sum(-1, keepdims=True)
    return probs
