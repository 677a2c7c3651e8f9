"""Where the bits go: the surprise of a text by what its symbols are, one model beside another.

After the error analysis of Karpathy, Johnson and Fei-Fei (2015); the classes are told by simple rules, and every symbol belongs
to the first that fits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RARE = 5
"""A word that the training text has at most so often is rare."""

CLASSES = (
    "line end",
    "start of line",
    "opening bracket or quote",
    "closing bracket or quote",
    "other punctuation",
    "blank",
    "digit",
    "start of word",
    "inside a rare word",
    "inside a word",
    "part of a character",
)
_OPENING, _CLOSING, _EITHER = set("([{<“‘«"), set(")]}>”’»"), set("\"'`")
_WORD = re.compile(r"[^\W\d_]+")
_INDEX = {name: index for index, name in enumerate(CLASSES)}


@dataclass(frozen=True)
class Part:
    """The symbols of one class: how many, and the bits that each model spent on them."""

    name: str
    symbols: int
    bits: tuple[float, ...]

    def mean(self, model: int = 0) -> float:
        """Return the bits a symbol."""
        return self.bits[model] / max(1, self.symbols)


def words(text: str) -> Counter[str]:
    """Count the words of a training text, in small letters."""
    return Counter(match.group().lower() for match in _WORD.finditer(text))


def anatomy(shown: Sequence[str], bits: Sequence[npt.NDArray[np.float64]], common: Counter[str]) -> list[Part]:
    """Return the classes that a text has, the costliest first.

    `shown` `(T,)` are the texts of its symbols, `bits` of each model `(T,)` their surprise, nan where there is none; `common`
    counts the words of the training text.
    """
    classes = _classes(shown, common)
    counted = ~np.isnan(bits[0])
    sizes = np.bincount(classes[counted], minlength=len(CLASSES))
    sums = [np.bincount(classes[counted], own[counted], minlength=len(CLASSES)) for own in bits]
    parts = [Part(name, int(sizes[i]), tuple(float(own[i]) for own in sums)) for i, name in enumerate(CLASSES) if sizes[i]]
    return sorted(parts, key=lambda part: -part.bits[0])


def _classes(shown: Sequence[str], common: Counter[str]) -> npt.NDArray[np.int64]:
    rare = _in_rare_words(shown, common)
    found = np.zeros(len(shown), dtype=np.int64)
    before, open_quotes = "\n", set[str]()
    for at, symbol in enumerate(shown):
        found[at] = _INDEX[_class_of(symbol, before, bool(rare[at]), open_quotes)]
        before = symbol or before
    return found


def _class_of(symbol: str, before: str, rare: bool, open_quotes: set[str]) -> str:
    """Return the class of a symbol; `open_quotes` is kept for those to come."""
    if not symbol:
        return "part of a character"
    if symbol[-1] == "\n":
        open_quotes.clear()
        return "line end"
    if before[-1:] == "\n":
        return "start of line"
    if symbol in _EITHER and not (symbol == "'" and before[-1:].isalpha() and symbol not in open_quotes):
        closing = symbol in open_quotes
        (open_quotes.discard if closing else open_quotes.add)(symbol)
        return "closing bracket or quote" if closing else "opening bracket or quote"
    if symbol in _OPENING or symbol in _CLOSING:
        return "opening bracket or quote" if symbol in _OPENING else "closing bracket or quote"
    if symbol[0].isspace():
        return "blank"
    if symbol[0].isdigit():
        return "digit"
    if not symbol[0].isalpha():
        return "other punctuation"
    if not before[-1:].isalpha():
        return "start of word"
    return "inside a rare word" if rare else "inside a word"


def _in_rare_words(shown: Sequence[str], common: Counter[str]) -> npt.NDArray[np.bool_]:
    """Return which symbols are of words that the training text hardly has."""
    ends = np.cumsum([len(symbol) for symbol in shown])
    rare = np.zeros(len(shown), dtype=bool)
    for match in _WORD.finditer("".join(shown)):
        if common[match.group().lower()] <= RARE:
            first, last = np.searchsorted(ends, [match.start(), match.end() - 1], side="right")
            rare[first : last + 1] = True
    return rare
