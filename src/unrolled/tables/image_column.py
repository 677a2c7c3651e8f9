"""Columns of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, parse_image, readable
from unrolled.tables.column import MAX_FITTED_ROWS, Column, EvalRows
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.numeric_columns import ShapeSums
from unrolled.tables.ragged import RaggedArray

GRAY_LEVELS = 17
"""Levels of brightness of an image that is generated: as many as scikit-learn's digits have, and enough to recognize it."""

MAX_BASELINE_IMAGES = 2000


class ImageColumn(Column):
    """An image `(H, W, C)`: a file, or an array of numbers. As a target it is generated value by value, row by row."""

    kind, tensor_kind, is_sequence, output = "image", "image", False, "generated"
    target_tensor_kind, target_size = "ids", GRAY_LEVELS
    max_fitted_rows, has_single_answer = MAX_FITTED_ROWS, False
    shape: tuple[int, int, int]

    def __init__(self, name: str, shape: tuple[int, int, int], low: float, high: float, mean: float, scale: float) -> None:
        super().__init__(name)
        self.shape, self.low, self.high, self.mean, self.scale = shape, low, high, mean, scale
        self.size = shape[2]

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> ImageColumn:
        shapes = ShapeSums()
        for values in readable(cells, parse_image):
            shapes.add(values.shape, values.ravel())
        height, width, channels = shapes.most_common_shape()
        sums = shapes.most_common()
        mean, scale = map(float, sums.mean_and_std())
        high = sums.high if sums.high > sums.low else sums.low + 1
        return cls(name, (height, width, channels), sums.low, high, mean, scale or 1.0)

    def encode(self, cell: Cell) -> Array:
        values = parse_image(cell)
        if values.shape != self.shape:
            raise DataError(
                f"{cell.location}: an image of {_format_shape(values.shape)}, and {_format_shape(self.shape)} is expected."
            )
        return ((values - self.mean) / self.scale).astype(np.float32)

    def decode(self, values: Array) -> str:
        squeezed = values[..., 0] if self.shape[2] == 1 else values
        return str(np.rint(squeezed).astype(int).tolist()).replace(" ", "")

    def encode_source(self, cell: Cell) -> Array:
        """Return the image as one step `(1, H, W, C)`."""
        return self.encode(cell)[None]

    def encode_target(self, cell: Cell) -> Array:
        """Return an image as ids `(H W C,)` of gray levels, row by row."""
        values = (parse_image(cell) - self.low) / (self.high - self.low)
        ids: Array = np.clip(np.rint(values * (GRAY_LEVELS - 1)), 0, GRAY_LEVELS - 1).astype(np.int64).ravel()
        return ids

    def decode_target(self, values: Array) -> str:
        return self.decode(self._from_levels(values))

    @property
    def target_length(self) -> int:
        return math.prod(self.shape)

    @property
    def target_row_length(self) -> int:
        return self.shape[1] * self.shape[2]

    def _from_levels(self, ids: Array) -> Array:
        """Return ids of gray levels as an image `(H, W, C)` in the unit of the data."""
        return ids.reshape(self.shape) / (GRAY_LEVELS - 1) * (self.high - self.low) + self.low

    def to_pixels(self, values: Array) -> npt.NDArray[np.uint8]:
        image = self._from_levels(values)
        return np.clip((image - self.low) / (self.high - self.low) * 255, 0, 255).round().astype(np.uint8)

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return how often each gray level occurs."""
        rows = index[:MAX_BASELINE_IMAGES].tolist()
        return {"levels": np.bincount(np.concatenate([targets[i] for i in rows]), minlength=GRAY_LEVELS).tolist()}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        """Return how far the mean brightness and contrast of generated images are from those of the true ones."""
        truth = np.stack([self.encode(cell) for cell in rows.truths])
        generated = np.stack([self._from_levels(ids) for ids in rows.values])
        generated = (generated - self.mean) / self.scale
        return MetricReport(
            metrics={
                "brightness_error": float(abs(generated.mean() - truth.mean())),
                "contrast_error": float(abs(generated.std() - truth.std())),
            },
            baselines={},
            num_rows=len(rows.truths),
            notes=("there is no single correct image: look at some generated ones with `predict --image-dir FOLDER`",),
        )

    def to_dict(self) -> dict[str, Any]:
        return {k: getattr(self, k) for k in ("low", "high", "mean", "scale")} | {"shape": list(self.shape)}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> ImageColumn:
        height, width, channels = (int(n) for n in value["shape"])
        return cls(name, (height, width, channels), *(float(value[k]) for k in ("low", "high", "mean", "scale")))

    def describe(self) -> str:
        return f"{self.name}: image, {_format_shape(self.shape)}"


def _format_shape(shape: Sequence[int]) -> str:
    return " x ".join(str(n) for n in shape[:2]) + (f" in {shape[2]} channels" if len(shape) > 2 and shape[2] > 1 else "")
