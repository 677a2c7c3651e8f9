"""Numbers with a unit at one end, such as `$12.50`, `12,50 €`, `12.5%`, `50 EUR` and `3 sq ft`; negative ones: `(12.50)`."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from unrolled.tables.digit_groups import with_ascii_digits

COMMA_GROUPS = frozenset(("$", "£", "¥", "₹", "₩", "₱", "฿", "₪", "US$", "USD", "GBP", "JPY", "INR"))
"""Currencies whose users group digits by commas: with other units, the comma of `1,859` may be the decimal point."""

CODES = frozenset(
    (
        "EUR", "USD", "GBP", "CHF", "JPY", "CNY", "RMB", "INR", "AUD", "CAD", "NZD", "SEK", "NOK", "DKK", "PLN", "CZK", "HUF",
        "RON", "BGN", "RUB", "UAH", "TRY", "BRL", "MXN", "ARS", "CLP", "COP", "ZAR", "KRW", "SGD", "HKD", "TWD", "THB", "IDR",
        "MYR", "PHP", "VND", "ILS", "AED", "SAR", "EGP", "NGN", "KES", "BTC", "ETH", "Rs", "Rs.", "kr", "kr.",
        "Fr.", "Kč", "zł",
    )
)  # fmt: skip
"""Units of letters that may stand before a number; others would be names, such as `Room 12`."""

MAX_LENGTH = 64
"""Characters of a text that is a number with a unit."""

MAX_UNIT_WORDS = 3

SCALES = {
    "K": 1e3, "k": 1e3, "Tsd.": 1e3, "thousand": 1e3, "M": 1e6, "mn": 1e6, "million": 1e6, "Mio.": 1e6, "B": 1e9, "bn": 1e9,
    "billion": 1e9, "Mrd.": 1e9,
}  # fmt: skip
"""Units that multiply: a number without them is another one."""

SCALED = "K/M/B"
"""The unit of a column whose numbers have different `SCALES`, which are then multiplied: `845`, `1.2K` and `3.4M`."""

_BLANK = "[ \u00a0\u202f\u2009]*"
_NUMBER = "[.,]?\\d(?:[\\d.,'\u2019 \u00a0\u202f\u2009]*\\d)?"
_GROUPS = re.compile(r",(?=\d{3}(?:\D|$))")
_PLAIN = re.compile(r"[+-]?\d+(?:\.\d+)?")
_SCALE = re.compile(r"(?:/|out of) ?\d{1,4}(?: [^\W\d]{1,15})?")
"""Of what a number is: `4.5/5`, `4.5 out of 5 stars`."""

_WITH_UNIT = re.compile(
    rf"(?P<sign>[+\u2212\u2013-]?){_BLANK}(?P<before>[^\d\s.,+()-][^\d\s,+()-]{{0,3}})?{_BLANK}(?P<minus>[+\u2212\u2013-]?)"
    rf"(?P<number>{_NUMBER}){_BLANK}(?P<after>[^\d\s.,+()-][^\d,()]{{0,15}}|{_SCALE.pattern})?"
)
_IN_PARENTHESES = re.compile(r"([^\d()]{0,4})\(\s*([^()+-]*\d[^()]*?)\s*\)([^\d()]{0,16})")
_CURRENCY = re.compile(r"[A-Z]{0,3}[^\w\s]")
_UNIT_SIGNS = "%‰°/²³·.'µ "


class NumberText(NamedTuple):
    """A number as it is written, without its `unit` (`""`: none); one in parentheses has a minus instead."""

    unit: str
    number: str
    in_parentheses: bool = False


def split_unit(text: str) -> NumberText:
    """Return the unit and the number of a text; any other text as it is, without a unit.

    Example:
        >>> split_unit("-$1,250.00")[:2], split_unit("12,50 €")[:2], split_unit("50 kg")[:2], split_unit("12.50")[:2]
        (('$', '-1,250.00'), ('€', '12,50'), ('kg', '50'), ('', '12.50'))
        >>> split_unit("($1.50)")
        NumberText(unit='$', number='-1.50', in_parentheses=True)
    """
    bare = with_ascii_digits(text.strip()) if len(text) <= MAX_LENGTH else ""
    match = _IN_PARENTHESES.fullmatch(bare) if "(" in bare else None
    if match is not None:
        inner = split_unit("".join(match.groups()))
        is_number = inner.number[:1].isdecimal() and not inner.number.strip("0123456789.,'\u2019 \u00a0\u202f\u2009")
        return NumberText(inner.unit, f"-{inner.number}", True) if is_number else NumberText("", text)
    match = _WITH_UNIT.fullmatch(bare)
    if match is None or (match["sign"] and match["minus"]) or not (match["before"] or match["after"]):
        return NumberText("", text)
    before, after = (" ".join(unicodedata.normalize("NFC", match[end] or "").split()) for end in ("before", "after"))
    if (
        (before and not _may_precede(before))
        or (after and not _may_follow(after))
        or (before and after and not _follows_sign(after))
    ):
        return NumberText("", text)
    unit = before + after
    return NumberText(unit, (match["sign"] or match["minus"]) + match["number"])


class ScaledNumber(NamedTuple):
    """A number whose `scale` is multiplied, without the `currency` before it."""

    currency: str
    scale: str
    number: str


def split_scale(text: str) -> ScaledNumber | None:
    """Return a number that may have one of the `SCALES` as it is without; None for any other text, also with other units.

    Example:
        >>> split_scale("$1.2K"), split_scale("845"), split_scale("5 kg")
        (ScaledNumber(currency='$', scale='K', number='1200'), ScaledNumber(currency='', scale='', number='845'), None)
    """
    found = split_unit(text)
    scale = next((scale for scale in SCALES if found.unit.endswith(scale)), "")
    currency = found.unit.removesuffix(scale)
    plain = _GROUPS.sub("", found.number).replace(",", ".")
    if (currency and not is_symbol(currency)) or _PLAIN.fullmatch(plain) is None:
        return None
    return ScaledNumber(currency, scale, f"{float(plain) * SCALES.get(scale, 1.0):.15g}")


def is_symbol(unit: str) -> bool:
    """Return whether a unit is that of a currency or of per cent, and no word that may be part of a text."""
    return unit in CODES or any(unicodedata.category(character) == "Sc" or character in "%‰" for character in unit)


def is_priced_with_commas(unit: str) -> bool:
    """Return whether a unit is a currency whose users write commas as the decimal point: `212.000 €` are no 212."""
    return is_symbol(unit) and unit not in COMMA_GROUPS and unit not in ("%", "‰")


def _follows_sign(unit: str) -> bool:
    """Return whether a unit may follow a number that has the sign of a currency before it: `$1,200/mo`, `$4K`."""
    return unit[0] == "/" or unit == "m" or unit in SCALES


def may_be_left_out(unit: str) -> bool:
    """Return whether a number without this unit is the same number, as 5 in a column with `5 kg`, and not 400 with `1.2k`.

    Example:
        >>> may_be_left_out("kg"), may_be_left_out("$"), may_be_left_out("k"), may_be_left_out("$M")
        (True, True, False, False)
    """
    bare = unit.lstrip("".join(character for character in unit if unicodedata.category(character) == "Sc"))
    return bare not in SCALES


def _may_precede(unit: str) -> bool:
    return unit in CODES or unit in ("%", "‰") or (_CURRENCY.fullmatch(unit) is not None and is_symbol(unit))


def _may_follow(unit: str) -> bool:
    if _SCALE.fullmatch(unit) is not None:
        return True
    is_sign = all(
        character.isalpha() or character in _UNIT_SIGNS or unicodedata.category(character) == "Sc" for character in unit
    )
    return is_sign and unit != "." and len(unit.split()) <= MAX_UNIT_WORDS
