"""Baselines of a language model on the same text: an n-gram model, and the uniform distribution.

The n-gram model is interpolated modified Kneser-Ney (Chen and Goodman, "An empirical study of smoothing techniques for
language modeling", 1998, section 3). With c(h w) the count of token w after context h, and h' the context h without its
first token:

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h .) + gamma(h) p(w | h'),
    gamma(h) = (D1 N1(h .) + D2 N2(h .) + D3 N3+(h .)) / c(h .)

where Nk(h .) is the number of tokens with count k after h. At the highest order, c is the number of occurrences of the n-gram;
at lower orders, the number of different tokens before it. The lowest order is interpolated with the uniform distribution.
A context that never has a token after it gives all weight to the next shorter one.

Order N uses N - 1 tokens of context: order 1 is the unigram. The losses of Karpathy, Johnson and Fei-Fei (arXiv:1506.02078)
for "n = 1" are too low for a unigram: they seem to count the tokens of context, so their 1 is order 2 here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Ids

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CHUNK_TOKENS = 2**20
"""Tokens of a text whose losses are computed together."""

ORDERS = range(1, 21)

NO_NGRAM = -1
"""The code of an n-gram that is not in the training text."""


def uniform_nats(vocab_size: int) -> float:
    """Return the loss of the uniform distribution, in nats per token."""
    return math.log(vocab_size)


class KneserNey:
    """Interpolated modified Kneser-Ney model of one order over ids 0 to `vocab_size - 1`, counted in one stream `(L,)`.

    An n-gram at the beginning of the stream counts as if one more token, that occurs nowhere else, came before it. Raises
    `ValueError` for an order below 1 and for ids outside the vocabulary.
    """

    def __init__(self, train_ids: Ids, vocab_size: int, order: int) -> None:
        if order < 1:
            raise ValueError(f"The order is the length of the n-grams, 1 or more; got {order}.")
        self.vocab_size, self.order = vocab_size, order
        self._ids = _validated(train_ids, vocab_size)
        levels = list(_count_orders(self._ids, vocab_size, order))
        self._levels = [(level, lower or highest) for level, highest, lower in levels]

    def losses(self, ids: Ids, context: Ids | Sequence[int] = ()) -> Floats:
        """Return the loss of each token of `ids` `(N,)` in nats, `(N,)`; `context` is the ids before them, if any."""
        prefix = _validated(np.asarray(context), self.vocab_size)
        context_length = self.order - 1
        text = np.concatenate((prefix[max(0, len(prefix) - context_length) :], _validated(ids, self.vocab_size)))
        num_context = min(len(prefix), context_length)
        nats = np.empty(len(text) - num_context)
        for start in range(num_context, len(text), CHUNK_TOKENS):
            first, stop = max(0, start - context_length), min(start + CHUNK_TOKENS, len(text))
            lookup = _NgramLookup(self._ids, text[first:stop], self.vocab_size)
            for level, estimate in self._levels:
                lookup.look_up(level)
                lookup.probs = lookup.interpolate(estimate)
            nats[start - num_context : stop - num_context] = -np.log(lookup.probs[start - first :])
        return nats

    def next_probs(self, context: Ids | Sequence[int]) -> Floats:
        """Return the probability of every token after `context` `(M,)`: `(V,)`, with sum 1."""
        codes = [0]
        prefix = _validated(np.asarray(context), self.vocab_size)
        for token_id in prefix[max(0, len(prefix) - self.order + 1) :].tolist():
            codes = self._extend_contexts(codes, token_id)
        return self._probs_after(codes)

    def sample(self, length: int, seed: int, prompt: Ids | Sequence[int] = ()) -> Ints:
        """Return `length` sampled ids, each drawn given the ids before it and the `prompt`: `(length,)`."""
        uniforms = np.random.Generator(np.random.Philox(key=seed)).random(length)
        codes = [0]
        for token_id in _validated(np.asarray(prompt), self.vocab_size)[-self.order :].tolist():
            codes = self._extend_contexts(codes, token_id)
        sampled = np.empty(length, dtype=np.int64)
        for position, uniform in enumerate(uniforms.tolist()):
            cumulative = self._probs_after(codes).cumsum()
            sampled[position] = min(int(cumulative.searchsorted(uniform * cumulative[-1], side="right")), self.vocab_size - 1)
            codes = self._extend_contexts(codes, int(sampled[position]))
        return sampled

    def _extend_contexts(self, codes: list[int], token_id: int) -> list[int]:
        """Return the codes of the known contexts, from the empty one on, after one more token."""
        extended = [0]
        for (level, _), code in zip(self._levels[:-1], codes, strict=False):
            next_code = level.next_code(self._ids, code, token_id)
            if next_code == NO_NGRAM:
                break
            extended.append(next_code)
        return extended

    def _probs_after(self, codes: list[int]) -> Floats:
        probs = np.full(self.vocab_size, 1 / self.vocab_size)
        for (level, estimate), code in zip(self._levels, codes, strict=False):
            if code >= 0:
                first, stop = level.keys.searchsorted((code * self.vocab_size, (code + 1) * self.vocab_size))
                probs *= estimate.backoff_weights[code]
                probs[level.keys[first:stop] - code * self.vocab_size] += estimate.discounted_probs[first:stop]
            elif (next_position := -2 - code) < len(self._ids):
                probs *= estimate.single_backoff_weight
                probs[self._ids[next_position]] += 1 - estimate.single_backoff_weight
        return probs


def loss_by_order(
    train_ids: Ids, ids: Ids, vocab_size: int, orders: Sequence[int] = ORDERS, context: Ids | Sequence[int] = ()
) -> Iterator[tuple[int, float]]:
    """Yield each of `orders`, ascending, with the mean loss of its Kneser-Ney model on `ids` `(N,)`, in nats per token.

    The same as `KneserNey(train_ids, vocab_size, order).losses(ids, context).mean()`, but the n-grams are counted once for all
    orders. Order 0 is the uniform distribution.
    """
    requested = set(orders)
    if not len(ids) or not requested or min(requested) < 0:
        raise ValueError(
            f"Orders of 0 or more and at least one token are needed; got {sorted(requested)} and {len(ids)} tokens."
        )
    train_ids, prefix = _validated(train_ids, vocab_size), _validated(np.asarray(context), vocab_size)
    prefix = prefix[max(0, len(prefix) - max(requested)) :]
    lookup = _NgramLookup(train_ids, np.concatenate((prefix, _validated(ids, vocab_size))), vocab_size)
    if 0 in requested:
        yield 0, uniform_nats(vocab_size)
    for order, (level, highest, lower) in enumerate(_count_orders(train_ids, vocab_size, max(requested)), 1):
        lookup.look_up(level)
        if order in requested:
            yield order, float(-np.log(lookup.interpolate(highest)[len(prefix) :]).mean())
        if lower is not None:
            lookup.probs = lookup.interpolate(lower)


@dataclass(frozen=True)
class _NgramTable:
    """The n-grams of one order whose contexts occur more than once; the others are looked up in the text itself.

    The code of an n-gram that occurs more than once is its number, from 0; of one that occurs once, -2 minus the position
    after it.
    """

    vocab_size: int
    keys: Ints
    """The code of the context times `vocab_size`, plus the token id; ascending, `(K,)`."""
    codes: Ids
    counts: Ints
    """Number of occurrences of each, `(K,)`."""
    first_ends: Ints
    """The position after the first occurrence of each, `(K,)`."""
    num_repeated_contexts: int
    """Number of contexts that occur more than once; their codes are below it."""
    num_single_contexts: int
    """Number of n-grams whose context occurs once, so that they occur once too."""

    def next_code(self, ids: Ids, context: int, token_id: int) -> int:
        """Return the code of the n-gram made of a context (its code) and a token."""
        if context >= 0:
            key = context * self.vocab_size + token_id
            index = int(self.keys.searchsorted(key))
            return int(self.codes[index]) if index < len(self.keys) and self.keys[index] == key else NO_NGRAM
        next_position = -2 - context
        return context - 1 if next_position < len(ids) and ids[next_position] == token_id else NO_NGRAM

    def smooth(self, counts: Ints) -> _SmoothedTable:
        """Return the smoothed probabilities for `counts` `(K,)`, plain or continuation counts."""
        discounts = _discounts(counts, self.num_single_contexts)
        contexts = self.keys // self.vocab_size
        discounted = discounts[np.minimum(counts, 3)]
        totals = np.bincount(contexts, counts, self.num_repeated_contexts)
        weights = np.divide(
            np.bincount(contexts, discounted, self.num_repeated_contexts),
            totals,
            out=np.ones(self.num_repeated_contexts),
            where=totals > 0,
        )
        return _SmoothedTable((counts - discounted) / totals[contexts], weights, float(discounts[1]))


@dataclass(frozen=True)
class _SmoothedTable:
    """One order: p(w | h) = `discounted_probs[h w]` + `backoff_weights[h]` * p(w | h') of the next lower order."""

    discounted_probs: Floats
    backoff_weights: Floats
    single_backoff_weight: float
    """The weight of the next lower order in a context that occurs once: D1, since its one token has count 1."""


class _NgramLookup:
    """The probabilities `probs` `(T,)` of the tokens of a text, refined order by order."""

    def __init__(self, train_ids: Ids, text: Ids, vocab_size: int) -> None:
        self._ids, self._text, self._vocab_size = train_ids, text.astype(np.int64), vocab_size
        self._codes = np.zeros(len(text) + 1, dtype=np.int64)  # of the n-gram that ends before each position
        self._contexts, self._keys = self._codes[:-1], self._codes[:-1]
        self.probs = np.full(len(text), 1 / vocab_size)

    def look_up(self, level: _NgramTable) -> None:
        """Find the n-grams of the text that are one token longer than those found before."""
        self._contexts, self._codes = self._codes[:-1], np.full(len(self._codes), NO_NGRAM)
        self._keys = np.full(len(self._text), NO_NGRAM)
        repeated = np.flatnonzero(self._contexts >= 0)
        if len(repeated) and len(level.keys):
            keys = self._contexts[repeated] * self._vocab_size + self._text[repeated]
            indices = np.minimum(level.keys.searchsorted(keys), len(level.keys) - 1)
            is_match = level.keys[indices] == keys
            self._keys[repeated[is_match]] = indices[is_match]
            self._codes[repeated[is_match] + 1] = level.codes[indices[is_match]]
        single = np.flatnonzero(self._single_context_mask())
        is_match = self._ids[-2 - self._contexts[single]] == self._text[single]
        self._codes[single[is_match] + 1] = self._contexts[single[is_match]] - 1

    def _single_context_mask(self) -> npt.NDArray[np.bool_]:
        """Return which contexts occur once, and not at the end of the training text, where no token follows."""
        return (self._contexts < NO_NGRAM) & (self._contexts > -2 - len(self._ids))

    def interpolate(self, estimate: _SmoothedTable) -> Floats:
        """Return the probabilities of the order that was looked up last, with `probs` as those of the next lower order."""
        probs = self.probs.copy()
        repeated = np.flatnonzero(self._contexts >= 0)
        probs[repeated] *= estimate.backoff_weights[self._contexts[repeated]]
        found_ngrams = np.flatnonzero(self._keys >= 0)
        probs[found_ngrams] += estimate.discounted_probs[self._keys[found_ngrams]]
        single = np.flatnonzero(self._single_context_mask())
        probs[single] *= estimate.single_backoff_weight
        probs[single] += (1 - estimate.single_backoff_weight) * (self._codes[single + 1] != NO_NGRAM)
        return probs


def _count_orders(ids: Ids, vocab_size: int, order: int) -> Iterator[tuple[_NgramTable, _SmoothedTable, _SmoothedTable | None]]:
    """Yield orders 1 to `order`: the n-grams, and their smoothing as the highest and as a lower order (None for the last)."""
    ends: Ids = np.zeros(len(ids) + 1, dtype=np.int32 if len(ids) < 2**31 - 2 else np.int64)
    level, ends = _count_ngrams(ids, vocab_size, ends, 1)
    for length in range(2, order + 1):
        next_level, next_ends = _count_ngrams(ids, vocab_size, ends, length)
        yield level, level.smooth(level.counts), level.smooth(_continuation_counts(level, ends, next_level))
        level, ends = next_level, next_ends
    yield level, level.smooth(level.counts), None


def _count_ngrams(ids: Ids, vocab_size: int, ends: Ids, length: int) -> tuple[_NgramTable, Ids]:
    """Number the n-grams of a `length`, given the numbers of those one token shorter.

    `ends` `(L + 1,)` is the number of the n-gram that ends before each position, or -1 if it occurs once or would begin before
    the text. An n-gram whose context occurs once occurs once too; it is left out here, so that longer n-grams take less work.
    """
    positions = np.flatnonzero(ends[:-1] >= 0)
    keys = ends[positions].astype(np.int64) * vocab_size + ids[positions].astype(np.int64)
    by_key = np.argsort(keys, kind="stable")
    keys, positions = keys[by_key], positions[by_key]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(starts, append=len(keys))
    first_ends = positions[starts] + 1
    numbers = np.where(counts > 1, np.cumsum(counts > 1) - 1, -1)
    next_ends = np.full_like(ends, -1)
    next_ends[positions + 1] = np.repeat(numbers.astype(ends.dtype), counts)
    codes = np.where(counts > 1, numbers, -2 - first_ends).astype(ends.dtype)
    num_single_contexts = max(0, len(ids) - length + 1) - len(positions)
    return _NgramTable(
        vocab_size, keys[starts], codes, counts, first_ends, int(ends.max(initial=-1)) + 1, num_single_contexts
    ), next_ends


def _continuation_counts(level: _NgramTable, ends: Ids, next_level: _NgramTable) -> Ints:
    """Return the number of different tokens before each n-gram of a level `(K,)`, from the n-grams one token longer."""
    # The n-gram after a context that occurs once is new, and so is the one at the beginning of the text.
    is_new_ngram = ends[:-1] < 0
    is_new_ngram[next_level.first_ends - 1] = True
    last = ends[1:][is_new_ngram]
    distinct_counts = np.bincount(last[last >= 0], minlength=1)
    return np.where(level.counts > 1, distinct_counts[np.maximum(level.codes, 0)], 1)


def _discounts(counts: Ints, num_single_contexts: int) -> Floats:
    """Return D for the counts 0, 1, 2 and 3 or more `(4,)`, from the numbers of n-grams with counts 1 to 4 (Chen and Goodman,
    eq. 26).

    The estimate fails if one of these numbers is zero or the discount would not be positive: common characters have counts far
    above 4, and a small text has few n-grams. Then the discount is half the count, as with KenLM's `--discount_fallback`.
    So a discount is at most the count, and above 0, which leaves probability for unseen n-grams.
    """
    num_with_count = np.bincount(np.minimum(counts, 5), minlength=6)
    num_with_count[1] += num_single_contexts
    discounts = [0.0]
    for count in (1, 2, 3):
        discount = 0.0
        if num_with_count[1] and num_with_count[count] and num_with_count[count + 1]:
            discount = count - (count + 1) * float(
                num_with_count[1]
                / (num_with_count[1] + 2 * num_with_count[2])
                * num_with_count[count + 1]
                / num_with_count[count]
            )
        discounts.append(discount if discount > 0 else count / 2)
    return np.array(discounts)


def _validated(ids: Ids, vocab_size: int) -> Ids:
    """Return `ids` if all of them are in the vocabulary."""
    if vocab_size < 1 or vocab_size >= 2**31:
        raise ValueError(f"vocab_size must be from 1 to 2^31 - 1; got {vocab_size}.")
    if not len(ids):
        return np.empty(0, dtype=np.int64)
    if ids.dtype.kind not in "iu" or ids.ndim != 1 or ids.min() < 0 or ids.max() >= vocab_size:
        raise ValueError(f"Expected a row of ids from 0 to {vocab_size - 1}; got {ids.dtype} {ids.shape} up to {ids.max()}.")
    return ids
