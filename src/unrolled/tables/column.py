"""The base class of column types: how a cell of a table becomes an array, and how a model's output becomes a cell again.

A column is fitted once, on all rows of the training table, and is stored in the model file. `tensor_kind` is what the network
sees:

    ids      int64 `(N,)`            text, labels, label (N = 1)
    floats   float32 `(N, D)`        frames, vector and number (N = 1), scaled to mean 0 and standard deviation 1
             float64 `(N, D)`        numbers, scaled later (`to_inputs`), NaN for gaps
    image    float32 `(H, W, C)`     image, scaled in the same way

Columns of ids have one id more than tokens or labels: the last one, `unk_id`, for what the training rows did not contain.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.tables.base_text import BaseText
from unrolled.tables.cell_values import MISSING_IN_NUMBERS, Array, Cell, is_missing, parse_text
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.ngrams import VERSION as NGRAM_VERSION
from unrolled.tables.ragged import RaggedArray
from unrolled.text.normalization import change_note, normalize, normalize_counted
from unrolled.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

Output = Literal["single", "aligned", "generated"]

MAX_FITTED_ROWS = 20_000
"""Rows that give the mean and the standard deviation of numbers; more rows would hardly change them."""

MAX_BASELINE_ROWS = 200_000
"""Training rows that baselines are made from; of a larger table, the first ones."""


class SymbolCounts(NamedTuple):
    """Of a cell: its characters, words or labels; those that the model does not know; and those that were normalized."""

    total: int
    unknown: int
    normalized: int


class Column:
    """A column of one kind. A new type is a subclass and an entry in `columns.COLUMN_TYPES`."""

    kind: ClassVar[str]
    tensor_kind: ClassVar[Literal["ids", "floats", "image"]]

    is_sequence: ClassVar[bool]
    """Whether a cell has many steps."""

    output: ClassVar[Output | None]
    """When a target is predicted: once at the end, one per source step, or generated step by step; None: never a target."""

    max_fitted_rows: ClassVar[int | None] = None
    """Rows that `fit` reads at most; None: all."""

    has_single_answer: ClassVar[bool] = True
    """Whether a target cell has one right answer; a generated image does not, so it has no errors and no probability."""

    is_calibrated: ClassVar[bool] = False
    """Whether the probabilities of a target are fitted to the validation rows (a temperature)."""

    may_keep_na: ClassVar[bool] = False
    """Whether `NA` and other names of missing values may be values of such a column: a text or a label can be one."""

    symbol_noun: str = ""
    """What `count_symbols` counts, with a verb for those that the model does not know."""

    size: int
    """Number of ids, with `unk_id`, or D."""

    labels: Sequence[str] = ()
    tokenizer: Tokenizer | None = None
    unk_id: int | None = None
    shape: tuple[int, ...] = ()
    """(H, W, C) of an image."""

    array_dtype: ClassVar[np.dtype[Any] | None] = None
    """The type of encoded arrays; None: int32 for ids, else float32."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ngram_buckets, self.ngram_version = 0, NGRAM_VERSION
        """Rows of the classifier of hashed n-grams that reads this column too (see `tables/ngrams.py`); 0: there is none."""

        self.base: BaseText | None = None
        """How a language model reads this column too, whose states are features of that classifier; None: there is none."""

        self.missing_names = frozenset[str]() if self.may_keep_na else MISSING_IN_NUMBERS
        """Names of missing values, which are no values here; none if the kind was given, or the model file does not say."""

        self.normalization = "none"
        """Normal form in which texts and labels are compared, see `text/normalization.py`; none in files of before 0.3."""

    def is_missing(self, value: Any) -> bool:
        """Return whether a cell of this column has no value; its row is then left out."""
        return is_missing(value, self.missing_names)

    @property
    def unknown(self) -> Array | None:
        """One unknown token or label: what a missing value is read as, next to other source columns. None: it is needed."""
        return None if self.unk_id is None or self.kind == "labels" else np.array([self.unk_id], dtype=np.int64)

    def read_text(self, cell: Cell) -> str:
        """Return a cell as text, in the normal form of the column."""
        return normalize(parse_text(cell), self.normalization)

    def count_symbols(self, cell: Cell) -> SymbolCounts:
        """Return how many characters, words or labels a cell has, and how many of them the model does not know."""
        return SymbolCounts(0, 0, 0)

    def unknown_symbols(self, cell: Cell) -> list[str]:
        """Return the characters, words or labels of a cell that the model does not know."""
        return []

    def reading_note(self, cell: Cell) -> str:
        """Return how a cell is read, and how to write it otherwise, if it may be meant otherwise; else an empty text."""
        return ""

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> Column:
        """Build the column from its cells in the training rows; `config` holds the fields of its `InferredType`."""
        raise NotImplementedError

    def encode(self, cell: Cell) -> Array:
        """Return the array of a cell. Raises `DataError`, with the cell's location, if it is not of this kind."""
        raise NotImplementedError

    def decode(self, values: Array) -> str:
        """Return a network's output, ids `(N,)` or numbers `(N, D)`, as the text of a cell."""
        raise NotImplementedError

    def encode_source(self, cell: Cell) -> Array:
        """Return the array of a source cell, time first."""
        return self.encode(cell)

    def encode_target(self, cell: Cell) -> Array:
        """Return the array to predict for a cell: ids `(M,)` or numbers `(1, D)`."""
        return self.encode(cell)

    def decode_target(self, values: Array) -> str:
        """Return predicted `values` as the text of a cell."""
        return self.decode(values)

    def fit_training(self, rows: Iterable[Array]) -> None:
        """Adapt the column to the encoded training rows, which it was not fitted to alone; most columns do nothing."""

    def to_inputs(self, values: Array) -> Array:
        """Return an encoded source as the network reads it."""
        return values

    def loss_targets(self, values: Array) -> Array:
        """Return an encoded target as the loss takes it; `IGNORE_INDEX` marks ids that do not count."""
        return values.astype(np.int64)

    @property
    def target_tensor_kind(self) -> str:
        """The `tensor_kind` of the output for a target of this column."""
        return self.tensor_kind

    @property
    def target_size(self) -> int:
        """The number of ids, or D, of the output for a target of this column."""
        return self.size

    @property
    def target_length(self) -> int:
        """The number of steps of a target that always has the same number, else 0."""
        return 0

    @property
    def target_row_length(self) -> int:
        """How many of `target_length` steps make one row of an image."""
        return 0

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        """Return the tokens or labels of a cell as texts, one per step; empty for columns of other kinds."""
        return ()

    def check_target(self, table_name: str) -> None:
        """Raise `DataError` if there is nothing to learn from this column as a target."""

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return what `metric_report` needs to know of the training rows `index`, as JSON values."""
        return {}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        """Return the metrics of predictions, and of baselines made from `train_stats`: what `baseline_stats` returned."""
        raise NotImplementedError

    def is_wrong(self, truth: Cell, text: str, values: Array) -> bool:
        """Return whether a prediction, as `text` and as `values`, differs from the true cell."""
        return self.read_text(truth) != text

    def to_pixels(self, values: Array) -> npt.NDArray[np.uint8] | None:
        """Return a prediction as an image `(H, W, C)`; None for columns of other kinds."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values that `from_dict` needs, without kind and name."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> Column:
        """Build the column that `to_dict` described."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return a short description for people."""
        return f"{self.name}: {self.kind}"


@dataclass(frozen=True)
class EvalRows:
    """Rows whose true target cells are known, with their predictions, as `texts` and as `values` (ids or numbers).

    `quantiles` are those of each prediction, `(levels, T, D)`, or None; empty for columns that have none.
    """

    source: Column
    source_cells: Sequence[Cell]
    truths: Sequence[Cell]
    texts: Sequence[str]
    values: Sequence[Array]
    quantiles: Sequence[Array | None] = ()


def normalized_texts(name: str, texts: Iterable[str], form: str) -> Iterator[str]:
    """Yield texts of the column `name` in a normal form; at the end, log how many characters changed."""
    num_changed = 0
    for text in texts:
        normal, count = normalize_counted(text, form)
        num_changed += count
        yield normal
    if num_changed:
        logger.info(f"'{name}': {num_changed:,} {change_note(form)}")


def token_names(source: Column, ids: Array) -> list[str] | None:
    """Return a name for each id of an encoded source; None for a source of numbers."""
    return [str(i) for i in ids.tolist()] if source.tensor_kind == "ids" else None
