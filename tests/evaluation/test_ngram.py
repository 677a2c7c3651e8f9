"""Kneser-Ney compared with a direct implementation of its definition and with values by hand; and the xz baseline."""

import math
import tracemalloc
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.evaluation import ngram
from unrolled.evaluation.ngram import KneserNey, loss_by_order, uniform_nats
from unrolled.text.tokenizer import Ids

Gram = tuple[int, ...]
BORDER = -1
A, B, C = range(3)


class Plain:
    """Modified Kneser-Ney with dictionaries and fractions, by the formulas of Chen and Goodman."""

    def __init__(self, train: list[int], symbols: int, order: int) -> None:
        self.symbols, self.order = symbols, order
        self.counts: list[Counter[Gram]] = []
        for length in range(1, order + 1):
            raw = Counter(tuple(train[i : i + length]) for i in range(len(train) - length + 1))
            left = defaultdict(set)
            for i in range(len(train) - length + 1):
                left[tuple(train[i : i + length])].add(train[i - 1] if i else BORDER)
            self.counts.append(raw if length == order else Counter({gram: len(before) for gram, before in left.items()}))
        self.discounts = [self.discount(Counter(counts.values())) for counts in self.counts]

    @staticmethod
    def discount(n: Counter[int]) -> list[Fraction]:
        found = [Fraction(0)]
        for k in (1, 2, 3):
            estimate = Fraction(0)
            if n[1] and n[k] and n[k + 1]:
                estimate = k - (k + 1) * Fraction(n[1], n[1] + 2 * n[2]) * Fraction(n[k + 1], n[k])
            found.append(estimate if estimate > 0 else Fraction(k, 2))
        return found

    def chance(self, context: Gram, symbol: int) -> Fraction:
        context = context[max(0, len(context) - self.order + 1) :]
        lower = self.chance(context[1:], symbol) if context else Fraction(1, self.symbols)
        counts, discounts = self.counts[len(context)], self.discounts[len(context)]
        following = [count for gram, count in counts.items() if gram[:-1] == context]
        if not following:
            return lower
        count = counts[(*context, symbol)]
        gamma = sum((discounts[min(c, 3)] for c in following), Fraction(0)) / sum(following)
        return (count - discounts[min(count, 3)]) / Fraction(sum(following)) + gamma * lower

    def losses(self, ids: list[int], context: list[int]) -> list[float]:
        text = context + ids
        chances = [self.chance(tuple(text[:at]), text[at]) for at in range(len(context), len(text))]
        return [-math.log(chance) for chance in chances]


def text(size: int, symbols: int, seed: int = 0, dtype: type[np.integer] = np.uint8) -> Ids:
    """Return a repetitive text, made of a few phrases."""
    random = np.random.default_rng(seed)
    phrases = [random.integers(0, symbols, random.integers(1, 12)) for _ in range(12)]
    ids = np.concatenate([phrases[i] for i in random.integers(0, len(phrases), size)])[:size]
    noise = random.random(size) < 0.1
    return np.where(noise, random.integers(0, symbols, size), ids).astype(dtype)


def test_a_bigram_by_hand() -> None:
    """`A B A C A B`: as bigrams AB 2, BA 1, AC 1, CA 1; before A stand the border, B and C, before B only A, before C only A.

    Bigrams: n1 = 3, n2 = 1, n3 = 0, so Y = 3 / 5, D1 = 1 - 2 (3/5) (1/3) = 3/5; n3 = 0 leaves D2 to be 1 and D3 to be 3/2.
    Unigrams: counts A 3, B 1, C 1: n1 = 2, n2 = 0 leave D1 = 1/2 and D3 = 3/2.
    """
    model = KneserNey(np.array([A, B, A, C, A, B]), 4, 2)
    gamma = (3 / 2 + 1 / 2 + 1 / 2) / 5
    lower = np.array([(3 - 3 / 2) / 5, (1 - 1 / 2) / 5, (1 - 1 / 2) / 5, 0]) + gamma / 4
    assert lower == pytest.approx([0.425, 0.225, 0.225, 0.125])
    after_a = np.array([0, (2 - 1) / 3, (1 - 3 / 5) / 3, 0]) + (1 + 3 / 5) / 3 * lower
    assert model.next_probs([]) == pytest.approx(lower)
    assert model.next_probs([C, A]) == pytest.approx(after_a)
    assert model.next_probs([A]) == pytest.approx([0.226667, 0.453333, 0.253333, 0.066667], abs=1e-6)
    assert model.next_probs([C]) == pytest.approx([0.4 + 0.6 * 0.425, 0.6 * 0.225, 0.6 * 0.225, 0.6 * 0.125])
    assert model.next_probs([3]) == pytest.approx(lower)


