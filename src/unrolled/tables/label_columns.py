"""Columns of labels: one per row, or one per step of the source."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError
from unrolled.tables.cell_values import (
    BLANKS,
    Array,
    Cell,
    parse_label,
    parse_list,
    parse_text,
    parse_words,
    readable,
    to_number,
)
from unrolled.tables.column import MAX_BASELINE_ROWS, Column, EvalRows, SymbolCounts, normalized_texts, token_names
from unrolled.tables.metric_report import MetricReport, escape_label
from unrolled.tables.metrics import StepLabelCounts, classification_report, step_label_report
from unrolled.tables.ragged import RaggedArray
from unrolled.text.batching import IGNORE_INDEX
from unrolled.text.normalization import count_changes, normalize

logger = logging.getLogger(__name__)

MAX_LABELS = 10_000

_SEPARATORS = re.compile(r"[,;|/>-]+")
"""What people may write between labels, for messages; only blanks separate them."""

MIN_RARE_LABELS = 10
"""Labels, at least, for a sentence that most of them occur once."""

MIN_FREQUENT = 10
"""Rows of each other label, at least, for a message that a label that occurs once may be a typing error."""

BOOLEANS = frozenset(("true", "false"))
"""Labels that are compared without regard to case: Python, JSON and spreadsheets write them differently."""

YES_AND_NO = BOOLEANS | {"yes", "no", "y", "n", "t", "f", "1", "0", "on", "off"}
"""What a question is answered with, in one way or another; more than two of them in a column are reported."""

POOR_ACCURACY = 0.5
"""Below it, that sentence is added to the metrics."""


class _LabeledColumn(Column):
    """A column with a fixed list of labels."""

    tensor_kind, is_calibrated, may_keep_na = "ids", True, True
    unk_id: int

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__(name)
        self.labels = list(labels)
        self.unk_id = len(self.labels)
        self.size = len(self.labels) + 1
        self._label_to_id = {self.canonical(label): index for index, label in enumerate(self.labels)}
        self._label_to_id |= {label: index for index, label in enumerate(self.labels)}

    def canonical(self, label: str) -> str:
        """Return the form in which labels are compared."""
        return canonical_label(normalize(label, self.normalization))

    def label_id(self, label: str) -> int:
        """Return the id of a label, or `unk_id`."""
        index = self._label_to_id.get(label)
        return self._label_to_id.get(self.canonical(label), self.unk_id) if index is None else index

    def label_name(self, label: str) -> str:
        """Return a label as the model writes it; one that the model does not have, in its canonical form."""
        index = self.label_id(label)
        return self.canonical(label) if index == self.unk_id else self.labels[index]

    def loss_targets(self, values: Array) -> Array:
        return np.where(values == self.unk_id, IGNORE_INDEX, values.astype(np.int64))

    def describe(self) -> str:
        examples = ", ".join(self.labels[:6]) + (", ..." if len(self.labels) > 6 else "")
        return f"{self.name}: {self.kind} ({len(self.labels):,}: {examples})"


class LabelColumn(_LabeledColumn):
    """One label per row."""

    kind, is_sequence, output = "label", False, "single"

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> LabelColumn:
        form = config.get("normalize", "none")
        counts: Counter[str] = Counter()
        for label in normalized_texts(name, readable(cells, parse_label), form):
            counts[label] += 1
            if len(counts) > MAX_LABELS:
                raise DataError(f"'{name}' has more than {MAX_LABELS:,} labels: is it '{name}:text' or '{name}:number'?")
        column = cls(name, _unify_labels(name, _one_form_of_booleans({label: canonical_label(label) for label in counts})))
        column.normalization = form
        if config.get("is_source") is False:
            for note in _rarity_notes(name, counts):
                logger.info(note)
        return column

    def canonical(self, label: str) -> str:
        label = super().canonical(label)
        return label.lower() if label.lower() in BOOLEANS else label

    def _read(self, cell: Cell) -> str:
        """Return the label in a cell; a list of one label, unless the model learned it as it is, is that label."""
        text = parse_text(cell)
        return text if text in self._label_to_id else parse_label(cell)

    symbol_noun = "labels were never seen in training"

    def count_symbols(self, cell: Cell) -> SymbolCounts:
        label = self._read(cell)
        return SymbolCounts(1, int(self.label_id(label) == self.unk_id), count_changes(label, self.normalization))

    def unknown_symbols(self, cell: Cell) -> list[str]:
        label = self._read(cell)
        return [label] if self.label_id(label) == self.unk_id else []

    def encode(self, cell: Cell) -> Array:
        return np.array([self.label_id(self._read(cell))], dtype=np.int64)

    def is_wrong(self, truth: Cell, text: str, values: Array) -> bool:
        return self.label_name(self._read(truth)) != text

    def decode(self, values: Array) -> str:
        label_id = int(values[0])
        return self.labels[label_id] if label_id < len(self.labels) else ""

    def check_target(self, table_name: str) -> None:
        if len(self.labels) < 2:
            raise DataError(
                f"Every row of {table_name} has the label '{self.labels[0]}' in '{self.name}': there is nothing to learn."
            )

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return how often each label occurs."""
        counts = Counter(int(targets[i][0]) for i in index[:MAX_BASELINE_ROWS].tolist())
        return {"labels": {self.labels[label]: count for label, count in sorted(counts.items())}}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        truths = [self.label_name(self._read(cell)) for cell in rows.truths]
        report = classification_report(truths, rows.texts, train_stats["labels"])
        if report.metrics["accuracy"] >= POOR_ACCURACY:
            return report
        return dataclasses.replace(report, notes=(*report.notes, *_rarity_notes(self.name, train_stats["labels"])))

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> LabelColumn:
        return cls(name, list(value["labels"]))


