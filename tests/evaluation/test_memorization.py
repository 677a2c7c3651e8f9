"""Matches with the training text compared with brute force, across chunks and segments, and in linear time; known documents."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.evaluation import memorization
from unrolled.evaluation.memorization import CopyStats, find_known_documents, matching_statistics, measure_memorization
from unrolled.text.tokenizer import Ids

END = 9


@pytest.fixture(params=["table", "list"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """Both implementations of the automaton's transition table."""
    if request.param == "list":
        monkeypatch.setattr(memorization, "MAX_DENSE_CELLS", 0)
    return request.param


def by_hand(train: list[int], sample: list[int]) -> list[int]:
    found = []
    for at in range(len(sample)):
        length = 0
        while at + length < len(sample) and holds(train, sample[at : at + length + 1]):
            length += 1
        found.append(length)
    return found


def holds(train: list[int], run: list[int]) -> bool:
    return any(train[i : i + len(run)] == run for i in range(len(train) - len(run) + 1))


def random_ids(size: int, symbols: int, seed: int = 0) -> Ids:
    return np.random.default_rng(seed).integers(0, symbols, size).astype(np.uint8)


small = st.integers(1, 4).flatmap(lambda symbols: st.lists(st.integers(0, symbols), max_size=40))


@settings(max_examples=80, deadline=None)
@given(small, small, st.integers(1, 50), st.integers(1, 9), st.sampled_from([0, memorization.MAX_DENSE_CELLS]))
def test_matches_are_those_of_brute_force(train: list[int], sample: list[int], piece: int, stretch: int, dense: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorization, "MIN_SEGMENT_TOKENS", stretch)
        patch.setattr(memorization, "MAX_DENSE_CELLS", dense)
        read, drawn = np.array(train, dtype=np.uint8), np.array(sample, dtype=np.uint8)
        expected = by_hand(train, sample)
        assert matching_statistics(read, drawn, piece).tolist() == expected
        found = measure_memorization(read, drawn, piece)
    assert (found.num_tokens, found.longest_match) == (len(sample), max(expected, default=0))
    run = sample[found.sample_start : found.sample_start + found.longest_match]
    assert run == train[found.train_start : found.train_start + found.longest_match]
    for n, share in enumerate(found.novel_ngram_rates, 1):
        grams = [sample[i : i + n] for i in range(len(sample) - n + 1)]
        assert share == pytest.approx(np.mean([not holds(train, gram) for gram in grams]))
    assert list(found.novel_ngram_rates) == sorted(found.novel_ngram_rates)


def test_a_case_by_hand(way: object) -> None:
    train, sample = (np.frombuffer(text, dtype=np.uint8) for text in (b"the cat sat", b"a cat at the sea"))
    assert matching_statistics(train, sample).tolist() == [1, 5, 4, 3, 2, 1, 3, 2, 1, 4, 3, 2, 2, 1, 1, 1]
    found = measure_memorization(train, sample)
    assert (found.longest_match, found.sample_start, found.train_start) == (5, 1, 3)
    assert found.mean_match == pytest.approx(36 / 16)
    assert found.novel_ngram_rates[:6] == pytest.approx((0, 5 / 15, 8 / 14, 10 / 13, 11 / 12, 1))
    assert len(found.novel_ngram_rates) == 16


@pytest.mark.slow
@pytest.mark.parametrize("piece", [60, 1000, 1024, 3000, 10**6])
def test_a_copy_across_chunks(way: object, piece: int) -> None:
    train = random_ids(4000, 200)
    copy = train[17:1450]
    sample = np.concatenate(([250, 250], copy, [251])).astype(np.uint8)
    found = measure_memorization(train, sample, piece)
    assert (found.longest_match, found.sample_start, found.train_start) == (len(copy), 2, 17)
    assert matching_statistics(train, sample, piece)[2:-1].tolist() == list(range(len(copy), 0, -1))


@pytest.mark.slow
def test_a_long_verbatim_copy() -> None:
    train = random_ids(300_000, 60)
    found = measure_memorization(train, train[100_000:150_000])
    assert (found.longest_match, found.sample_start, found.train_start) == (50_000, 0, 100_000)
    assert found.novel_ngram_rates == (0.0,) * 50
    assert found.mean_match == 25_000.5


def test_no_match(way: object) -> None:
    train, sample = random_ids(3000, 10), random_ids(100, 10) + 10
    assert not matching_statistics(train, sample).any()
    assert measure_memorization(train, sample) == CopyStats(100, 0, 0, 0, 0.0, (1.0,) * 50)


