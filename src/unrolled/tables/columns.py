"""Kinds of columns: how a cell of a table becomes an array, and how what a network writes becomes a cell again.

A column is made once, from all rows of the table that is trained on, and lies in the model's file. Its `form` is what a
network sees:

    symbols   ids `(N,)`            text, labels, label (N = 1)
    numbers   floats `(N, D)`       frames, vector and number (N = 1), brought to mean 0 and deviation 1
    picture   floats `(H, W, C)`    image, in the same way

Symbols have one id more, the last: *unknown*, for what the training rows did not have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError, ModelError
from unrolled.tables.cell_values import Cell, array_of, number_of, numbers_of, picture_of, text_of, words_of
from unrolled.tables.word_tokenizer import Pieces, Words, split_words, words_from_json
from unrolled.text.tokenizer import Bytes, Characters, Vocabulary, vocabulary_from_json

Array = npt.NDArray[Any]
TOKENS = ("characters", "bytes", "words", "bpe")
"""What one symbol of a text may be."""

MOST_LABELS = 10_000


class Column:
    """A column of one kind. `size` is the number of symbols or D; `sequence` says whether a cell has many steps."""

    kind: ClassVar[str]
    form: ClassVar[str]
    sequence: ClassVar[bool]
    size: int

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> Column:
        """Make the column from its cells in the training rows; `how` holds what was found out about it."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        """Return the array of a cell. Raises `DataError`, which says where the cell is, for one that is not of this kind."""
        raise NotImplementedError

    def show(self, values: Array) -> str:
        """Return, as a cell, what a network wrote: ids `(N,)`, or numbers `(N, D)`."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return what `column_from_json` needs beside kind and name."""
        raise NotImplementedError

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> Column:
        """Build the column from its settings."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return in a few words what a person should know of it."""
        return f"{self.name}: {self.kind}"


class TextColumn(Column):
    """A text, as characters, bytes, words or pieces of words."""

    kind, form, sequence = "text", "symbols", True

    def __init__(self, name: str, vocabulary: Vocabulary) -> None:
        super().__init__(name)
        self.vocabulary = vocabulary
        self.unknown = vocabulary.size
        self.size = vocabulary.size + 1

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> TextColumn:
        texts = (text_of(cell) for cell in cells)
        tokens = how["tokens"]
        if tokens == "bytes":
            return cls(name, Bytes())
        if tokens == "bpe":
            return cls(name, Pieces.of(texts))
        if tokens == "words":
            counts: Counter[str] = Counter()
            for text in texts:
                counts.update(split_words(text, how["spaces"]))
            return cls(name, Words.of(counts, how["spaces"], how["read"]))
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return cls(name, Characters(sorted(characters)))

    def encode(self, cell: Cell) -> Array:
        text, vocabulary = text_of(cell), self.vocabulary
        if isinstance(vocabulary, Words):
            found = [vocabulary.lookup(word) for word in split_words(text, vocabulary.spaces)]
            return np.array([self.unknown if i is None else i for i in found], dtype=np.int64)
        if isinstance(vocabulary, Characters):
            ids = vocabulary.table[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)].astype(np.int64)
            missing = np.flatnonzero(ids < 0)
            for at in missing.tolist():
                near = vocabulary.closest(text[at])
                ids[at] = vocabulary.encode(near)[0][0] if len(near) == 1 and near.strip() else self.unknown
            return ids
        return vocabulary.encode(text)[0].astype(np.int64)

    def symbols(self, cell: Cell) -> Sequence[str]:
        """Return the symbols of a cell as texts, one a step."""
        text = text_of(cell)
        return split_words(text, self.vocabulary.spaces) if isinstance(self.vocabulary, Words) else text

    def show(self, values: Array) -> str:
        return self.vocabulary.decode(i for i in values.tolist() if i != self.unknown)

    def settings(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary.to_json()}

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> TextColumn:
        about = value["vocabulary"]
        known = words_from_json(about) if about["kind"] in ("words", "bpe") else vocabulary_from_json(about)
        return cls(name, known)

    def describe(self) -> str:
        return f"{self.name}: text as {self.vocabulary.kind} ({self.vocabulary.size:,} kinds)"