class LabelsColumn(_LabeledColumn):
    """One label per step of the source: a list, words, or one character each (`split`)."""

    kind, is_sequence, output = "labels", True, "aligned"

    def __init__(self, name: str, labels: Sequence[str], split: str) -> None:
        self.split = split
        super().__init__(name, labels)
        self._has_letters = split == "words" and all(len(label) == 1 for label in labels)

    def canonical(self, label: str) -> str:
        label = normalize(label, self.normalization)
        return label if self.split == "characters" else canonical_label(label)

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> LabelsColumn:
        split, form = config["split"], config.get("normalize", "none")
        rows = readable(cells, lambda cell: _split_labels(cell, split, "none"))
        if split == "characters":
            labels = {label for text in normalized_texts(name, map("".join, rows), form) for label in text}
        else:
            labels = set(normalized_texts(name, (label for row in rows for label in row), form))
        spellings = {label: label if split == "characters" else canonical_label(label) for label in labels}
        column = cls(name, _unify_labels(name, spellings), split)
        column.normalization = form
        return column

    symbol_noun = "labels were never seen in training"

    def _read(self, cell: Cell) -> Sequence[str]:
        """Return the labels of a cell. If all that there are are letters, an unknown word of such is its letters; a number is
        one label."""
        labels = _split_labels(cell, self.split, self.normalization)
        is_joined = self._has_letters and self._is_unknown_word(cell, labels) and not labels[0].isdecimal()
        letters = normalize(labels[0], self.normalization) if is_joined else ""
        return letters if letters and all(self.label_id(letter) != self.unk_id for letter in letters) else labels

    def _is_unknown_word(self, cell: Cell, labels: Sequence[str]) -> bool:
        is_text = isinstance(parse_list(cell.value), str)
        return is_text and len(labels) == 1 and len(labels[0]) > 1 and self.label_id(labels[0]) == self.unk_id

    def reading_note(self, cell: Cell) -> str:
        words = _split_labels(cell, self.split, self.normalization)
        if self.split == "characters" or not self._is_unknown_word(cell, words):
            return ""
        parts = self._read(cell)
        if isinstance(parts, str):
            return f"{parts!r:.60} is read as its {len(parts):,} characters, as {' '.join(parts)!r:.60} and JSON lists are"
        parts = parts[0] if self._has_letters else _SEPARATORS.split(parts[0])
        if not self._has_letters and all(self.label_id(part) == self.unk_id for part in parts):
            return ""
        example = f"{' '.join(parts)!r:.60} or {json.dumps(list(parts), ensure_ascii=False):.60}"
        return f"{words[0]!r:.60} is read as one label; for several, write blanks between them, or a JSON list: {example}"

    def count_symbols(self, cell: Cell) -> SymbolCounts:
        labels = self._read(cell)
        return SymbolCounts(len(labels), sum(self.label_id(label) == self.unk_id for label in labels), 0)

    def unknown_symbols(self, cell: Cell) -> list[str]:
        return [label for label in self._read(cell) if self.label_id(label) == self.unk_id]

    def encode(self, cell: Cell) -> Array:
        return np.array([self.label_id(label) for label in self._read(cell)], dtype=np.int64)

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        return [self.label_name(label) for label in self._read(cell)]

    def decode(self, values: Array) -> str:
        return ("" if self.split == "characters" else " ").join(self._label_names(values))

    def _label_names(self, values: Array) -> list[str]:
        return [self.labels[i] if i < len(self.labels) else "?" for i in values.tolist()]

    def is_wrong(self, truth: Cell, text: str, values: Array) -> bool:
        return not np.array_equal(values, self.encode(truth))

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return how often each label occurs, alone and at each source token."""
        counts = StepLabelCounts()
        for i in index[:MAX_BASELINE_ROWS].tolist():
            counts.add(token_names(source, sources[i]), self._label_names(targets[i]))
        return {"step_labels": counts.to_json()}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        rows_of_tokens = [token_names(rows.source, rows.source.encode_source(cell)) for cell in rows.source_cells]
        source_tokens = [row for row in rows_of_tokens if row is not None]
        return step_label_report(
            [list(self.cell_tokens(cell)) for cell in rows.truths],
            [self._label_names(ids) for ids in rows.values],
            source_tokens if len(source_tokens) == len(rows_of_tokens) else None,
            StepLabelCounts.from_json(train_stats["step_labels"]),
        )

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "split": self.split}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> LabelsColumn:
        return cls(name, list(value["labels"]), str(value["split"]))


def only_label(column: Column, cells: Iterable[Cell]) -> str | None:
    """Return the label that all cells of a column have, for people, if the column has others too."""
    if not isinstance(column, LabelColumn) or len(column.labels) < 2:
        return None
    labels = {column.label_name(parse_text(cell)) for cell in cells}
    return escape_label(labels.pop()) if len(labels) == 1 else None


def canonical_label(text: str) -> str:
    """Return a label without blanks at its ends, and a whole number without decimals: `1.0`, as pandas writes it, is `1`."""
    text = text.strip(BLANKS)
    whole, point, decimals = text.partition(".")
    is_whole = point and decimals.strip("0") == "" and decimals and whole.removeprefix("-").isdecimal() and whole.isascii()
    return "0" if is_whole and whole == "-0" else whole if is_whole else text


def _one_form_of_booleans(spellings: dict[str, str]) -> dict[str, str]:
    """Return labels with `True` and `TRUE` as `true`, as JSON writes it, if they are spelled in several ways."""
    booleans = {label for label in spellings.values() if label.lower() in BOOLEANS}
    if len(booleans) == len({label.lower() for label in booleans}):
        return spellings
    return {spelling: label.lower() if label in booleans else label for spelling, label in spellings.items()}


def label_order(label: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers by value, before words. It decides the ids of labels, so models depend on it.

    NaN counts as a word: as a number it would have no place in an order.
    """
    try:
        number = float(label)
    except ValueError:
        number = math.nan
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)


