"""What kind a column is, when nobody says: found by looking at its cells, and at how they lie beside the other column's.

Rows are streamed through a `Profile` a column; what is kept is bounded.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from unrolled.errors import UsageError, nearest
from unrolled.tables.cell_values import PICTURES, Cell, array_of, text_of, unfolded
from unrolled.tables.columns import KINDS, TOKENS

LOOKED_AT = 20_000
"""Rows whose words are counted; of a longer table, the first."""

SURELY_NUMBERS = 5
"""Whole numbers that a text must be, to be read as an array: three may be a date."""

SPARSE = 16
ALIGNED = 2_000
"""Rows that are compared with the other column's, step by step."""

MOST_DISTINCT = 10_000
FEW_LABELS = 1_000
FEW_NAMES = 50
A_LABEL = 4
"""Rows a label must have on the average, for a column of texts to be labels."""

A_NUMBER = 10
"""Rows a whole number must have on the average to be a label."""

REPEATED = 0.85
"""Share of words that must be met at least three times, for a text to be read in words."""


@dataclass(frozen=True)
class Chosen:
    """A kind, and how a text is cut: `tokens` of a text, `split` of labels, `spaces` if words stand between spaces."""

    kind: str
    tokens: str = "characters"
    spaces: bool = True
    split: str = "words"


@dataclass
class Profile:
    """What is known of a column's cells."""

    name: str
    rows: int = 0
    texts: int = 0
    numbers: int = 0
    whole: int = 0
    pictures: int = 0
    distinct: Counter[str] = field(default_factory=Counter)
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    whole_arrays: bool = True
    lists: int = 0
    words: Counter[str] = field(default_factory=Counter)
    word_count: int = 0
    glued: int = 0
    longest: int = 0

    def add(self, cell: Cell) -> None:
        """Look at one cell that is not empty."""
        self.rows += 1
        value = unfolded(cell.value)
        if isinstance(value, list) and value and not _numeric(value):
            self.lists += 1
            return
        if _is_array(value):
            if self.rows <= LOOKED_AT:
                array = array_of(cell)
                self.shapes[array.shape] += 1
                self.whole_arrays &= bool((array == np.rint(array)).all())
            return
        text = text_of(Cell(value, *cell[1:]))
        if text.lower().endswith(PICTURES) and len(text.splitlines()) == 1:
            self.pictures += 1
        if len(self.distinct) < MOST_DISTINCT:
            self.distinct[text] += 1
        number = _number(text)
        self.numbers += number is not None
        self.whole += number is not None and number == round(number)
        self.texts += 1
        if self.rows <= LOOKED_AT:
            self._count_words(text)

    def _count_words(self, text: str) -> None:
        words = text.split()
        self.words.update(words)
        self.word_count += len(words)
        self.longest = max(self.longest, len(text))
        self.glued += sum(1 for word in words if len(word) > 1 and word[-1] in ".,!?;:" and word[:-1].isalnum())

    def basic(self) -> str:
        """Return the kind by the cells alone."""
        if self.pictures == self.rows:
            return "image"
        if self.shapes and sum(self.shapes.values()) >= min(self.rows, LOOKED_AT) - self.lists and not self.texts:
            return self._array_kind()
        if self.lists:
            return "labels"
        mean = self.rows / max(1, len(self.distinct))
        if self.numbers == self.rows:
            return "label" if self.whole == self.rows and len(self.distinct) <= 100 and mean >= A_NUMBER else "number"
        few = len(self.distinct) <= FEW_LABELS and mean >= A_LABEL and self.word_count <= 6 * min(self.rows, LOOKED_AT)
        return "label" if few else "text"

    def is_name(self) -> bool:
        """Return whether cells that repeat are names of a few things, and not texts that happen to be the same."""
        return len(self.distinct) <= FEW_NAMES and self.word_count <= 2 * min(self.rows, LOOKED_AT)

    def _array_kind(self) -> str:
        same = len(self.shapes) == 1
        shape = next(iter(self.shapes))
        if len(shape) == 1:
            return "vector" if same else "frames"
        if len(shape) == 3 or (same and self.whole_arrays and min(shape) >= 4):
            return "image"
        return "frames"

    def tokens(self, read: bool) -> tuple[str, bool]:
        """Return whether a text is best cut into words or characters, and whether its words stand between spaces."""
        looked = max(1, min(self.rows, LOOKED_AT))
        repeated = sum(count for count in self.words.values() if count >= 3) / max(1, self.word_count)
        words_a_row = self.word_count / looked
        in_words = words_a_row >= 3 and (repeated >= REPEATED or (read and words_a_row >= 5 and repeated >= 0.6))
        if words_a_row >= 1.5 and len(self.words) <= 200 and repeated >= REPEATED:
            in_words = True
        spaces = self.glued <= 0.02 * self.word_count
        return ("words" if in_words else "characters"), spaces