def test_discounts_by_hand() -> None:
    """n1 = 8, n2 = 4, n3 = 2, n4 = 1: Y = 1/2, D1 = 1 - 1/2, D2 = 2 - 3/4, D3 = 3 - 1; order 1 counts plainly."""
    counts = [1] * 8 + [2] * 4 + [3] * 2 + [4]
    ids = np.repeat(np.arange(len(counts)), counts)
    taken = 8 * 0.5 + 4 * 1.25 + 3 * 2
    expected = [(c - [0, 0.5, 1.25, 2, 2][c]) / 26 + taken / 26 / 20 for c in counts] + [taken / 26 / 20] * 5
    assert KneserNey(ids, 20, 1).next_probs([]) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), max_size=50),
    st.lists(st.integers(0, 4), max_size=12),
    st.lists(st.integers(0, 4), max_size=6),
    st.integers(1, 7),
)
def test_the_definition(train: list[int], ids: list[int], context: list[int], order: int) -> None:
    plain, model = Plain(train, 5, order), KneserNey(np.array(train, dtype=np.uint8), 5, order)
    expected = plain.losses(ids, context)
    assert model.losses(np.array(ids, dtype=np.uint8), context).tolist() == pytest.approx(expected)
    assert model.next_probs(context) == pytest.approx([float(plain.chance(tuple(context), w)) for w in range(5)])


@pytest.mark.parametrize("order", [1, 2, 3, 8, 20])
def test_the_definition_on_a_longer_text(order: int) -> None:
    train, ids = text(700, 6), text(40, 7, seed=1)
    expected = Plain(train.tolist(), 7, order).losses(ids.tolist(), train.tolist())
    assert KneserNey(train, 7, order).losses(ids, train).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("order", [1, 2, 5, 20])
def test_distributions_sum_to_one_and_give_the_losses(order: int) -> None:
    train, ids = text(3000, 9), text(200, 10, seed=2)
    model = KneserNey(train, 10, order)
    losses = model.losses(ids)
    for at in range(len(ids)):
        chances = model.next_probs(ids[:at])
        assert chances.sum() == pytest.approx(1)
        assert chances.min() > 0
        assert -math.log(chances[ids[at]]) == pytest.approx(losses[at])
    for context in ([], train, train[-1:], train[:30], [9] * 30):
        assert model.next_probs(np.array(context, dtype=np.int64)).sum() == pytest.approx(1)


def test_loss_by_order_is_that_of_single_models() -> None:
    train, ids = text(4000, 8), text(500, 9, seed=3)
    rows = dict(loss_by_order(train, ids, 9, range(21), train))
    assert list(rows) == list(range(21))
    assert rows[0] == uniform_nats(9) == math.log(9)
    for order in range(1, 21):
        assert rows[order] == pytest.approx(KneserNey(train, 9, order).losses(ids, train).mean()), order
    some = dict(loss_by_order(train, ids, 9, [17, 3], train))
    assert some == {order: pytest.approx(rows[order]) for order in (3, 17)}
    assert dict(loss_by_order(train, ids, 9, [4])) == {4: pytest.approx(KneserNey(train, 9, 4).losses(ids).mean())}


def test_longer_contexts_reduce_the_loss() -> None:
    rows = dict(loss_by_order(text(20000, 12), text(2000, 12, seed=0), 12, range(21)))
    assert all(rows[order] < rows[order - 1] - 0.01 for order in range(1, 4))
    assert rows[20] < min(rows.values()) + 0.05


