"""Any file is learned, or refused in one sentence with the offset of the error; a model samples from any prompt."""

import codecs
import random
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from unrolled import api
from unrolled.errors import DataError
from unrolled.options import TrainRequest
from unrolled.text import compressed_files
from unrolled.text.text_files import read_code_points
from unrolled.text.tokenizer import ByteTokenizer
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback
from unrolled.training.tasks.text import MIN_TOKENS

EXAMPLES_P, EXAMPLES_N = 30, 5_000
STREAMS_P, STREAMS_N = 2_000, 100_000

SMALL: dict[str, Any] = {
    "hidden": 4, "layers": 1, "batch": 2, "bptt": 4, "steps": 2, "sample_length": 1, "eval_tokens": 20, "precision": "float32",
    "threads": 1, "kernels": "reference", "optimizer": "adamw", "lr": 0.01,
}  # fmt: skip

ODD = [
    b"", b"a", b"\0", b"\0\0", b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"\xef\xbb\xbfab", b"\xef\xbb", b"\xff\xfea\0b\0",
    b"\xfe\xff\0a\0b", b"\xff\xfe\0\0a\0\0\0", b"aaaa", b"ab", b"\xc3", b"\xc3\xa9", b"\xed\xa0\x80", b"\xf4\x90\x80\x80",
    b"\xc0\x80", "\U0001f469\u200d\U0001f469\u200d\U0001f467".encode(), "\u202e\u05d0\u05d1 abc".encode(), b"\x1b[31m\x07\x08",
    "\u2028\u2029\x85\x0b\x0c\x1c".encode(), b"a\rb\rc", b"\n\n\n\n", b" \t \t", "e\u0301\u0301\u0301".encode(), b"\x80abc",
    bytes(range(256)), b"ab" * 600, b"x" * 3000 + b"y", "\u0000\u0001\u0002".encode(), "\U0010ffff\ufffe\ufdd0".encode(),
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(ODD),
    st.binary(max_size=60),
    st.text(min_size=2, max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(st.sampled_from("ab\n\r\ufeff\u00e9\u65e5\U0001f600\x85\u2028 "), min_size=2, max_size=30).map(str.encode),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=2, max_size=60).map(str.encode),
    st.tuples(st.sampled_from(ODD), st.binary(max_size=8), st.sampled_from(ODD)).map(b"".join),
)
PROMPTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "\ud800", "\0", "\x1b[2J", "\u0301", "\U0001f469\u200d", "a" * 300])
)
LENIENT: dict[str, Any] = {
    "deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large], "database": None,
    "derandomize": True,
}  # fmt: skip

TALLY = {"trained": 0, "refused": 0}


