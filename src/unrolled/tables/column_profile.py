"""Counts over the cells of a column, from which its kind is inferred.

The kind is what nearly all cells can be read as (`MIN_KIND_SHARE`): images before arrays, arrays before numbers. So a few odd
cells decide nothing; their rows are left out of training and counted. What is none of these is a label or a text.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import (
    IMAGE_SUFFIXES,
    Cell,
    has_decimal_comma,
    parse_array,
    parse_list,
    parse_text,
    plain_digits,
    to_number,
    with_decimal_points,
)
from unrolled.tables.currency import split_currency
from unrolled.tables.digit_groups import DigitGroups, is_surely_grouped
from unrolled.text.normalization import normalize

MAX_PROFILED_ROWS = 20_000
"""Rows whose words are counted; of a longer table, the first ones."""

MIN_ARRAY_NUMBERS = 5
"""Integers that a text must consist of, at least, to be an array: three of them may be a date."""

MIN_KIND_SHARE = 0.9
"""Share of cells that must be images, arrays or numbers, for their column to be: the others are left out and counted."""

MIN_DECIMALS = 3
"""Numbers with decimals that a text must consist of, at least, to be an array."""

MAX_EXACT_DIGITS = 15
"""Digits of a whole number that a float has exactly; with more it is an identifier."""

MIN_BINARY_DIGITS = 3
"""Zeros and ones of a string of bits, at least; fewer may be a number."""

MAX_NUMERIC_LABELS = 20
"""Distinct whole numbers, at most, for them to be labels: as many as there are, say, grades; more are ages or counts."""

MAX_DISTINCT = 10_000
MAX_INFERRED_LABELS = 1_000
MAX_CATEGORIES = 50
MIN_ROWS_PER_LABEL = 4
"""Rows per distinct text, on average, for texts to be labels."""

MIN_ROWS_PER_NUMBER = 10
"""Rows per distinct integer, on average, for integers to be labels."""

MIN_REPEATED_SHARE = 0.85
"""Share of words that must occur at least three times, for a text to be split into words."""


@dataclass
class ColumnProfile:
    """Counts over the cells of a column. With `allows_commas`, a number may have a decimal comma."""

    name: str
    allows_commas: bool = False
    normalization: str = "none"
    num_rows: int = 0
    num_numeric: int = 0
    num_integers: int = 0
    num_points: int = 0
    num_spaced: int = 0
    num_commas: int = 0
    comma_example: str = ""
    currency_signs: Counter[str] = field(default_factory=Counter)
    num_signed: int = 0
    signed_example: str = ""
    digit_groups: tuple[DigitGroups, ...] = field(default_factory=lambda: (DigitGroups(","), DigitGroups(".")))
    num_coded_digits: int = 0
    num_binary: int = 0
    num_digit_sequences: int = 0
    num_images: int = 0
    value_counts: Counter[str] = field(default_factory=Counter)
    num_arrays: int = 0
    shape_counts: Counter[tuple[int, ...]] = field(default_factory=Counter)
    num_integer_arrays: int = 0
    sequence_lengths: Counter[int] = field(default_factory=Counter)
    num_lists: int = 0
    word_counts: Counter[str] = field(default_factory=Counter)
    num_words: int = 0
    num_punctuated: int = 0
    max_length: int = 0

    def add(self, cell: Cell) -> None:
        """Count one cell that is not empty."""
        self.num_rows += 1
        value = parse_list(cell.value)
        is_list = isinstance(value, list) and bool(value) and not is_numeric(value)
        self.num_lists += is_list
        if is_list and not isinstance(cell.value, str):
            return
        is_digits = self._count_digits(cell.value)
        if not is_list and is_array(value, self.allows_commas) and self._add_array(cell):
            if is_digits and self.num_rows <= MAX_PROFILED_ROWS:
                self._count_words(cell.value)
            return
        try:
            text = normalize(parse_text(cell), self.normalization)
        except DataError:
            return
        if text.lower().endswith(IMAGE_SUFFIXES) and len(text.splitlines()) == 1:
            self.num_images += 1
        if len(self.value_counts) < MAX_DISTINCT:
            self.value_counts[self._add_number(text)] += 1
        if self.num_rows <= MAX_PROFILED_ROWS:
            self._count_words(text)

    def _add_array(self, cell: Cell) -> bool:
        """Count a cell that looks like an array; return whether it is one, or a list of numbers with an error in it."""
        try:
            has_commas = self.allows_commas and isinstance(cell.value, str) and "," in cell.value
            array = parse_array(with_decimal_points(cell) if has_commas else cell)
        except DataError:
            self.num_arrays += not isinstance(cell.value, str)
            return not isinstance(cell.value, str)  # else a text that only looks so, such as a title about `x.npy`
        self.num_arrays += 1
        if self.num_rows <= MAX_PROFILED_ROWS:
            self.shape_counts[array.shape] += 1
            self.num_integer_arrays += bool((array == np.rint(array)).all())
        if isinstance(cell.value, str) and (part := next(filter(has_decimal_comma, cell.value.split()), None)) is not None:
            self.num_commas, self.comma_example = self.num_commas + 1, self.comma_example or part
        return True

    def _add_number(self, text: str) -> str:
        """Count a text that is a number; return what stands for the text where distinct ones are counted.

        One with the sign of a currency is a number only if nearly all have it: it is counted for itself.
        """
        whole, (sign, text) = text, split_currency(text)
        if sign:
            self.num_signed, self.signed_example = self.num_signed + 1, self.signed_example or whole.strip()
        is_comma = has_decimal_comma(text)
        if is_comma:
            self.num_commas, self.comma_example = self.num_commas + 1, self.comma_example or text.strip()
        number = to_number(text, self.allows_commas and is_comma)
        for groups in () if sign else self.digit_groups:
            groups.add(plain_digits(text), number is not None, is_comma)
        if number is None:
            return sign + text.strip()
        self.num_points += "." in text and not is_comma
        if sign:
            self.currency_signs[sign] += 1
            return sign + text.strip()
        self.num_numeric += 1
        self.num_spaced += len(text.split()) > 1
        is_integer = math.isfinite(number) and number == round(number)
        self.num_integers += is_integer
        text = plain_digits(text)
        digits = text.lstrip("+-")
        is_coded = digits.isdecimal() and ((len(digits) > 1 and digits[0] == "0") or len(digits) > MAX_EXACT_DIGITS)
        self.num_coded_digits += is_coded
        self.num_binary += len(digits) >= MIN_BINARY_DIGITS and not digits.strip("01")
        return text if is_coded or not is_integer else str(int(number))

    def _count_digits(self, value: Any) -> bool:
        """Count a text of whole numbers, separated by spaces, and their number; return whether it is one."""
        parts = value.split() if isinstance(value, str) and value[:1].isdecimal() else []
        if not parts or not all(map(str.isdecimal, parts)):
            return False
        self.num_digit_sequences += 1
        self.sequence_lengths[len(parts)] += 1
        return True

    def _count_words(self, text: str) -> None:
        words = text.split()
        self.word_counts.update(words)
        self.num_words += len(words)
        self.max_length = max(self.max_length, len(text))
        self.num_punctuated += sum(1 for word in words if len(word) > 1 and word[-1] in ".,!?;:" and word[:-1].isalnum())

    def infer_kind(self) -> str:
        """Return the kind, from this column alone: what nearly all cells are; else a label or a text, which all may be."""
        if self._is_nearly_all(self.num_images):
            return "image"
        if self.has_digit_sequences():
            return "text"
        if self._is_nearly_all(self.num_arrays):
            return self._array_kind()
        if 2 * self.num_lists > self.num_rows:
            return "labels"
        if self.currency():
            return "number"
        rows_per_value = self.num_rows / max(1, len(self.value_counts))
        if self._is_nearly_all(self.num_numeric + self._num_only_grouped()) and not self._has_strings_of_digits():
            is_label = (
                self._is_nearly_all(self.num_integers)
                and len(self.value_counts) <= MAX_NUMERIC_LABELS
                and rows_per_value >= MIN_ROWS_PER_NUMBER
            )
            return "label" if is_label else "number"
        is_label = (
            len(self.value_counts) <= MAX_INFERRED_LABELS
            and rows_per_value >= MIN_ROWS_PER_LABEL
            and self.num_words <= 6 * min(self.num_rows, MAX_PROFILED_ROWS)
        )
        return "label" if is_label else "text"

    def _is_nearly_all(self, count: int) -> bool:
        return count > 0 and count >= MIN_KIND_SHARE * self.num_rows

    def has_digit_sequences(self) -> bool:
        """Return whether cells are texts of whole numbers, of many lengths, such as `2 9 7 4`."""
        num_multiple = self.num_digit_sequences - self.sequence_lengths[1]
        most_common = max(self.sequence_lengths.values(), default=0)
        return (
            self._is_nearly_all(self.num_digit_sequences)
            and 2 * num_multiple > self.num_rows
            and most_common < MIN_KIND_SHARE * self.num_digit_sequences
        )

    def _has_strings_of_digits(self) -> bool:
        """Return whether digits are no numbers: with leading zeros, too many to be exact, or only zeros and ones."""
        is_binary = 2 * self.num_binary > self.num_rows and len(self.value_counts) > MAX_NUMERIC_LABELS
        return self.num_coded_digits > max(1, self.num_rows // 100) or is_binary

    def currency(self) -> str:
        """Return the sign of a currency or of per cent that nearly all cells have, if there is one."""
        sign, count = max(self.currency_signs.items(), key=lambda item: item[1], default=("", 0))
        return sign if self._is_nearly_all(count) else ""

    def has_spaced_numbers(self) -> bool:
        """Return whether nearly all cells are one number, some with blanks in it: `12,50 €`, `1 250,50`."""
        return bool(self.currency()) or (self.num_spaced > 0 and self._is_nearly_all(self.num_numeric))

    def group_sign(self) -> str:
        """Return the sign that groups the digits of numbers, a comma or a point, or an empty text."""
        return next((groups.sign for groups in self.digit_groups if self._groups_digits(groups)), "")

    def _groups_digits(self, groups: DigitGroups) -> bool:
        return groups.groups(may_be_decimal=groups.sign == "." or self.allows_commas)

    def _num_only_grouped(self) -> int:
        """Return how many cells are numbers only because a sign groups digits."""
        return next((groups.num_other for groups in self.digit_groups if self._groups_digits(groups)), 0)

    def _currency_note(self, kind: str, declared: bool) -> str:
        """Return a sentence about numbers with a sign, or an empty one."""
        if kind == "number" and (sign := self.currency()):
            numbers = f"{self.currency_signs[sign]:,} of {plural(self.num_rows, 'number')}"
            return f"'{self.name}': the sign {sign} is left out of {numbers}, as in {self.signed_example}"
        if declared or 2 * self.num_signed < self.num_rows or kind == "number":
            return ""
        return (
            f"'{self.name}': values with a sign, such as {self.signed_example}, are read as {kind}; to have numbers, "
            "write all with the same sign or with none, and with a decimal point"
        )

    def has_decimal_commas(self) -> bool:
        """Return whether the comma is the decimal point: where it may be, and if it is more often than the point is."""
        is_decimal = self.allows_commas and self.num_commas > 0 and self.num_commas >= self.num_points
        return self.group_sign() == "." or (is_decimal and self.group_sign() != ",")

    def number_note(self, kind: str, decimal_comma: bool, declared: bool) -> str:
        """Return a message about numbers with commas and currency signs, or an empty text."""
        comma_note = next(
            (groups.note(self.name) for groups in self.digit_groups if kind == "number" and self._groups_digits(groups)),
            self._comma_note(kind, decimal_comma, declared),
        )
        notes = (comma_note, self._currency_note(kind, declared))
        return "; ".join(filter(None, notes))

    def _comma_note(self, kind: str, decimal_comma: bool, declared: bool) -> str:
        """Return a sentence about numbers with commas, or an empty one."""
        if decimal_comma:
            return f"'{self.name}': the comma is read as the decimal point, as in {self.comma_example}"
        if not self.num_commas or 2 * self.num_commas < self.num_rows or declared:
            return ""
        how = "as a separator of numbers" if kind in ("vector", "frames") else f"as {kind}"
        return (
            f"'{self.name}': values with a comma, such as {self.comma_example}, are read {how}; to have numbers, write a "
            "point, or separate the columns by semicolons"
        )

    def is_category(self) -> bool:
        """Return whether the column has few distinct values, of at most two words each on average."""
        return len(self.value_counts) <= MAX_CATEGORIES and self.num_words <= 2 * min(self.num_rows, MAX_PROFILED_ROWS)

    def _array_kind(self) -> str:
        if not self.shape_counts:
            return "frames"
        shape, count = max(self.shape_counts.items(), key=lambda item: (item[1], item[0]))
        num_shapes = sum(self.shape_counts.values())
        one_shape = count >= MIN_KIND_SHARE * num_shapes
        if len(shape) == 1:
            return "vector" if one_shape else "frames"
        is_integer = self.num_integer_arrays >= MIN_KIND_SHARE * num_shapes
        if len(shape) == 3 or (one_shape and is_integer and min(shape) >= 4):
            return "image"
        return "frames"

    def infer_tokens(self, is_source: bool) -> tuple[str, bool]:
        """Return "words" or "characters" for texts of this column, and whether words are separated by spaces only."""
        num_profiled = max(1, min(self.num_rows, MAX_PROFILED_ROWS))
        repeated_share = sum(count for count in self.word_counts.values() if count >= 3) / max(1, self.num_words)
        words_per_row = self.num_words / num_profiled
        use_words = words_per_row >= 3 and (
            repeated_share >= MIN_REPEATED_SHARE or (is_source and words_per_row >= 5 and repeated_share >= 0.6)
        )
        if words_per_row >= 1.5 and len(self.word_counts) <= 200 and repeated_share >= MIN_REPEATED_SHARE:
            use_words = True
        spaces = self.num_punctuated <= 0.02 * self.num_words
        return ("words" if use_words else "characters"), spaces


def is_array(value: Any, allows_commas: bool = False) -> bool:
    """Return whether the value of a cell looks like an array: a list, or a text of several numbers."""
    if isinstance(value, list | np.ndarray):
        return True
    if not isinstance(value, str):
        return False
    if value.lower().endswith(".npy"):
        return True
    if is_surely_grouped(value):
        return False
    if allows_commas and "," in value:
        parts = value.replace(";", " ").split()
        if len(parts) >= MIN_DECIMALS and all(to_number(part, True) is not None for part in parts):
            return True
    parts = value.replace(",", " ").replace(";", " ").split()
    enough = len(parts) >= (MIN_DECIMALS if "." in value else MIN_ARRAY_NUMBERS)
    return enough and all(to_number(part) is not None for part in parts)


def is_numeric(value: list[Any]) -> bool:
    """Return whether a list, perhaps of lists, has numbers, some of which may be missing."""
    elements = [element for element in value if element is not None]
    if elements and isinstance(elements[0], list):
        return is_numeric(elements[0])
    return any(isinstance(element, int | float) and not isinstance(element, bool) for element in elements[:1])
