"""Names of months in other languages than English, by the package `babel`: which language dates are in, and its names."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FILLERS = frozenset(("de", "del", "d", "er", "г", "р", "y", "m", "a", "den", "le", "t", "am", "pm"))
"""Words of dates that name no month: `15 de marzo de 2024`, `1er janvier`, `1 января 2024 г.`"""

MAX_WORDS = 60
"""Distinct words, at most, of texts that are dates."""

MIN_PREFIX = 3
"""Letters that a short name has at least."""

OTHER_SHORT_NAMES = {"de": {"mrz": 3, "jän": 1}, "nl": {"mrt": 3}}
"""Short names that programs write, and that are not the first letters of a name."""


LANGUAGES = (
    "de", "fr", "es", "pt", "it", "nl", "pl", "ru", "tr", "sv", "da", "nb", "fi", "cs", "hu", "ro", "el", "uk", "bg", "sr",
    "hr", "bs", "sk", "sl", "lt", "lv", "et", "ca", "eu", "gl", "ga", "cy", "is", "mk", "sq", "be", "az", "ka", "hy", "kk",
    "uz", "he", "ar", "fa", "ur", "hi", "bn", "mr", "gu", "pa", "ta", "te", "kn", "ml", "th", "vi", "id", "ms", "fil", "sw",
    "af", "mn", "ko", "ja", "zh",
)  # fmt: skip
"""The languages that are tried, in this order: where several have the same names, the first one's are written."""


def plain_name(name: str) -> str:
    """Return a name as names are compared: without case, accents, and a point at its end.

    Example:
        >>> plain_name("Févr."), plain_name("МАЙ")
        ('fevr', 'маи')
    """
    parts = unicodedata.normalize("NFD", name.strip().rstrip(".").casefold())
    return "".join(part for part in parts if not "\u0300" <= part <= "\u036f")


@dataclass(frozen=True)
class MonthNames:
    """The names of months in a language: `forms` of twelve each, long and short ones, those first that dates have most."""

    language: str
    forms: tuple[tuple[str, ...], ...]

    def month_of(self, name: str) -> int:
        """Return the number of the month with this name, or with these first letters; 0 if there is none, or several."""
        plain = plain_name(name)
        if plain in (others := OTHER_SHORT_NAMES.get(self.language, {})):
            return others[plain]
        exact = {index for form in self.forms for index, full in enumerate(form, 1) if plain_name(full) == plain}
        begun = {index for form in self.forms for index, full in enumerate(form, 1) if plain_name(full).startswith(plain)}
        found = exact or (begun if len(plain) >= MIN_PREFIX else set())
        return found.pop() if len(found) == 1 else 0

    def write(self, month: int, like: str) -> str:
        """Return the name of a month as long, and in such letters, as another one is written."""
        plain, place = plain_name(like), self.month_of(like) - 1
        forms = [form for form in self.forms if plain_name(form[place]) == plain]
        text = forms[0][month - 1] if forms else self.forms[0][month - 1][: len(plain)]
        follows_form = like.endswith(".") or not forms or not forms[0][place].endswith(".")
        text = text if follows_form else text.rstrip(".")
        return text.upper() if like.isupper() else text[:1].upper() + text[1:] if like[:1].isupper() else text


def languages_of(words: Iterable[str]) -> list[MonthNames]:
    """Return the names of months of all languages in which every word of some dates is a month, or one of `FILLERS`.

    Languages in which the words are the same months are one. Without the package `babel` there are none.

    Example:
        >>> [found.language for found in languages_of(["janvier", "février"])]
        ['fr']
    """
    distinct = {word for word in words if plain_name(word) not in FILLERS}
    if not distinct or len(distinct) > MAX_WORDS:
        return []
    found = dict[tuple[int, ...], MonthNames]()
    for names in _all_languages():
        months = tuple(map(names.month_of, sorted(distinct)))
        if all(months) and (months not in found or _coverage(names, distinct) > _coverage(found[months], distinct)):
            found[months] = names
    return [_ordered(names, distinct) for names in found.values()]


def has_languages() -> bool:
    """Return whether the names of months in other languages are known: whether `babel` is installed."""
    return bool(_all_languages())


def _coverage(names: MonthNames, words: Iterable[str]) -> int:
    """Return how many words are a name as it is written in a language."""
    written = set(itertools.chain.from_iterable(names.forms))
    return sum(word in written or word.lower() in written for word in words)


def _ordered(names: MonthNames, words: Iterable[str]) -> MonthNames:
    """Return the names with the form first in which most words are."""
    plain = Counter(map(plain_name, words))
    forms = sorted(names.forms, key=lambda form: -sum(plain[plain_name(name)] for name in form))
    return MonthNames(names.language, tuple(forms))


@functools.cache
def _all_languages() -> tuple[MonthNames, ...]:
    try:
        from babel import Locale
    except ImportError:
        return ()
    return tuple(MonthNames(language, _forms(Locale.parse(language).months)) for language in LANGUAGES)


def _forms(months: Any) -> tuple[tuple[str, ...], ...]:
    forms = (months[use][width] for width in ("wide", "abbreviated") for use in ("format", "stand-alone"))
    return tuple(dict.fromkeys(tuple(form[number] for number in range(1, 13)) for form in forms))
