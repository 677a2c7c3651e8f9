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
from unrolled.tables.cell_values import Cell, parse_array, parse_image, parse_number, parse_text, parse_vector, parse_words
from unrolled.tables.word_tokenizer import BPETokenizer, WordTokenizer, split_words, word_tokenizer_from_json
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, tokenizer_from_json

Array = npt.NDArray[Any]
TOKEN_KINDS = ("characters", "bytes", "words", "bpe")
"""What one symbol of a text may be."""

MAX_LABELS = 10_000


class Column:
    """A column of one kind. `size` is the number of symbols or D; `sequence` says whether a cell has many steps."""

    kind: ClassVar[str]
    tensor_kind: ClassVar[str]
    is_sequence: ClassVar[bool]
    size: int

    def __init__(self, name: str) -> None:
        self.name = name

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        """Make the column from its cells in the training rows; `how` holds what was found out about it."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        """Return the array of a cell. Raises `DataError`, which says where the cell is, for one that is not of this kind."""
        raise NotImplementedError

    def decode(self, values: Array) -> str:
        """Return, as a cell, what a network wrote: ids `(N,)`, or numbers `(N, D)`."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return what `column_from_json` needs beside kind and name."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        """Build the column from its settings."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return in a few words what a person should know of it."""
        return f"{self.name}: {self.kind}"


