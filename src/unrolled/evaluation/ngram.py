"""Counting baselines: what n-grams, and a standard compressor, make of the same text that a model is measured on.

The n-gram model is interpolated modified Kneser-Ney (Chen and Goodman, "An empirical study of smoothing techniques for
language modeling", 1998, section 3). With c(h w) the count of symbol w after context h, and h' the context h without its
oldest symbol:

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h .) + gamma(h) p(w | h'),
    gamma(h) = (D1 N1(h .) + D2 N2(h .) + D3 N3+(h .)) / c(h .)

where Nk(h .) is how many symbols have count k after h. At the model's own order c is how often the n-gram occurs; below it,
how many different symbols stand before it. The lowest order goes over into the uniform distribution, and a context that never
had a symbol after it leaves everything to the next shorter one.

Order N looks at N - 1 symbols of context: order 1 is the unigram. The figures of Karpathy, Johnson and Fei-Fei
(arXiv:1506.02078) for "n = 1" are too low for a unigram: they seem to count the symbols of context, so theirs of 1 is 2 here.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Ids

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PIECE = 2**20
"""Symbols of a text whose losses are worked out together."""

ORDERS = range(1, 21)
LARGEST_DICTIONARY = 1536 * 2**20
"""The most that xz lets its compressor look back, in bytes."""

UNKNOWN = -1
"""The code of an n-gram that the training text does not have."""


def uniform_nats(symbols: int) -> float:
    """Return the loss of a guess that knows nothing, in nats a symbol."""
    return math.log(symbols)


def xz_nats(train: bytes, test: bytes, symbols: int) -> float:
    """Return what xz needs for `test` when it has read `train` before, in nats for each of the `symbols` of the test.

    This is the size of both together less the size of the first, with preset 9 and all of the text in reach. The compressor
    takes about eleven times as much memory as the text has bytes.
    """
    if symbols < 1:
        raise ValueError(f"The cost is shared among the symbols of the test: at least one is needed, got {symbols}.")
    reach = min(max(len(train) + len(test), 2**16), LARGEST_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": reach}]
    whole, before = (len(lzma.compress(data, filters=filters)) for data in (train + test, train))
    return (whole - before) * 8 * math.log(2) / symbols


class KneserNey:
    """Interpolated modified Kneser-Ney of one order over ids 0 to `symbols - 1`, counted in one stream `(L,)`.

    The first symbols of the stream have no n-grams longer than what is before them. An n-gram at the very beginning counts as
    having one more symbol before it, that occurs nowhere else. Raises `ValueError` for an order below 1 and for ids that are
    no symbols.
    """

    def __init__(self, train_ids: Ids, symbols: int, order: int) -> None:
        if order < 1:
            raise ValueError(f"The order is the length of the n-grams, 1 or more; got {order}.")
        self.symbols, self.order = symbols, order
        self._ids = _checked(train_ids, symbols)
        levels = list(_levels(self._ids, symbols, order))
        self._levels = [(level, estimate or raw) for level, raw, estimate in levels]

    def losses(self, ids: Ids, context: Ids | Sequence[int] = ()) -> Floats:
        """Return the loss of each symbol of `ids` `(N,)` in nats, `(N,)`; `context` is what comes before them, if anything."""
        before = _checked(np.asarray(context), self.symbols)
        reach = self.order - 1
        text = np.concatenate((before[max(0, len(before) - reach) :], _checked(ids, self.symbols)))
        skipped = min(len(before), reach)
        found = np.empty(len(text) - skipped)
        for start in range(skipped, len(text), PIECE):
            first, stop = max(0, start - reach), min(start + PIECE, len(text))
            reading = _Reading(self._ids, text[first:stop], self.symbols)
            for level, estimate in self._levels:
                reading.look_up(level)
                reading.chances = reading.interpolated(estimate)
            found[start - skipped : stop - skipped] = -np.log(reading.chances[start - first :])
        return found

    def distribution(self, context: Ids | Sequence[int]) -> Floats:
        """Return the probability of every symbol after `context` `(M,)`, M free: `(V,)`, with sum 1."""
        codes = [0]
        before = _checked(np.asarray(context), self.symbols)
        for symbol in before[max(0, len(before) - self.order + 1) :].tolist():
            codes = self._pushed(codes, symbol)
        return self._distribution(codes)

    def sample(self, length: int, seed: int, prompt: Ids | Sequence[int] = ()) -> Ints:
        """Return `length` ids drawn one after the other, each given those before it and the `prompt`: `(length,)`."""
        numbers = np.random.Generator(np.random.Philox(key=seed)).random(length)
        codes = [0]
        for symbol in _checked(np.asarray(prompt), self.symbols)[-self.order :].tolist():
            codes = self._pushed(codes, symbol)
        drawn = np.empty(length, dtype=np.int64)
        for position, number in enumerate(numbers.tolist()):
            bounds = self._distribution(codes).cumsum()
            drawn[position] = min(int(bounds.searchsorted(number * bounds[-1], side="right")), self.symbols - 1)
            codes = self._pushed(codes, int(drawn[position]))
        return drawn

    def _pushed(self, codes: list[int], symbol: int) -> list[int]:
        """Return the codes of the known contexts, from the empty one on, after one symbol more."""
        longer = [0]
        for (level, _), code in zip(self._levels[:-1], codes, strict=False):
            found = level.follow(self._ids, code, symbol)
            if found == UNKNOWN:
                break
            longer.append(found)
        return longer

    def _distribution(self, codes: list[int]) -> Floats:
        chances = np.full(self.symbols, 1 / self.symbols)
        for (level, estimate), code in zip(self._levels, codes, strict=False):
            if code >= 0:
                first, stop = level.keys.searchsorted((code * self.symbols, (code + 1) * self.symbols))
                chances *= estimate.weights[code]
                chances[level.keys[first:stop] - code * self.symbols] += estimate.masses[first:stop]
            elif (after := -2 - code) < len(self._ids):
                chances *= estimate.once
                chances[self._ids[after]] += 1 - estimate.once
        return chances


def table(
    train_ids: Ids, ids: Ids, symbols: int, orders: Sequence[int] = ORDERS, context: Ids | Sequence[int] = ()
) -> Iterator[tuple[int, float]]:
    """Yield each of `orders`, ascending, with the mean loss on `ids` `(N,)` of a Kneser-Ney model of it, in nats a symbol.

    The same as `KneserNey(train_ids, symbols, order).losses(ids, context).mean()`, but the n-grams are counted once for all
    orders. Order 0 is the uniform distribution.
    """
    wanted = set(orders)
    if not len(ids) or not wanted or min(wanted) < 0:
        raise ValueError(f"A table needs orders from 0 on and symbols to predict; got {sorted(wanted)} and {len(ids)} symbols.")
    train_ids, before = _checked(train_ids, symbols), _checked(np.asarray(context), symbols)
    before = before[max(0, len(before) - max(wanted)) :]
    reading = _Reading(train_ids, np.concatenate((before, _checked(ids, symbols))), symbols)
    if 0 in wanted:
        yield 0, uniform_nats(symbols)
    for order, (level, raw, continued) in enumerate(_levels(train_ids, symbols, max(wanted)), 1):
        reading.look_up(level)
        if order in wanted:
            yield order, float(-np.log(reading.interpolated(raw)[len(before) :]).mean())
        if continued is not None:
            reading.chances = reading.interpolated(continued)


@dataclass(frozen=True)
class _Level:
    """The n-grams of one order, as far as their contexts occur more than once; for the others the text itself is enough.

    An n-gram's code is its number, from 0, if it occurs more than once; else -2 less the position after it.
    """

    symbols: int
    keys: Ints
    """The code of the context times `symbols`, plus the symbol; ascending, `(K,)`."""
    codes: Ids
    counts: Ints
    """How often each occurs, `(K,)`."""
    first: Ints
    """The position after the first occurrence of each, `(K,)`."""
    contexts: int
    """How many contexts occur more than once; their codes are below it."""
    alone: int
    """How many n-grams have a context that occurs once, and so occur once themselves."""

    def follow(self, ids: Ids, context: int, symbol: int) -> int:
        """Return the code of the n-gram of a context's code and a symbol."""
        if context >= 0:
            key = context * self.symbols + symbol
            at = int(self.keys.searchsorted(key))
            return int(self.codes[at]) if at < len(self.keys) and self.keys[at] == key else UNKNOWN
        after = -2 - context
        return context - 1 if after < len(ids) and ids[after] == symbol else UNKNOWN

    def estimate(self, counts: Ints) -> _Estimate:
        """Return what one way of counting, `(K,)`, makes of the n-grams."""
        discounts = _discounts(counts, self.alone)
        owner = self.keys // self.symbols
        taken = discounts[np.minimum(counts, 3)]
        totals = np.bincount(owner, counts, self.contexts)
        weights = np.divide(np.bincount(owner, taken, self.contexts), totals, out=np.ones(self.contexts), where=totals > 0)
        return _Estimate((counts - taken) / totals[owner], weights, float(discounts[1]))