def test_empty_and_one_token(way: object) -> None:
    empty, one, text = (np.array(ids, dtype=np.uint8) for ids in ([], [3], [1, 3, 3]))
    assert matching_statistics(text, empty).tolist() == []
    assert measure_memorization(text, empty) == CopyStats(0, 0, 0, 0, 0.0, ())
    assert matching_statistics(empty, text).tolist() == [0, 0, 0]
    assert measure_memorization(empty, one) == CopyStats(1, 0, 0, 0, 0.0, (1.0,))
    assert measure_memorization(one, one) == CopyStats(1, 1, 0, 0, 1.0, (0.0,))
    assert measure_memorization(text, one) == CopyStats(1, 1, 0, 1, 1.0, (0.0,))
    assert matching_statistics(one, text).tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_types_of_ids(way: object, dtype: type[np.integer]) -> None:
    scale = np.iinfo(dtype).max // 20
    train, sample = random_ids(4000, 20), random_ids(300, 20, seed=1)
    expected = matching_statistics(train, sample)
    wide = [ids.astype(np.int64) * scale for ids in (train, sample)]
    assert matching_statistics(wide[0].astype(dtype), wide[1].astype(dtype)).tolist() == expected.tolist()
    assert matching_statistics(wide[0].astype(dtype), wide[1]).tolist() == expected.tolist()


def test_a_memory_map(tmp_path: Path) -> None:
    train, sample = random_ids(20_000, 5).astype(np.uint16), random_ids(500, 5, seed=2)
    path = tmp_path / "ids"
    train.tofile(path)
    mapped = np.memmap(path, dtype=np.uint16, mode="r")
    assert measure_memorization(mapped, sample, 999) == measure_memorization(train, sample, 999)
    assert matching_statistics(mapped, sample, 999).tolist() == matching_statistics(train, sample).tolist()
    assert find_known_documents(mapped, 4, [train[3:3]], 999).tolist() == find_known_documents(train, 4, [train[3:3]]).tolist()


BLANKS = np.full(2_000_000, 32, dtype=np.uint8)
PAIRS = np.tile(np.array([97, 98], dtype=np.uint8), 1_000_000)


@pytest.mark.serial
@pytest.mark.parametrize("train", [BLANKS, PAIRS, random_ids(2_000_000, 2)], ids=["blanks", "pairs", "coins"])
@pytest.mark.parametrize("sample", [BLANKS[:10_000], PAIRS[1:10_001]], ids=["blanks", "pairs"])
def test_repetitive_texts_take_linear_time(train: Ids, sample: Ids) -> None:
    begun = time.perf_counter()
    found = matching_statistics(train, sample)
    assert time.perf_counter() - begun < 5
    if train[0] == sample[0] or train is PAIRS and sample[0] == 98:
        assert found.tolist() == list(range(len(sample), 0, -1))


def test_a_larger_text_agrees_with_a_search_for_words() -> None:
    train, sample = random_ids(200_000, 4), random_ids(2000, 4, seed=3)
    content, found = train.tobytes(), matching_statistics(train, sample, 30_000)
    for at, length in enumerate(found.tolist()):
        assert sample[at : at + length].tobytes() in content
        assert at + length == len(sample) or sample[at : at + length + 1].tobytes() not in content


documents = st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=12)


@settings(max_examples=80, deadline=None)
@given(documents, documents, st.integers(1, 20))
def test_known_documents_are_those_of_a_list(known: list[list[int]], asked: list[list[int]], piece: int) -> None:
    train = np.array([END, *(symbol for document in known for symbol in (*document, END))], dtype=np.uint8)
    found = find_known_documents(train, END, [np.array(document, dtype=np.int64) for document in asked], piece)
    assert found.dtype == bool
    assert found.tolist() == [document in known for document in asked]


def test_only_whole_documents_are_known() -> None:
    train = np.array([5, 6, END, 1, 2, 3, END, 7, END, 4], dtype=np.uint16)
    asked = [[1, 2, 3], [1, 2], [2, 3], [7], [5, 6], [4], [], [7, END], [1, 2, 3, END, 7], [7]]
    expected = [True, False, False, True, False, False, False, False, False, True]
    for piece in (1, 2, 3, 100):
        assert find_known_documents(train, END, [np.array(ids, dtype=np.uint16) for ids in asked], piece).tolist() == expected
    assert find_known_documents(train, END, []).tolist() == []
    assert find_known_documents(train[:0], END, [train[:1]]).tolist() == [False]
    assert find_known_documents(np.array([END, END]), END, [train[:0]]).tolist() == [True]


@pytest.mark.serial
def test_many_documents_are_fast() -> None:
    random = np.random.default_rng(0)
    train = np.where(random.random(1_000_000) < 0.15, END, random.integers(0, 8, 1_000_000)).astype(np.uint8)
    begun = time.perf_counter()
    found = find_known_documents(train, END, [random.integers(0, 8, 2) for _ in range(1000)] + [np.full(2, 8)])
    assert time.perf_counter() - begun < 5
    assert found[:-1].all()
    assert not found[-1]
