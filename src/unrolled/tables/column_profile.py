"""Counts over the cells of a column, from which its kind is inferred.

The kind is what nearly all cells can be read as (`MIN_KIND_SHARE`): images before arrays, arrays before numbers. So a few odd
cells decide nothing; their rows are left out of training and counted. What is none of these is a label or a text.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.errors import DataError
from unrolled.tables.cell_values import (
    IMAGE_SUFFIXES,
    Cell,
    has_decimal_comma,
    is_single,
    parse_array,
    parse_list,
    parse_text,
    split_numbers,
    to_number,
    with_decimal_points,
)
from unrolled.tables.digit_groups import is_surely_grouped
from unrolled.tables.number_counts import NumberCounts
from unrolled.tables.number_units import SCALED, SCALES, NumberText, ScaledNumber, split_scale, split_unit
from unrolled.tables.text_oddities import TextOddities, is_measure
from unrolled.text.normalization import normalize

MAX_PROFILED_ROWS = 20_000
"""Rows whose words are counted; of a longer table, the first ones."""

MIN_ARRAY_NUMBERS = 5
"""Integers that a text must consist of, at least, to be an array: three of them may be a date."""

MIN_KIND_SHARE = 0.9
"""Share of cells that must be images, arrays or numbers, for their column to be: the others are left out and counted."""

MIN_DECIMALS = 3
"""Numbers with decimals that a text must consist of, at least, to be an array."""

MAX_NUMERIC_LABELS = 20
"""Distinct whole numbers, at most, for them to be labels: as many as there are, say, grades; more are ages or counts."""

MAX_UNITS = 1_000
"""Units of numbers that are counted, at most; that of a column is among the first."""

MIN_CODE_LENGTH = 6
"""Digits, at least, of codes of which some end with a letter; shorter ones may be a number and its unit."""

MAX_DISTINCT = 10_000
MAX_INFERRED_LABELS = 1_000
MAX_CATEGORIES = 50
MIN_ROWS_PER_LABEL = 4
"""Rows per distinct text, on average, for texts to be labels."""

MIN_ROWS_PER_NUMBER = 10
"""Rows per distinct integer, on average, for integers to be labels."""

MIN_REPEATED_SHARE = 0.85
"""Share of words that must occur at least three times, for a text to be split into words."""


MIN_PLAIN_SHARE = 20
"""One number of so many, at least, has no letter where those of the others are scales."""


@dataclass
class ColumnProfile:
    """Counts over the cells of a column. With `allows_commas`, a number may have a decimal comma."""

    name: str
    allows_commas: bool = False
    normalization: str = "none"
    num_rows: int = 0
    number_counts: dict[str, NumberCounts] = field(default_factory=dict)
    scaled_counts: dict[str, tuple[NumberCounts, Counter[str]]] = field(default_factory=dict)
    num_digit_sequences: int = 0
    num_images: int = 0
    value_counts: Counter[str] = field(default_factory=Counter)
    num_arrays: int = 0
    shape_counts: Counter[tuple[int, ...]] = field(default_factory=Counter)
    num_integer_arrays: int = 0
    sequence_lengths: Counter[int] = field(default_factory=Counter)
    num_lists: int = 0
    num_single: int = 0
    oddities: TextOddities = field(default_factory=TextOddities)
    word_counts: Counter[str] = field(default_factory=Counter)
    num_words: int = 0
    num_punctuated: int = 0
    num_measures: int = 0
    measure: str = ""
    max_length: int = 0

    def add(self, cell: Cell) -> None:
        """Count one cell that is not empty."""
        self.num_rows += 1
        value = parse_list(cell.value)
        is_list = isinstance(value, list) and bool(value) and not is_numeric(value)
        self.num_lists += is_list
        self.num_single += is_single(value)
        if is_list and not isinstance(cell.value, str) and not is_single(cell.value):
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
        self.oddities.add(text)
        if is_measure(text) or text.strip().isdecimal():
            self.num_measures += 1
            self.measure = self.measure or (text.strip() if to_number(text) is None else "")
        number = self._add_number(text)
        if len(self.value_counts) < MAX_DISTINCT or number in self.value_counts:
            self.value_counts[number] += 1
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
            self.counts_of("").add_comma(part)
        return True

    def _add_number(self, text: str) -> str:
        """Count a text that is a number, perhaps with a unit; return what stands for it where distinct ones are counted."""
        number = split_unit(text)
        if (scaled := split_scale(text)) is not None:
            self._add_scaled(scaled, text)
        if number.unit not in self.number_counts and len(self.number_counts) == MAX_UNITS:
            return text.strip()
        return self.counts_of(number.unit).add(number, text)

    def _add_scaled(self, number: ScaledNumber, text: str) -> None:
        """Count a number that may have a scale, such as K or M, as the number that it is."""
        unit = number.currency + SCALED
        if len(self.scaled_counts) < MAX_UNITS or unit in self.scaled_counts:
            counts, scales = self.scaled_counts.setdefault(unit, (NumberCounts(unit, False), Counter()))
            counts.add(NumberText(unit, number.number), text)
            scales[number.scale] += 1
            if number.scale and ("." in text or number.currency):
                scales["with decimals"] += 1

    def _scaled(self) -> NumberCounts | None:
        """Return the counts over nearly all cells as numbers with different scales, if they are; a scale alone is a unit.

        Whole numbers of which some have the same letter may be names, such as house numbers. Where nearly all have the same
        letter, a number without may be one whose letter was forgotten, so it is none of the unit.
        """
        for counts, scales in self.scaled_counts.values():
            letters = [scale for scale in scales if scale in SCALES]
            has_plain = scales[""] * MIN_PLAIN_SHARE >= counts.num_numbers()
            differ = len(letters) > 1 or (letters and has_plain and scales["with decimals"])
            if differ and self.is_nearly_all(counts.num_numbers()):
                return counts
        return None

    def counts_of(self, unit: str) -> NumberCounts:
        """Return the counts over the numbers with a unit."""
        if (counts := self.number_counts.get(unit)) is None:
            counts = self.number_counts[unit] = NumberCounts(unit, self.allows_commas)
        return counts

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
        if self.is_nearly_all(self.num_images):
            return "image"
        if self.has_digit_sequences():
            return "text"
        if self.is_nearly_all(self.num_arrays):
            return self._array_kind()
        if 2 * self.num_lists > self.num_rows and not self.is_nearly_all(self.num_single):
            return "labels"
        rows_per_value = self.num_rows / max(1, len(self.value_counts))
        numbers = self.numbers()
        if self.is_nearly_all(numbers.num_numbers()) and not self._has_strings_of_digits(numbers):
            is_label = (
                self.is_nearly_all(numbers.num_integers)
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

    def is_nearly_all(self, count: int) -> bool:
        """Return whether so many of the cells are nearly all."""
        return count > 0 and count >= MIN_KIND_SHARE * self.num_rows

    def has_digit_sequences(self) -> bool:
        """Return whether cells are texts of whole numbers, of many lengths, such as `2 9 7 4`, and not one number each."""
        num_multiple = self.num_digit_sequences - self.sequence_lengths[1]
        most_common = max(self.sequence_lengths.values(), default=0)
        return (
            self.is_nearly_all(self.num_digit_sequences)
            and not self.has_spaced_numbers()
            and 2 * num_multiple > self.num_rows
            and most_common < MIN_KIND_SHARE * self.num_digit_sequences
        )

    def _has_strings_of_digits(self, numbers: NumberCounts) -> bool:
        """Return whether digits are no numbers: with leading zeros, too many to be exact, or only zeros and ones."""
        is_binary = 2 * numbers.num_binary > self.num_rows and len(self.value_counts) > MAX_NUMERIC_LABELS
        return numbers.has_codes(self.num_rows) or is_binary or self._has_lettered_codes(numbers)

    def _has_lettered_codes(self, numbers: NumberCounts) -> bool:
        """Return whether numbers of equally many digits stand among others with a letter at the end, as an ISBN may have X."""
        length = max(numbers.digit_lengths, default=0)
        others = (counts for unit, counts in self.number_counts.items() if len(unit) == 1 and unit.isalpha())
        num_lettered = sum(counts.digit_lengths[length - 1] for counts in others)
        is_long = length >= MIN_CODE_LENGTH and len(numbers.digit_lengths) == 1 and not numbers.unit
        return is_long and num_lettered > max(1, self.num_rows // 100)

    def numbers(self, declared: bool = False) -> NumberCounts:
        """Return the counts over the numbers of the unit that nearly all cells have, if there is one; else of those with none.

        With `declared`, the column is said to be of numbers (see `NumberCounts`), and most cells are enough.
        """
        if (scaled := self._scaled()) is not None:
            return scaled
        units = [(counts.num_numbers(declared), counts) for unit, counts in self.number_counts.items() if unit]
        num_numbers, found = max(units, key=lambda pair: pair[0], default=(0, None))
        is_unit = self.is_nearly_all(num_numbers) or (declared and 2 * num_numbers > self.num_rows)
        return found if found is not None and is_unit else self.counts_of("")

    def has_spaced_numbers(self) -> bool:
        """Return whether nearly all cells are one number, some with blanks in it: `12,50 €`, `1 250,50`, `1 050`, `5 kg`."""
        counts = list(self.number_counts.values())
        has_blanks = any(found.unit or found.num_spaced > 0 or found.group_sign() == " " for found in counts)
        return has_blanks and self.is_nearly_all(sum(found.num_numbers() for found in counts))

    def has_punctuation(self) -> bool:
        """Return whether there are values without letter and digit, such as `+` and `!`, and not by mistake."""
        return any(count > 1 and not any(map(str.isalnum, value)) for value, count in self.value_counts.items())

    def has_numbers(self, declared: bool = False) -> bool:
        """Return whether nearly all cells are numbers; see `numbers`."""
        return self.is_nearly_all(self.numbers(declared).num_numbers(declared))

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
    parts = split_numbers(value)
    enough = len(parts) >= (MIN_DECIMALS if "." in value else MIN_ARRAY_NUMBERS)
    enough |= len(parts) == 2 and "," in value and all("." in part for part in parts)  # a place, such as `48.14, 11.58`
    return enough and all(to_number(part) is not None for part in parts)


def is_numeric(value: list[Any]) -> bool:
    """Return whether a list, perhaps of lists, has numbers, some of which may be missing."""
    elements = [element for element in value if element is not None]
    if elements and isinstance(elements[0], list):
        return is_numeric(elements[0])
    return any(isinstance(element, int | float) and not isinstance(element, bool) for element in elements[:1])