@dataclass(frozen=True)
class _Estimate:
    """The numbers of one order: p(w | h) is `masses[h w]` plus `weights[h]` of the order below."""

    masses: Floats
    weights: Floats
    once: float
    """The weight of the order below in a context that occurs once: D1, as its one symbol has count 1."""


class _Reading:
    """The probabilities `chances` `(T,)` of all symbols of a text, made better order by order."""

    def __init__(self, train_ids: Ids, text: Ids, symbols: int) -> None:
        self._ids, self._text, self._symbols = train_ids, text.astype(np.int64), symbols
        self._codes = np.zeros(len(text) + 1, dtype=np.int64)  # of the n-gram that ends before each position
        self._contexts, self._keys = self._codes[:-1], self._codes[:-1]
        self.chances = np.full(len(text), 1 / symbols)

    def look_up(self, level: _Level) -> None:
        """Find the n-grams of the text that are one symbol longer than those found before."""
        self._contexts, self._codes = self._codes[:-1], np.full(len(self._codes), UNKNOWN)
        self._keys = np.full(len(self._text), UNKNOWN)
        often = np.flatnonzero(self._contexts >= 0)
        if len(often) and len(level.keys):
            keys = self._contexts[often] * self._symbols + self._text[often]
            at = np.minimum(level.keys.searchsorted(keys), len(level.keys) - 1)
            hit = level.keys[at] == keys
            self._keys[often[hit]] = at[hit]
            self._codes[often[hit] + 1] = level.codes[at[hit]]
        once = np.flatnonzero(self._followed_once())
        hit = self._ids[-2 - self._contexts[once]] == self._text[once]
        self._codes[once[hit] + 1] = self._contexts[once[hit]] - 1

    def _followed_once(self) -> npt.NDArray[np.bool_]:
        """Say which contexts occur once and not at the very end of the training text, where nothing follows."""
        return (self._contexts < UNKNOWN) & (self._contexts > -2 - len(self._ids))

    def interpolated(self, estimate: _Estimate) -> Floats:
        """Return the probabilities by the order that was looked up last, over `chances` as the order below."""
        chances = self.chances.copy()
        often = np.flatnonzero(self._contexts >= 0)
        chances[often] *= estimate.weights[self._contexts[often]]
        known = np.flatnonzero(self._keys >= 0)
        chances[known] += estimate.masses[self._keys[known]]
        once = np.flatnonzero(self._followed_once())
        chances[once] *= estimate.once
        chances[once] += (1 - estimate.once) * (self._codes[once + 1] != UNKNOWN)
        return chances