@pytest.mark.parametrize("order", [1, 2, 6, 20])
def test_chunks_do_not_change_losses(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, ids = text(2000, 5), text(301, 5, seed=4)
    model = KneserNey(train, 5, order)
    whole = model.losses(ids, train)
    cuts = [0, 1, 7, 150, 301]
    parts = [model.losses(ids[a:b], np.concatenate((train, ids[:a]))) for a, b in zip(cuts, cuts[1:], strict=False)]
    assert np.concatenate(parts) == pytest.approx(whole)
    monkeypatch.setattr(ngram, "CHUNK_TOKENS", 13)
    assert model.losses(ids, train) == pytest.approx(whole)
    assert len(model.losses(ids[:0], train)) == 0


@pytest.mark.parametrize("train", [[], [2], [1, 1], [0, 1]])
@pytest.mark.parametrize("order", [1, 2, 3, 20])
def test_tiny_texts(train: list[int], order: int) -> None:
    model, plain = KneserNey(np.array(train, dtype=np.int64), 3, order), Plain(train, 3, order)
    for context in ([], [0], [1], [1, 1], [2, 0, 1]):
        assert model.next_probs(context) == pytest.approx([float(plain.chance(tuple(context), w)) for w in range(3)])
    ids = np.array([0, 1, 1, 2])
    assert model.losses(ids).tolist() == pytest.approx(plain.losses(ids.tolist(), []))
    assert dict(loss_by_order(np.array(train, dtype=np.int64), ids, 3, [order])) == {
        order: pytest.approx(model.losses(ids).mean())
    }


def test_an_order_longer_than_the_text() -> None:
    train, ids = text(12, 4), text(50, 4, seed=5)
    assert KneserNey(train, 4, 40).losses(ids) == pytest.approx(KneserNey(train, 4, 13).losses(ids))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint64])
def test_types_of_ids(dtype: type[np.integer]) -> None:
    train, ids = text(500, 5), text(50, 5, seed=6)
    expected = KneserNey(train, 5, 4).losses(ids)
    assert KneserNey(train.astype(dtype), 5, 4).losses(ids.astype(dtype)) == pytest.approx(expected)


def test_a_large_vocabulary() -> None:
    symbols = 200_000
    train, ids = text(3000, 40, dtype=np.int64) * 4999, text(100, 40, seed=7, dtype=np.int64) * 4999
    model = KneserNey(train, symbols, 5)
    chances = model.next_probs(train[:50])
    assert chances.shape == (symbols,)
    assert chances.sum() == pytest.approx(1)
    few = KneserNey(train // 4999, 40, 5).losses(ids // 4999)
    assert np.corrcoef(few, model.losses(ids))[0, 1] > 0.9
    one_by_one = [-math.log(model.next_probs(ids[:i])[ids[i]]) for i in range(100)]
    assert model.losses(ids).tolist() == pytest.approx(one_by_one)


def test_samples_depend_on_the_seed_and_the_text() -> None:
    train = text(5000, 6)
    model = KneserNey(train, 6, 6)
    first, again, other = (model.sample(300, seed, train[:3]) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()
    assert model.losses(first).mean() < uniform_nats(6)
    numbers = np.random.Generator(np.random.Philox(key=1)).random(300)
    for at, number in enumerate(numbers[:50].tolist()):
        bounds = model.next_probs(np.concatenate((train[:3], first[:at]))).cumsum()
        assert bounds[first[at]] > number * bounds[-1]
        assert first[at] == 0 or bounds[first[at] - 1] <= number * bounds[-1]
    assert model.sample(0, 1).shape == (0,)


def test_sample_frequencies_are_the_probabilities() -> None:
    model = KneserNey(np.array([A, A, B, A, C, A]), 4, 1)
    frequent = np.bincount(model.sample(20000, 3), minlength=4) / 20000
    assert frequent == pytest.approx(model.next_probs([]), abs=0.01)


def test_memory_per_token() -> None:
    train = text(200_000, 30)
    tracemalloc.start()
    list(loss_by_order(train, train[:1000], 30, [20]))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 200 * len(train)


def test_wrong_arguments_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        KneserNey(np.array([0]), 2, 0)
    for ids in ([2], [-1], [0.5], [[0]]):
        with pytest.raises(ValueError, match="from 0 to 1"):
            KneserNey(np.array(ids), 2, 2)
    with pytest.raises(ValueError, match="vocab_size must be"):
        KneserNey(np.array([0]), 0, 2)
    with pytest.raises(ValueError, match="from 0 to 1"):
        KneserNey(np.array([0]), 2, 2).losses(np.array([2]))
    with pytest.raises(ValueError, match="at least one token"):
        next(loss_by_order(np.array([0]), np.array([], dtype=np.int64), 2))
