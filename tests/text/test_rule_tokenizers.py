"""Tokens by a rule: nothing is lost, what the rule does not cover is reported, and every command reads them."""

import json
import logging
import random
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.cli.main import main
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.options import DataOptions
from unrolled.text.bpe_tokenizer import BPETextTokenizer
from unrolled.text.corpus import open_corpus
from unrolled.text.rule_tokenizer import (
    MAX_SEGMENT_CHARS,
    NO_CHARACTER,
    RegexTokenizer,
    RuleTokenizer,
    SmilesTokenizer,
    WordRuleTokenizer,
)
from unrolled.text.token_pattern import TokenPattern
from unrolled.text.tokenizers import tokenizer_from_json

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 2, "bptt": 8, "steps": 3, "sample_length": 0, "threads": 1}
MOLECULES = ["CC(=O)Oc1ccccc1", "C[C@@H](N)C(=O)O", "ClCCBr", "C%10CCCC%10", "[nH]1cccc1", "F/C=C/F", "[Na+].[Cl-]"]
AWKWARD = [
    "",
    "\n",
    "a\n\nb",
    "x" * 300,
    "\U000f0000\U0010ffff\ue000",
    "e\u0301 \U0001f600 \ud800 \0 \x1e\r\n",
    "[open",
    "%1",
    "BrBr[Cl",
]
RULES = {
    "regex": (RegexTokenizer, "[A-Z][a-z]?|[0-9]{2}|x+"),
    "smiles": (SmilesTokenizer, ""),
    "words": (WordRuleTokenizer, ""),
    "bpe": (BPETextTokenizer, ""),
}
SETTINGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def fitted(name: str, texts: list[str], documents: str = "none") -> RuleTokenizer:
    tokenizer_type, argument = RULES[name]
    return tokenizer_type.fit_texts(argument, texts, documents, {})


def write_molecules(count: int = 60) -> Path:
    path = Path("molecules.smi")
    path.write_text("\n".join(MOLECULES[index % len(MOLECULES)] for index in range(count)) + "\n")
    return path


@pytest.mark.parametrize("name", RULES)
def test_decoding_inverts_encoding(name: str) -> None:
    texts = [*AWKWARD, *MOLECULES, *MOLECULES, "two words, two words 12 1234"]
    tokenizer = fitted(name, texts)
    for text in [*texts, "".join(texts)]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert "".join(tokenizer.texts_of(tokenizer.code_points(text))) == text
        assert tokenizer.char_counts()[ids].sum() == len(text)
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.encode(text).tolist() == ids.tolist()
    assert again.to_json() == tokenizer.to_json()


def test_the_symbols_of_smiles() -> None:
    pieces = fitted("smiles", MOLECULES).pieces("C[C@@H](Cl)Br%10%(123)c1ccn[nH+]1=O.N")
    expected = "C [C@@H] ( Cl ) Br %10 %(123) c 1 c c n [nH+] 1 = O . N"
    assert pieces == expected.split()


def test_parts_of_words_are_learned_and_read_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["lower lowest newer newest wider widest low new"] * 20
    tokenizer = fitted("bpe", texts)
    assert tokenizer.to_json() == fitted("bpe", texts).to_json()
    assert "west" in tokenizer.tokens
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    again = tokenizer_from_json(tokenizer.to_json())
    ids = again.encode("slowest newest" + "low" * 500)
    assert again.decode(ids) == "slowest newest" + "low" * 500
    assert len(ids) < 1100  # of 1,514 characters
    with pytest.raises(DataError, match="needs the package tokenizers"):
        fitted("bpe", texts)


def test_unknown_tokens_are_spelled_and_unknown_characters_are_unknown() -> None:
    tokenizer = fitted("smiles", ["[Se]C[Na]C[Na]"])
    assert tokenizer.texts_of(tokenizer.code_points("[Se][Na]Q")) == ["[", "S", "e", "]", "[Na]", "Q"]
    assert len(tokenizer.encode("[Se][Na]Q")) == 5, "Q is left out"
    assert tokenizer.code_points("\U000f0000").tolist() == [NO_CHARACTER]
    assert tokenizer.encode_prompt("[Na]\U000f0000")[0][0] == tokenizer.encode("[Na]")[0]