def _levels(ids: Ids, symbols: int, order: int) -> Iterator[tuple[_Level, _Estimate, _Estimate | None]]:
    """Yield orders 1 to `order`: the n-grams, their numbers as the highest order, and as a lower one (for the last: None)."""
    ends: Ids = np.zeros(len(ids) + 1, dtype=np.int32 if len(ids) < 2**31 - 2 else np.int64)
    level, ends = _rank(ids, symbols, ends, 1)
    for length in range(2, order + 1):
        longer, longer_ends = _rank(ids, symbols, ends, length)
        yield level, level.estimate(level.counts), level.estimate(_continuations(level, ends, longer))
        level, ends = longer, longer_ends
    yield level, level.estimate(level.counts), None


def _rank(ids: Ids, symbols: int, ends: Ids, length: int) -> tuple[_Level, Ids]:
    """Number the n-grams of a `length` from the numbers of those one shorter.

    `ends` `(L + 1,)` has the number of the n-gram that ends before each position, or -1 where it occurs once or would begin
    before the text. An n-gram whose context occurs once occurs once too: it is left out here, so work shrinks with the length.
    """
    at = np.flatnonzero(ends[:-1] >= 0)
    keys = ends[at].astype(np.int64) * symbols + ids[at].astype(np.int64)
    by_key = np.argsort(keys, kind="stable")
    keys, at = keys[by_key], at[by_key]
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    counts = np.diff(starts, append=len(keys))
    first = at[starts] + 1
    numbers = np.where(counts > 1, np.cumsum(counts > 1) - 1, -1)
    longer = np.full_like(ends, -1)
    longer[at + 1] = np.repeat(numbers.astype(ends.dtype), counts)
    codes = np.where(counts > 1, numbers, -2 - first).astype(ends.dtype)
    alone = max(0, len(ids) - length + 1) - len(at)
    return _Level(symbols, keys[starts], codes, counts, first, int(ends.max(initial=-1)) + 1, alone), longer