class _Labelled(Column):
    """What has names for its symbols, in their order."""

    form = "symbols"

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__(name)
        self.labels = list(labels)
        self.unknown = len(self.labels)
        self.size = len(self.labels) + 1
        self._ids = {label: index for index, label in enumerate(self.labels)}

    def describe(self) -> str:
        few = ", ".join(self.labels[:6]) + (", ..." if len(self.labels) > 6 else "")
        return f"{self.name}: {self.kind} ({len(self.labels):,}: {few})"


class LabelColumn(_Labelled):
    """One of a few labels."""

    kind, sequence = "label", False

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> LabelColumn:
        found: set[str] = set()
        for cell in cells:
            found.add(text_of(cell))
            if len(found) > MOST_LABELS:
                raise DataError(f"{cell.where}: '{name}' has more than {MOST_LABELS:,} labels. Is it '{name}:text'?")
        return cls(name, sorted(found, key=natural))

    def encode(self, cell: Cell) -> Array:
        return np.array([self._ids.get(text_of(cell), self.unknown)], dtype=np.int64)

    def show(self, values: Array) -> str:
        at = int(values[0])
        return self.labels[at] if at < len(self.labels) else ""

    def settings(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> LabelColumn:
        return cls(name, list(value["labels"]))


class LabelsColumn(_Labelled):
    """A label for every step of the source: a list, words, or one character each (`split`)."""

    kind, sequence = "labels", True

    def __init__(self, name: str, labels: Sequence[str], split: str) -> None:
        super().__init__(name, labels)
        self.split = split

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> LabelsColumn:
        found = {label for cell in cells for label in steps_of(cell, how["split"])}
        return cls(name, sorted(found, key=natural), how["split"])

    def encode(self, cell: Cell) -> Array:
        return np.array([self._ids.get(label, self.unknown) for label in self.symbols(cell)], dtype=np.int64)

    def symbols(self, cell: Cell) -> Sequence[str]:
        """Return the labels of a cell, one a step."""
        return steps_of(cell, self.split)

    def show(self, values: Array) -> str:
        return ("" if self.split == "characters" else " ").join(self.named(values))

    def named(self, values: Array) -> list[str]:
        """Return the labels of ids."""
        return [self.labels[i] if i < len(self.labels) else "?" for i in values.tolist()]

    def settings(self) -> dict[str, Any]:
        return {"labels": self.labels, "split": self.split}

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> LabelsColumn:
        return cls(name, list(value["labels"]), str(value["split"]))


class _Numeric(Column):
    """Numbers, brought to mean 0 and deviation 1 by those of the training rows."""

    form = "numbers"

    def __init__(self, name: str, mean: Array, scale: Array) -> None:
        super().__init__(name)
        self.mean, self.scale = np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        self.size = len(self.mean)

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> Column:
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        for cell in cells:
            values = cls.read(cell)
            if count and values.shape[1] != len(total):
                raise DataError(f"{cell.where}: {values.shape[1]} numbers, and the rows before it have {len(total)}.")
            count += len(values)
            total = total + values.sum(0)
            squares = squares + (values**2).sum(0)
        mean = total / max(1, count)
        deviation = np.sqrt(np.maximum(squares / max(1, count) - mean**2, 0))
        return cls(name, mean, np.where(deviation > 1e-9 * (1 + np.abs(mean)), deviation, 1.0))

    @staticmethod
    def read(cell: Cell) -> Array:
        """Return the numbers `(N, D)` of a cell as they are."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        values = self.read(cell)
        if values.shape[1] != self.size:
            raise DataError(f"{cell.where}: {values.shape[1]} numbers, and {self.size} are expected, as in the training rows.")
        return ((values - self.mean) / self.scale).astype(np.float32)

    def unscale(self, values: Array) -> Array:
        """Return values `(N, D)` in the column's own units."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.mean

    def show(self, values: Array) -> str:
        return " ".join(f"{value:.6g}" for value in self.unscale(values).ravel())

    def settings(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> Column:
        return cls(name, np.array(value["mean"], dtype=np.float64), np.array(value["scale"], dtype=np.float64))


class NumberColumn(_Numeric):
    """One number."""

    kind, sequence = "number", False

    @staticmethod
    def read(cell: Cell) -> Array:
        return np.array([[number_of(cell)]])


class VectorColumn(_Numeric):
    """As many numbers in every row."""

    kind, sequence = "vector", False

    @staticmethod
    def read(cell: Cell) -> Array:
        return numbers_of(cell)[None]


class FramesColumn(_Numeric):
    """Any number of steps, with as many numbers each."""

    kind, sequence = "frames", True

    @staticmethod
    def read(cell: Cell) -> Array:
        values = array_of(cell)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise DataError(f"{cell.where}: frames are a list of lists of numbers, (steps, numbers); this is {values.shape}.")
        return values


class ImageColumn(Column):
    """A picture `(H, W, C)`: a file, or an array of numbers."""

    kind, form, sequence = "image", "picture", False

    def __init__(self, name: str, shape: tuple[int, int, int], low: float, high: float, mean: float, scale: float) -> None:
        super().__init__(name)
        self.shape, self.low, self.high, self.mean, self.scale = shape, low, high, mean, scale
        self.size = shape[2]

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], how: dict[str, Any]) -> ImageColumn:
        shape: tuple[int, ...] = ()
        low, high, count, total, squares = np.inf, -np.inf, 0, 0.0, 0.0
        for cell in cells:
            values = picture_of(cell)
            if shape and values.shape != shape:
                others = f"and the rows before it have {_sized(shape)}"
                raise DataError(f"{cell.where}: a picture of {_sized(values.shape)}, {others}.")
            shape = values.shape
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            count, total, squares = count + values.size, total + float(values.sum()), squares + float((values**2).sum())
        mean = total / max(1, count)
        scale = float(np.sqrt(max(squares / max(1, count) - mean**2, 0.0))) or 1.0
        return cls(name, (shape[0], shape[1], shape[2]), low, high if high > low else low + 1, mean, scale)

    def encode(self, cell: Cell) -> Array:
        values = picture_of(cell)
        if values.shape != self.shape:
            raise DataError(f"{cell.where}: a picture of {_sized(values.shape)}, and {_sized(self.shape)} is expected.")
        return ((values - self.mean) / self.scale).astype(np.float32)

    def levels(self, cell: Cell, levels: int) -> Array:
        """Return a picture as ids `(H W C,)` of `levels` levels, row by row, as it is painted."""
        values = (picture_of(cell) - self.low) / (self.high - self.low)
        ids: Array = np.clip(np.rint(values * (levels - 1)), 0, levels - 1).astype(np.int64).ravel()
        return ids

    def paint(self, ids: Array, levels: int) -> Array:
        """Return the picture `(H, W, C)` of ids, in the column's own units."""
        return ids.reshape(self.shape) / (levels - 1) * (self.high - self.low) + self.low

    def show(self, values: Array) -> str:
        squeezed = values[..., 0] if self.shape[2] == 1 else values
        return str(np.rint(squeezed).astype(int).tolist()).replace(" ", "")

    def settings(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("low", "high", "mean", "scale")} | {"shape": list(self.shape)}

    @classmethod
    def restore(cls, name: str, value: dict[str, Any]) -> ImageColumn:
        height, width, channels = (int(n) for n in value["shape"])
        return cls(name, (height, width, channels), *(float(value[k]) for k in ("low", "high", "mean", "scale")))

    def describe(self) -> str:
        return f"{self.name}: image, {_sized(self.shape)}"


KINDS: dict[str, type[Column]] = {
    kind.kind: kind for kind in (TextColumn, LabelColumn, NumberColumn, LabelsColumn, ImageColumn, VectorColumn, FramesColumn)
}


def column_to_json(column: Column) -> dict[str, Any]:
    """Return a column as it lies in a model's file."""
    return {"kind": column.kind, "name": column.name, **column.settings()}


def column_from_json(value: Any) -> Column:
    """Build the column that `column_to_json` described; anything else is a `ModelError`."""
    try:
        return KINDS[value["kind"]].restore(str(value["name"]), value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The model's column cannot be read: {type(error).__name__} {error}.") from error


def steps_of(cell: Cell, split: str) -> Sequence[str]:
    """Return the labels of a cell: of a list, of words, or one a character."""
    if split == "characters":
        return text_of(cell)
    return words_of(cell)


def natural(label: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers by value, before words."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _sized(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[:2]) + (f" in {shape[2]} channels" if len(shape) > 2 and shape[2] > 1 else "")
