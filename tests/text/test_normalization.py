"""Texts have one normal form, however they are cut into chunks, and what changed is counted."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import unrolled
from support.cli import Cli
from unrolled.errors import ModelError
from unrolled.options import DataOptions
from unrolled.text.corpus import open_corpus
from unrolled.text.normalization import (
    MAX_SEGMENT,
    count_changes,
    normalize,
    normalize_chunks,
    normalize_counted,
    starts_segment,
)
from unrolled.text.tokenizer import CharTokenizer
from unrolled.text.tokenizers import tokenizer_from_json

MARKS = "\u0301\u0302\u0323\u0308\u0345\u3099"
TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from("aeo\u00e9\u1ebf \n\ufb01\uff21" + MARKS), max_size=40),
    st.text(st.sampled_from("\u1100\u1112\u1161\u1175\u11a8\u11c2\uac00\uac01\u09c7\u09be\u09d7\u0b47\u0b56"), max_size=20),
)
TINY: dict[str, Any] = {"steps": 3, "hidden": 8, "layers": 1, "batch": 4, "threads": 1, "sample_length": 0, "progress": False}


def chunks_of(text: str, size: int) -> Iterator[Any]:
    """Yield a text as arrays of code points, of bytes where it is ASCII, as files are read."""
    for start in range(0, len(text), size):
        chunk = text[start : start + size]
        yield np.frombuffer(chunk.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(
            np.uint8 if chunk.isascii() else np.uint32
        )


def joined(chunks: Iterator[Any]) -> str:
    return b"".join(chunk.astype(np.uint32).tobytes() for chunk in chunks).decode("utf-32-le", "surrogatepass")


@settings(max_examples=200, deadline=None)
@given(text=TEXTS, size=st.integers(1, 7), form=st.sampled_from(["nfc", "nfkc"]))
@example(text="caf\u00e9 na\u00efve " * 20, size=5, form="nfc")
@example(text="cafe\u0301 " * 40, size=5, form="nfc")
@example(text="e" + MARKS * 60 + "\u00e9", size=5, form="nfc")
def test_chunks_have_the_form_of_the_whole_text(text: str, size: int, form: str) -> None:
    notes: dict[str, int] = {}
    normal = joined(normalize_chunks(chunks_of(text, size), form, notes))
    assert normal == normalize(text, form)
    if len(text) <= MAX_SEGMENT:
        assert normal == unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]
    assert sum(notes.values()) == count_changes(text, form)
    assert (count_changes(text, form) > 0) == (normal != text)
    assert normalize_counted(text, form) == (normal, count_changes(text, form))
    assert joined(normalize_chunks(chunks_of(text, size), "none", {})) == text


def test_a_letter_without_end_takes_little_time() -> None:
    text = "a" + "\u0301\u0323" * 500_000
    assert len(normalize(text, "nfc")) == len(text) - 1


def test_characters_are_counted_with_their_marks() -> None:
    assert count_changes(unicodedata.normalize("NFD", "Vi\u1ec7t, \ud55c\uae00, caf\u00e9"), "nfc") == 4
    assert count_changes("caf\u00e9 \ufb01", "nfc") == 0
    assert count_changes("caf\u00e9 \ufb01", "nfkc") == 1
    assert starts_segment("a")
    assert not starts_segment("\u0301")


def test_a_text_is_learned_in_its_normal_form_and_what_changed_is_reported(cli: Cli) -> None:
    composed = "c\u00e1i b\u00e0n n\u00e0y th\u00ec \u0111\u1eb9p\n" * 30
    Path("nfc.txt").write_text(composed, "utf-8")
    Path("nfd.txt").write_text(unicodedata.normalize("NFD", composed), "utf-8")
    corpora = [open_corpus([name], DataOptions()) for name in ("nfc.txt", "nfd.txt")]
    assert bytes(corpora[0].ids) == bytes(corpora[1].ids)
    assert corpora[0].notes == ()
    assert corpora[1].notes == ("150 characters were composed (NFC)",)
    assert len(open_corpus(["nfd.txt"], DataOptions(normalize="none")).ids) > len(composed)
    model = unrolled.train("nfd.txt", out="r", **TINY)
    assert model.tokenizer.normalization == "nfc"
    prompt = unicodedata.normalize("NFD", "c\u00e1i b\u00e0n")
    assert model.replaced_characters(prompt) == {}
    start = composed[: len("c\u00e1i b\u00e0n")]
    assert model.sample(prompt, length=9).removeprefix(prompt) == model.sample(start, length=9).removeprefix(start)
    stop = model.sample("", length=30)[5:7]
    assert model.sample("", length=30, stop=[unicodedata.normalize("NFD", stop)]) == model.sample("", length=30, stop=[stop])
    assert model.score(prompt).bits_per_character == model.score("c\u00e1i b\u00e0n").bits_per_character
    results = {name: cli("eval", "r", name) for name in ("nfc.txt", "nfd.txt")}
    assert results["nfc.txt"].out == results["nfd.txt"].out
    assert results["nfd.txt"].err.count("150 characters were composed (NFC)") == 1
    scores = {name: cli("score", "r", name) for name in ("nfc.txt", "nfd.txt")}
    assert scores["nfc.txt"].out == scores["nfd.txt"].out
    assert scores["nfd.txt"].err.count("150 characters were composed (NFC)") == 1
    assert "2 characters were composed (NFC) in the prompt" in cli("sample", "r", "--prompt", prompt, "--length", 1).err


def test_unknown_symbols_are_counted(cli: Cli) -> None:
    Path("t.txt").write_text("abc\n" * 50)
    Path("u.txt").write_text("abxc\n" * 10)
    unrolled.train("t.txt", out="r", **TINY)
    assert "left out: 10 characters of the text, never seen in training" in cli("eval", "r", "u.txt").err


def test_bytes_are_not_normalized() -> None:
    data = "e\u0301\ufb01" * 20
    Path("t.txt").write_text(data, "utf-8")
    model = unrolled.train("t.txt", tokens="bytes", out="r", **TINY)
    assert model.tokenizer.normalization == "none"
    assert bytes(open_corpus(["t.txt"], DataOptions(tokens="bytes")).ids) == data.encode()
    assert bytes(model.tokenizer.encode_prompt("e\u0301")[0]) == "e\u0301".encode()


@pytest.mark.slow
def test_the_form_is_an_option_and_is_kept_in_run_and_model() -> None:
    Path("t.txt").write_text("e\u0301\ufb01 " * 40, "utf-8")
    lengths = {"none": 160, "nfc": 120, "nfkc": 160}
    for form, length in lengths.items():
        model = unrolled.train("t.txt", out=form, **(TINY | {"normalise": form}))
        assert unrolled.load(form).tokenizer.normalization == form
        assert model.evaluate("t.txt").num_tokens == length - 1
        assert json.loads(Path(form, "config.json").read_text())["options"]["normalize"] == form
    assert model.replaced_characters("\ufb01") == {}


@pytest.mark.slow
def test_models_and_runs_of_before_read_texts_as_they_are() -> None:
    Path("t.txt").write_text("e\u0301x " * 40, "utf-8")
    unrolled.train("t.txt", normalize="none", out="r", stop_after=2, **TINY)
    config = json.loads(Path("r", "config.json").read_text())
    del config["options"]["normalize"]
    config["format"] = 2
    Path("r", "config.json").write_text(json.dumps(config))
    model = unrolled.train(resume="r", progress=False)
    assert model.result is not None
    assert model.result.steps == 3
    assert "normalize" not in model.tokenizer.to_json()
    assert model.evaluate("t.txt").num_unknown == 0


def test_an_unknown_form_in_a_model_is_refused() -> None:
    with pytest.raises(ModelError, match="expected one of nfc, nfkc, none, not 'nfx'"):
        tokenizer_from_json(CharTokenizer(["a"]).to_json() | {"normalize": "nfx"})