def test_chunks_do_not_change_the_tokens() -> None:
    text = "".join(random.Random(1).choice(["ab", "c", "abc", " ", "\n", "12"]) for _ in range(3000)) + "y" * 70_000 + "abab"
    tokenizer = fitted("words", [text])
    whole = tokenizer.code_points(text)
    data = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    for size in (1, 7, 999, MAX_SEGMENT_CHARS):
        chunks = tokenizer.translate((data[start : start + size] for start in range(0, len(data), size)), Counter())
        if size == 1:
            chunks = tokenizer.translate((data[start : start + 1] for start in range(2000)), Counter())
            assert np.concatenate(list(chunks)).tolist() == tokenizer.code_points(text[:2000]).tolist()
        else:
            assert np.concatenate(list(chunks)).tolist() == whole.tolist()


@pytest.mark.parametrize(
    "pattern",
    ["Cl|Br|%[0-9]{2}|[A-Za-z]", "(a+)+b", "a*?b|c", "(?:ab|a)(?:bc|c)?", r"\w+|\s+", "[^ab]+?c|a{2,3}|b{,2}a", "(a|b|ab)*c",
     ".{3}", "(?:a|ab)(?:c|bcd)(?:d*)", "(?:a*)+b", r"\D\d|\W\S", "(?:(?:)){3}a"],
)  # fmt: skip
def test_a_pattern_finds_what_re_finds(pattern: str) -> None:
    generator, compiled = random.Random(0), re.compile(f"(?:{pattern})|.", re.DOTALL)
    token_pattern = TokenPattern(pattern)
    for _ in range(200):
        text = "".join(generator.choice("abcd Cl%1") for _ in range(generator.randrange(30)))
        assert token_pattern.pieces(text) == [match.group() for match in compiled.finditer(text)]


def test_a_pattern_takes_linear_time() -> None:
    start = time.process_time()
    assert len(TokenPattern("(a+)+b|(a|a)*c").pieces("a" * 2000)) == 2000
    assert time.process_time() - start < 20  # in `re`: longer than the age of the universe


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("(", "does not compile: missing"), ("a*", "matches the empty text"), ("", "needs an expression"), ("^a", "an anchor"),
     (r"(a)\1", "a reference to a group"), ("(?i)a", "flags"), ("(?i:a)", "flags"), ("(?=a)b", "a look-ahead"),
     ("(?:.{1,200}){1,200}", "is too large"), ("(?:(?:){1,65000}){1,65000}", "matches the empty text"), ("a++", "a possessive"),
     ("(" * 5000, "deep|compile"), ("[[:alpha:]]+", "does not compile: Possible nested set")],
)  # fmt: skip
def test_a_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RegexTokenizer.rule(pattern)


def test_a_rule_that_finds_nothing_is_refused() -> None:
    write_molecules()
    with pytest.raises(DataError, match="tokens='regex:Q.Q' finds nothing in this text"):
        open_corpus(["molecules.smi"], DataOptions(tokens="regex:Q.Q"))
    assert main(["train", "molecules.smi", "--tokens", "regex", *SETTINGS]) == 2
    assert main(["train", "molecules.smi", "--tokens", "smiles:x", *SETTINGS]) == 2


def test_what_is_not_covered_and_what_is_rare_is_reported() -> None:
    Path("text.smi").write_text("CClC name\n" * 30 + "[Se]\n")
    corpus = open_corpus(["text.smi"], DataOptions(tokens="smiles", documents="line"))
    uncovered, rare = corpus.notes
    assert uncovered == (
        "120 characters are not covered by the rule (tokens by themselves; what follows a molecule on its line is learned too, "
        "and left out by cut -d ' ' -f 1): ' ', 'a', 'm', 'e'"
    )
    assert rare == "1 token is too rare for the vocabulary (spelled in characters): '[Se]'"


