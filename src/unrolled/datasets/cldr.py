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
_HELD_DAYS = 20  # every so many days one is for testing only
_AGREED = 0.9
_ROWS = {"train": 60_000, "test": 3_000}


def languages(part: str) -> Iterator[dict[str, str]]:
    """Yield `{"name": "Königreich", "language": "German"}`: names that only one of the languages has.

    A tenth of them is for testing; no name is in both parts, whatever its capitals.
    """
    return (dict(zip(("name", "language"), row, strict=True)) for row in _languages()[part])


@functools.cache
def _languages() -> dict[str, list[tuple[str, str]]]:
    from babel import Locale

    owners: dict[str, set[str]] = {}
    spelled: dict[str, str] = {}
    for code in _LANGUAGES.split():
        locale = Locale.parse(code)
        for name in sorted(_names(locale)):
            if sum(letter.isalpha() for letter in name) >= 2:
                spelled.setdefault(name.casefold(), name)
                owners.setdefault(name.casefold(), set()).add(str(locale.english_name))
    rows = [(spelled[key], next(iter(owner))) for key, owner in owners.items() if len(owner) == 1]
    random.Random(0).shuffle(rows)
    held = len(rows) // 10
    return {"test": rows[:held], "train": rows[held:]}


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
class _Style:
    """One way of writing dates: a locale's short, medium, long or full one. `months` are its words, or numbers as text."""

    locale: Locale
    width: str
    order: str
    months: tuple[str, ...]

    def write(self, day: datetime.date) -> str:
        from babel.dates import format_date

        return str(format_date(day, self.width, locale=self.locale))

    def is_clear(self, day: datetime.date, words: Mapping[str, Counter[int]]) -> bool:
        """Return whether a date written so is the same date wherever it is read. `words` counts what months' words mean.

        Where two languages give a word to different months ("listopada" is October in Croatian, November in Polish), it
        is left out of both, or of the few if nearly all agree, since "12 May" should not go for the sake of one of them.
        Where day and month are both numbers, the year must stand first, or the day be no month.
        """
        word = self.months[day.month - 1]
        if any(letter.isalpha() for letter in word):
            meanings = words[_root(word)]
            return meanings[day.month] >= _AGREED * meanings.total()
        return self.order == "yMd" or day.day > 12 or day.day == day.month


def dates(part: str) -> Iterator[dict[str, str]]:
    """Yield `{"written": "15. Juni 1969", "iso": "1969-06-15", "locale": "de"}` for the years from 1900 to 2099.

    Both parts have every way of writing. No day is in both, so no tested answer has been trained on. Ways with a year of
    two digits are left out: nobody can tell their century.
    """
    return (dict(zip(("written", "iso", "locale"), row, strict=True)) for row in _dates(part))


@functools.cache
def _dates(part: str) -> list[tuple[str, str, str]]:
    draw = random.Random(part)
    styles = _styles()
    words: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for style in styles:
        for month, word in enumerate(style.months, 1):
            words[_root(word)][month] += 1
    days = range((_LAST_DAY - _FIRST_DAY).days + 1)
    days_here = [day for day in days if (day % _HELD_DAYS == 0) == (part == "test")]
    rows: dict[str, tuple[str, str, str]] = {}
    while len(rows) < _ROWS[part]:
        for style in styles:
            day = _FIRST_DAY + datetime.timedelta(draw.choice(days_here))
            if style.is_clear(day, words):
                written = style.write(day)
                rows.setdefault(written, (written, day.isoformat(), str(style.locale)))
    mixed = list(rows.values())
    draw.shuffle(mixed)
    return mixed[: _ROWS[part]]


@functools.cache
def _styles() -> list[_Style]:
    """Return all ways of writing that differ on some probing day: most of a thousand locales share them."""
    from babel import Locale
    from babel.dates import format_date, get_date_format
    from babel.localedata import locale_identifiers

    probes = [datetime.date(1969, month, 2 * month) for month in range(1, 13)]
    found: dict[tuple[str, ...], _Style] = {}
    for name in sorted(locale_identifiers()):
        locale = Locale.parse(name)
        for width in ("short", "medium", "long", "full"):
            fields = re.sub(r"'[^']*'", "", get_date_format(width, locale).pattern)
            month = re.search("M+|L+", fields)
            if month and not re.search(r"(?<!y)yy(?!y)", fields):
                order = "".join(dict.fromkeys(re.sub("[^yMLd]", "", fields))).replace("L", "M")
                months = tuple(str(format_date(day, month.group(), locale=locale)) for day in probes)
                style = _Style(locale, width, order, months)
                found.setdefault(tuple(style.write(day) for day in probes), style)
    return list(found.values())


def _root(word: str) -> str:
    """Return a month's word without what tells nothing: capitals and the point of an abbreviation."""
    return word.casefold().strip(". ")
