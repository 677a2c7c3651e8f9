"""Dates and names as the peoples of the world write them: `builtin:dates` and `builtin:languages`.

Both are made by Babel from the Unicode Consortium's Common Locale Data Repository, which it carries: nothing is downloaded,
and only code of ours is kept here. The rows are the same for the same version of Babel.
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

_LANGUAGES = (  # well known, of many scripts, with some that are easily confused; all with many names of their own
    "en de nl sv da fi pl cs hu ro lt fr es pt it ru uk bg el tr ar fa he hi th vi id ja ko zh"
)
_FIRST_DAY, _LAST_DAY = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
_TEST_DAY_STRIDE = 20  # every so many days one is for testing only
_MIN_AGREEMENT = 0.9
_NUM_ROWS = {"train": 60_000, "test": 3_000}


def languages(split: str) -> Iterator[dict[str, str]]:
    """Yield `{"name": "Königreich", "language": "German"}`: names that only one of the languages has.

    A tenth of them is for testing; no name is in both parts, whatever its capitals.
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
    """Return what a language calls languages, territories, scripts, dialects, moneys, cities, months, days and quarters."""
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
    """One way of writing dates: a locale's short, medium, long or full one. `months` are its words, or numbers as text."""

    locale: Locale
    width: str
    order: str
    months: tuple[str, ...]

    def format(self, day: datetime.date) -> str:
        from babel.dates import format_date

        return str(format_date(day, self.width, locale=self.locale))

    def is_unambiguous(self, day: datetime.date, month_words: Mapping[str, Counter[int]]) -> bool:
        """Return whether a date written so is the same date wherever it is read. `words` counts what months' words mean.

        Where two languages give a word to different months ("listopada" is October in Croatian, November in Polish), it
        is left out of both, or of the few if nearly all agree, since "12 May" should not go for the sake of one of them.
        Where day and month are both numbers, the year must stand first, or the day be no month.
        """
        word = self.months[day.month - 1]
        if any(letter.isalpha() for letter in word):
            meanings = month_words[_normalize_word(word)]
            return meanings[day.month] >= _MIN_AGREEMENT * meanings.total()
        return self.order == "yMd" or day.day > 12 or day.day == day.month


def dates(split: str) -> Iterator[dict[str, str]]:
    """Yield `{"written": "15. Juni 1969", "iso": "1969-06-15", "locale": "de"}` for the years from 1900 to 2099.

    Both parts have every way of writing. No day is in both, so no tested answer has been trained on. Ways with a year of
    two digits are left out: nobody can tell their century.
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
    """Return all ways of writing that differ on some probing day: most of a thousand locales share them."""
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
    """Return a month's word without what tells nothing: capitals and the point of an abbreviation."""
    return word.casefold().strip(". ")
