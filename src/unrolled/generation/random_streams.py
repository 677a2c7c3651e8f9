"""The random numbers of samples: a stream for each seed, with a number for each position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Doubles: TypeAlias = npt.NDArray[np.float64]

MAX_BLOCK_TOKENS = 64
"""Most tokens per sample that are drawn in one native call."""


class PhiloxStreams:
    """Random numbers in [0, 1) for each position of each sample, keyed by (seed, position)."""

    BLOCK = 256
    _BLOCK_STRIDE = 1 << 64
    """Counter steps from one block of numbers to the next."""

    _BLOCK_STEPS = BLOCK // 4

    def __init__(self, seeds: list[int]) -> None:
        zero = np.zeros(4, np.uint64)
        self._streams = [np.random.Philox(key=np.array([seed, 0], np.uint64), counter=zero) for seed in seeds]
        self._block_start, self._next_index = -self.BLOCK, 0
        self._block: Doubles = np.empty((0, len(seeds)))

    def at(self, position: int) -> Doubles:
        """Return the numbers of all samples at `position`, `(B,)` float64."""
        numbers: Doubles = self.block(position, 1)[0]
        return numbers

    def block(self, position: int, count: int) -> Doubles:
        """Return the numbers at `count` positions from `position`, `(count, B)`; all must be in the same `BLOCK`."""
        if not self._block_start <= position < self._block_start + self.BLOCK:
            self._block_start = position // self.BLOCK * self.BLOCK
            index = self._block_start // self.BLOCK
            if num_steps := (index - self._next_index) * self._BLOCK_STRIDE % (1 << 256):
                for stream in self._streams:
                    stream.advance(num_steps)
            rows = [np.random.Generator(stream).random(self.BLOCK) for stream in self._streams]
            for stream in self._streams:
                stream.advance(self._BLOCK_STRIDE - self._BLOCK_STEPS)
            self._next_index = index + 1
            self._block = np.stack(rows, axis=1)  # (BLOCK, B)
        return self._block[position - self._block_start : position - self._block_start + count]


def block_spans(length: int) -> Iterator[tuple[int, int]]:
    """Yield position and size of the blocks of tokens that native code draws for samples of `length` tokens.

    The first token comes at once. Sizes double up to the longest, so that no block crosses a border of `PhiloxStreams`.
    """
    position = 0
    while position < length:
        count = min(max(position, 1), MAX_BLOCK_TOKENS, length - position)
        yield position, count
        position += count