class TextColumn(Column):
    """A text, as characters, bytes, words or pieces of words."""

    kind, tensor_kind, is_sequence = "text", "ids", True

    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        super().__init__(name)
        self.tokenizer = tokenizer
        self.unk_id = tokenizer.vocab_size
        self.size = tokenizer.vocab_size + 1

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> TextColumn:
        texts = (parse_text(cell) for cell in cells)
        tokens = config["tokens"]
        if tokens == "bytes":
            return cls(name, ByteTokenizer())
        if tokens == "bpe":
            return cls(name, BPETokenizer.train(texts))
        if tokens == "words":
            counts: Counter[str] = Counter()
            for text in texts:
                counts.update(split_words(text, config["spaces"]))
            return cls(name, WordTokenizer.from_counts(counts, config["spaces"], config["read"]))
        chars: set[str] = set()
        for text in texts:
            chars.update(text)
        return cls(name, CharTokenizer(sorted(chars)))

    def encode(self, cell: Cell) -> Array:
        text, tokenizer = parse_text(cell), self.tokenizer
        if isinstance(tokenizer, WordTokenizer):
            ids_or_none = [tokenizer.lookup(word) for word in split_words(text, tokenizer.spaces)]
            return np.array([self.unk_id if i is None else i for i in ids_or_none], dtype=np.int64)
        if isinstance(tokenizer, CharTokenizer):
            ids = tokenizer.id_of_code_point[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)].astype(
                np.int64
            )
            unknown = np.flatnonzero(ids < 0)
            for position in unknown.tolist():
                replacement = tokenizer.nearest_known(text[position])
                ids[position] = (
                    tokenizer.encode(replacement)[0][0] if len(replacement) == 1 and replacement.strip() else self.unk_id
                )
            return ids
        return tokenizer.encode(text)[0].astype(np.int64)

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        """Return the symbols of a cell as texts, one a step."""
        text = parse_text(cell)
        return split_words(text, self.tokenizer.spaces) if isinstance(self.tokenizer, WordTokenizer) else text

    def decode(self, values: Array) -> str:
        return self.tokenizer.decode(i for i in values.tolist() if i != self.unk_id)

    def to_dict(self) -> dict[str, Any]:
        return {"tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> TextColumn:
        tokenizer_json = value["tokenizer"]
        tokenizer = (
            word_tokenizer_from_json(tokenizer_json)
            if tokenizer_json["kind"] in ("words", "bpe")
            else tokenizer_from_json(tokenizer_json)
        )
        return cls(name, tokenizer)

    def describe(self) -> str:
        return f"{self.name}: text as {self.tokenizer.kind} ({self.tokenizer.vocab_size:,} kinds)"


class _LabeledColumn(Column):
    """What has names for its symbols, in their order."""

    tensor_kind = "ids"

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        super().__init__(name)
        self.labels = list(labels)
        self.unk_id = len(self.labels)
        self.size = len(self.labels) + 1
        self._label_to_id = {label: index for index, label in enumerate(self.labels)}

    def describe(self) -> str:
        examples = ", ".join(self.labels[:6]) + (", ..." if len(self.labels) > 6 else "")
        return f"{self.name}: {self.kind} ({len(self.labels):,}: {examples})"


class LabelColumn(_LabeledColumn):
    """One of a few labels."""

    kind, is_sequence = "label", False

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> LabelColumn:
        labels: set[str] = set()
        for cell in cells:
            labels.add(parse_text(cell))
            if len(labels) > MAX_LABELS:
                raise DataError(f"{cell.location}: '{name}' has more than {MAX_LABELS:,} labels. Is it '{name}:text'?")
        return cls(name, sorted(labels, key=natural_key))

    def encode(self, cell: Cell) -> Array:
        return np.array([self._label_to_id.get(parse_text(cell), self.unk_id)], dtype=np.int64)

    def decode(self, values: Array) -> str:
        label_id = int(values[0])
        return self.labels[label_id] if label_id < len(self.labels) else ""

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> LabelColumn:
        return cls(name, list(value["labels"]))


class LabelsColumn(_LabeledColumn):
    """A label for every step of the source: a list, words, or one character each (`split`)."""

    kind, is_sequence = "labels", True

    def __init__(self, name: str, labels: Sequence[str], split: str) -> None:
        super().__init__(name, labels)
        self.split = split

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> LabelsColumn:
        labels = {label for cell in cells for label in split_labels(cell, config["split"])}
        return cls(name, sorted(labels, key=natural_key), config["split"])

    def encode(self, cell: Cell) -> Array:
        return np.array([self._label_to_id.get(label, self.unk_id) for label in self.cell_tokens(cell)], dtype=np.int64)

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        """Return the labels of a cell, one a step."""
        return split_labels(cell, self.split)

    def decode(self, values: Array) -> str:
        return ("" if self.split == "characters" else " ").join(self.label_names(values))

    def label_names(self, values: Array) -> list[str]:
        """Return the labels of ids."""
        return [self.labels[i] if i < len(self.labels) else "?" for i in values.tolist()]

    def to_dict(self) -> dict[str, Any]:
        return {"labels": self.labels, "split": self.split}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> LabelsColumn:
        return cls(name, list(value["labels"]), str(value["split"]))


class _NumericColumn(Column):
    """Numbers, brought to mean 0 and deviation 1 by those of the training rows."""

    tensor_kind = "floats"

    def __init__(self, name: str, mean: Array, scale: Array) -> None:
        super().__init__(name)
        self.mean, self.scale = np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        self.size = len(self.mean)

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        count, total, total_squares = 0, np.zeros(1), np.zeros(1)
        for cell in cells:
            values = cls.parse(cell)
            if count and values.shape[1] != len(total):
                raise DataError(f"{cell.location}: {values.shape[1]} numbers, and the rows before it have {len(total)}.")
            count += len(values)
            total = total + values.sum(0)
            total_squares = total_squares + (values**2).sum(0)
        mean = total / max(1, count)
        std = np.sqrt(np.maximum(total_squares / max(1, count) - mean**2, 0))
        return cls(name, mean, np.where(std > 1e-9 * (1 + np.abs(mean)), std, 1.0))

    @staticmethod
    def parse(cell: Cell) -> Array:
        """Return the numbers `(N, D)` of a cell as they are."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        values = self.parse(cell)
        if values.shape[1] != self.size:
            raise DataError(
                f"{cell.location}: {values.shape[1]} numbers, and {self.size} are expected, as in the training rows."
            )
        return ((values - self.mean) / self.scale).astype(np.float32)

    def unscale(self, values: Array) -> Array:
        """Return values `(N, D)` in the column's own units."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.mean

    def decode(self, values: Array) -> str:
        return " ".join(f"{value:.6g}" for value in self.unscale(values).ravel())

    def to_dict(self) -> dict[str, Any]:
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        return cls(name, np.array(value["mean"], dtype=np.float64), np.array(value["scale"], dtype=np.float64))


class NumberColumn(_NumericColumn):
    """One number."""

    kind, is_sequence = "number", False

    @staticmethod
    def parse(cell: Cell) -> Array:
        return np.array([[parse_number(cell)]])


class VectorColumn(_NumericColumn):
    """As many numbers in every row."""

    kind, is_sequence = "vector", False

    @staticmethod
    def parse(cell: Cell) -> Array:
        return parse_vector(cell)[None]


class FramesColumn(_NumericColumn):
    """Any number of steps, with as many numbers each."""

    kind, is_sequence = "frames", True

    @staticmethod
    def parse(cell: Cell) -> Array:
        values = parse_array(cell)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2:
            raise DataError(
                f"{cell.location}: frames are a list of lists of numbers, (steps, numbers); this is {values.shape}."
            )
        return values


class ImageColumn(Column):
    """A picture `(H, W, C)`: a file, or an array of numbers."""

    kind, tensor_kind, is_sequence = "image", "image", False

    def __init__(self, name: str, shape: tuple[int, int, int], low: float, high: float, mean: float, scale: float) -> None:
        super().__init__(name)
        self.shape, self.low, self.high, self.mean, self.scale = shape, low, high, mean, scale
        self.size = shape[2]

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> ImageColumn:
        shape: tuple[int, ...] = ()
        low, high, count, total, total_squares = np.inf, -np.inf, 0, 0.0, 0.0
        for cell in cells:
            values = parse_image(cell)
            if shape and values.shape != shape:
                expected = f"and the rows before it have {_format_shape(shape)}"
                raise DataError(f"{cell.location}: a picture of {_format_shape(values.shape)}, {expected}.")
            shape = values.shape
            low, high = min(low, float(values.min())), max(high, float(values.max()))
            count, total, total_squares = (
                count + values.size,
                total + float(values.sum()),
                total_squares + float((values**2).sum()),
            )
        mean = total / max(1, count)
        scale = float(np.sqrt(max(total_squares / max(1, count) - mean**2, 0.0))) or 1.0
        return cls(name, (shape[0], shape[1], shape[2]), low, high if high > low else low + 1, mean, scale)

    def encode(self, cell: Cell) -> Array:
        values = parse_image(cell)
        if values.shape != self.shape:
            raise DataError(
                f"{cell.location}: a picture of {_format_shape(values.shape)}, and {_format_shape(self.shape)} is expected."
            )
        return ((values - self.mean) / self.scale).astype(np.float32)

    def quantize(self, cell: Cell, num_levels: int) -> Array:
        """Return a picture as ids `(H W C,)` of `levels` levels, row by row, as it is painted."""
        values = (parse_image(cell) - self.low) / (self.high - self.low)
        ids: Array = np.clip(np.rint(values * (num_levels - 1)), 0, num_levels - 1).astype(np.int64).ravel()
        return ids

    def dequantize(self, ids: Array, num_levels: int) -> Array:
        """Return the picture `(H, W, C)` of ids, in the column's own units."""
        return ids.reshape(self.shape) / (num_levels - 1) * (self.high - self.low) + self.low

    def decode(self, values: Array) -> str:
        squeezed = values[..., 0] if self.shape[2] == 1 else values
        return str(np.rint(squeezed).astype(int).tolist()).replace(" ", "")

    def to_dict(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("low", "high", "mean", "scale")} | {"shape": list(self.shape)}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> ImageColumn:
        height, width, channels = (int(n) for n in value["shape"])
        return cls(name, (height, width, channels), *(float(value[k]) for k in ("low", "high", "mean", "scale")))

    def describe(self) -> str:
        return f"{self.name}: image, {_format_shape(self.shape)}"


COLUMN_TYPES: dict[str, type[Column]] = {
    kind.kind: kind for kind in (TextColumn, LabelColumn, NumberColumn, LabelsColumn, ImageColumn, VectorColumn, FramesColumn)
}


def column_to_json(column: Column) -> dict[str, Any]:
    """Return a column as it lies in a model's file."""
    return {"kind": column.kind, "name": column.name, **column.to_dict()}


def column_from_json(value: Any) -> Column:
    """Build the column that `column_to_json` described; anything else is a `ModelError`."""
    try:
        return COLUMN_TYPES[value["kind"]].from_dict(str(value["name"]), value)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"The model's column cannot be read: {type(error).__name__} {error}.") from error


def split_labels(cell: Cell, split: str) -> Sequence[str]:
    """Return the labels of a cell: of a list, of words, or one a character."""
    if split == "characters":
        return parse_text(cell)
    return parse_words(cell)


def natural_key(label: str) -> tuple[int, float, str]:
    """Return a key that sorts numbers by value, before words."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[:2]) + (f" in {shape[2]} channels" if len(shape) > 2 and shape[2] > 1 else "")
