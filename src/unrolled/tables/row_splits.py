"""Training, validation and test rows of a table."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.display import agree, plural
from unrolled.options import DataOptions
from unrolled.tables.pair_batching import PairDataset
from unrolled.text.splitting import (
    MIN_TABLE_ROWS,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    VALIDATION,
    HeldOutFractions,
    draw_splits,
    held_out_count,
    mix_bits,
)

MAX_HELD_OUT_ROWS = 10_000
"""Maximum number of validation rows, and of test rows. Their cells are kept too: metrics are of predictions from raw cells."""

MIN_SOURCES = 10
"""With fewer different sources than this, rows are held out one by one: a whole source is too large a part."""

MAX_BEST_ACCURACY = 0.99
"""Share of the rows that can be predicted right: above it, there is no message about rows that contradict each other."""

Indices = npt.NDArray[np.int64]


class RowSplits(NamedTuple):
    """The numbers of the encoded rows of each split, and a note for the user, which may be empty.

    `read_rows` are the places, among all rows that were read, of the validation rows and of the test rows.
    """

    train: Indices
    validation: Indices
    test: Indices
    read_rows: tuple[list[int], list[int]]
    note: str


def split_rows(dataset: PairDataset, options: DataOptions, seed: int, has_validation: bool, has_test: bool) -> RowSplits:
    """Split the rows of a table: drawn by the seed, or, with `--split-by order`, the last ones held out.

    By default the draw is of groups of rows with equal sources, and it and the order of the splits depend on the contents
    alone, not on the order of the table. Labels as a source are drawn row by row: a label that was never seen cannot be read.

    Args:
        dataset: The encoded rows. Long rows with a label per step are several of them, in the same split.
        options: Fractions, and how to split.
        seed: Seed of the draw.
        has_validation: Another table has the validation rows, so none are held out for it.
        has_test: Another table has the test rows, so none are held out by default.
    """
    num_rows = len(dataset.source_keys)
    fractions = HeldOutFractions.choose(options, num_rows > MIN_TABLE_ROWS and not has_test)
    if has_validation:
        fractions = HeldOutFractions(0.0, options.test_fraction or 0.0)
    order = np.arange(num_rows)
    if options.split_by == "row":
        splits = _draw_rows(dataset, fractions, seed)
    elif options.split_by == "order":
        num_test, num_validation = (
            held_out_count(fraction, num_rows, MAX_HELD_OUT_ROWS) for fraction in (fractions.test, fractions.validation)
        )
        splits = np.where(order < num_rows - num_test, VALIDATION, TEST).astype(np.uint8)
        splits[: max(1, num_rows - num_test - num_validation)] = TRAIN
    else:
        order = np.lexsort((dataset.target_keys, dataset.source_keys))
        splits = _draw_sources(dataset, order, fractions, seed)
    rows_of = [order[splits[order] == split] for split in (TRAIN, VALIDATION, TEST)]
    train, validation, test = (dataset.encoded_rows(rows) for rows in rows_of)
    read_rows = (dataset.read_rows[rows_of[VALIDATION]].tolist(), dataset.read_rows[rows_of[TEST]].tolist())
    notes = filter(None, [_source_note(dataset), _shared_note(dataset, splits)])
    return RowSplits(train, validation, test, read_rows, "; ".join(notes))


def _draw_sources(dataset: PairDataset, order: Indices, fractions: HeldOutFractions, seed: int) -> npt.NDArray[np.uint8]:
    sources = np.asarray(dataset.source_keys)
    if all(column.kind == "label" for column in dataset.spec.sources) or len(np.unique(sources)) < MIN_SOURCES:
        keys = np.empty(len(order), dtype=np.uint64)
        keys[order] = np.random.default_rng([seed, 2]).permutation(len(order)).astype(np.uint64)
    else:
        keys = mix_bits(sources ^ mix_bits(np.array([seed % 2**63], dtype=np.uint64)))
    return draw_splits(keys, fractions, MAX_HELD_OUT_ROWS)


def _draw_rows(dataset: PairDataset, fractions: HeldOutFractions, seed: int) -> npt.NDArray[np.uint8]:
    """Draw each row for itself. Runs from before `--split-by` depend on these very draws: one for each row that was read."""
    draws = np.random.default_rng([seed, 2]).random(dataset.num_read)[np.asarray(dataset.read_rows, dtype=np.int64)]
    splits = (
        np.where(draws >= 1 - fractions.test, TEST, TRAIN).astype(np.uint8)
        if fractions.test
        else np.zeros(len(draws), np.uint8)
    )
    is_validation = draws < fractions.validation
    sizes = np.where(is_validation, dataset.pieces_per_row, 0)
    is_validation &= np.cumsum(sizes) - sizes < MAX_HELD_OUT_ROWS
    splits[is_validation] = VALIDATION
    if not (splits == TRAIN).any():
        splits[0] = TRAIN
    return splits


def _source_note(dataset: PairDataset) -> str:
    """Return a sentence if all rows have one source, or if many have one that other rows have with another label."""
    sources, targets = np.asarray(dataset.source_keys), np.asarray(dataset.target_keys)
    num_sources = len(np.unique(sources))
    if num_sources == 1 < len(sources):
        return "all rows have the same source, which says nothing about the target"
    if dataset.spec.target.kind != "label" or num_sources < MIN_SOURCES or num_sources == len(sources):
        return ""
    pairs, counts = np.unique(np.stack([sources, targets]), axis=1, return_counts=True)
    _, first, num_labels = np.unique(pairs[0], return_index=True, return_counts=True)
    best = np.maximum.reduceat(counts, first).sum() / len(sources)
    num_rows = int(np.add.reduceat(counts, first)[num_labels > 1].sum())
    if best > MAX_BEST_ACCURACY:
        return ""
    other = f"{num_rows:,} of {len(sources):,} rows have a source that other rows have with another label"
    return f"{other}: at most {best:.3f} of all rows can be answered right"


def _shared_note(dataset: PairDataset, splits: npt.NDArray[np.uint8]) -> str:
    """Return how many held-out rows have a source that training rows have too, if there are any.

    Texts that are equal but for case and blanks are counted for themselves.
    """
    equal = np.isin(dataset.source_keys, dataset.source_keys[splits == TRAIN])
    folded = np.asarray(dataset.folded_keys)
    similar = np.isin(folded, folded[splits == TRAIN]) & (folded != 0) & ~equal
    notes = [_count_known(equal, splits, ""), _count_known(similar, splits, ", but for case and blanks")]
    return "; ".join(filter(None, notes))


def _count_known(known: npt.NDArray[np.bool_], splits: npt.NDArray[np.uint8], difference: str) -> str:
    counts = [
        (name, int((known & (splits == split)).sum()), int((splits == split).sum())) for split, name in enumerate(SPLIT_NAMES)
    ]
    parts = [f"{shared:,} of the {plural(total, f'{name} row')}" for name, shared, total in counts[1:] if shared]
    verb = agree(sum(shared for _, shared, _ in counts[1:]), "have")
    return f"{' and '.join(parts)} {verb} a source that training rows have too{difference}" if parts else ""
