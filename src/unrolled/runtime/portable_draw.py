"""The draw of the portable step: integer odds of each token, and a random integer keyed by (seed, position).

Nothing here depends on how a library rounds: odds are integers from the portable exp, random numbers are those of
Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011), and a number is drawn
below the total by rejection, so each odds of 1 counts exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.runtime.portable_arithmetic import ODDS_BITS, Floats, portable_exp

MASK_32 = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10


def philox(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return four random words of 32 bits for a counter of four words and a key of two.

    Example:
        >>> [hex(word) for word in philox((0, 0, 0, 0), (0, 0))]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        product0, product1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (product1 >> 32) ^ c1 ^ k0, product1 & MASK_32, (product0 >> 32) ^ c3 ^ k1, product0 & MASK_32
        k0, k1 = (k0 + KEY_STEPS[0]) & MASK_32, (k1 + KEY_STEPS[1]) & MASK_32
    return c0, c1, c2, c3


def random_below(limit: int, seed: int, position: int) -> int:
    """Return a random integer in 0 .. limit - 1, each equally likely, for a limit of at most 2^53.

    Each attempt takes two words, high and low, of the counter (position, position >> 32, attempt // 2, 0), keeps as many bits
    as limit - 1 has, and is repeated until the number is below the limit.
    """
    key = (seed & MASK_32, seed >> 32 & MASK_32)
    mask = (1 << (limit - 1).bit_length()) - 1
    block = 0
    while True:
        words = philox((position & MASK_32, position >> 32 & MASK_32, block, 0), key)
        for high, low in (words[:2], words[2:]):
            number = (high << 32 | low) & mask
            if number < limit:
                return number
        block += 1


def token_odds(logits: Floats, temperature: float) -> NDArray[np.int64]:
    """Return the odds of each of V tokens as integers, those of the most likely one 2^30.

    Only that one is kept at temperature 0, or at one so low that its logit divided by the temperature is no float32.
    """
    best = int(np.argmax(logits))
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scaled = logits / np.float32(temperature)
        differences = scaled - scaled[best]
    if temperature == 0 or not np.isfinite(scaled[best]):
        odds = np.zeros(len(logits), np.int64)
        odds[best] = 1 << ODDS_BITS
        return odds
    return (portable_exp(differences) * np.float32(1 << ODDS_BITS)).astype(np.int64)


def filter_odds(odds: NDArray[np.int64], top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> NDArray[np.int64]:
    """Return odds with those of excluded tokens set to 0: top-k, then top-p, then min-p, as in `generation.sampling`.

    Of tokens with equal odds, the one with the lower id comes first.
    """
    if 0 < top_k < len(odds):
        removed = np.argsort(-odds, kind="stable")[top_k:]
        odds = odds.copy()
        odds[removed] = 0
    if top_p < 1:
        order = np.argsort(-odds, kind="stable")
        before = np.cumsum(odds[order]) - odds[order]
        odds = odds.copy()
        odds[order[before >= top_p * int(odds.sum())]] = 0
    return np.where(odds >= min_p * int(odds.max()), odds, 0)


def draw_token(odds: NDArray[Any], seed: int, position: int) -> int:
    """Return the id of one token: the first whose cumulative odds are above a random number below their total.

    Example:
        >>> draw_token(np.array([0, 5, 0]), seed=3, position=0)
        1
    """
    cumulative = np.cumsum(odds)
    number = random_below(int(cumulative[-1]), seed, position)
    return int(np.searchsorted(cumulative, number, side="right"))
