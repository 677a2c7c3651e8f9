"""What a network of a table is for: two columns, and the mode that follows from them. It lies in the model's file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import Column, ImageColumn, column_from_json, column_to_json
from unrolled.tables.modes import Mode, mode_of

Array = npt.NDArray[Any]

GRAY_LEVELS = 17
"""Levels of brightness in a picture that is written: those of scikit-learn's digits, and enough to see by."""


@dataclass(frozen=True)
class ModelDims:
    """What a network needs to know of its two columns: forms and sizes, no names.

    `source_size` and `target_size` are numbers of symbols (with unknown), or of numbers; `picture` is (H, W, C) of a
    source that is one, else empty. `written` is the number of steps of a target that always has as many (a painting),
    `across` how many of them make a line; both are 0 for others.
    """

    mode: Mode
    source_tensor_kind: str
    source_size: int
    image_shape: tuple[int, ...]
    target_tensor_kind: str
    target_size: int
    target_length: int
    target_row_length: int


@dataclass(frozen=True)
class TableSpec:
    """Source and target column. `known` holds what the training rows were like, for baselines: see `inference.answer`."""

    source: Column
    target: Column
    train_stats: dict[str, Any] = field(default_factory=dict)

    @property
    def mode(self) -> Mode:
        """The mode of the two columns."""
        return mode_of(self.source, self.target)

    @property
    def dims(self) -> ModelDims:
        """What a network needs to know."""
        source, target = self.source, self.target
        image_shape = source.shape if isinstance(source, ImageColumn) else ()
        target_length = int(np.prod(target.shape)) if isinstance(target, ImageColumn) else 0
        size = GRAY_LEVELS if target_length else target.size
        tensor_kind = "ids" if target_length else target.tensor_kind
        row_length = target.shape[1] * target.shape[2] if isinstance(target, ImageColumn) else 0
        return ModelDims(self.mode, source.tensor_kind, source.size, image_shape, tensor_kind, size, target_length, row_length)

    def encode_target(self, cell: Cell) -> Array:
        """Return the array that is to be written for a cell: ids `(M,)` or numbers `(1, D)`."""
        if isinstance(self.target, ImageColumn):
            return self.target.quantize(cell, GRAY_LEVELS)
        return self.target.encode(cell)

    def decode_target(self, values: Array) -> str:
        """Return, as a cell, what was written."""
        if isinstance(self.target, ImageColumn):
            return self.target.decode(self.target.dequantize(values, GRAY_LEVELS))
        return self.target.decode(values)

    def check_aligned(self, source: Array, target: Array, cell: Cell) -> None:
        """Raise `DataError` if labels are not as many as the steps they stand beside."""
        if self.mode.output == "aligned" and len(source) != len(target):
            raise DataError(
                f"{cell.location}: '{self.source.name}' has {len(source):,} steps and '{self.target.name}' {len(target):,} "
                "labels: each step needs one."
            )

    def to_json(self) -> dict[str, Any]:
        """Return the task as it lies in a model's file."""
        return {"source": column_to_json(self.source), "target": column_to_json(self.target), "train_stats": self.train_stats}

    @staticmethod
    def from_json(value: Any) -> TableSpec:
        """Build the task that `to_json` described; raises `ModelError` or `UsageError` for anything else."""
        spec = TableSpec(column_from_json(value["source"]), column_from_json(value["target"]), dict(value["train_stats"]))
        _ = spec.mode
        return spec