class Pair:
    """Source and target of a table's rows, and whether they go step by step beside each other."""

    def __init__(self, source: str, target: str) -> None:
        self.source, self.target = Profile(source), Profile(target)
        self._beside = {"characters": True, "words": True, "list": True}
        self._met = self._compared = 0
        self._several = False
        self._labels: set[str] = set()

    def add(self, source: Cell, target: Cell) -> None:
        """Look at one row, both cells of which hold something; of the rows of a large table, at one in `SPARSE`."""
        self._met += 1
        if self._met > LOOKED_AT and self._met % SPARSE:
            return
        self.source.add(source)
        self.target.add(target)
        if self._compared < ALIGNED and any(self._beside.values()):
            self._compare(source, target)

    def _compare(self, source: Cell, target: Cell) -> None:
        self._compared += 1
        value, labels = unfolded(source.value), unfolded(target.value)
        as_list = [str(part) for part in labels] if isinstance(labels, list | np.ndarray) else None
        words = as_list if as_list is not None else text_of(Cell(labels, *target[1:])).split()
        self._several |= len(words) > 1
        self._labels.update(words[:1000])
        if _is_array(value) and (not isinstance(value, list) or _numeric(value)):
            steps = len(array_of(source))
            self._beside = {"characters": False, "words": False, "list": self._beside["list"] and steps == len(words)}
            return
        text = "" if isinstance(value, list) else text_of(Cell(value, *source[1:]))
        parts = len(value) if isinstance(value, list) else len(text.split())
        letters = len(labels) if as_list is not None else len(text_of(Cell(labels, *target[1:])))
        self._beside["list"] &= isinstance(value, list) and parts == len(words)
        self._beside["words"] &= parts == len(words)
        self._beside["characters"] &= len(text) == letters

    def beside(self, said: bool) -> str | None:
        """Return what of the source each label stands beside: "list" elements, "words", "characters", or None.

        If nobody `said` that the target is labels, there must be few of them as well.
        """
        few = said or len(self._labels) <= max(50, self._compared // 4) and self._compared > 1
        one_word = not self._several and self._beside["characters"]
        for name in ("list", "characters") if one_word else ("list", "words", "characters"):
            if self._beside[name] and (few or self.target.lists) and (said or self._several or name == "characters"):
                if not said and name == "characters" and not self.target.lists and self.target.longest < 2:
                    continue
                return name
        return None


def choose_kinds(pair: Pair, said: tuple[str | None, str | None], tokens: str | None = None) -> tuple[Chosen, Chosen]:
    """Return the kinds of source and target: what was said, else what was found; texts in `tokens`, if that was said."""
    beside = pair.beside(said[1] == "labels") if said[1] in (None, "labels") and said[0] != "label" else None
    source, target = said[0], said[1]
    if target is None:
        target = "labels" if beside else pair.target.basic()
    if source is None:
        source = pair.source.basic()
        if target == "labels" and source in ("vector", "image", "label"):
            source = "text" if source == "label" else "frames"
        if source == "label" and target != "image" and not pair.source.is_name():
            source = "text"
    if tokens is not None:
        source, target = (tokens if kind == "text" else kind for kind in (source, target))
    return _source(pair, source, target, beside), _target(pair, target, beside)


def _source(pair: Pair, kind: str, target: str, beside: str | None) -> Chosen:
    if kind in TOKENS:
        return Chosen("text", kind, spaces=beside == "words" or pair.source.tokens(True)[1])
    if kind == "text" and target == "labels":
        return Chosen("text", "words" if beside == "words" else "characters", spaces=True)
    tokens, spaces = pair.source.tokens(read=True) if kind == "text" else ("characters", True)
    return Chosen(kind, tokens, spaces, "words")


def _target(pair: Pair, kind: str, beside: str | None) -> Chosen:
    if kind in TOKENS:
        return Chosen("text", kind, spaces=pair.target.tokens(False)[1])
    if kind == "labels":
        return Chosen(kind, split="characters" if beside == "characters" and not pair.target.lists else "words")
    tokens, spaces = pair.target.tokens(read=False) if kind == "text" else ("characters", True)
    return Chosen(kind, tokens, spaces)


def parse_column(spec: str, role: str) -> tuple[str, str | None]:
    """Return name and kind of `column` or `column:kind`."""
    name, colon, kind = spec.rpartition(":")
    if not colon:
        return spec, None
    known = (*KINDS, *TOKENS)
    if kind not in known:
        near = nearest(kind, known) or "."
        raise UsageError(f"--{role} {spec}: there is no kind '{kind}'{near} Kinds: {', '.join(known)}.")
    return name, kind


def _is_array(value: Any) -> bool:
    if isinstance(value, list | np.ndarray):
        return True
    if not isinstance(value, str):
        return False
    if value.lower().endswith(".npy"):
        return True
    parts = value.replace(",", " ").replace(";", " ").split()
    many = len(parts) >= (3 if "." in value else SURELY_NUMBERS)
    return many and all(_number(part) is not None for part in parts)


def _numeric(value: list[Any]) -> bool:
    head = value[0]
    while isinstance(head, list) and head:
        head = head[0]
    return isinstance(head, int | float) and not isinstance(head, bool)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