@contextmanager
def somewhere() -> Iterator[None]:
    """Work in a temporary folder with its own cache."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", f"{folder}/cache")
        patch.chdir(folder)
        yield


def trains(**values: Any) -> None:
    request = TrainRequest.build(("t",), SMALL | {"out": "r"} | values, "test")
    assert launch.start_run(request, ProgressCallback()).train().steps == 2


def samples(prompt: str) -> None:
    model = api.load("r", threads=1, precision="float32", kernels="reference")
    assert model.sample(prompt, length=4).startswith(prompt)


def trains_or_is_refused(content: bytes, prompt: str, documents: str) -> None:
    """Assert that a file is learned as characters, or refused for what is wrong with it."""
    with somewhere():
        Path("t").write_bytes(content)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            text, wrong = "", error.start
        else:
            wrong = content.find(b"\0")
        message = refusal(documents)
        if message is None:
            TALLY["trained"] += 1
            assert wrong < 0
            samples(prompt)
            return
        TALLY["refused"] += 1
        assert "\n" not in message
        assert message.endswith((".", "bytes", "UTF-8 t", "?"))
        kinds = set(unicodedata.normalize("NFC", text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")))
        is_short = len(text.replace("\n", "")) < MIN_TOKENS and "needed to learn from" in message
        is_utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        assert wrong >= 0 or len(kinds) < 2 or is_short or is_utf16, message
        if wrong >= 0 and "at offset" in message:
            assert any(f"at offset {at:,}" in message for at in (wrong, content.find(0))), message
        assert not Path("r").exists(), "no run folder is left"


def refusal(documents: str, **values: Any) -> str | None:
    """Train; return the message of the `DataError`, or None."""
    try:
        trains(documents=documents, **values)
    except DataError as error:
        return str(error)
    return None


def bytes_train(content: bytes, prompt: str, documents: str) -> None:
    """Assert that a file of some bytes is learned as bytes."""
    with somewhere():
        Path("t").write_bytes(content)
        message = refusal(documents, tokens="bytes")
        if message is None:
            samples(prompt)
            return
        assert re.search("no text in t|one character|needed to learn from", message)
        assert len(content.replace(b"\n", b"") if documents == "line" else content) < MIN_TOKENS


UNITS = st.sampled_from(["none", "none", "line", "file"])


@pytest.mark.slow
@settings(max_examples=EXAMPLES_P * 8 // 10, **LENIENT)
@given(content=TEXTS, prompt=PROMPTS, documents=UNITS)
@example(content=b"\xe6\x97", prompt="", documents="none")
@example(content=b"ab\0", prompt="", documents="none")
def test_any_file_trains_as_characters_or_is_refused(content: bytes, prompt: str, documents: str) -> None:
    trains_or_is_refused(content, prompt, documents)


@pytest.mark.slow
@settings(max_examples=EXAMPLES_P * 2 // 10, **LENIENT)
@given(content=TEXTS, prompt=PROMPTS, documents=UNITS)
def test_any_file_trains_as_bytes(content: bytes, prompt: str, documents: str) -> None:
    bytes_train(content, prompt, documents)


@pytest.mark.long
@settings(max_examples=EXAMPLES_N, **LENIENT)
@given(content=TEXTS, prompt=PROMPTS, documents=UNITS)
def test_many_files_train_as_characters_or_are_refused(content: bytes, prompt: str, documents: str) -> None:
    trains_or_is_refused(content, prompt, documents)


@pytest.mark.long
@settings(max_examples=EXAMPLES_N, **LENIENT)
@given(content=TEXTS, prompt=PROMPTS, documents=UNITS)
def test_many_files_train_as_bytes(content: bytes, prompt: str, documents: str) -> None:
    bytes_train(content, prompt, documents)


def test_summary_of_the_files_tried() -> None:
    print(f"\nfiles as characters: {TALLY}")


def random_bytes(draw: random.Random) -> bytes:
    """Return bytes that are nearly UTF-8: characters of every length, incomplete ones, and invalid bytes."""
    parts = []
    for _ in range(draw.randint(0, 12)):
        kind = draw.randrange(6)
        least, most = draw.choice([(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0x10000, 0x110000)])
        encoded = chr(draw.randrange(least, most)).encode()
        if kind == 0:
            encoded = encoded[: draw.randint(0, len(encoded))]
        elif kind == 1:
            encoded = draw.randbytes(draw.randint(1, 4))
        elif kind == 2:
            encoded = draw.choice([b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"])
        parts.append(encoded)
    return b"".join(parts)


def decode_streams(count: int, seed: int, folder: Path) -> None:
    """Assert that bytes decoded one by one, and files read in chunks, are the text that is decoded at once."""
    draw, path = random.Random(seed), folder / "stream"
    sound = 0
    for _ in range(count):
        data = random_bytes(draw)
        decoder = ByteTokenizer().decode_stream()
        pieces = [decoder.decode_step(byte) for byte in data]
        cut = draw.randint(0, len(data))
        assert "".join(pieces) + decoder.finish() == data.decode("utf-8", "replace")
        assert ByteTokenizer().decode(data[:cut]) == data[:cut].decode("utf-8", "replace")
        path.write_bytes(data)
        try:
            whole: str | None = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError:
            whole = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compressed_files, "CHUNK_BYTES", draw.randint(4, 9))
            try:
                points = np.concatenate([np.zeros(0, np.uint32), *read_code_points(path, {})])
            except DataError:
                assert whole is None or "\0" in whole or data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
            else:
                sound += 1
                assert "".join(map(chr, points.tolist())) == whole
    print(f"\n{count:,} streams of bytes cut anywhere, {sound:,} of them sound UTF-8: all as decoded at once")


def test_a_stream_split_anywhere_is_decoded_as_in_one_piece(tmp_path: Path) -> None:
    decode_streams(STREAMS_P, 0, tmp_path)


@pytest.mark.long
def test_many_streams_split_anywhere_are_decoded_as_in_one_piece(tmp_path: Path) -> None:
    decode_streams(STREAMS_N, 1, tmp_path)
