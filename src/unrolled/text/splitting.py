"""Training, validation and test splits: contiguous parts of a stream, or documents and rows drawn at random.

The best step, the temperature and thresholds are selected on the validation data; the test data only give the final figure. A
draw is of whole groups: documents, or rows with equal sources, are all in one split, so that no figure is of data that training
has seen. The draw depends on the seed and on the contents, not on their order in the file.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unrolled.atomic_io import atomic_dir, make_dir, storage_error
from unrolled.errors import StorageError, UsageError
from unrolled.options import DataOptions
from unrolled.text.fingerprint import checksum, digest, from_checked_json, to_checked_json
from unrolled.text.tokenizer import Ids

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLIT_NAMES = ("train", "validation", "test")

DEFAULT_TEST_FRACTION = 0.05
MIN_TEXT_TOKENS = 200_000
"""Texts of more tokens than this have a test split by default."""

MIN_TABLE_ROWS = 500
"""Tables of more rows than this have a test split by default."""

MIN_DRAWN = 5
"""With fewer documents or rows than this, none is held out unless the fraction asks for it."""

MAX_IN_MEMORY = 1 << 24
"""Splits of documents with more tokens than this are written to the cache, and memory-mapped."""

_BLOCK_TOKENS = 1 << 22

UInt64s = npt.NDArray[np.uint64]


class Splits(NamedTuple):
    """The token ids of each split; an empty one has no ids."""

    train: Ids
    validation: Ids
    test: Ids


@dataclass(frozen=True)
class HeldOutFractions:
    """Fractions of the data that are held out."""

    validation: float
    test: float

    @staticmethod
    def choose(options: DataOptions, is_large: bool) -> HeldOutFractions:
        """Return the fractions that the options give; a large text or table has a test split by default.

        Raises:
            UsageError: The fractions of training and test data are more than 1 together.
        """
        held_out, test = 1 - options.train_fraction, options.test_fraction
        if test is None:
            test = min(DEFAULT_TEST_FRACTION, held_out / 2) if is_large else 0.0
        if test > held_out + 1e-9:
            raise UsageError(
                f"--train-fraction {options.train_fraction:g} and --test-fraction {test:g} are more than 1 together: "
                "lower one of them."
            )
        return HeldOutFractions(max(0.0, held_out - test), test)


def split_stream(ids: Ids, train_fraction: float, test_fraction: float, eos_id: int | None) -> Splits:
    """Return three contiguous parts of a text: training, validation, test.

    Args:
        ids: The text, `(N,)`.
        train_fraction: Fraction of the tokens in the training split.
        test_fraction: Fraction in the test split; the validation split is what is between.
        eos_id: The token between documents, which are not divided: each part starts with one. None: there are no documents.
    """
    train_stop = int(len(ids) * train_fraction)
    test_start = max(train_stop, int(len(ids) * (1 - test_fraction)))
    if eos_id is None:
        return Splits(ids[:train_stop], ids[train_stop:test_start], ids[test_start:])
    train_stop, test_start = (_next_eos(ids, position, eos_id) for position in (train_stop, test_start))
    return Splits(ids[: train_stop + 1], ids[train_stop : test_start + 1], ids[test_start:])


def _next_eos(ids: Ids, position: int, eos_id: int) -> int:
    """Return the position of the first eos at or after `position`."""
    for start in range(position, len(ids), _BLOCK_TOKENS):
        found = np.flatnonzero(ids[start : start + _BLOCK_TOKENS] == eos_id)
        if len(found):
            return start + int(found[0])
    return len(ids)


def draw_splits(keys: UInt64s, fractions: HeldOutFractions, max_held_out: int | None = None) -> npt.NDArray[np.uint8]:
    """Return the split of each item, `(N,)`: `TRAIN`, `VALIDATION` or `TEST`.

    Args:
        keys: `(N,)`, one for each item; items with equal keys are in the same split. The lowest keys are held out, so keys
            must be evenly distributed (hashes).
        fractions: Fractions of the items to hold out. No more are, unless a single group is the least that can be held out.
        max_held_out: Maximum number of validation items, and of test items.
    """
    splits = np.full(len(keys), TRAIN, dtype=np.uint8)
    if len(keys) < 2:
        return splits
    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.r_[True, keys[order][1:] != keys[order][:-1]])
    sizes = np.diff(np.append(starts, len(keys)))
    is_free = np.ones(len(sizes), dtype=bool)
    for split, fraction in ((VALIDATION, fractions.validation), (TEST, fractions.test)):
        chosen = _choose_groups(sizes, is_free, held_out_count(fraction, len(keys), max_held_out))
        is_free[chosen] = False
        if not is_free.any():  # something must be left to learn from
            is_free[chosen] = True
            continue
        is_chosen = np.zeros(len(sizes), dtype=bool)
        is_chosen[chosen] = True
        splits[order[np.repeat(is_chosen, sizes)]] = split
    return splits


def held_out_count(fraction: float, total: int, maximum: int | None = None) -> int:
    """Return how many of `total` items a fraction is: at least one of five, and at most `maximum`."""
    count = round(fraction * total)
    if count == 0 and fraction > 0 and total >= MIN_DRAWN:
        count = 1
    return count if maximum is None else min(count, maximum)


def _choose_groups(sizes: npt.NDArray[np.int64], is_free: npt.NDArray[np.bool_], count: int) -> npt.NDArray[np.int64]:
    """Return the first free groups with at most `count` items together; if all are larger, the smallest, or none of them."""
    candidates = np.flatnonzero(is_free)
    if count == 0 or len(candidates) == 0:
        return candidates[:0]
    fitting = candidates[sizes[candidates] <= count]
    if len(fitting) == 0:
        smallest = candidates[np.argmin(sizes[candidates])]
        num_left = sizes[candidates].sum() - sizes[smallest]
        return np.array([smallest]) if num_left * 2 >= sizes.sum() else candidates[:0]
    return fitting[np.cumsum(sizes[fitting]) <= count]


def split_documents(
    ids: Ids,
    eos_id: int,
    fractions: HeldOutFractions,
    seed: int,
    by_content: bool,
    cache: Path,
    complement: npt.NDArray[Any] | None = None,
) -> Splits:
    """Return the documents `EOS d1 EOS ... dn EOS` of a text in three splits, drawn at random, each in its order in the text.

    Args:
        ids: `(N,)`, starting and ending with an eos.
        eos_id: The token between documents.
        fractions: Fractions of the documents to hold out.
        seed: Seed of the draw.
        by_content: Equal documents are in one split.
        cache: Folder for splits of large texts; they are read from there the next time.
        complement: `(V,)`, the base that pairs with each: with `by_content`, the two strands of a sequence are equal.
    """
    if fractions.validation == fractions.test == 0:
        return Splits(ids, ids[:0], ids[:0])
    if len(ids) <= MAX_IN_MEMORY:
        starts, splits = _draw_documents(ids, eos_id, fractions, seed, by_content, complement)
        parts = [list(_split_blocks(ids, starts, splits, split)) for split in range(3)]
        return Splits(*(_with_eos(part, ids.dtype, eos_id) for part in parts))
    name = f"split-{digest(repr((fractions, seed, by_content)))}"
    if (cache / name).exists():  # whole, as it was renamed; another process may do that at any moment
        stored = _open_stored(cache / name, ids.dtype)
        if stored is not None:
            return stored
        shutil.rmtree(cache / name, ignore_errors=True)
    starts, splits = _draw_documents(ids, eos_id, fractions, seed, by_content, complement)
    with atomic_dir(cache / name, keep_existing=True) as folder:  # two processes may write it at the same time
        _store(folder, ids, starts, splits, eos_id)
    stored = _open_stored(cache / name, ids.dtype)
    if stored is None:
        raise StorageError(
            f"The splits in {cache / name} are damaged as soon as they are written. Check the disk, and run again."
        )
    return stored


def _draw_documents(
    ids: Ids, eos_id: int, fractions: HeldOutFractions, seed: int, by_content: bool, complement: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return the positions of all eos tokens `(D + 1,)`, and the split of each of the D documents."""
    offsets = range(0, len(ids), _BLOCK_TOKENS)
    starts = np.concatenate([np.flatnonzero(ids[start : start + _BLOCK_TOKENS] == eos_id) + start for start in offsets])
    num_documents = len(starts) - 1
    if by_content:
        blocks = _document_blocks(starts)
        keys = np.concatenate([_strand_keys(ids, starts[first : stop + 1], seed, complement) for first, stop in blocks])
    else:
        keys = np.random.default_rng([seed, 2]).permutation(num_documents).astype(np.uint64)
    return starts, draw_splits(keys, fractions)


