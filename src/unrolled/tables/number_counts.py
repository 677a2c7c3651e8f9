"""Counts over the numbers of a column that have the same unit, from which follows how they are written."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass, field

from unrolled.display import plural
from unrolled.tables.cell_values import has_decimal_comma, plain_digits, to_number
from unrolled.tables.digit_groups import DigitGroups
from unrolled.tables.number_units import COMMA_GROUPS, SCALED, NumberText, is_priced_with_commas

MAX_EXACT_DIGITS = 15
"""Digits of a whole number that a float has exactly; with more it is an identifier."""

MAX_CODE_SHARE = 0.25
"""Share of the numbers of a column that a number for missing values has, at most."""

_DECIMALS = re.compile(r"\d+\.\d*[1-9]0*")
MAX_SPELLINGS = 1_000

MIN_PRICE = 10
"""A price in euros, at least, that is no price with three digits after its point, as one of a litre may be: `212.000 €`."""

MIN_CODE_DIGITS = 9
"""Digits, at least, of whole numbers of equal length for a message that they may be codes."""

_TIMES = re.compile(r"1\d{9}|1\d{12}|(?:19|20)\d{10}(?:\d\d)?")
"""Whole numbers that are times: seconds or milliseconds since 1970, or year, month, day and time of day."""

_MONTH = re.compile(r"(?:19|20)\d\d\.(?:0[1-9]|1[0-2])|(?:0[1-9]|1[0-2])\.(?:19|20)\d\d")
MIN_MONTHS = 12
"""Numbers that may be months, such as `2024.12`, at least, for a message about them."""

MIN_BINARY_DIGITS = 3
"""Zeros and ones of a string of bits, at least; fewer may be a number."""


@dataclass
class NumberCounts:
    """Counts over texts that are numbers of one `unit` (`""`: none). With `allows_commas`, one may have a decimal comma.

    `num_numeric` are numbers without regard to groups of digits and parentheses; `num_in_parentheses` may be negative ones.
    `other_example` is a text that is no number.
    """

    unit: str
    allows_commas: bool
    num_numeric: int = 0
    num_integers: int = 0
    num_points: int = 0
    num_spaced: int = 0
    num_commas: int = 0
    num_coded_digits: int = 0
    digit_lengths: Counter[int] = field(default_factory=Counter)
    num_binary: int = 0
    num_months: int = 0
    num_minus: int = 0
    num_in_parentheses: int = 0
    comma_example: str = ""
    example: str = ""
    example_in_parentheses: str = ""
    other_example: str = ""
    spellings: dict[str, str] = field(default_factory=dict)
    two_spellings: tuple[str, str] | None = None
    codes: Counter[float] = field(default_factory=Counter)
    low: float = math.inf
    high: float = -math.inf
    digit_groups: tuple[DigitGroups, ...] = field(default_factory=lambda: tuple(map(DigitGroups, (",", ".", " "))))

    def add(self, text: NumberText, cell: str) -> str:
        """Count a text; return what stands for it where distinct ones are counted."""
        written, is_comma = text.number, has_decimal_comma(text.number)
        number = to_number(written, self.allows_commas and is_comma)
        if is_comma:
            self.add_comma(cell.strip())
        plain = plain_digits(written)
        for groups in self.digit_groups:
            if groups.sign not in plain and not is_comma:
                continue
            groups.add(plain, number is not None or text.in_parentheses, is_comma)
        if text.in_parentheses:
            self.num_in_parentheses += 1
            self.example_in_parentheses = self.example_in_parentheses or cell.strip()
        if number is not None or self.unit:
            self.example = self.example or cell.strip()
        if number is None:
            self.other_example = self.other_example or written.strip()
            return self.unit + written.strip()
        self._count_size(number)
        self._count_spelling(plain)
        self.num_points += "." in written and not is_comma
        is_integer = math.isfinite(number) and number == round(number)
        self.num_integers += is_integer
        if not text.in_parentheses:
            self.num_numeric += 1
            self.num_minus += plain[0] == "-"
            self.num_spaced += len(written.split()) > 1
        digits = plain.lstrip("+-")
        is_coded = digits.isdecimal() and ((len(digits) > 1 and digits[0] == "0") or len(digits) > MAX_EXACT_DIGITS)
        self.num_coded_digits += is_coded
        self.digit_lengths[len(digits) if digits.isdecimal() else 0] += 1
        self.num_months += _MONTH.fullmatch(plain) is not None
        self.num_binary += len(digits) >= MIN_BINARY_DIGITS and not digits.strip("01")
        return self.unit + (plain if is_coded or not is_integer else str(int(number)))

    def _count_spelling(self, plain: str) -> None:
        """Keep the first two spellings of one number, such as 3.1 and 3.10, which may be two versions."""
        if self.two_spellings is None and _DECIMALS.fullmatch(plain):
            first = self.spellings.setdefault(plain.rstrip("0"), plain) if len(self.spellings) < MAX_SPELLINGS else plain
            if first != plain:
                self.two_spellings = (min(first, plain, key=len), max(first, plain, key=len))

    def _count_size(self, number: float) -> None:
        """Count a number of nines alone, such as -9999, which may stand for a missing value; keep the range of the others."""
        if re.fullmatch(r"-?99+(\.0)?", str(number)):
            self.codes[number] += 1
        elif math.isfinite(number):
            self.low, self.high = min(self.low, number), max(self.high, number)

    def _code_note(self, name: str) -> str:
        spread = self.high - self.low
        for code, count in self.codes.most_common():
            if 1 < count <= MAX_CODE_SHARE * self.num_numeric and not self.low - spread <= code <= self.high + spread:
                far = f"far from the others, {self.low:g} to {self.high:g}"
                return (
                    f"'{name}': {code:g} stands in {count:,} rows, {far}: if it means that a value is missing, leave it empty"
                )
        return ""

    def has_codes(self, num_rows: int) -> bool:
        """Return whether whole numbers are codes: some with leading zeros, or a few where all have equally many digits."""
        return self.num_coded_digits > max(1, num_rows // 100) or (self.num_coded_digits > 0 and len(self.digit_lengths) == 1)

    def add_comma(self, example: str) -> None:
        """Count a cell with a number that has a decimal comma."""
        self.num_commas, self.comma_example = self.num_commas + 1, self.comma_example or example

    def num_numbers(self, declared: bool = False) -> int:
        """Return how many texts are numbers, with regard to groups of digits and parentheses; see `group_sign`."""
        grouped = next((groups.num_other for groups in self.digit_groups if self._groups_digits(groups, declared)), 0)
        return self.num_numeric + grouped + self.num_in_parentheses * self.are_parentheses_negative(declared)

    def are_parentheses_negative(self, declared: bool = False) -> bool:
        """Return whether a number in parentheses is a negative one: if others have none, and no minus either.

        In a column that is `declared` to be of numbers, it can be nothing else.
        """
        return self.num_in_parentheses > 0 and (declared or (self.num_minus == 0 and self.num_numeric > 0))

    def group_sign(self, declared: bool = False) -> str:
        """Return the sign that groups the digits of numbers, a comma, a point or a blank, or an empty text.

        In a column that is `declared` to be of numbers, blanks cannot separate two.
        """
        return next((groups.sign for groups in self.digit_groups if self._groups_digits(groups, declared)), "")

    def _groups_digits(self, groups: DigitGroups, declared: bool) -> bool:
        if groups.sign == " ":
            return groups.groups(may_be_decimal=not declared)
        if groups.sign == ".":
            return groups.groups(may_be_decimal=self.high < MIN_PRICE or not is_priced_with_commas(self.unit))
        return groups.groups(may_be_decimal=self.allows_commas and self.unit not in COMMA_GROUPS)

    def has_decimal_commas(self) -> bool:
        """Return whether the comma is the decimal point: where it may be, and if it is more often than the point is."""
        is_decimal = self.allows_commas and self.num_commas > 0 and self.num_commas >= self.num_points
        return self.group_sign() == "." or (is_decimal and self.group_sign() != ",")

    def notes(self, name: str, num_rows: int, declared: bool) -> list[str]:
        """Return sentences about how the numbers of the column `name` are written."""
        grouped = [groups.note(name) for groups in self.digit_groups if self._groups_digits(groups, declared)][:1]
        if not grouped and self.has_decimal_commas():
            grouped = [f"'{name}': the comma is read as the decimal point, as in {self.comma_example}"]
        points = self.digit_groups[1]
        may_be_thousands = self.allows_commas or is_priced_with_commas(self.unit)
        if not grouped and may_be_thousands and points.num_grouped and not points.num_otherwise:
            grouped = [
                f"'{name}': the point is read as the decimal point, as in {points.example}; if it groups digits, remove it"
            ]
        if self.unit.endswith(SCALED):
            grouped.append(f"'{name}': K, M and B are read as thousands, millions and billions, as in {self.example}")
        elif self.unit:
            numbers = f"{self.num_numbers(declared):,} of {plural(num_rows, 'number')}"
            grouped.append(f"'{name}': the unit {self.unit} is left out of {numbers}, as in {self.example}")
        if self.are_parentheses_negative(declared):
            numbers = plural(self.num_in_parentheses, "number")
            grouped.append(f"'{name}': {numbers} in parentheses, as in {self.example_in_parentheses}, read as negative")
        if self.two_spellings is not None:
            first, second = self.two_spellings
            grouped.append(
                f"'{name}': {first} and {second} are one number; if they are two versions, say {name}:label or :text"
            )
        return [*grouped, *filter(None, [self._code_note(name), "" if declared else self._digits_note(name)])]

    def _digits_note(self, name: str) -> str:
        if self.num_months >= MIN_MONTHS and self.num_months == self.num_numeric:
            month = f"values such as {self.example} are read as numbers; if they are months, say {name}:text"
            return f"'{name}': {month}, or write how many months they are from the first"
        length = max(self.digit_lengths, default=0)
        if len(self.digit_lengths) > 1 or length < MIN_CODE_DIGITS or self.unit or self.num_minus:
            return ""
        if _TIMES.fullmatch(f"{self.low:.0f}"):
            return ""
        return f"'{name}': all values have {length} digits; if they are codes, as telephone numbers are, say {name}:text"
