"""Copied runs against brute force, over borders of pieces and stretches, in repetitive texts in time; and whole documents."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.evaluation import memorization
from unrolled.evaluation.memorization import Memory, known_documents, matches, memorised
from unrolled.text.tokenizer import Ids

END = 9


@pytest.fixture(params=["table", "list"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> object:
    """Both forms of the automaton's transitions."""
    if request.param == "list":
        monkeypatch.setattr(memorization, "DENSE", 0)
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
@given(small, small, st.integers(1, 50), st.integers(1, 9), st.sampled_from([0, memorization.DENSE]))
def test_matches_are_those_of_brute_force(train: list[int], sample: list[int], piece: int, stretch: int, dense: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorization, "STRETCH", stretch)
        patch.setattr(memorization, "DENSE", dense)
        read, drawn = np.array(train, dtype=np.uint8), np.array(sample, dtype=np.uint8)
        expected = by_hand(train, sample)
        assert matches(read, drawn, piece).tolist() == expected
        found = memorised(read, drawn, piece)
    assert (found.symbols, found.longest) == (len(sample), max(expected, default=0))
    run = sample[found.in_sample : found.in_sample + found.longest]
    assert run == train[found.in_training : found.in_training + found.longest]
    for n, share in enumerate(found.novelty, 1):
        grams = [sample[i : i + n] for i in range(len(sample) - n + 1)]
        assert share == pytest.approx(np.mean([not holds(train, gram) for gram in grams]))
    assert list(found.novelty) == sorted(found.novelty)


def test_a_case_by_hand(way: object) -> None:
    train, sample = (np.frombuffer(text, dtype=np.uint8) for text in (b"the cat sat", b"a cat at the sea"))
    assert matches(train, sample).tolist() == [1, 5, 4, 3, 2, 1, 3, 2, 1, 4, 3, 2, 2, 1, 1, 1]
    found = memorised(train, sample)
    assert (found.longest, found.in_sample, found.in_training) == (5, 1, 3)
    assert found.mean == pytest.approx(36 / 16)
    assert found.novelty[:6] == pytest.approx((0, 5 / 15, 8 / 14, 10 / 13, 11 / 12, 1))
    assert len(found.novelty) == 16


@pytest.mark.parametrize("piece", [60, 1000, 1024, 3000, 10**6])
def test_a_copy_over_the_borders_of_pieces(way: object, piece: int) -> None:
    train = random_ids(4000, 200)
    copy = train[17:1450]
    sample = np.concatenate(([250, 250], copy, [251])).astype(np.uint8)
    found = memorised(train, sample, piece)
    assert (found.longest, found.in_sample, found.in_training) == (len(copy), 2, 17)
    assert matches(train, sample, piece)[2:-1].tolist() == list(range(len(copy), 0, -1))


def test_a_long_verbatim_copy() -> None:
    train = random_ids(300_000, 60)
    found = memorised(train, train[100_000:150_000])
    assert (found.longest, found.in_sample, found.in_training) == (50_000, 0, 100_000)
    assert found.novelty == (0.0,) * 50
    assert found.mean == 25_000.5


def test_nothing_in_common(way: object) -> None:
    train, sample = random_ids(3000, 10), random_ids(100, 10) + 10
    assert not matches(train, sample).any()
    assert memorised(train, sample) == Memory(100, 0, 0, 0, 0.0, (1.0,) * 50)


def test_empty_and_one_symbol(way: object) -> None:
    empty, one, text = (np.array(ids, dtype=np.uint8) for ids in ([], [3], [1, 3, 3]))
    assert matches(text, empty).tolist() == []
    assert memorised(text, empty) == Memory(0, 0, 0, 0, 0.0, ())
    assert matches(empty, text).tolist() == [0, 0, 0]
    assert memorised(empty, one) == Memory(1, 0, 0, 0, 0.0, (1.0,))
    assert memorised(one, one) == Memory(1, 1, 0, 0, 1.0, (0.0,))
    assert memorised(text, one) == Memory(1, 1, 0, 1, 1.0, (0.0,))
    assert matches(one, text).tolist() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int64])
