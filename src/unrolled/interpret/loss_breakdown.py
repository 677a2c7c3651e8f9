"""The loss on a text by class of token (line end, digit, start of word, ...), for several models.

After the error analysis of Karpathy, Johnson and Fei-Fei (2015). A token belongs to the first class whose rule it matches.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_RARE_COUNT = 5
"""A word with at most this many occurrences in the training text is rare."""

CLASS_NAMES = (
    "line end",
    "start of line",
    "opening bracket or quote",
    "closing bracket or quote",
    "other punctuation",
    "white space",
    "digit",
    "start of word",
    "inside a rare word",
    "inside a word",
    "part of a character",
)
_OPENING, _CLOSING, _QUOTES = set("([{<“‘«"), set(")]}>”’»"), set("\"'`")
_WORD = re.compile(r"[^\W\d_]+")
_CLASS_INDEX = {name: index for index, name in enumerate(CLASS_NAMES)}


@dataclass(frozen=True)
class ClassLoss:
    """The tokens of one class: their number, and the sum of their bits for each model."""

    name: str
    num_tokens: int
    bits: tuple[float, ...]

    def mean_bits(self, model: int = 0) -> float:
        """Return the mean bits per token."""
        return self.bits[model] / max(1, self.num_tokens)


def count_words(text: str) -> Counter[str]:
    """Count the words of a training text, in lower case."""
    return Counter(match.group().lower() for match in _WORD.finditer(text))


def loss_by_class(
    token_texts: Sequence[str], bits: Sequence[npt.NDArray[np.float64]], word_counts: Counter[str]
) -> list[ClassLoss]:
    """Return the classes that occur in a text, in descending order of the first model's bits.

    `token_texts` `(T,)` are the texts of the tokens, `bits` their surprisal for each model `(T,)` (nan for tokens that are not
    scored), and `word_counts` the words of the training text.
    """
    classes = _classify_tokens(token_texts, word_counts)
    is_scored = ~np.isnan(bits[0])
    sizes = np.bincount(classes[is_scored], minlength=len(CLASS_NAMES))
    sums = [np.bincount(classes[is_scored], model_bits[is_scored], minlength=len(CLASS_NAMES)) for model_bits in bits]
    class_losses = [
        ClassLoss(name, int(sizes[i]), tuple(float(model_bits[i]) for model_bits in sums))
        for i, name in enumerate(CLASS_NAMES)
        if sizes[i]
    ]
    return sorted(class_losses, key=lambda class_loss: -class_loss.bits[0])


def _classify_tokens(token_texts: Sequence[str], word_counts: Counter[str]) -> npt.NDArray[np.int64]:
    is_rare = _rare_word_mask(token_texts, word_counts)
    class_indices = np.zeros(len(token_texts), dtype=np.int64)
    previous, open_quotes = "\n", set[str]()
    for index, token in enumerate(token_texts):
        class_indices[index] = _CLASS_INDEX[_classify_token(token, previous, bool(is_rare[index]), open_quotes)]
        previous = token or previous
    return class_indices


def _classify_token(token: str, previous: str, is_rare: bool, open_quotes: set[str]) -> str:
    """Return the class of a token, and update `open_quotes` for the tokens after it."""
    if not token:
        return "part of a character"
    if token[-1] == "\n":
        open_quotes.clear()
        return "line end"
    if previous[-1:] == "\n":
        return "start of line"
    if token in _QUOTES and not (token == "'" and previous[-1:].isalpha() and token not in open_quotes):
        is_closing = token in open_quotes
        (open_quotes.discard if is_closing else open_quotes.add)(token)
        return "closing bracket or quote" if is_closing else "opening bracket or quote"
    if token in _OPENING or token in _CLOSING:
        return "opening bracket or quote" if token in _OPENING else "closing bracket or quote"
    if token[0].isspace():
        return "white space"
    if token[0].isdigit():
        return "digit"
    if not token[0].isalpha():
        return "other punctuation"
    if not previous[-1:].isalpha():
        return "start of word"
    return "inside a rare word" if is_rare else "inside a word"


def _rare_word_mask(token_texts: Sequence[str], word_counts: Counter[str]) -> npt.NDArray[np.bool_]:
    """Return which tokens belong to words that are rare in the training text, `(T,)`."""
    ends = np.cumsum([len(token) for token in token_texts])
    mask = np.zeros(len(token_texts), dtype=bool)
    for match in _WORD.finditer("".join(token_texts)):
        if word_counts[match.group().lower()] <= MAX_RARE_COUNT:
            first, last = np.searchsorted(ends, [match.start(), match.end() - 1], side="right")
            mask[first : last + 1] = True
    return mask
