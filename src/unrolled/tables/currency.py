"""Numbers with the sign of a currency or of per cent, such as `$12.50`, `12,50 €` and `12.5%`."""

from __future__ import annotations

import re
import unicodedata

from unrolled.tables.digit_groups import without_blanks

COMMA_GROUPS = "$£¥₹₩₱฿₪"
"""Signs of currencies whose users group digits by commas: with others, the comma of `1,859` may be the decimal point."""

_NUMBER_LIKE = re.compile(r"[+-]?[\d.,]*\d[\d.,]*")
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_ONE_GROUP = re.compile(r"[+-]?\d{1,3},\d{3}")


def split_currency(text: str) -> tuple[str, str]:
    """Return the sign of a currency before or after a number, or `%` or `‰`, and the number without it; else "" and the text.

    Commas that group digits are left out of a number with a sign.

    Example:
        >>> split_currency("-$1,250.00"), split_currency("12,50 €"), split_currency("12.50")
        (('$', '-1250.00'), ('€', '12,50'), ('', '12.50'))
    """
    bare = text.strip()
    minus, bare = (bare[0], bare[1:].lstrip()) if bare[:1] in ("+", "-") else ("", bare)
    if len(bare) < 2:
        return "", text
    if _is_sign(bare[0]):
        sign, number = bare[0], bare[1:].lstrip()
    elif _is_sign(bare[-1]):
        sign, number = bare[-1], bare[:-1].rstrip()
    else:
        return "", text
    number = without_blanks(number)
    if not _NUMBER_LIKE.fullmatch(number):
        return "", text
    if _GROUPED.fullmatch(number) and (sign in COMMA_GROUPS or not _ONE_GROUP.fullmatch(number)):
        number = number.replace(",", "")
    return sign, minus + number


def _is_sign(character: str) -> bool:
    return unicodedata.category(character) == "Sc" or character in "%‰"
