"""Signs in the texts of a column that are most likely not meant: wrong encodings, HTML, characters that cannot be seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from unrolled.text.encoding_guess import encoded_twice

MIN_ODD = 3
"""Texts with such a sign, at least, for a sentence about it."""

_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,6}|#[xX][0-9a-fA-F]{1,5});")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")


def _first(pattern: re.Pattern[str], mark: str) -> Callable[[str], str]:
    """Return a function that finds the first match in a text that has `mark`, if there is a mark; else an empty text."""

    def find(text: str) -> str:
        found = pattern.search(text) if mark in text and not (not mark and text.isascii()) else None
        return found[0] if found else ""

    return find


_ODDITIES: tuple[tuple[Callable[[str], str], str], ...] = (
    (encoded_twice, "UTF-8 that was read as Windows-1252, as {}: make the file again as UTF-8"),
    (
        _first(_ENTITY, "&"),
        "signs as HTML writes them, as {}, which are learned so: html.unescape(text) of Python gives the signs",
    ),
    (
        _first(_INVISIBLE, ""),
        "characters that cannot be seen, as {}: a word with one is another word; if they mean nothing, remove them",
    ),
)
"""What finds a sign in a text, and what to tell about it."""


class TextOddities:
    """Counts of the texts that have such signs, with the first of each kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, text: str) -> None:
        """Count the signs of one text."""
        for find, sentence in _ODDITIES:
            if sign := find(text):
                self._counts[sentence] += 1
                self._examples.setdefault(sentence, sign)

    def notes(self, name: str, num_rows: int) -> list[str]:
        """Return a sentence for each kind of sign that several texts of the column have."""
        found = ((sentence, self._counts[sentence]) for _, sentence in _ODDITIES if self._counts[sentence] >= MIN_ODD)
        return [
            f"'{name}': {count:,} of {num_rows:,} values have {sentence.format(self._shown(sentence))}"
            for sentence, count in found
        ]

    def _shown(self, sentence: str) -> str:
        example = self._examples[sentence]
        return repr(example) if example.isprintable() else f"U+{ord(example[0]):04X}"
