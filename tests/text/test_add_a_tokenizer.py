"""A tokenizer is added from outside by a class and one line: it trains, is saved, is loaded, and samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import unrolled
from unrolled.cli.main import main
from unrolled.errors import ModelError, UsageError
from unrolled.options import DataOptions
from unrolled.tables.cell_values import Cell
from unrolled.text import corpus as corpus_module
from unrolled.text import parallel_encode, shards
from unrolled.text.corpus import open_corpus
from unrolled.text.rule_tokenizer import RuleTokenizer
from unrolled.text.tokenizer import CharTokenizer, Tokenizer
from unrolled.text.tokenizers import TOKENIZERS

TEXT = "The Cat sat. THE DOG sat, too.\n" * 20
SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 2, "bptt": 8, "steps": 4, "sample_length": 0, "threads": 1}
LOWERCASE: dict[str, Any] = {"tokens": "lowercase"}


class LowercaseTokenizer(CharTokenizer):
    """Capitals have the ids of small letters."""

    kind = "lowercase"

    @classmethod
    def fit(cls, chars: Sequence[str], has_eos: bool) -> Tokenizer:
        return cls(sorted({char.lower() if len(char.lower()) == 1 else char for char in chars}), has_eos)

    @property
    def id_of_code_point(self) -> npt.NDArray[np.int32]:
        ids = super().id_of_code_point.copy()
        for token in filter(str.islower, self.tokens):
            if len(token.upper()) == 1:
                ids[ord(token.upper())] = ids[ord(token)]
        return ids


@pytest.fixture(autouse=True)
def lowercase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOKENIZERS, "lowercase", LowercaseTokenizer)
    Path("text.txt").write_text(TEXT)


def test_it_trains_is_saved_loaded_and_samples() -> None:
    unrolled.train("text.txt", **LOWERCASE, out="run", progress=False, **SMALL)
    model = unrolled.load("run")
    assert isinstance(model.tokenizer, LowercaseTokenizer)
    sample = model.sample("The ", length=50, seed=1)
    assert sample[4:] == sample[4:].lower()
    assert set(sample[4:]) <= set(TEXT.lower())
    assert model.evaluate("text.txt").num_tokens == len(TEXT) - 1


def test_it_is_refused_where_it_is_not_registered() -> None:
    unrolled.train("text.txt", **LOWERCASE, out="run", **SMALL)
    del TOKENIZERS["lowercase"]
    with pytest.raises(ModelError, match="expected one of characters, bytes, .*, not 'lowercase'"):
        unrolled.load("run")
    with pytest.raises(UsageError, match="tokens= is 'lowercase'; expected one of characters, bytes, words, bpe, "):
        unrolled.train("text.txt", **LOWERCASE, out="other", **SMALL)


class PairTokenizer(RuleTokenizer):
    """Pairs of letters: a tokenizer with a rule is a kind and a pattern."""

    kind, pattern = "pairs", "[A-Za-z]{2}"


@pytest.mark.slow
def test_it_reads_the_columns_of_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOKENIZERS, "pairs", PairTokenizer)
    Path("table.csv").write_text("name,label\n" + "".join(f"Ab{'cdxy'[n % 4] * n},{n % 2}\n" for n in range(20)))
    for tokens, expected in (("lowercase", "abccc"), ("pairs", "Abccc")):
        settings = SMALL | {"tokens": tokens, "out": tokens}
        del settings["sample_length"], settings["bptt"]
        unrolled.train_table("table.csv", source="name:text", target="label", progress=False, **settings)
        column = unrolled.load_table(tokens).spec.source
        assert column.decode(column.encode(Cell("Abccc", "table.csv"))) == expected


def test_a_pattern_may_have_groups_and_must_not_be_empty() -> None:
    class Groups(RuleTokenizer):
        kind, pattern = "groups", "(a)(b)?|c"

    class Empty(RuleTokenizer):
        kind, pattern = "empty", "a*"

    assert Groups(["a", "b"]).pieces("abcad") == ["ab", "c", "a", "d"]
    with pytest.raises(UsageError, match="The pattern of empty matches the empty text"):
        Empty(["a"])


@pytest.mark.slow
def test_a_rule_is_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOKENIZERS, "pairs", PairTokenizer)
    unrolled.train("text.txt", tokens="pairs", out="run", progress=False, **SMALL)
    tokens = unrolled.load("run").tokenizer.token_strings()
    assert {"Th", "e"} <= set(tokens)


def test_it_is_a_choice_of_the_command_line() -> None:
    settings = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]
    assert main(["train", "text.txt", "--tokens", "lowercase", *settings]) == 0


@pytest.mark.parametrize("documents", ["none", "line", "file"])
def test_a_large_text_is_encoded_with_it(documents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = DataOptions(**LOWERCASE, documents=documents)  # type: ignore[arg-type]
    small = open_corpus(["text.txt"], options)
    assert small.tokenizer.decode(small.ids) == TEXT.lower() if documents != "line" else small.num_documents == 20
    monkeypatch.setenv("UNROLLED_CACHE", "other")
    monkeypatch.setattr(corpus_module, "MIN_SHARDED_BYTES", 1)
    monkeypatch.setattr(shards, "SHARD_BYTES", 100)
    monkeypatch.setattr(parallel_encode, "num_processes", lambda: 1)
    large = open_corpus(["text.txt"], options)
    assert large.ids.tolist() == small.ids.tolist()
