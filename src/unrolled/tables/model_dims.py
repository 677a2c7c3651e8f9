"""What a network needs to know of the columns of a table."""

from __future__ import annotations

from dataclasses import dataclass

from unrolled.options import ModelOptions
from unrolled.tables.modes import Mode
from unrolled.tables.source_columns import SourceDims


@dataclass(frozen=True)
class BaseDims:
    """What a network needs to know of a language model that reads the source too."""

    vocab_size: int
    options: ModelOptions


@dataclass(frozen=True)
class ModelDims:
    """What a network needs to know of its two columns: kinds of tensors and sizes, no names.

    `source_size` and `target_size` are numbers of ids (with `unk_id`), or of floats; `image_shape` is (H, W, C) of a source
    that is an image, else empty. `target_length` is the number of steps of a target that always has the same number (an
    image), `target_row_length` how many of them make one row of it; both are 0 for others. With `is_stream`, the network reads
    step by step and its state is carried; `number_loss` and `quantiles` are those of numbers at every step.
    """

    mode: Mode
    source_tensor_kind: str
    source_size: int
    image_shape: tuple[int, ...]
    target_tensor_kind: str
    target_size: int
    target_length: int
    target_row_length: int
    others: tuple[SourceDims, ...] = ()
    """The source columns after the first."""
    is_stream: bool = False
    number_loss: str = "mse"
    quantiles: tuple[float, ...] = ()
    ngram_buckets: int = 0
    """Rows of the classifier of hashed n-grams; 0: there is none."""

    base: BaseDims | None = None
    """The language model whose states are features of that classifier, if there is one."""
