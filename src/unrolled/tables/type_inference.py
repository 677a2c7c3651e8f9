"""The kind of a column whose kind is not given: inferred from its cells, and from how they align with the other column's.

Rows are streamed through a `ColumnProfile` per column, whose memory is bounded.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from unrolled.errors import DataError, UsageError
from unrolled.tables.cell_values import Cell, parse_array, parse_list, parse_text
from unrolled.tables.column_profile import MAX_PROFILED_ROWS, ColumnProfile, is_array, is_numeric
from unrolled.tables.text_column import is_token_kind, token_kinds
from unrolled.text.normalization import normalize

SAMPLING_STRIDE = 16
"""After `MAX_PROFILED_ROWS`, one row in so many is profiled."""

MAX_ALIGNED_ROWS = 2_000
"""Rows that are compared with those of the other column, step by step."""

MIN_ALIGNED_SHARE = 0.98
"""Share of rows with as many labels as steps, for a target to be labels of steps."""

NUMERIC_KINDS = ("number", "vector", "frames")


@dataclass(frozen=True)
class InferredType:
    """A kind; `tokens` of a text, `split` of labels, `spaces` if words are separated by spaces only, and how numbers are
    written (see `Notation`)."""

    kind: str
    tokens: str = "characters"
    spaces: bool = True
    split: str = "words"
    decimal_comma: bool = False
    unit: str = ""
    digit_groups: str = ""
    negative_parentheses: bool = False


class PairProfile:
    """Profiles of source and target, and whether they are aligned step by step."""

    def __init__(self, source: str, target: str, allows_commas: bool = False, normalization: str = "none") -> None:
        self.source = ColumnProfile(source, allows_commas, normalization)
        self.target = ColumnProfile(target, allows_commas, normalization)
        self._num_aligned: Counter[str] = Counter()
        self._rows_seen = self._rows_compared = self._num_multiple_words = 0
        self._labels: set[str] = set()

    def add(self, source: Cell, target: Cell) -> None:
        """Count one row without empty cells; of a large table, one row in `SAMPLING_STRIDE`."""
        self._rows_seen += 1
        if self._rows_seen > MAX_PROFILED_ROWS and self._rows_seen % SAMPLING_STRIDE:
            return
        self.source.add(source)
        self.target.add(target)
        if self._rows_compared < MAX_ALIGNED_ROWS:
            with contextlib.suppress(DataError):
                self._compare(source, target)

    def _compare(self, source: Cell, target: Cell) -> None:
        self._rows_compared += 1
        value, labels = self._parse(source), self._parse(target)
        label_list = [str(element) for element in labels] if isinstance(labels, list | np.ndarray) else None
        target_text = "" if label_list is not None else parse_text(Cell(labels, *target[1:]))
        words = label_list if label_list is not None else target_text.split()
        self._num_multiple_words += len(words) > 1
        self._labels.update(words[:1000])
        num_chars = len(target_text) if label_list is None else len(label_list)
        is_digits = isinstance(value, str) and all(map(str.isdecimal, value.split()))
        if not is_digits and is_array(value) and (not isinstance(value, list) or is_numeric(value)):
            with contextlib.suppress(DataError):
                self._num_aligned["list"] += len(parse_array(source)) == len(words)
                return
        text = "" if isinstance(value, list) else parse_text(Cell(value, *source[1:]))
        num_elements = len(value) if isinstance(value, list) else len(text.split())
        is_aligned = num_elements == len(words)
        is_list = isinstance(value, list) or is_digits
        self._num_aligned.update({"list": is_list and is_aligned, "words": is_aligned, "characters": len(text) == num_chars})

    def _parse(self, cell: Cell) -> Any:
        """Return the value of a cell: a list, or a text in the normal form of the columns, as a number is in CSV."""
        value = parse_list(cell.value)
        value = parse_text(cell) if isinstance(value, int | float) else value
        return normalize(value, self.source.normalization) if isinstance(value, str) else value

    def _is_aligned(self, unit: str) -> bool:
        return self._rows_compared > 0 and self._num_aligned[unit] >= MIN_ALIGNED_SHARE * self._rows_compared

    def aligned_with(self, declared: bool) -> str | None:
        """Return the unit of the source that has one label each: "list" elements, "words", "characters", or None.

        Unless the target is `declared` to be labels, there must also be few distinct ones.
        """
        few_labels = declared or len(self._labels) <= max(50, self._rows_compared // 4) and self._rows_compared > 1
        multiple_words = self._num_multiple_words > (1 - MIN_ALIGNED_SHARE) * self._rows_compared
        one_word = not multiple_words and self._is_aligned("characters")
        for unit in ("list", "characters") if one_word else ("list", "words", "characters"):
            if (
                self._is_aligned(unit)
                and (few_labels or self.target.num_lists)
                and (declared or multiple_words or unit == "characters")
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
    if declared == (None, None) and profile.source.has_digit_sequences() and profile.target.has_digit_sequences():
        aligned = None  # to be copied, sorted or reversed, rather than one label for each
    if target is None and profile.target.has_spaced_numbers():
        aligned = None  # not two words with a label each
    if declared == (None, None) and aligned == "characters" and not profile.target.num_lists and _are_codes(profile):
        aligned = None  # one number, or one of a few words, that is as long as the source by chance
    if target is None:
        target = "labels" if aligned else profile.target.infer_kind()
    if source is None:
        source = profile.source.infer_kind()
        if target == "labels" and source in ("vector", "image", "label"):
            source = "text" if source == "label" else "frames"
        if source == "label" and target != "image" and not profile.source.is_category():
            source = "text"
    if tokens is not None:
        if not is_token_kind(tokens):
            raise UsageError(f"--tokens {tokens} is for texts: a column is read as {', '.join(token_kinds())}.")
        if "text" not in (source, target):
            kinds = f"'{profile.source.name}' is {source} and '{profile.target.name}' {target}"
            raise UsageError(
                f"--tokens {tokens} is for a column of text, and {kinds}: leave it out, or name the column to read so, as in "
                f"{profile.source.name}:{tokens}."
            )
        source, target = (tokens if kind == "text" else kind for kind in (source, target))
    is_said = tuple(kind is not None for kind in declared)
    return _source_type(profile, source, target, aligned, is_said[0]), _target_type(profile, target, aligned, is_said[1])


def _are_codes(profile: PairProfile) -> bool:
    """Return whether both columns are numbers, or the target is one of a few words."""
    kinds = profile.source.infer_kind(), profile.target.infer_kind()
    return kinds == ("number", "number") or (kinds[1] == "label" and profile.target.is_category())


def _source_type(profile: PairProfile, kind: str, target: str, aligned: str | None, declared: bool) -> InferredType:
    column = profile.source
    if is_token_kind(kind):
        return InferredType("text", kind, spaces=aligned == "words" or column.infer_tokens(True)[1])
    if kind == "text" and target == "labels":
        return InferredType("text", "words" if aligned in ("words", "list") else "characters", spaces=True)
    tokens, spaces = column.infer_tokens(is_source=True) if kind == "text" else ("characters", True)
    return InferredType(kind, tokens, spaces, **_number_format(column, kind, declared))


def _target_type(profile: PairProfile, kind: str, aligned: str | None, declared: bool) -> InferredType:
    column = profile.target
    if is_token_kind(kind):
        return InferredType("text", kind, spaces=column.infer_tokens(False)[1])
    if kind == "labels":
        return InferredType(kind, split="characters" if aligned == "characters" and not column.num_lists else "words")
    tokens, spaces = column.infer_tokens(is_source=False) if kind == "text" else ("characters", True)
    return InferredType(kind, tokens, spaces, **_number_format(column, kind, declared))


def _number_format(column: ColumnProfile, kind: str, declared: bool) -> dict[str, Any]:
    """Return how the numbers of a column are written, if it has such."""
    numbers = column.numbers(declared)
    decimal_comma = {"decimal_comma": kind in NUMERIC_KINDS and numbers.has_decimal_commas()}
    if kind != "number":
        return decimal_comma
    return decimal_comma | {
        "unit": numbers.unit,
        "digit_groups": numbers.group_sign(declared),
        "negative_parentheses": numbers.are_parentheses_negative(declared),
    }
