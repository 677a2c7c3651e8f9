"""What counting and a standard compressor make of the same text: the figures that a network has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unrolled.evaluation.ngram import KneserNey, table, uniform_nats, xz_nats
from unrolled.text.tokenizer import Characters, Ids, Vocabulary

MOST_COUNTED = 1 << 24
"""Symbols of a training text that are counted; of a longer one, those next to the text that is measured."""

MOST_MEASURED = 1 << 22
SAMPLED_ORDERS = (3, 6, 10, 20)
SAMPLE_LENGTH = 400

Note = Callable[[str], None]


@dataclass(frozen=True)
class Baselines:
    """Losses in nats a character: of chance (`uniform`), of Kneser-Ney n-grams by their length, and of `xz`.

    n-grams of length n have n - 1 symbols of context. `counted` is how many symbols of the training text they saw, of
    `training` in all.
    """

    uniform: float
    ngrams: dict[int, float]
    xz: float
    counted: int
    training: int

    @property
    def best(self) -> tuple[int, float]:
        """The length of the best n-grams, and their loss."""
        return min(self.ngrams.items(), key=lambda item: item[1])

    def to_json(self) -> dict[str, float]:
        """Return all of them by name."""
        return {"uniform": self.uniform, **{f"{n}-gram": nats for n, nats in self.ngrams.items()}, "xz": self.xz}

    def table(self, nats: float) -> str:
        """Return them in lines, with a model's loss beside them."""
        rows = [("chance (uniform)", self.uniform)]
        rows += [
            (f"{n}-gram, Kneser-Ney" if n > 1 else "1-gram (how often each symbol is)", own) for n, own in self.ngrams.items()
        ]
        rows += [("xz -9, given the training text", self.xz), ("this model", nats)]
        part = f" (counted: the last {self.counted:,} symbols of the training text)" if self.counted < self.training else ""
        lines = [f"{'':34} {'nats':>8} {'bits':>8}  a character{part}"]
        return "\n".join(lines + [f"{name:34} {own:8.4f} {own / math.log(2):8.4f}" for name, own in rows])


def baselines(
    vocabulary: Vocabulary, train: Ids, test: Ids, order: int, follows: bool, note: Note, is_text: bool = True
) -> Baselines:
    """Measure the baselines on the ids of a text, `follows` saying whether it goes on from the training text.

    The first symbol is not predicted, as it is not by a network. Of a long text its first few million symbols are measured.
    """
    training = len(train)
    train, test = np.asarray(train[-MOST_COUNTED:]), np.asarray(test[:MOST_MEASURED])
    note(f"counting n-grams up to {order} in {len(train):,} symbols, and xz")
    context = np.concatenate([train[-order:], test[:1]]) if follows else test[:1]
    begins = vocabulary.begins_character() if is_text else np.ones(vocabulary.size, dtype=bool)
    predicted = test[1:]
    per_character = len(predicted) / max(1, int(begins[predicted].sum()))
    ngrams = {n: nats * per_character for n, nats in table(train, predicted, vocabulary.size, range(1, order + 1), context)}
    characters = max(1, int(begins[predicted].sum()))
    packed = xz_nats(_bytes(vocabulary, train), _bytes(vocabulary, predicted), characters)
    return Baselines(uniform_nats(vocabulary.size) * per_character, ngrams, packed, len(train), training)


def samples(vocabulary: Vocabulary, train: Ids, seed: int) -> dict[int, str]:
    """Return what n-grams of several lengths write."""
    counted = np.asarray(train[-MOST_COUNTED:])
    drawn = {}
    for order in SAMPLED_ORDERS:
        ids = KneserNey(counted, vocabulary.size, order).sample(SAMPLE_LENGTH, seed, [vocabulary.start()])
        drawn[order] = _text(vocabulary, ids)
    return drawn


def _text(vocabulary: Vocabulary, ids: Ids) -> str:
    """Return the text of ids, an end as a line end."""
    if vocabulary.end is None:
        return vocabulary.decode(ids.tolist())
    pieces = np.split(ids, np.flatnonzero(ids == vocabulary.end))
    return "\n".join(vocabulary.decode(piece.tolist()) for piece in pieces).strip("\n")


def _bytes(vocabulary: Vocabulary, ids: Ids) -> bytes:
    """Return the bytes of a text, as a compressor reads it; an end is a line end."""
    if isinstance(vocabulary, Characters):
        points = np.array([ord(symbol) for symbol in vocabulary.symbols] + [10], dtype=np.uint32)
        return points[ids].tobytes().decode("utf-32-le", "replace").encode()
    return np.append(np.arange(256), 10).astype(np.uint8)[ids].tobytes()
