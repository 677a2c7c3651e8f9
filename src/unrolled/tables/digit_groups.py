"""Numbers whose digits are in groups, such as `1,250,000`, `12,50,000`, `1.250.000,50`, `1 250,50` and `1'250'000`.

An apostrophe or a no-break space between digits can only group them. A normal space does so before a decimal comma; else it may
separate two numbers. A comma or a point may also be the decimal point: what it is follows from all cells of the column.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field

from unrolled.display import plural

_BY_BLANKS = re.compile(r"[+-]?[1-9]\d{0,2}(?:([\u00a0\u202f\u2009'\u2019])\d{3}(?:\1\d{3})*(?:[.,]\d+)?|(?: \d{3})+,\d+)")
_PATTERNS = {
    ",": re.compile(r"[+-]?([1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d\d)+,\d{3})(\.\d+)?"),
    ".": re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+(,\d+)?"),
    " ": re.compile(r"[+-]?[1-9]\d{0,2}( \d{3})+(\.\d+)?"),
}
_OTHERWISE = {
    **{sign: re.compile(rf"[+-]?\d+\{sign}\d+(e[+-]?\d+)?", re.IGNORECASE) for sign in ",."},
    " ": re.compile(r"[+-]?\d[\d.]*( +[+-]?\d[\d.]*)+"),
}
"""What a number looks like in which the sign does not group digits: a decimal number, or numbers side by side."""

_SPACED_ARRAYS = re.compile(r"[+-]?[1-9]\d{0,2}(?: \d{3}){2,}\.\d+|[+-]?[1-9]\d{0,2}(?: \d{3})* 0\d\d(?: \d{3})*")
"""Numbers in many groups that would else be arrays: with decimals in the last group alone, or a group that begins with 0."""

MAX_LENGTH = 64
"""Characters of a number in groups."""

MIN_GROUPED_RATIO = 50
"""Numbers in groups for each one in which the sign does not group digits; that one is then left out as an error."""

MAX_CODE_SHARE = 0.9
"""Share of numbers with equally many digits, in three groups or more, above which blanks do not show that they are amounts:
they may be telephone numbers."""


_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻"
_SIGNS = {
    "\u066b": ".",
    "\u066c": "'",
    "\uff0e": ".",
    "\uff0c": ",",
    "\uff0d": "-",
    "\uff0b": "+",
    "\uff05": "%",
    "\u066a": "%",
}
"""Decimal points and other signs of numbers: those of Arabic, and the wide ones of Chinese and Japanese."""


def with_ascii_digits(text: str) -> str:
    """Return a text with a digit of any script in it with the digits 0 to 9 instead, and the signs that go with them.

    Example:
        >>> with_ascii_digits("١٬٢٥٠٫٥"), with_ascii_digits("１２．５％"), with_ascii_digits("déjà ٫")
        ("1'250.5", '12.5%', 'déjà ٫')
    """
    if text.isascii() or not any(character.isdecimal() and character > "\x7f" for character in text):
        return text
    return "".join(
        str(unicodedata.decimal(character)) if character.isdecimal() else _SIGNS.get(character, character) for character in text
    )


_MINUS_SIGNS = "\u2212\u2013\u2010\u2011\ufe63"
_PRINTED = re.compile(r"(?:(?:np|numpy)\.\w+|Decimal|tensor|array)\((['\"]?)([^'\"(),\s]+)\1(?:, dtype=[\w.]+)?\)")
_POWER = re.compile(
    rf"([+-]?\d+(?:[.,]\d+)?)(?:D(?=[+-]\d)| ?[x×·*] ?10(?:\^|\*\*|(?=[{_RAISED}])))([+{_MINUS_SIGNS}-]?\d+|[{_RAISED}]+)"
)


def with_plain_signs(text: str) -> str:
    """Return a number with a normal minus and `e` before its exponent, and without what Python prints around it; any other text
    as it is.

    Example:
        >>> with_plain_signs("−1.5"), with_plain_signs("6.2x10^-3"), with_plain_signs("4·10⁵"), with_plain_signs("1.5D+03")
        ('-1.5', '6.2e-3', '4e5', '1.5e+03')
        >>> with_plain_signs("np.float64(0.5)"), with_plain_signs("Decimal('4.31')"), with_plain_signs("3x10")
        ('0.5', '4.31', '3x10')
    """
    if text[-1:] == ")" and (printed := _PRINTED.fullmatch(text)):
        text = printed[2]
    if text[:1] in _MINUS_SIGNS and text[1:2].isdecimal():
        text = "-" + text[1:]
    if power := _POWER.fullmatch(text) if "10" in text or "D" in text else None:
        exponent = power[2].translate(str.maketrans(_RAISED + _MINUS_SIGNS, "0123456789+-" + "-" * len(_MINUS_SIGNS)))
        return f"{power[1]}e{exponent}"
    return text


def without_blanks(text: str) -> str:
    """Return a number without the blanks or apostrophes that group its digits; any other text unchanged.

    Example:
        >>> without_blanks("1 250 000,50"), without_blanks("1'250"), without_blanks("120 250")
        ('1250000,50', '1250', '120 250')
    """
    match = _BY_BLANKS.fullmatch(text)
    return text.replace(match[1] or " ", "") if match else text


def without_groups(text: str, sign: str) -> str:
    """Return a number without the signs that group its digits, and with a decimal point; any other text unchanged.

    Example:
        >>> without_groups("1,250.5", ","), without_groups("1.250,5", "."), without_groups("12,5", ",")
        ('1250.5', '1250.5', '12,5')
    """
    text = text.strip()
    return text.replace(sign, "").replace(",", ".") if sign and _PATTERNS[sign].fullmatch(text) else text


def is_surely_grouped(text: str) -> bool:
    """Return whether a text that has several groups of digits is one number, such as `1,250.50`, and not several."""
    text = text.strip()
    if len(text) > MAX_LENGTH:
        return False
    by_commas = _PATTERNS[","].fullmatch(text)
    return (
        _BY_BLANKS.fullmatch(text) is not None
        or (by_commas is not None and by_commas[2] is not None)
        or _SPACED_ARRAYS.fullmatch(text) is not None
    )


@dataclass
class DigitGroups:
    """Counts over the cells of a column, for one `sign` that may group digits: `,`, `.` or a blank.

    `num_sure` are numbers in which it can only do that (`1,250,000`, `1,250.5`, `1 050`), `num_otherwise` those in which it
    cannot (`12,5`, `12 5`); `num_other` are no numbers otherwise: with points as groups, also those with a decimal comma.
    """

    sign: str
    num_grouped: int = 0
    num_sure: int = 0
    num_otherwise: int = 0
    num_other: int = 0
    example: str = ""
    num_digits: Counter[int] = field(default_factory=Counter)

    def add(self, text: str, is_number: bool, has_decimal_comma: bool) -> None:
        """Count a text; `is_number` says whether it is a number without regard to groups."""
        self.num_other += not is_number and self.sign == "." and has_decimal_comma
        match = _PATTERNS[self.sign].fullmatch(text)
        if match is None:
            self.num_otherwise += _OTHERWISE[self.sign].fullmatch(text) is not None
            return
        self.num_grouped += 1
        self.num_other += not is_number and not (self.sign == "." and has_decimal_comma)
        if self.sign == " ":
            self.num_digits[sum(map(str.isdecimal, text))] += 1
            is_sure = match[2] is not None or " 0" in text
        else:
            is_sure = match[2] is not None or text.count(self.sign) > 1
        self.num_sure += is_sure
        self.example = text if is_sure and self.num_sure == 1 else self.example or text

    def groups(self, may_be_decimal: bool) -> bool:
        """Return whether the sign groups digits: hardly a number needs it otherwise, and one cannot have it so.

        With `may_be_decimal`, a sign that may be either in all numbers is the decimal point, and a blank separates numbers;
        it also does in what may be telephone numbers.
        """
        if self.num_grouped <= MIN_GROUPED_RATIO * self.num_otherwise:
            return False
        if not may_be_decimal:
            return True
        return self.num_sure > 0 and not (self.sign == " " and self._are_codes())

    def _are_codes(self) -> bool:
        most_common = max(self.num_digits, key=lambda digits: self.num_digits[digits])
        return most_common >= 9 and self.num_digits[most_common] >= MAX_CODE_SHARE * self.num_grouped and self.num_grouped > 1

    def note(self, name: str) -> str:
        """Return a sentence for the user."""
        sign = {",": "comma", ".": "point", " ": "blank"}[self.sign]
        numbers = plural(self.num_grouped, "number")
        return f"'{name}': the {sign} groups digits in {numbers}, as in {self.example}, and is left out"
