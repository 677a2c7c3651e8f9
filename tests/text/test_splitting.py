"""What is held out of a text, and that equal documents are never in two splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unrolled.errors import UsageError
from unrolled.options import DataOptions
from unrolled.text import splitting
from unrolled.text.corpus import Corpus, cache_folder, open_corpus
from unrolled.text.splitting import TEST, TRAIN, VALIDATION, HeldOutFractions, Splits, draw_splits
from unrolled.text.tokenizer import Ids

NAMES = [f"{first}{vowel}{second}" for first in "bcdfghklmnprstvz" for vowel in "aeiou" for second in "lmnrst"]  # sorted


def splits_of(tmp_path: Path, lines: list[str], seed: int = 1, **options: object) -> list[list[str]]:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(lines) + "\n")
    data = DataOptions(documents="line", **options)  # type: ignore[arg-type]
    corpus = open_corpus([str(path)], data)
    return [documents(corpus, part) for part in corpus.split(data, seed)]


def documents(corpus: Corpus, ids: Ids) -> list[str]:
    parts = np.split(ids, np.flatnonzero(ids == corpus.tokenizer.eos_id))
    return [corpus.tokenizer.decode(part[1:].tolist()) for part in parts if len(part) > 1]


def test_every_letter_of_a_sorted_list_is_learned(tmp_path: Path) -> None:
    train, validation, test = splits_of(tmp_path, NAMES, test_fraction=0.1, train_fraction=0.8)
    assert sorted(train + validation + test) == sorted(NAMES)
    assert len(validation) == len(test) == 48
    assert {name[0] for name in train} == {name[0] for name in NAMES}
    assert len({name[0] for name in validation}) > 10, "a draw, not the end of the list"


def test_equal_documents_are_in_one_split_whatever_their_order(tmp_path: Path) -> None:
    lines = [name for name in NAMES[:60] for _ in range(4)]
    parts = splits_of(tmp_path, lines, train_fraction=0.8, test_fraction=0.1)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(parts[one]) & set(parts[other])
    shuffled = np.random.default_rng(0).permutation(lines).tolist()
    assert [sorted(part) for part in splits_of(tmp_path, shuffled, train_fraction=0.8, test_fraction=0.1)] == [
        sorted(part) for part in parts
    ]
    assert [sorted(part) for part in splits_of(tmp_path, lines, seed=2, train_fraction=0.8, test_fraction=0.1)] != [
        sorted(part) for part in parts
    ]


def test_by_order_the_last_documents_are_held_out(tmp_path: Path) -> None:
    train, validation, test = splits_of(tmp_path, NAMES, split_by="order", train_fraction=0.8, test_fraction=0.1)
    assert train + validation + test == NAMES
    assert 40 < len(validation) < 56
    assert 40 < len(test) < 56


def test_single_documents_may_be_drawn_without_regard_to_their_contents(tmp_path: Path) -> None:
    train, validation, _ = splits_of(tmp_path, ["same"] * 50 + NAMES, split_by="row", train_fraction=0.5)
    assert "same" in train
    assert "same" in validation


def test_splits_of_a_large_text_are_stored_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory = splits_of(tmp_path, NAMES)
    monkeypatch.setattr(splitting, "MAX_IN_MEMORY", 10)
    monkeypatch.setattr(splitting, "_BLOCK_TOKENS", 37)
    data = DataOptions(documents="line")
    corpus = open_corpus([str(tmp_path / "names.txt")], data)
    for _ in range(2):
        stored = corpus.split(data, 1)
        assert isinstance(stored.train, np.memmap)
        assert [documents(corpus, part) for part in stored] == in_memory
    (damaged,) = cache_folder().rglob("train.bin")
    content = bytearray(damaged.read_bytes())
    content[7] ^= 1
    del stored
    damaged.write_bytes(content)
    assert [documents(corpus, part) for part in corpus.split(data, 1)] == in_memory


def test_a_stream_keeps_its_tail_and_a_large_one_has_a_test_split(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("".join(NAMES) * 150)  # 216,000 characters
    corpus = open_corpus([str(path)], DataOptions())
    for seed in (1, 2):
        train, validation, test = corpus.split(DataOptions(), seed)
        assert len(test) == len(corpus.ids) - int(len(corpus.ids) * 0.95)
        assert len(train) == int(len(corpus.ids) * 0.9)
        assert (np.concatenate([train, validation, test]) == corpus.ids).all()
    assert len(corpus.split(DataOptions(test_fraction=0), 1).test) == 0
    path.write_text("".join(NAMES) * 100)  # 144,000 characters
    assert len(open_corpus([str(path)], DataOptions()).split(DataOptions(), 1).test) == 0


def test_fractions_that_leave_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"train_fraction=0.9 and test_fraction=0.2 are more than 1 together"):
        HeldOutFractions.choose(DataOptions(test_fraction=0.2), is_large=False)
    assert HeldOutFractions.choose(DataOptions(train_fraction=0.95), is_large=True).test == pytest.approx(0.025)


@pytest.mark.parametrize("sizes", [[1] * 40, [4] * 60, [30, 1, 1, 1, 1, 1], [10] * 3, [1, 1], [5]])
def test_a_group_is_in_one_split_and_something_is_left_to_learn_from(sizes: list[int]) -> None:
    group_of = np.repeat(np.arange(len(sizes)), sizes)
    keys = splitting.mix_bits(group_of.astype(np.uint64))
    splits = draw_splits(keys, HeldOutFractions(0.1, 0.1))
    assert all(len(set(splits[group_of == group])) == 1 for group in range(len(sizes)))
    assert (splits == TRAIN).sum() * 2 >= len(splits)
    for split in (VALIDATION, TEST):
        assert (splits == split).sum() <= max(round(0.1 * len(splits)), min(sizes))
    if len(sizes) >= splitting.MIN_DRAWN:
        assert (splits == VALIDATION).any()


def test_no_document_is_held_out_of_one(tmp_path: Path) -> None:
    data = DataOptions(documents="line")
    (tmp_path / "one.txt").write_text("hello\n")
    parts: Splits = open_corpus([str(tmp_path / "one.txt")], data).split(data, 1)
    assert [len(part) for part in parts] == [7, 0, 0]