def _continuations(level: _Level, ends: Ids, longer: _Level) -> Ints:
    """Return how many different symbols stand before each n-gram of a level `(K,)`, from the n-grams one longer."""
    fresh = ends[:-1] < 0  # what follows a context that occurs once is an n-gram of its own, and so is the text's beginning
    fresh[longer.first - 1] = True
    last = ends[1:][fresh]
    different = np.bincount(last[last >= 0], minlength=1)
    return np.where(level.counts > 1, different[np.maximum(level.codes, 0)], 1)


def _discounts(counts: Ints, alone: int) -> Floats:
    """Return D by count 0, 1, 2, 3 and more `(4,)`, from how many n-grams have the counts 1 to 4 (Chen and Goodman, eq. 26).

    Where one of those is missing, or so large that nothing would be discounted, the estimate means nothing: common characters
    have counts far above 4, and a small text has few n-grams. Then the discount is half the count, as KenLM's
    `--discount_fallback` has it. So a discount is at most the count, and above 0, which leaves something for what was not seen.
    """
    of = np.bincount(np.minimum(counts, 5), minlength=6)
    of[1] += alone
    found = [0.0]
    for count in (1, 2, 3):
        discount = 0.0
        if of[1] and of[count] and of[count + 1]:
            discount = count - (count + 1) * float(of[1] / (of[1] + 2 * of[2]) * of[count + 1] / of[count])
        found.append(discount if discount > 0 else count / 2)
    return np.array(found)


def _checked(ids: Ids, symbols: int) -> Ids:
    """Return `ids` if all of them are symbols."""
    if symbols < 1 or symbols >= 2**31:
        raise ValueError(f"A number of symbols is from 1 to 2^31 - 1; got {symbols}.")
    if not len(ids):
        return np.empty(0, dtype=np.int64)
    if ids.dtype.kind not in "iu" or ids.ndim != 1 or ids.min() < 0 or ids.max() >= symbols:
        raise ValueError(f"Expected a row of ids from 0 to {symbols - 1}; got {ids.dtype} {ids.shape} up to {ids.max()}.")
    return ids
