"""The kind of a column whose kind is not given: inferred from its cells, and from how they align with the other column's.

Rows are streamed through a `ColumnProfile` per column, whose memory is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import IMAGE_SUFFIXES, Array, Cell, parse_array, parse_list, parse_text
from unrolled.tables.text_column import TOKEN_KINDS

MAX_PROFILED_ROWS = 20_000
"""Rows whose words are counted; of a longer table, the first ones."""

MIN_ARRAY_NUMBERS = 5
"""Integers that a text must consist of, at least, to be an array: three of them may be a date."""

SAMPLING_STRIDE = 16
"""After `MAX_PROFILED_ROWS`, one row in so many is profiled."""

MAX_ALIGNED_ROWS = 2_000
"""Rows that are compared with those of the other column, step by step."""

MAX_DISTINCT = 10_000
MAX_INFERRED_LABELS = 1_000
MAX_CATEGORIES = 50
MIN_ROWS_PER_LABEL = 4
"""Rows per distinct text, on average, for texts to be labels."""

MIN_ROWS_PER_NUMBER = 10
"""Rows per distinct integer, on average, for integers to be labels."""

MIN_REPEATED_SHARE = 0.85
"""Share of words that must occur at least three times, for a text to be split into words."""


@dataclass(frozen=True)
class InferredType:
    """A kind; `tokens` of a text, `split` of labels, and `spaces` if words are separated by spaces only."""

    kind: str
    tokens: str = "characters"
    spaces: bool = True
    split: str = "words"


@dataclass
class ColumnProfile:
    """Counts over the cells of a column."""

    name: str
    num_rows: int = 0
    num_texts: int = 0
    num_numeric: int = 0
    num_integers: int = 0
    num_images: int = 0
    value_counts: Counter[str] = field(default_factory=Counter)
    shape_counts: Counter[tuple[int, ...]] = field(default_factory=Counter)
    integer_arrays: bool = True
    num_lists: int = 0
    word_counts: Counter[str] = field(default_factory=Counter)
    num_words: int = 0
    num_punctuated: int = 0
    max_length: int = 0

    def add(self, cell: Cell) -> None:
        """Count one cell that is not empty."""
        self.num_rows += 1
        value = parse_list(cell.value)
        is_list = isinstance(value, list) and bool(value) and not _is_numeric(value)
        self.num_lists += is_list
        if is_list and not isinstance(cell.value, str):
            return
        if not is_list and _is_array(value):
            array = _array_or_none(cell)
            if array is not None:
                if self.num_rows <= MAX_PROFILED_ROWS:
                    self.shape_counts[array.shape] += 1
                    self.integer_arrays &= bool((array == np.rint(array)).all())
                return
        text = parse_text(cell)
        if text.lower().endswith(IMAGE_SUFFIXES) and len(text.splitlines()) == 1:
            self.num_images += 1
        if len(self.value_counts) < MAX_DISTINCT:
            self.value_counts[text] += 1
        number = _to_number(text)
        self.num_numeric += number is not None
        self.num_integers += number is not None and number == round(number)
        self.num_texts += not is_list
        if self.num_rows <= MAX_PROFILED_ROWS:
            self._count_words(text)

    def _count_words(self, text: str) -> None:
        words = text.split()
        self.word_counts.update(words)
        self.num_words += len(words)
        self.max_length = max(self.max_length, len(text))
        self.num_punctuated += sum(1 for word in words if len(word) > 1 and word[-1] in ".,!?;:" and word[:-1].isalnum())

    def infer_kind(self) -> str:
        """Return the kind, from this column alone."""
        if self.num_images == self.num_rows:
            return "image"
        if (
            self.shape_counts
            and sum(self.shape_counts.values()) >= min(self.num_rows, MAX_PROFILED_ROWS) - self.num_lists
            and not self.num_texts
        ):
            return self._array_kind()
        if 2 * self.num_lists > self.num_rows:
            return "labels"
        rows_per_value = self.num_rows / max(1, len(self.value_counts))
        if self.num_numeric == self.num_rows:
            return (
                "label"
                if self.num_integers == self.num_rows
                and len(self.value_counts) <= 100
                and rows_per_value >= MIN_ROWS_PER_NUMBER
                else "number"
            )
        is_label = (
            len(self.value_counts) <= MAX_INFERRED_LABELS
            and rows_per_value >= MIN_ROWS_PER_LABEL
            and self.num_words <= 6 * min(self.num_rows, MAX_PROFILED_ROWS)
        )
        return "label" if is_label else "text"

    def is_category(self) -> bool:
        """Return whether the column has few distinct values, of at most two words each on average."""
        return len(self.value_counts) <= MAX_CATEGORIES and self.num_words <= 2 * min(self.num_rows, MAX_PROFILED_ROWS)

    def _array_kind(self) -> str:
        one_shape = len(self.shape_counts) == 1
        shape = next(iter(self.shape_counts))
        if len(shape) == 1:
            return "vector" if one_shape else "frames"
        if len(shape) == 3 or (one_shape and self.integer_arrays and min(shape) >= 4):
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


class PairProfile:
    """Profiles of source and target, and whether they are aligned step by step."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = ColumnProfile(source), ColumnProfile(target)
        self._aligned = {"characters": True, "words": True, "list": True}
        self._rows_seen = self._rows_compared = 0
        self._multiple_words = False
        self._labels: set[str] = set()

    def add(self, source: Cell, target: Cell) -> None:
        """Count one row without empty cells; of a large table, one row in `SAMPLING_STRIDE`."""
        self._rows_seen += 1
        if self._rows_seen > MAX_PROFILED_ROWS and self._rows_seen % SAMPLING_STRIDE:
            return
        self.source.add(source)
        self.target.add(target)
        if self._rows_compared < MAX_ALIGNED_ROWS and any(self._aligned.values()):
            self._compare(source, target)

    def _compare(self, source: Cell, target: Cell) -> None:
        self._rows_compared += 1
        value, labels = parse_list(source.value), parse_list(target.value)
        label_list = [str(element) for element in labels] if isinstance(labels, list | np.ndarray) else None
        words = label_list if label_list is not None else parse_text(Cell(labels, *target[1:])).split()
        self._multiple_words |= len(words) > 1
        self._labels.update(words[:1000])
        looks_numeric = _is_array(value) and (not isinstance(value, list) or _is_numeric(value))
        if looks_numeric and (array := _array_or_none(source)) is not None:
            self._aligned = {"characters": False, "words": False, "list": self._aligned["list"] and len(array) == len(words)}
            return
        text = "" if isinstance(value, list) else parse_text(Cell(value, *source[1:]))
        num_elements = len(value) if isinstance(value, list) else len(text.split())
        num_chars = len(labels) if label_list is not None else len(parse_text(Cell(labels, *target[1:])))
        self._aligned["list"] &= isinstance(value, list) and num_elements == len(words)
        self._aligned["words"] &= num_elements == len(words)
        self._aligned["characters"] &= len(text) == num_chars

    def aligned_with(self, declared: bool) -> str | None:
        """Return the unit of the source that has one label each: "list" elements, "words", "characters", or None.

        Unless the target is `declared` to be labels, there must also be few distinct ones.
        """
        few_labels = declared or len(self._labels) <= max(50, self._rows_compared // 4) and self._rows_compared > 1
        one_word = not self._multiple_words and self._aligned["characters"]
        for unit in ("list", "characters") if one_word else ("list", "words", "characters"):
            if (
                self._aligned[unit]
                and (few_labels or self.target.num_lists)
                and (declared or self._multiple_words or unit == "characters")
            ):
                if not declared and unit == "characters" and not self.target.num_lists and self.target.max_length < 2:
                    continue
                return unit
        return None


def infer_types(
    profile: PairProfile, declared: tuple[str | None, str | None], tokens: str | None = None
) -> tuple[InferredType, InferredType]:
    """Return the types of source and target: the `declared` kinds, else the inferred ones; texts in `tokens`, if given."""
    aligned = (
        profile.aligned_with(declared[1] == "labels") if declared[1] in (None, "labels") and declared[0] != "label" else None
    )
    source, target = declared[0], declared[1]
    if target is None:
        target = "labels" if aligned else profile.target.infer_kind()
    if source is None:
        source = profile.source.infer_kind()
        if target == "labels" and source in ("vector", "image", "label"):
            source = "text" if source == "label" else "frames"
        if source == "label" and target != "image" and not profile.source.is_category():
            source = "text"
    if tokens is not None:
        if tokens not in TOKEN_KINDS:
            raise UsageError(f"--tokens {tokens} is for texts: a column is read as {', '.join(TOKEN_KINDS)}.")
        source, target = (tokens if kind == "text" else kind for kind in (source, target))
    return _source_type(profile, source, target, aligned), _target_type(profile, target, aligned)


def _source_type(profile: PairProfile, kind: str, target: str, aligned: str | None) -> InferredType:
    if kind in TOKEN_KINDS:
        return InferredType("text", kind, spaces=aligned == "words" or profile.source.infer_tokens(True)[1])
    if kind == "text" and target == "labels":
        return InferredType("text", "words" if aligned == "words" else "characters", spaces=True)
    tokens, spaces = profile.source.infer_tokens(is_source=True) if kind == "text" else ("characters", True)
    return InferredType(kind, tokens, spaces, "words")


def _target_type(profile: PairProfile, kind: str, aligned: str | None) -> InferredType:
    if kind in TOKEN_KINDS:
        return InferredType("text", kind, spaces=profile.target.infer_tokens(False)[1])
    if kind == "labels":
        return InferredType(kind, split="characters" if aligned == "characters" and not profile.target.num_lists else "words")
    tokens, spaces = profile.target.infer_tokens(is_source=False) if kind == "text" else ("characters", True)
    return InferredType(kind, tokens, spaces)


def _is_array(value: Any) -> bool:
    if isinstance(value, list | np.ndarray):
        return True
    if not isinstance(value, str):
        return False
    if value.lower().endswith(".npy"):
        return True
    parts = value.replace(",", " ").replace(";", " ").split()
    enough = len(parts) >= (3 if "." in value else MIN_ARRAY_NUMBERS)
    return enough and all(_to_number(text) is not None for text in parts)


def _array_or_none(cell: Cell) -> Array | None:
    """Return the array of a cell that looks like one, or None for a text that only looks so, such as a title about `x.npy`."""
    try:
        return parse_array(cell)
    except DataError:
        if isinstance(cell.value, str):
            return None
        raise


def _is_numeric(value: list[Any]) -> bool:
    first = value[0]
    while isinstance(first, list) and first:
        first = first[0]
    return isinstance(first, int | float) and not isinstance(first, bool)


def _to_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
