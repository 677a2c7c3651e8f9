"""The pooled states of a language model for the training rows of a table, computed once, before the first step."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from unrolled.display import plural
from unrolled.nn.base_classifier import MAX_STEPS, BaseClassifier
from unrolled.nn.kernels.select import set_kernel
from unrolled.tables.padding import pad_base_ids
from unrolled.tables.pair_batching import PairDataset, bucket_by_length

logger = logging.getLogger(__name__)

MAX_CHARACTERS = 1 << 22
"""Characters of all rows that are read; of longer tables, rows are left out evenly. So many take 134 s of one core."""

MAX_BATCH_ROWS = 64


def rows_to_read(dataset: PairDataset, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the rows of some that are read: as many as have `MAX_CHARACTERS`, spread evenly."""
    if dataset.base_ids is None:
        return rows
    chosen = rows[:: -(-int(dataset.base_ids.lengths[rows].sum()) // MAX_CHARACTERS) or 1]
    if len(chosen) < len(rows):
        logger.info(f"the language model and the n-grams learn from {len(chosen):,} of {plural(len(rows), 'row')}")
    num_characters = int(dataset.base_ids.lengths[chosen].sum())
    logger.info(f"the language model reads {plural(num_characters, 'character')} before the first step")
    return chosen


def read_features(reader: BaseClassifier, dataset: PairDataset, rows: npt.NDArray[np.int64]) -> Tensor:
    """Return the features `(N, K)` of some rows, read in batches of similar length."""
    if dataset.base_ids is None:
        raise ValueError("These rows are not encoded for a language model.")
    set_kernel(reader, "auto")
    features, places = torch.empty(len(rows), len(reader.means)), np.arange(len(rows))
    for group in bucket_by_length(places, dataset.base_ids.lengths[rows], MAX_BATCH_ROWS, MAX_STEPS):
        texts = pad_base_ids([dataset.base_ids[row] for row in rows[group].tolist()])
        features[torch.from_numpy(group)] = reader.features(*map(torch.from_numpy, texts.values()))
    return features
