"""Dates and names in many languages: `builtin:dates` and `builtin:languages`.

Both are made with Babel from its copy of the Unicode Consortium's Common Locale Data Repository; nothing is downloaded. The
rows are the same for the same version of Babel.
"""

from __future__ import annotations

import datetime
import functools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from babel import Locale

_LANGUAGES = (  # of many scripts, some easily confused; all with many names that no other has
    "en de nl sv da fi pl cs hu ro lt fr es pt it ru uk bg el tr ar fa he hi th vi id ja ko zh"
)
_FIRST_DAY, _LAST_DAY = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
_TEST_DAY_STRIDE = 20  # one of as many days is in the test part
_MIN_AGREEMENT = 0.9
_NUM_ROWS = {"train": 60_000, "test": 3_000}


def languages(split: str) -> Iterator[dict[str, str]]:
    """Yield `{"name": "Königreich", "language": "German"}`: names that only one of the languages has.

    A tenth is the test part; no name is in both parts, in any case of its letters.
    """
    return (dict(zip(("name", "language"), row, strict=True)) for row in _languages()[split])


@functools.cache
def _languages() -> dict[str, list[tuple[str, str]]]:
    from babel import Locale

    languages_of: dict[str, set[str]] = {}
    spelling: dict[str, str] = {}
    for code in _LANGUAGES.split():
        locale = Locale.parse(code)
        for name in sorted(_names(locale)):
            if sum(letter.isalpha() for letter in name) >= 2:
                spelling.setdefault(name.casefold(), name)
                languages_of.setdefault(name.casefold(), set()).add(str(locale.english_name))
    rows = [
        (spelling[key], next(iter(languages_with_name)))
        for key, languages_with_name in languages_of.items()
        if len(languages_with_name) == 1
    ]
    random.Random(0).shuffle(rows)
    num_test = len(rows) // 10
    return {"test": rows[:num_test], "train": rows[num_test:]}


def _names(locale: Locale) -> set[str]:
    """Return the names of languages, territories, scripts, variants, currencies, cities, months, days and quarters."""
    names: set[str] = set()
    for table in (locale.languages, locale.territories, locale.scripts, locale.variants, locale.currencies):
        names |= {str(name) for name in table.values()}
    names |= {str(zone["city"]) for zone in locale.time_zones.values() if "city" in zone}
    for calendar in (locale.months, locale.days, locale.quarters):
        for forms in calendar.values():
            names |= {str(name) for name in forms["wide"].values()}
    return names


@dataclass(frozen=True)
class _DateStyle:
    """A date format: the short, medium, long or full one of a locale. `months` are its words, or numbers as text."""

    locale: Locale
    width: str
    order: str
    months: tuple[str, ...]

    def format(self, day: datetime.date) -> str:
        from babel.dates import format_date

        return str(format_date(day, self.width, locale=self.locale))

    def is_unambiguous(self, day: datetime.date, month_words: Mapping[str, Counter[int]]) -> bool:
        """Return whether a date in this format has one meaning in all languages. `month_words` counts the months of a word.

        If two languages use a word for different months ("listopada" is October in Croatian, November in Polish), it is left
        out of both; if 9 of 10 formats agree, only of the others, so that "12 May" stays. If day and month are both numbers,
        the year must come first, or the day must be above 12 or equal to the month.
        """
        word = self.months[day.month - 1]
        if any(letter.isalpha() for letter in word):
            meanings = month_words[_normalize_word(word)]
            return meanings[day.month] >= _MIN_AGREEMENT * meanings.total()
        return self.order == "yMd" or day.day > 12 or day.day == day.month


def dates(split: str) -> Iterator[dict[str, str]]:
    """Yield `{"written": "15. Juni 1969", "iso": "1969-06-15", "locale": "de"}` for the years from 1900 to 2099.

    Both parts have all formats. No day is in both, so no answer of the test part is in the training part. Formats with a
    year of two digits are left out, because they do not tell the century.
    """
    return (dict(zip(("written", "iso", "locale"), row, strict=True)) for row in _dates(split))


@functools.cache
def _dates(split: str) -> list[tuple[str, str, str]]:
    rng = random.Random(split)
    styles = _date_styles()
    month_words: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for style in styles:
        for month, word in enumerate(style.months, 1):
            month_words[_normalize_word(word)][month] += 1
    days = range((_LAST_DAY - _FIRST_DAY).days + 1)
    split_days = [day for day in days if (day % _TEST_DAY_STRIDE == 0) == (split == "test")]
    rows: dict[str, tuple[str, str, str]] = {}
    while len(rows) < _NUM_ROWS[split]:
        for style in styles:
            day = _FIRST_DAY + datetime.timedelta(rng.choice(split_days))
            if style.is_unambiguous(day, month_words):
                date_text = style.format(day)
                rows.setdefault(date_text, (date_text, day.isoformat(), str(style.locale)))
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return shuffled[: _NUM_ROWS[split]]


@functools.cache
def _date_styles() -> list[_DateStyle]:
    """Return all formats that differ on one of twelve days: most of a thousand locales share theirs."""
    from babel import Locale
    from babel.dates import format_date, get_date_format
    from babel.localedata import locale_identifiers

    probe_days = [datetime.date(1969, month, 2 * month) for month in range(1, 13)]
    styles: dict[tuple[str, ...], _DateStyle] = {}
    for name in sorted(locale_identifiers()):
        locale = Locale.parse(name)
        for width in ("short", "medium", "long", "full"):
            pattern = re.sub(r"'[^']*'", "", get_date_format(width, locale).pattern)
            month = re.search("M+|L+", pattern)
            if month and not re.search(r"(?<!y)yy(?!y)", pattern):
                order = "".join(dict.fromkeys(re.sub("[^yMLd]", "", pattern))).replace("L", "M")
                months = tuple(str(format_date(day, month.group(), locale=locale)) for day in probe_days)
                style = _DateStyle(locale, width, order, months)
                styles.setdefault(tuple(style.format(day) for day in probe_days), style)
    return list(styles.values())


def _normalize_word(word: str) -> str:
    """Return the word of a month in lower case, without the point of an abbreviation."""
    return word.casefold().strip(". ")
