"""Texts of a tiny grammar: enough structure to be learned in seconds."""

import random


def sentences(count: int, seed: int = 0) -> str:
    """Return some lines of one sentence each."""
    draw = random.Random(seed)
    words = ["the", "a", "old", "red", "dog", "fox", "jumps", "sleeps", "and", "but", "today"]
    return "".join(" ".join(draw.choices(words, k=draw.randint(3, 8))).capitalize() + ".\n" for _ in range(count))
