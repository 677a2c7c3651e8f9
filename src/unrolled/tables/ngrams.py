"""Hashed n-grams of a text: its words, pairs of words, and runs of characters, as numbers of 32 bits.

A linear classifier over them is a strong model of short texts (Wang and Manning 2012; Joulin et al. 2017). Hashing needs no
vocabulary (Weinberger et al. 2009): a classifier has one row for each remainder of these numbers, and n-grams may share one.
"""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint32]

WORD_PATTERN = re.compile(r"\w+|[^\w\s]")
"""A word or a punctuation mark."""

_MIXED_WORD = re.compile(r"[^\W\d_].*[A-Z].*[a-z]|[a-z].*[A-Z]")
"""A word with a capital that is not the first of its letters, and another one that is none."""

MAX_CHARACTER_NGRAM = 6
"""Characters of the longest run; shorter ones count too."""

MAX_CHARACTERS = 500
"""Characters of a text of which runs are taken: of longer texts, words and pairs are enough, and runs would fill the memory."""

MAX_WORDS_COUNTED = 20
"""Words of the longest text whose number is one of its n-grams; longer ones share a number."""

VERSION = 2
"""Which n-grams there are, and how they are numbered; a model file says which its classifier knows."""

CASE_VERSION = 3
"""The version for texts whose upper and lower case are different symbols, as in formulas of molecules: case is kept, and how
often short runs occur is read, too."""

MAX_COUNTED_RUN, MAX_COUNT = 3, 32
"""Characters of the longest run that is counted, and how often it is counted at most."""

MIN_MIXED_SHARE, MAX_CASE_TEXTS = 0.2, 1000
"""Share of words, between blanks, in which a capital follows another letter, from which case is more than that of sentences
and names; and how many texts show it."""

MIN_BUCKETS, MAX_BUCKETS = 1 << 10, 1 << 16
"""Limits of the rows that a classifier has for each label."""

MAX_WEIGHTS = 1 << 19
"""Rows times labels: 30 labels with 2^16 rows made a step of the table of languages twice as long."""

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with well-mixed bits (2^64 divided by the golden ratio)."""


def hash_ngrams(text: str, version: int = VERSION) -> Hashes:
    """Return the distinct n-grams of a text as sorted numbers. They are the same on every machine.

    Versions 1 and 2 read all texts in lower case. From version 2 on, the numbers of what is made of words are even and those of
    runs odd, and there are two more kinds made of words: each later word together with the first two, which tell the form of a
    question, and how many words there are. In version 3, case counts, and each time that a short run occurs again is an n-gram.

    Example:
        >>> set(hash_ngrams("Who")) == set(hash_ngrams("who")), len(hash_ngrams("who"))
        (True, 16)
        >>> len(hash_ngrams("aaaa", CASE_VERSION)) - len(hash_ngrams("aaaa"))  # a thrice more, aa twice, aaa and a blank
        7
        >>> hash_ngrams("a") % 2
        array([1, 1, 0, 1, 1, 0, 1], dtype=uint32)
    """
    start = text[:MAX_CHARACTERS]
    if version < CASE_VERSION:
        start, text = start.lower(), text.lower()
    words = WORD_PATTERN.findall(text)
    word_hashes = np.array([zlib.crc32(word.encode("utf-8", "replace")) for word in words], dtype=np.uint64)
    pairs = word_hashes[:-1] * MULTIPLIER + word_hashes[1:]
    runs = _character_runs(" ".join(start.split()))
    of_words = [_mix(values, kind) for kind, values in enumerate([word_hashes, pairs])]
    of_runs = [_mix(values, kind) for kind, values in enumerate(runs, len(of_words))]
    if version > 1:
        of_words += [_mix(values, kind) for kind, values in enumerate(_forms(word_hashes), 100)]
        of_words = [values & ~np.uint32(1) for values in of_words]
        of_runs = [values | np.uint32(1) for values in of_runs]
    if version >= CASE_VERSION:
        of_runs += [_mix(_repeated(values), kind) | np.uint32(1) for kind, values in enumerate(runs[:MAX_COUNTED_RUN], 200)]
    return np.unique(np.concatenate([*of_words, *of_runs]))


def _repeated(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return a number for each time that a hash occurs again: for its second time, its third, and so on."""
    ordered = np.sort(hashes)
    places = np.arange(len(ordered))
    is_first = np.concatenate([[True], ordered[1:] != ordered[:-1]])
    time = places - np.maximum.accumulate(np.where(is_first, places, 0))
    is_counted = (time > 0) & (time < MAX_COUNT)
    return ordered[is_counted] * MULTIPLIER + time[is_counted].astype(np.uint64)