@pytest.mark.parametrize("value", [
    {"tokens": "ab", "has_eos": False}, {"tokens": ["a", "a"], "has_eos": False}, {"tokens": ["a", ""], "has_eos": False},
    {"tokens": ["a"], "has_eos": 1},
    {"tokens": ["a"], "has_eos": True, "argument": 3}, {"tokens": ["a"], "has_eos": True, "argument": "("},
])  # fmt: skip
def test_damaged_definitions_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        tokenizer_from_json({"kind": "regex", "argument": "a+", **value})


@pytest.mark.slow
def test_every_command_reads_them(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.INFO, "unrolled")
    write_molecules()
    unrolled.train("molecules.smi", tokens="smiles", documents="line", out="run", progress=False, **SMALL)
    model = unrolled.load("run")
    assert model.sample("C[C@@H]", length=20, seed=1).startswith("C[C@@H]")
    evaluation = model.evaluate("molecules.smi")
    assert evaluation.num_chars > evaluation.num_tokens
    assert evaluation.bits_per_token > evaluation.bits
    Path("other.smi").write_text("C[Se]Cl\nClCCBr\n")
    for arguments in (
        ["sample", "run", "--length", "20"], ["eval", "run"], ["eval", "run", "other.smi", "--baselines"],
        ["score", "run", "other.smi"], ["score", "run", "other.smi", "--per", "character"], ["score", "run", "--json"],
        ["explain", "run", "other.smi", "--force"], ["report", "run"],
        ["export", "run", "--to", "card", "--out", "card.md"], ["train", "--resume", "run", "--steps", "5"],
        ["train", "other.smi", "--from", "run", "--out", "tuned", "--steps", "2", "--threads", "1"],
    ):  # fmt: skip
        assert main(arguments) == 0, arguments
    shown = capfd.readouterr()
    assert "per token" in shown.out
    assert "not in the vocabulary of the model (spelled in characters): '[Se]'" in shown.err + caplog.text
    for to in ("c", "html", "numpy"):
        assert main(["export", "run", "--to", to]) == 2
        assert "has the tokens smiles" in capfd.readouterr().err


@pytest.mark.slow
def test_it_resumes_bit_for_bit() -> None:
    write_molecules()
    settings: dict[str, Any] = {**SMALL, "tokens": "regex:[A-Z][a-z]?", "progress": False}
    unrolled.train("molecules.smi", **settings | {"steps": 6}, out="whole")
    unrolled.train("molecules.smi", **settings | {"steps": 6}, out="parts", stop_after=3)
    unrolled.train(resume="parts", progress=False)
    one, other = (unrolled.load(name).session.saved.network for name in ("whole", "parts"))
    assert one.head_weight.tobytes() == other.head_weight.tobytes()


@pytest.mark.slow
def test_columns_of_tables() -> None:
    Path("table.csv").write_text("molecule,label\n" + "".join(f"{MOLECULES[n % 7]},{n % 2}\n" for n in range(40)))
    settings = {name: value for name, value in SMALL.items() if name not in ("bptt", "sample_length")}
    for tokens in ("smiles", "regex:[A-Z][a-z]?|[0-9]+"):
        unrolled.train_table(
            "table.csv",
            source="molecule:text",
            target="label",
            tokens=tokens,
            out=f"run-{len(tokens)}",
            progress=False,
            **settings,
        )
        model = unrolled.load_table(f"run-{len(tokens)}")
        assert model.spec.source.tokenizer is not None
        assert model.spec.source.tokenizer.setting == tokens
        assert len(model.predict(["CClC[Na+]", "Q"])) == 2
    unrolled.train_table("table.csv", source="molecule:smiles", target="label", out="named", progress=False, **settings)
    tokenizer = unrolled.load_table("named").spec.source.tokenizer
    assert isinstance(tokenizer, SmilesTokenizer)
