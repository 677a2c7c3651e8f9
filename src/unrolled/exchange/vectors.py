"""Test vectors of an exported model: tokens, a hash of every logit and state after each, and tokens drawn after them.

An exported file replays them with its own arithmetic; one different bit changes a hash. The hash is FNV-1a over 32-bit words:
`hash = (hash ^ word) * 16777619 mod 2^32`, from 2166136261, over the bits of the logits, then for each layer h and, of an
LSTM, c; of an sLSTM c, n and m.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.runtime.portable import PortableNetwork, PortableState
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.portable_draw import draw_token, random_below, token_odds

MAX_STEPS, MAX_DRAWS, SEED = 32, 200, 20150521
MAX_HASHED_WORDS = 2_000_000
"""Words that are hashed for all vectors together: models with a large vocabulary have fewer steps."""

FNV_OFFSET, FNV_PRIME = 2166136261, 16777619


@dataclass(frozen=True)
class TestVectors:
    """`hashes[t]` is the hash of logits and state after `tokens[t]`; `drawn` are tokens drawn after all of them."""

    __test__ = False
    tokens: list[int]
    hashes: list[int]
    temperature: float
    seed: int
    drawn: list[int]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return dict(vars(self))


def hash_step(logits: Floats, state: PortableState) -> int:
    """Return the hash of the logits `(V,)` and of the state of one row."""
    words = np.concatenate([logits, *(part[0] for layer in state for part in layer)]).view(np.uint32)
    result = FNV_OFFSET
    for word in words.tolist():
        result = ((result ^ word) * FNV_PRIME) & 0xFFFFFFFF
    return result


def make_vectors(portable: PortableNetwork) -> TestVectors:
    """Return the vectors of a model: random tokens from all of its vocabulary, then a sample at temperature 0.8."""
    vocab_size = portable.network.vocab_size
    state, hashes = portable.initial_state(1), []
    num_words = vocab_size + sum(len(layer) for layer in state) * portable.network.hidden_size
    tokens = [random_below(vocab_size, SEED, t) for t in range(max(4, min(MAX_STEPS, MAX_HASHED_WORDS // num_words)))]
    for token in tokens:
        logits, state = portable.step(np.array([token]), state)
        hashes.append(hash_step(logits[0], state))
    drawn: list[int] = []
    for position in range(MAX_DRAWS):
        drawn.append(draw_token(token_odds(logits[0], 0.8), SEED, position))
        logits, state = portable.step(np.array(drawn[-1:]), state)
    return TestVectors(tokens, hashes, 0.8, SEED, drawn)