def _unify_labels(name: str, spellings: dict[str, str]) -> list[str]:
    """Return the labels in order, given the canonical form of each spelling; log how many spellings were made one."""
    labels = sorted(set(spellings.values()), key=label_order)
    if len(labels) < len(spellings):
        example = next(spelling for spelling, label in sorted(spellings.items()) if spelling != label)
        logger.info(
            f"'{name}': {len(spellings):,} spellings are {len(labels):,} labels, as {example!r} is {spellings[example]!r}"
        )
    if len(labels) > 2 and {label.lower() for label in labels} <= YES_AND_NO:
        logger.info(f"'{name}': {', '.join(labels)} are different labels; if they are yes and no, write each in one way")
    if objects := [label for label in labels if label.startswith('{"')]:
        logger.info(f"'{name}': {len(objects):,} labels are objects, such as {objects[0]:.60}: each is a label of its own")
    if similar := _look_alike(labels):
        is_case = len({label.lower() for label in similar}) == 1
        difference, first, second = (
            ("differ only in case", *map(repr, similar)) if is_case else ("look the same", *map(ascii, similar))
        )
        logger.info(f"'{name}': labels that {difference} are different labels, as {first} and {second}")
    return labels


def _look_alike(labels: Sequence[str]) -> tuple[str, str] | None:
    """Return the first two words that look the same but are not; differences of single letters are usually meant."""
    seen: dict[tuple[bool, str], str] = {}
    for label in labels:
        is_letter = len(label) == 1
        look = unicodedata.normalize("NFKC", label) if is_letter else _look(label)
        if (first := seen.setdefault((is_letter, look), label)) != label:
            return first, label
    return None


def _look(label: str) -> str:
    """Return a text without regard to case, blanks, wide letters, invisible characters and the kind of dashes and quotes."""
    characters = (
        "-" if unicodedata.category(character) == "Pd" else "'" if character in "\u2018\u2019\u02bc\u00b4`" else character
        for character in unicodedata.normalize("NFKC", label)
        if unicodedata.category(character) != "Cf" and not "\ufe00" <= character <= "\ufe0f"
    )
    return " ".join("".join(characters).casefold().split())


def _split_labels(cell: Cell, split: str, form: str) -> Sequence[str]:
    return normalize(parse_text(cell), form) if split == "characters" else parse_words(cell)


def _rarity_notes(name: str, counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return a message if most labels occur once, or if a few do and all others are frequent."""
    single = [label for label, count in counts.items() if count == 1]
    num_single = len(single)
    if 0 < num_single < len(counts) - 1 and all(count == 1 or count >= MIN_FREQUENT for count in counts.values()):
        once = f"{', '.join(map(repr, single[:3]))} {'occurs' if num_single == 1 else 'occur'} once"
        return (f"'{name}': {once:.120}, and every other label {MIN_FREQUENT} times or more: is it a mistake?",)
    if len(counts) < MIN_RARE_LABELS or 2 * num_single <= len(counts):
        return ()
    hint = f"'{name}:number'" if all(to_number(label) is not None for label in counts) else f"'{name}:text'"
    return (
        f"'{name}': {num_single:,} of {len(counts):,} labels occur once in {sum(counts.values()):,} rows, which is too seldom "
        f"to be learned: is it {hint}?",
    )
