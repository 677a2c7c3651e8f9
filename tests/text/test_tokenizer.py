"""Text to token ids and back: without loss, independent of the order of the text, and unknown characters are counted."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.errors import ModelError
from unrolled.options import DataOptions
from unrolled.text.corpus import open_corpus
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.text.tokenizers import tokenizer_from_json

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
KINDS = pytest.mark.parametrize("kind", ["characters", "bytes"])
ENDS = pytest.mark.parametrize("has_eos", [False, True])


def make(kind: str, text: str, has_eos: bool) -> Tokenizer:
    return ByteTokenizer(has_eos) if kind == "bytes" else CharTokenizer(sorted(set(text)), has_eos)


@KINDS
@ENDS
@given(text=TEXTS)
def test_decoding_inverts_encoding(kind: str, has_eos: bool, text: str) -> None:
    tokenizer = make(kind, text, has_eos)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(tokenizer) == tokenizer.vocab_size
    assert len(ids) == len(text if kind == "characters" else text.encode())
    assert 0 <= ids.min() <= ids.max() < tokenizer.vocab_size - has_eos


@KINDS
@ENDS
@given(text=TEXTS)
def test_json_gives_the_same_tokenizer(kind: str, has_eos: bool, text: str) -> None:
    tokenizer = make(kind, text, has_eos)
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert type(again) is type(tokenizer)
    assert (again.vocab_size, again.eos_id, again.bos_id) == (tokenizer.vocab_size, tokenizer.eos_id, tokenizer.bos_id)
    assert again.encode(text).tolist() == tokenizer.encode(text).tolist()


@given(known=TEXTS, text=TEXTS)
def test_unknown_characters_are_left_out(known: str, text: str) -> None:
    ids = make("characters", known, False).encode(text)
    kept = [character for character in text if character in known]
    assert make("characters", known, False).decode(ids) == "".join(kept)
    assert len(ids) == len(kept)


@KINDS
def test_the_eos_is_the_last_id_and_has_no_text(kind: str) -> None:
    without, tokenizer = make(kind, "abc", False), make(kind, "abc", True)
    ids = tokenizer.encode("cab").tolist()
    assert without.eos_id is None
    assert tokenizer.eos_id == tokenizer.vocab_size - 1 == without.vocab_size
    assert tokenizer.decode([tokenizer.eos_id, *ids, tokenizer.eos_id]) == "cab"
    assert without.encode("cab").tolist() == ids, "an eos does not change other ids"


def test_ids_follow_code_points_whatever_the_order_of_the_text() -> None:
    text = "zebra \U0001f600\n\u65e5\u00e9Za 0"
    seen = set()
    for seed in range(5):
        shuffled = random.Random(seed).sample(text, len(text))
        Path("text.txt").write_text("".join(shuffled), "utf-8", newline="")
        tokenizer = open_corpus(["text.txt"], DataOptions()).tokenizer
        assert isinstance(tokenizer, CharTokenizer)
        assert tokenizer.tokens == sorted(set(text), key=ord)
        seen.add(tuple(tokenizer.encode(text).tolist()))
    assert len(seen) == 1


@pytest.mark.parametrize(("known", "start"), [("ab\n ", "\n"), ("ab ", " "), ("ab", "a")])
def test_the_bos_id_is_a_line_end_or_the_eos(known: str, start: str) -> None:
    tokenizer = make("characters", known, False)
    assert tokenizer.decode([tokenizer.bos_id]) == start
    assert make("characters", known, True).bos_id == len(known), "documents start from the eos"


def test_the_bos_id_of_bytes_is_a_line_end_or_the_eos() -> None:
    assert ByteTokenizer().decode([ByteTokenizer().bos_id]) == "\n"
    assert ByteTokenizer(True).bos_id == ByteTokenizer(True).eos_id == 256


# known, unknown, what it becomes
CLOSEST = {
    "other case": ("abc", "B", "b"),
    "other case of another script": ("\u0434", "\u0414", "\u0434"),
    "no accent": ("aeo", "\u00e9", "e"),
    "no accent, other case": ("aeo", "\u00c9", "e"),
    "other case before no accent": ("Ee\u00e9", "\u00c9", "\u00e9"),
    "an accent by itself": ("e ", "\u0301", ""),
    "single quote": ("a'", "\u2019", "'"),
    "double quote": ('a"', "\u201c", '"'),
    "dash": ("a-", "\u2014", "-"),
    "ellipsis": ("a.", "\u2026", "..."),
    "ligature": ("FfIi", "\ufb01", "fi"),
    "sharp s": ("Ss", "\u00df", "ss"),
    "sharp s in capitals": ("S", "\u00df", "SS"),
    "full width": ("A", "\uff21", "A"),
    "no-break space": ("a ", "\u00a0", " "),
    "tab": ("a ", "\t", " "),
    "carriage return": ("a\n", "\r", "\n"),
    "space": ("a \n", "\u65e5", " "),
    "line end, where there is no space": ("a\n", "\u65e5", "\n"),
    "nothing": ("abc", "\u65e5", ""),
    "lone surrogate": ("a ", "\ud800", " "),
}


@pytest.mark.parametrize("case", CLOSEST)
def test_the_nearest_known_text(case: str) -> None:
    known, character, expected = CLOSEST[case]
    tokenizer = CharTokenizer(sorted(known))
    assert tokenizer.nearest_known(character) == expected
    ids, replaced = tokenizer.encode_prompt(known + character)
    assert tokenizer.decode(ids) == known + expected
    assert replaced == {character: expected}


@ENDS
@given(known=TEXTS, prompt=st.text())
def test_any_prompt_has_ids_and_every_replacement_is_returned(has_eos: bool, known: str, prompt: str) -> None:
    tokenizer = CharTokenizer(sorted(set(known)), has_eos)
    ids, replaced = tokenizer.encode_prompt(prompt)
    assert replaced.keys() == set(prompt) - set(known)
    assert tokenizer.decode(ids) == "".join(replaced.get(character, character) for character in prompt)
    assert all(0 <= i < tokenizer.vocab_size - has_eos for i in ids)


@given(data=st.binary())
def test_bytes_encode_every_prompt_that_a_shell_can_pass(data: bytes) -> None:
    ids, replaced = ByteTokenizer().encode_prompt(data.decode("utf-8", "surrogateescape"))
    assert bytes(ids) == data
    assert replaced == {}


UTF8 = st.lists(st.one_of(st.binary(max_size=3), st.text(max_size=2).map(lambda t: t.encode("utf-8", "surrogatepass"))))


@settings(max_examples=300)
@given(parts=UTF8)
def test_bytes_decoded_one_by_one_are_bytes_decoded_at_once(parts: list[bytes]) -> None:
    data = b"".join(parts)
    decoder, decoded = ByteTokenizer().decode_stream(), ""
    for length, byte in enumerate(data):
        assert ByteTokenizer().decode(data[:length]) == data[:length].decode("utf-8", "replace")
        decoded += decoder.decode_step(byte)
        assert data.decode("utf-8", "replace").startswith(decoded), "decoded text does not change"
    assert decoded + decoder.finish() == data.decode("utf-8", "replace")


def test_a_character_is_decoded_with_its_last_byte() -> None:
    decoder = ByteTokenizer().decode_stream()
    assert [decoder.decode_step(byte) for byte in "a\u65e5".encode()] == ["a", "", "", "\u65e5"]
    assert decoder.finish() == ""


INVALID_JSON: list[Any] = [
    None, 3, "abc", [], {}, ["characters"],
    {"kind": "characters"}, {"kind": "characters", "symbols": "ab"}, {"kind": "characters", "end": False},
    {"kind": "characters", "symbols": "", "end": False}, {"kind": "characters", "symbols": "aba", "end": False},
    {"kind": "characters", "symbols": ["a", "b"], "end": False}, {"kind": "characters", "symbols": "ab", "end": 1},
    {"kind": "characters", "symbols": None, "end": True}, {"kind": "bytes"}, {"kind": "bytes", "end": None},
    {"kind": "words", "symbols": "ab", "end": False}, {"kind": ["bytes"], "end": False}, {"symbols": "ab", "end": False},
]  # fmt: skip


@pytest.mark.parametrize("value", INVALID_JSON, ids=repr)
def test_invalid_json_of_a_tokenizer_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="tokenizer cannot be read"):
        tokenizer_from_json(value)
