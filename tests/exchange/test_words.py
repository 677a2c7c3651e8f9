"""Models of words: vocabularies of Keras's Tokenizer and of textgenrnn, and what a text becomes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cli import Cli
from support.imported import message, text_model
from support.keras_files import Layer, write_h5
from unrolled.errors import ModelError, UsageError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import import_file
from unrolled.exchange.vocabulary import build_vocabulary
from unrolled.text.tokenizers import tokenizer_from_json
from unrolled.text.word_list_tokenizer import WordListTokenizer

WORDS = ["the", "cat", "don't", "sat", "mat", "on", "i", "a"]
TEXT = "The cat -- the CAT! -- don't\nsit (I sat) on a mat."
READ = ["the", "cat", "the", "cat", "don't", "i", "sat", "on", "a", "mat"]
"""What Keras's `text_to_word_sequence` finds in it, without "sit", which has no id."""


def model(folder: Path, num_tokens: int) -> Path:
    random = np.random.default_rng(2)
    layers: list[Layer] = [
        ("Embedding", "words", {}, [random.normal(size=(num_tokens, 4))]),
        ("LSTM", "lstm", {}, [random.normal(size=(size, 20)) for size in (4, 5)] + [random.normal(size=20)]),
        ("Dense", "out", {}, [random.normal(size=(5, num_tokens)), random.normal(size=num_tokens)]),
    ]
    return write_h5(folder / "m.h5", layers)


def tokenizer_json(words: list[str], **settings: Any) -> str:
    """Return what `Tokenizer.to_json` writes: its maps are texts."""
    index = {word: number for number, word in enumerate(words, 1)}
    counts = dict.fromkeys(words, 3)
    maps = {"word_counts": counts, "word_docs": counts, "index_word": {v: k for k, v in index.items()}, "word_index": index}
    settings = {"num_words": None, "lower": True, "char_level": False, "oov_token": None} | settings
    return json.dumps(
        {"class_name": "Tokenizer", "config": settings | {name: json.dumps(value) for name, value in maps.items()}}
    )


def read_ids(path: Path, vocabulary: Path, text: str) -> list[int]:
    """Return the ids in the file of a text."""
    imported = import_file(path, ImportOptions(vocabulary=str(vocabulary)))
    ids: list[int] = text_model(imported).tokenizer.encode(text).tolist()
    return ids


@pytest.mark.parametrize("written", [tokenizer_json(WORDS), json.dumps({word: i for i, word in enumerate(WORDS, 1)})])
def test_a_text_is_the_ids_of_kerass_tokenizer(written: str, tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(written)
    path = model(tmp_path, len(WORDS) + 1)
    assert read_ids(path, tmp_path / "v.json", TEXT) == [WORDS.index(word) + 1 for word in READ]


def test_the_most_frequent_words_and_one_for_all_others(tmp_path: Path) -> None:
    """`Tokenizer(num_words=5, oov_token="<OOV>")`: its list has all words of its texts, the model the first ones."""
    (tmp_path / "v.json").write_text(tokenizer_json(["<OOV>", *WORDS], num_words=5, oov_token="<OOV>"))
    ids = {"the": 2, "cat": 3, "don't": 4}
    expected = [ids.get(word, 1) for word in ["the", "cat", "the", "cat", "don't", "sit", "i", "sat", "on", "a", "mat"]]
    assert read_ids(model(tmp_path, 5), tmp_path / "v.json", TEXT) == expected


def test_marks_that_are_words_are_cut_off() -> None:
    tokenizer = build_vocabulary(["<unk>", "<pad>", ",", ".", "The", "end", "U.S.", "new"]).tokenizer
    assert tokenizer.decode(tokenizer.encode("The end, The U.S. end. (old)").tolist()) == " The end, The U.S. end.\ufffd"
    apart = WordListTokenizer([" end.", ".", " end"], argument="marks-apart")
    assert apart.pieces("the end.") == [" the", " end", "."]
    again = tokenizer_from_json(apart.to_json())
    assert again.pieces("the end.") == apart.pieces("the end.")  # type: ignore[attr-defined]


def test_vocabularies_of_parts_of_words_are_refused(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps(["play", "##ing", "##ed", "new", "york"]))
    assert "'##ing', which is no word" in message(model(tmp_path, 5), str(tmp_path / "v.json"))
    with pytest.raises(ModelError, match="'new york', which is no word"):
        build_vocabulary(["new york", "paris"])
    with pytest.raises(UsageError, match="has the setting marks-apart only"):
        WordListTokenizer([" a"], argument="other")


@pytest.mark.slow
def test_a_model_of_words_is_used_like_any_other(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "v.json").write_text(tokenizer_json(WORDS))
    found = cli("import", model(tmp_path, len(WORDS) + 1), "--vocabulary", tmp_path / "v.json", "--out", "m.safetensors")
    assert found.code == 0
    assert "8 words" in found.out
    sampled = cli("sample", "m.safetensors", "--length", 12, "--prompt", "The dog! The cat", "--seed", 1)
    assert set(sampled.out.replace("\x00", " ").split()[4:]) <= {*WORDS}  # after the prompt
    Path("t.txt").write_text(TEXT * 9)
    for command in ("score", "eval", "explain"):
        done = cli(command, "m.safetensors", "t.txt")
        assert done.code == 0, done.err
    assert cli("export", "m.safetensors", "--to", "onnx", "--out", "o.onnx").code == 0
    refused = cli("export", "m.safetensors", "--to", "c", "--out", "o.c")
    assert "--to c is for models of characters and bytes" in refused.err
