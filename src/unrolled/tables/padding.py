"""Rows of different lengths as padded arrays, time first, by the names that a network reads them by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unrolled.tables.cell_values import Array
from unrolled.tables.source_columns import EncodedSource
from unrolled.tables.spec import TableSpec


def pad_sources(spec: TableSpec, rows: list[EncodedSource]) -> list[tuple[Array, npt.NDArray[np.int64]]]:
    """Return the padded steps `(T, B, ...)` of each source column, and their lengths `(B,)`."""
    padded = []
    for column, arrays in zip(spec.sources, zip(*((row.steps, *row.others) for row in rows), strict=True), strict=True):
        dtype = np.int64 if column.tensor_kind == "ids" else np.float32
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        padded.append((pad_arrays([column.to_inputs(array).astype(dtype) for array in arrays], 0), lengths))
    return padded


def source_arrays(padded: Sequence[tuple[Array, npt.NDArray[np.int64]]]) -> dict[str, Array]:
    """Return what `pad_sources` returns by the names that a network knows: `source`, `lengths`, `source_1`, `lengths_1` ..."""
    arrays: dict[str, Array] = {}
    for number, (steps, lengths) in enumerate(padded):
        suffix = f"_{number}" if number else ""
        arrays |= {f"source{suffix}": steps, f"lengths{suffix}": lengths}
    return arrays


def collate_sources(spec: TableSpec, rows: list[EncodedSource]) -> dict[str, Array]:
    """Return encoded sources as padded `source` `(T, B, ...)`, and their `lengths` `(B,)`; of several columns, of each one."""
    ngrams = [row.ngrams for row in rows if row.ngrams is not None]
    more = {"ngrams": pad_ngrams(ngrams, spec.dims.ngram_buckets)} if ngrams else {}
    more |= pad_base_ids([row.base_ids for row in rows if row.base_ids is not None])
    return source_arrays(pad_sources(spec, rows)) | more


def pad_ngrams(rows: list[Array], buckets: int) -> Array:
    """Return hashed n-grams as rows of a classifier, `(K, B)`, padded with `buckets`."""
    return pad_arrays([row.astype(np.int64) % buckets for row in rows], buckets)


def pad_base_ids(rows: list[Array]) -> dict[str, Array]:
    """Return what a language model reads, padded, as `base_ids` `(T, B)` and `base_lengths` `(B,)`; nothing of no rows."""
    if not rows:
        return {}
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    return {"base_ids": pad_arrays([row.astype(np.int64) for row in rows], 0), "base_lengths": lengths}


def pad_arrays(rows: list[Array], fill_value: float) -> Array:
    """Return arrays `(N_i, ...)` as `(T, B, ...)`, padded with `fill_value` to the longest."""
    longest = max(len(row) for row in rows)
    padded = np.full((longest, len(rows), *rows[0].shape[1:]), fill_value, dtype=rows[0].dtype)
    for column, row in enumerate(rows):
        padded[: len(row), column] = row
    return padded