def version_for(texts: Iterable[str]) -> int:
    """Return the version for texts like these: `CASE_VERSION` if many words have capitals after other letters, or before.

    Example:
        >>> version_for(["CC(=O)Oc1ccccc1", "ClCCl"]), version_for(["The Lord of the Rings", "WHO IS IT?"])
        (3, 2)
    """
    words = list(itertools.chain.from_iterable(map(str.split, itertools.islice(texts, MAX_CASE_TEXTS))))
    num_mixed = sum(1 for word in words if _MIXED_WORD.search(word))
    return CASE_VERSION if num_mixed > MIN_MIXED_SHARE * len(words) else VERSION


def _forms(word_hashes: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.uint64]]:
    """Return the hashes of the first two words with each later one, and the number of words."""
    first = word_hashes[:1] * MULTIPLIER + word_hashes[1:2]
    num_words = np.array([min(len(word_hashes), MAX_WORDS_COUNTED)], dtype=np.uint64)
    return [first * MULTIPLIER + word_hashes[2:] if len(word_hashes) > 2 else first[:0], num_words]


def _character_runs(text: str) -> list[npt.NDArray[np.uint64]]:
    """Return the hashes of all runs of each length; a space before and after the text marks its ends."""
    codes = np.frombuffer(f" {text} ".encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    hashes, runs = np.zeros(len(codes) + 1, dtype=np.uint64), []
    for size in range(1, min(MAX_CHARACTER_NGRAM, len(codes)) + 1):
        hashes = hashes[: len(codes) - size + 1] * MULTIPLIER + codes[size - 1 :]
        runs.append(hashes)
    return runs


def _mix(values: npt.NDArray[np.uint64], kind: int) -> Hashes:
    """Return 32 bits of each number, all of which depend on all of its bits and on the kind of n-gram."""
    mixed = (values + np.uint64(kind + 1)) * MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(29))) * MULTIPLIER
    return (mixed >> np.uint64(32)).astype(np.uint32)


def count_ngrams(rows: Iterable[Hashes]) -> int:
    """Return about how many different n-grams there are in rows of `hash_ngrams`: at most 2^20, enough to choose buckets."""
    seen = np.zeros(1 << 20, dtype=np.bool_)
    for row in rows:
        seen[row % len(seen)] = True
    return int(seen.sum())


def read_buckets(value: object) -> int:
    """Return the rows of a classifier that a model file names, or 0. Raises `ValueError` for what cannot be one."""
    if not isinstance(value, int) or not 0 <= value <= MAX_BUCKETS:
        raise ValueError(f"ngram_buckets is {value!r}")
    return value


def choose_buckets(num_ngrams: int, num_labels: int) -> int:
    """Return how many rows a classifier of so many labels has for texts with so many different n-grams: a power of two.

    Every weight is updated in every step, so many labels share fewer rows.

    Example:
        >>> choose_buckets(50, 6), choose_buckets(3000, 6), choose_buckets(1_000_000, 6), choose_buckets(1_000_000, 30)
        (1024, 4096, 65536, 16384)
    """
    most = min(MAX_BUCKETS, 1 << (max(1, MAX_WEIGHTS // num_labels).bit_length() - 1))
    return max(MIN_BUCKETS, min(most, 1 << max(0, num_ngrams - 1).bit_length()))