def test_types_of_ids(way: object, dtype: type[np.integer]) -> None:
    scale = np.iinfo(dtype).max // 20
    train, sample = random_ids(4000, 20), random_ids(300, 20, seed=1)
    expected = matches(train, sample)
    wide = [ids.astype(np.int64) * scale for ids in (train, sample)]
    assert matches(wide[0].astype(dtype), wide[1].astype(dtype)).tolist() == expected.tolist()
    assert matches(wide[0].astype(dtype), wide[1]).tolist() == expected.tolist()


def test_a_memory_map(tmp_path: Path) -> None:
    train, sample = random_ids(20_000, 5).astype(np.uint16), random_ids(500, 5, seed=2)
    path = tmp_path / "ids"
    train.tofile(path)
    mapped = np.memmap(path, dtype=np.uint16, mode="r")
    assert memorised(mapped, sample, 999) == memorised(train, sample, 999)
    assert matches(mapped, sample, 999).tolist() == matches(train, sample).tolist()
    assert known_documents(mapped, 4, [train[3:3]], 999).tolist() == known_documents(train, 4, [train[3:3]]).tolist()


BLANKS = np.full(2_000_000, 32, dtype=np.uint8)
PAIRS = np.tile(np.array([97, 98], dtype=np.uint8), 1_000_000)


@pytest.mark.serial
@pytest.mark.parametrize("train", [BLANKS, PAIRS, random_ids(2_000_000, 2)], ids=["blanks", "pairs", "coins"])
@pytest.mark.parametrize("sample", [BLANKS[:10_000], PAIRS[1:10_001]], ids=["blanks", "pairs"])
def test_repetitive_texts_take_no_longer(train: Ids, sample: Ids) -> None:
    begun = time.perf_counter()
    found = matches(train, sample)
    assert time.perf_counter() - begun < 5
    if train[0] == sample[0] or train is PAIRS and sample[0] == 98:
        assert found.tolist() == list(range(len(sample), 0, -1))


def test_a_larger_text_agrees_with_the_words_found_in_it() -> None:
    train, sample = random_ids(200_000, 4), random_ids(2000, 4, seed=3)
    content, found = train.tobytes(), matches(train, sample, 30_000)
    for at, length in enumerate(found.tolist()):
        assert sample[at : at + length].tobytes() in content
        assert at + length == len(sample) or sample[at : at + length + 1].tobytes() not in content


documents = st.lists(st.lists(st.integers(0, 2), max_size=4), max_size=12)


@settings(max_examples=80, deadline=None)
@given(documents, documents, st.integers(1, 20))
def test_known_documents_are_those_of_a_list(known: list[list[int]], asked: list[list[int]], piece: int) -> None:
    train = np.array([END, *(symbol for document in known for symbol in (*document, END))], dtype=np.uint8)
    found = known_documents(train, END, [np.array(document, dtype=np.int64) for document in asked], piece)
    assert found.dtype == bool
    assert found.tolist() == [document in known for document in asked]


def test_documents_are_whole() -> None:
    train = np.array([5, 6, END, 1, 2, 3, END, 7, END, 4], dtype=np.uint16)
    asked = [[1, 2, 3], [1, 2], [2, 3], [7], [5, 6], [4], [], [7, END], [1, 2, 3, END, 7], [7]]
    expected = [True, False, False, True, False, False, False, False, False, True]
    for piece in (1, 2, 3, 100):
        assert known_documents(train, END, [np.array(ids, dtype=np.uint16) for ids in asked], piece).tolist() == expected
    assert known_documents(train, END, []).tolist() == []
    assert known_documents(train[:0], END, [train[:1]]).tolist() == [False]
    assert known_documents(np.array([END, END]), END, [train[:0]]).tolist() == [True]


@pytest.mark.serial
def test_many_documents_in_time() -> None:
    random = np.random.default_rng(0)
    train = np.where(random.random(1_000_000) < 0.15, END, random.integers(0, 8, 1_000_000)).astype(np.uint8)
    begun = time.perf_counter()
    found = known_documents(train, END, [random.integers(0, 8, 2) for _ in range(1000)] + [np.full(2, 8)])
    assert time.perf_counter() - begun < 5
    assert found[:-1].all()
    assert not found[-1]