def _document_blocks(starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield ranges of documents that have about `_BLOCK_TOKENS` tokens together."""
    first, num_documents = 0, len(starts) - 1
    while first < num_documents:
        stop = max(first + 1, int(np.searchsorted(starts, starts[first] + _BLOCK_TOKENS, side="right")) - 1)
        yield first, stop
        first = stop


def _strand_keys(ids: Ids, starts: npt.NDArray[np.int64], seed: int, complement: npt.NDArray[Any] | None) -> UInt64s:
    """Return the content keys of documents; with `complement`, the lower one of the keys of a sequence and its other strand."""
    keys = _content_keys(ids, starts, seed)
    if complement is None:
        return keys
    block = complement[np.asarray(ids[starts[0] : starts[-1] + 1])[::-1]]
    return np.minimum(keys, _content_keys(block, starts[-1] - starts[::-1], seed)[::-1])


def _content_keys(ids: Ids, starts: npt.NDArray[np.int64], seed: int) -> UInt64s:
    """Return a hash of the seed and of the tokens of each document; `starts` has the position after the last one too."""
    tokens = np.asarray(ids[starts[0] : starts[-1]]).astype(np.uint64)
    positions = np.arange(len(tokens), dtype=np.uint64) - np.repeat(starts[:-1] - starts[0], np.diff(starts)).astype(np.uint64)
    terms = mix_bits(tokens + (positions << np.uint64(32)))
    return mix_bits(np.add.reduceat(terms, starts[:-1] - starts[0]) + np.uint64(seed % 2**63))


def mix_bits(values: UInt64s) -> UInt64s:
    """Return a hash of each 64-bit integer: the finalizer of SplitMix64 (Steele et al. 2014)."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _split_blocks(ids: Ids, starts: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8], split: int) -> Iterator[Ids]:
    """Yield the tokens of the documents of a split, each after its eos."""
    for first, stop in _document_blocks(starts):
        is_chosen = np.repeat(splits[first:stop] == split, np.diff(starts[first : stop + 1]))
        yield np.asarray(ids[starts[first] : starts[stop]])[is_chosen]


def _with_eos(blocks: list[Ids], dtype: np.dtype[np.integer[Any]], eos_id: int) -> Ids:
    tokens = np.concatenate([np.zeros(0, dtype), *blocks])
    return np.append(tokens, np.array([eos_id], dtype=dtype)) if len(tokens) else tokens


def _store(folder: Path, ids: Ids, starts: npt.NDArray[np.int64], splits: npt.NDArray[np.uint8], eos_id: int) -> None:
    """Write the three splits into `folder`."""
    make_dir(folder)
    header = {}
    try:
        for split, name in enumerate(SPLIT_NAMES):
            path, size = folder / f"{name}.bin", 0
            with open(path, "wb") as file:
                for block in _split_blocks(ids, starts, splits, split):
                    file.write(np.ascontiguousarray(block).data)
                    size += len(block)
                if size:
                    file.write(np.array([eos_id], dtype=ids.dtype).data)
            header[name] = {"size": size + 1 if size else 0, "crc32": checksum(path)}
        (folder / "split.json").write_bytes(to_checked_json(header))
    except OSError as error:
        raise storage_error(error, folder, "write the splits of the text to") from error


def _open_stored(folder: Path, dtype: np.dtype[np.integer[Any]]) -> Splits | None:
    """Return the splits in `folder`, or None if they are missing or damaged."""
    try:
        header = from_checked_json((folder / "split.json").read_bytes())
        parts = []
        for name in SPLIT_NAMES:
            path, size = folder / f"{name}.bin", int(header[name]["size"])
            if checksum(path) != header[name]["crc32"]:
                return None
            parts.append(np.memmap(path, dtype=dtype, mode="r", shape=(size,)) if size else np.zeros(0, dtype))
        return Splits(*parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None
