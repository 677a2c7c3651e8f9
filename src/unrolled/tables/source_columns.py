"""Several source columns of a table: their names in `--source`, the cells of a row as one, and their arrays.

One of them is the main one: the column that has a label for each step, else the first of many steps, else an image, else the
first. It is read as the source of a model with a single column is; the `others` are read by encoders of their own.
"""

from __future__ import annotations

import csv
import itertools
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.errors import UsageError
from unrolled.tables.cell_values import Array, Cell, display_text, parse_list, readable
from unrolled.tables.column import MAX_FITTED_ROWS, Column
from unrolled.tables.columns import COLUMN_TYPES
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.table_files import Table
from unrolled.tables.text_column import is_token_kind
from unrolled.tables.type_inference import InferredType, PairProfile, infer_types


@dataclass(frozen=True)
class SourceDims:
    """What an encoder needs to know of one source column: see `ModelDims`."""

    tensor_kind: str
    size: int
    image_shape: tuple[int, ...]
    is_sequence: bool
    is_aligned: bool
    """Whether it has one step for each step of the main column, with a target for each."""

    @staticmethod
    def of(column: Column, is_aligned: bool) -> SourceDims:
        """Return those of a column."""
        return SourceDims(column.tensor_kind, column.size, column.shape, column.is_sequence, is_aligned)


@dataclass(frozen=True)
class EncodedSource:
    """The arrays of a row's source: `steps` of the main column, and those of the `others`. Its length is 0 if one is empty.

    `ngrams` are those of `hash_ngrams`, if the model has a classifier of them; `base_ids` are the text as `BaseText` encodes
    it, if a language model reads it too.
    """

    steps: Array
    others: tuple[Array, ...] = ()
    ngrams: Array | None = None
    base_ids: Array | None = None

    def __len__(self) -> int:
        lengths = [len(self.steps), *map(len, self.others)]
        return max(lengths) if all(lengths) else 0

    @property
    def num_steps(self) -> int:
        """The steps of all columns together."""
        return len(self.steps) + sum(map(len, self.others))


def split_source(source: str, table: Table | None = None) -> list[str]:
    """Return the columns, each NAME or NAME:KIND, that a value of `--source` names: separated by commas, quoted as in CSV.

    A name with a comma that a column of the `table` has is that column.

    Example:
        >>> split_source('age,income:number,"first, last"')
        ['age', 'income:number', 'first, last']
    """
    if "," not in source:
        return [source]
    names_with_comma = [name for name in (source, source.rpartition(":")[0]) if "," in name]
    if table is not None and any(map(table.matching_columns, names_with_comma)):
        return [source]
    names = [name.strip() for name in next(csv.reader([source], skipinitialspace=True))]
    if not all(names):
        raise UsageError(f"--source {source}: a name between two commas is missing; write NAME,NAME.")
    return names


def join_cells(cells: Sequence[Cell]) -> Cell:
    """Return the cells of a row's source columns as one: the first, which is that of the main column, with the others."""
    return cells[0]._replace(others=tuple(cells[1:])) if len(cells) > 1 else cells[0]


def median_of_numbers(column: NumberColumn, cells: Iterable[Cell]) -> float:
    """Return the median of the first cells of a column of numbers, of those that can be read."""
    numbers = readable(itertools.islice(cells, MAX_FITTED_ROWS), lambda cell: float(column.read_values(cell)[0, 0]))
    return statistics.median(numbers)


def source_text(columns: Sequence[Column], cell: Cell) -> str:
    """Return the cells of all source columns of a row as a text for people; of images and frames, the size."""
    parts = []
    for column, part in zip(columns, (cell, *cell.others), strict=True):
        value = parse_list(part.value)
        is_text = isinstance(value, str) or column.kind not in ("image", "frames", "vector")
        parts.append(display_text(value) if is_text else f"{column.kind} {' x '.join(map(str, np.shape(value)))}")
    return " | ".join(parts)


def infer_source_types(
    profiles: Sequence[PairProfile], kinds: Sequence[str | None], target_kind: str | None, tokens: str | None
) -> tuple[list[InferredType], InferredType, int, list[int]]:
    """Return the types of several sources and of the target, which source is the main one, and which have a step per label.

    Args:
        profiles: Each source with the target.
        kinds: The declared kind of each source, or None.
        target_kind: The declared kind of the target, or None.
        tokens: What a token of a text is, if it is given; see `infer_types`.
    """
    pairs = _infer_pairs(profiles, kinds, target_kind, tokens)
    has_labels = [target.kind == "labels" and COLUMN_TYPES[source.kind].is_sequence for source, target in pairs]
    aligned = [
        index
        for index, profile in enumerate(profiles)
        if has_labels[index] and profile.aligned_with(target_kind == "labels") is not None
    ]
    main = aligned[0] if aligned else has_labels.index(True) if any(has_labels) else None
    target = pairs[main or 0][1]
    sources = [
        source if main is None or index in (main, *aligned) else infer_types(profiles[index], (kinds[index], "label"))[0]
        for index, (source, _) in enumerate(pairs)
    ]
    if main is None:
        ranks = [2 if COLUMN_TYPES[source.kind].is_sequence else source.kind == "image" for source in sources]
        main = ranks.index(max(ranks))
    return sources, target, main, aligned


def _infer_pairs(
    profiles: Sequence[PairProfile], kinds: Sequence[str | None], target_kind: str | None, tokens: str | None
) -> list[tuple[InferredType, InferredType]]:
    """Return the types of each source with the target. `tokens` are those of texts, of which there must be one."""
    pairs, refusals = [], []
    for profile, kind in zip(profiles, kinds, strict=True):
        try:
            pairs.append(infer_types(profile, (kind, target_kind), tokens))
        except UsageError as error:
            refusals.append(error)
            pairs.append(infer_types(profile, (kind, target_kind)))
    if len(refusals) == len(profiles) or (refusals and not is_token_kind(tokens or "")):
        raise refusals[0]
    return pairs
