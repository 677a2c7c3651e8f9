"""A text has the same ids however it is compressed, split or named; a file that is not text is refused with the offset."""

import bz2
import gzip
import io
import json
import lzma
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unrolled.errors import DataError, StorageError
from unrolled.options import DataOptions, TrainRequest
from unrolled.text import compressed_files, splitting
from unrolled.text.corpus import Corpus, cache_folder, cached_corpus, open_corpus
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.training.tasks.text import TextTask
from unrolled.views.progress import MessageHandler

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}
PACKED = pytest.mark.parametrize("ending", PACKERS)
DOCUMENTS_OPTION = pytest.mark.parametrize("unit", ["none", "line", "file"])
MIXED = "ab\n\r\ufeff\u00e9\u65e5\U0001f600\x85\u2028 "
TEXTS = st.text(st.sampled_from(MIXED), max_size=40)
PIECES = st.integers(4, 12)  # a real chunk always holds a byte order mark; anything else may be split anywhere


def put(name: str, content: str | bytes) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def read(*inputs: str, known: Tokenizer | None = None, **options: Any) -> Corpus:
    return open_corpus(inputs, DataOptions(**options), known)


def text_of(corpus: Corpus) -> str:
    return corpus.tokenizer.decode(corpus.ids)


def documents_of(corpus: Corpus, ids: Any = None) -> list[str]:
    """Return the documents of `EOS d1 EOS d2 ... EOS`, after a check of both ends."""
    symbols = (corpus.ids if ids is None else ids).tolist()
    end = corpus.tokenizer.eos_id
    assert symbols[0] == symbols[-1] == end
    at = [i for i, symbol in enumerate(symbols) if symbol == end]
    return [corpus.tokenizer.decode(symbols[start + 1 : stop]) for start, stop in zip(at, at[1:], strict=False)]


def normalized(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


@contextmanager
def pieces_of(size: int) -> Iterator[None]:
    """Read `size` bytes at a time, with a temporary cache and working folder."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(compressed_files, "CHUNK_BYTES", size)
        patch.setenv("UNROLLED_CACHE", f"{folder}/cache")
        patch.chdir(folder)
        yield


def everything(corpus: Corpus) -> tuple[Any, ...]:
    counts = (corpus.num_documents, corpus.longest_document, corpus.num_unknown, corpus.notes, corpus.documents)
    return corpus.ids.tolist(), corpus.ids.dtype, corpus.tokenizer.to_json(), *counts


# Files, folders, standard input


def test_a_file_becomes_a_memory_map_of_its_characters() -> None:
    text = "Hello,\n\u65e5\u672c \U0001f600\n"
    corpus = read(put("a.txt", text))
    assert isinstance(corpus.ids, np.memmap)
    assert not corpus.ids.flags.writeable
    assert text_of(corpus) == text
    assert (corpus.tokenizer.vocab_size, corpus.num_unknown, corpus.notes) == (len(set(text)), 0, ())


def test_a_folder_is_read_recursively_in_order_without_hidden_and_binary_files() -> None:
    for name in ["d/z.txt", "d/b/two.md", "d/b/one.txt", "d/a.txt", "d/b/c/deep.txt"]:
        put(name, f"{name}\n")
    for name in ["d/.hidden.txt", "d/.git/config", "d/b/.c/x.txt"]:
        put(name, "HIDDEN\n")
    put("d/image.png", b"PNG\0\1\2")
    put("d/empty.txt", "")
    put("d/packed.gz", gzip.compress(b"packed\n"))
    put("d/no.gz", "NOT PACKED\n")
    expected = ["d/a.txt", "d/b/c/deep.txt", "d/b/one.txt", "d/b/two.md", "packed", "d/z.txt"]
    assert text_of(read("d")).splitlines() == expected
    assert documents_of(read("d", documents="file")) == [f"{name}\n" for name in expected]
    assert text_of(read("d", glob="*.md")) == "d/b/two.md\n"
    assert text_of(read("./d/../d", glob="*e*.txt")).splitlines() == ["d/b/c/deep.txt", "d/b/one.txt"]


def test_runs_and_folders_of_other_programs_are_left_out_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    put("d/a.txt", "abc\n")
    put("d/runs/book/config.json", "{}")
    put("d/runs/book/checkpoints/step-1/MANIFEST.json", "{}")
    for name in ("runs/book/report.html", "venv/pyvenv.cfg", "venv/lib/a.py", "node_modules/b/c.js", ".git/config", "e/.f/g"):
        put(f"d/{name}", "NOT MEANT\n")
    with caplog.at_level("INFO", logger="unrolled"):
        assert text_of(read("d")) == "abc\n"
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert [re.sub(r"\(.*\)", "", text) for text in told] == [
        "d: 5 folders left out : .git, node_modules, venv, e/.f, runs/book"
    ]
    assert text_of(read("d/node_modules")) == "NOT MEANT\n", "a folder that is named itself is read"
    with pytest.raises(DataError, match=r"d/runs has no text .* 1 folder left out .*: book"):
        read("d/runs")


def test_a_folder_that_cannot_be_listed_is_no_folder_without_files(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("d/a.txt", "d/closed/b.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("some words\n")
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if os.path.basename(path) == "closed":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(StorageError, match="Cannot list the folder d/closed: Permission denied"):
        read("d")


def test_a_folder_inside_a_hidden_one_is_read() -> None:
    put(".home/texts/a.txt", "abc\n")
    assert text_of(read(".home/texts")) == "abc\n"


def test_a_folder_without_text_is_refused() -> None:
    put("d/image.png", b"\0\1")
    put("d/.hidden", "abc")
    with pytest.raises(DataError, match=r"folder d has no text .*'\*' \(1 file was"):
        read("d")
    put("d/a.txt", "abc")
    with pytest.raises(DataError, match=r"'\*\.md' \(0 files were"):
        read("d", glob="*.md")


def piped(patch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    pipe = io.BytesIO(content)
    patch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
    return pipe


def test_standard_input_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "caf\u00e9\r\nbar\n"
    from_file = read(put("a.txt", text))
    piped(monkeypatch, text.encode())
    corpus = read("-")
    assert everything(corpus) == everything(from_file)
    assert corpus.cache_key == from_file.cache_key, "the cache key depends on the contents"
    assert [path.name for path in cache_folder().iterdir()] == [corpus.cache_key], "nothing else is left"


def test_standard_input_among_files_leaves_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"two\n")
    corpus = read(put("a", "one\n"), "-", put("b", "three\n"))
    assert text_of(corpus) == "one\ntwo\nthree\n"
    assert [path.name for path in cache_folder().iterdir()] == [corpus.cache_key]


def test_standard_input_is_not_read_if_another_input_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = piped(monkeypatch, b"abc")
    with pytest.raises(DataError, match="No such file"):
        read("-", "missing")
    assert pipe.tell() == 0
    assert not cache_folder().exists()


def test_an_error_while_standard_input_is_read_leaves_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Broken()))
    with pytest.raises(StorageError, match="standard input"):
        read("-")
    assert list(cache_folder().iterdir()) == []


def test_a_terminal_as_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(DataError, match="nothing is piped"):
        read("-")


def test_a_missing_file_is_named_with_the_nearest() -> None:
    put("texts/book.txt", "abc")
    with pytest.raises(DataError, match=r"No such file: texts/bok\.txt; did you mean 'book\.txt'\?"):
        read("texts/bok.txt")
    with pytest.raises(DataError, match=r"No such file: text; did you mean 'texts'\?"):
        read("text")
    with pytest.raises(DataError, match=r"No such file: texts/words\.txt\.$"):  # the same suffix is not a similar name
        read("texts/words.txt")
    with pytest.raises(DataError, match=r"No such file: none/at/all\.$"):
        read("none/at/all")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "y" * 300 + "/z", ""], ids=["long", "nul", "long folder", "empty"])
def test_an_impossible_name_is_no_file(name: str) -> None:
    put("a.txt", "a file in the working folder")
    with pytest.raises(DataError, match="No such file"):
        read(name)


def test_a_pipe_is_refused_because_a_text_is_read_twice() -> None:
    os.mkfifo("pipe")
    with pytest.raises(DataError, match="text is read more than once: give it on standard input, as '-'"):
        read("pipe")


# Compressed files


@PACKED
@pytest.mark.parametrize("size", [5, 1 << 22])
def test_compressed_text_is_the_text(ending: str, size: int) -> None:
    text = ("na\u00efve\r\n\u65e5\U0001f600\n" * 50).encode()
    results = []
    for name, content in [
        ("a.txt", text),
        ("b" + ending, PACKERS[ending](text)),
        ("c" + ending.upper(), PACKERS[ending](text)),
    ]:
        with pieces_of(size):
            results.append(everything(read(put(name, content), documents="line")))
    assert results[0] == results[1] == results[2]


@PACKED
def test_concatenated_compressed_files_are_all_read(ending: str) -> None:
    parts = [b"one\n" * 3000, b"", b"two\n", b"three\n"]
    name = put("a.txt" + ending, b"".join(PACKERS[ending](part) for part in parts))
    assert text_of(read(name)).encode() == b"".join(parts)


@PACKED
def test_a_truncated_compressed_file_is_refused(ending: str) -> None:
    packed = PACKERS[ending](random.Random(1).randbytes(400_000).hex().encode())
    for cut in (1, 7, len(packed) // 3, len(packed) - 9, len(packed) - 1):
        with pytest.raises(DataError, match=rf"a\{ending} is damaged"):
            read(put("a" + ending, packed[:cut]))
    assert list(cache_folder().iterdir()) == []


@PACKED
def test_a_wrong_suffix_is_reported(ending: str) -> None:
    with pytest.raises(DataError, match=rf"a\{ending} is damaged or not of the format of its suffix"):
        read(put("a" + ending, "plain text, long enough for any header\n"))


@PACKED
def test_the_suffix_decides_whether_bytes_are_decompressed(ending: str) -> None:
    packed = PACKERS[ending](b"hello")
    assert text_of(read(put("a" + ending, packed), tokens="bytes")) == "hello"
    assert bytes(read(put("a.bin", packed), tokens="bytes").ids) == packed
    assert text_of(read(put("b" + ending, packed), tokens="bytes")) == "hello"


def test_a_small_zstandard_file_cannot_fill_the_memory() -> None:
    bomb = put("bomb.zst", zstandard.compress(bytes(1 << 28)))
    with compressed_files.open_bytes(Path(bomb)) as file:
        assert file.read(3) == b"\0\0\0"
        assert len(file.raw._decompressed) <= 1 << 25  # type: ignore[attr-defined]  # decompressed bytes in memory


# Normalization, and notes on it


@pytest.mark.parametrize(
    ("content", "text", "notes"),
    [
        (b"a\nb", "a\nb", []),
        (b"\xef\xbb\xbfa\n", "a\n", ["1 byte order mark dropped"]),
        (b"a\r\nb\r\n", "a\nb\n", ["1 file whose line ends became \\n"]),
        (b"a\rb\r", "a\nb\n", ["1 file whose line ends became \\n"]),
        (b"a\n\r\nb\r\r\n", "a\n\nb\n\n", ["1 file whose line ends became \\n"]),
        (b"\xef\xbb\xbf\r", "\n", ["1 byte order mark dropped", "1 file whose line ends became \\n"]),
        (
            b"a\xef\xbb\xbf\x0b\x0c\xc2\x85\xe2\x80\xa8b",
            "a\ufeff\x0b\x0c\x85\u2028b",
            ["1 byte order mark inside of files, as joining them leaves, learned as characters: remove them"],
        ),
    ],
)
def test_notes_on_normalization_are_kept_in_the_cache(content: bytes, text: str, notes: list[str]) -> None:
    for _ in range(2):
        corpus = read(put("a.txt", content))
        assert text_of(corpus) == text
        assert sorted(corpus.notes) == notes


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("bre\u00adad ", "1 hyphen that cannot be seen (U+00AD), learned"),
        ("caf\ufffd ", "1 character that another program could not read (U+FFFD): make the file again"),
        ("\x1b[31mred", "1 color of a terminal, learned as text: remove them (sed 's/\\x1b\\[[0-9;]*m//g')"),
    ],
)
def test_signs_that_are_not_meant_are_noted(text: str, note: str) -> None:
    corpus = read(put("a.txt", text.encode()))
    assert text_of(corpus) == text
    assert len(corpus.notes) == 1
    assert corpus.notes[0].startswith(note)


def test_notes_count_the_files() -> None:
    names = [put("a", b"\xef\xbb\xbfa\r\n"), put("b", b"b\n"), put("c", b"\xef\xbb\xbfc\r"), put("d", b"d\r\n")]
    corpus = read(*names)
    assert text_of(corpus) == "a\nb\nc\nd\n"
    assert sorted(corpus.notes) == ["2 byte order marks dropped", "3 files whose line ends became \\n"]


def expected_documents(text: str, unit: str) -> list[str]:
    return [part for part in (normalized(text).split("\n") if unit == "line" else [normalized(text)]) if part]


@pytest.mark.slow
@DOCUMENTS_OPTION
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, size=PIECES)
@example(text="aba\rabab\r", size=4)
@example(text="aba\r\nab ", size=4)
@example(text="aba\u65e5aba\u65e5", size=4)
def test_a_text_read_in_chunks_is_the_text_read_at_once(unit: str, text: str, size: int) -> None:
    expected = expected_documents(text, unit)
    results = []
    for piece in (size, 1 << 22):
        with pieces_of(piece):
            name = put("a.txt", text)
            if not expected:
                with pytest.raises(DataError, match=r"no text in a\.txt"):
                    read(name, documents=unit)
                continue
            corpus = read(name, documents=unit)
            assert ([text_of(corpus)] if unit == "none" else documents_of(corpus)) == expected
            assert corpus.longest_document == max(map(len, expected))
            assert corpus.num_documents == (0 if unit == "none" else len(expected))
            results.append(everything(corpus))
    assert all(result == results[0] for result in results)


@settings(max_examples=60, deadline=None)
@given(before=TEXTS, bad=st.sampled_from([b"\xff", b"\x80", b"\xc3", b"\xe6\x97", b"\xf0\x9f\x98"]), after=TEXTS, size=PIECES)
@example(before="aba", bad=b"\xc3", after="abababab", size=4)
@example(before="ab", bad=b"\xe6\x97", after="", size=4)
def test_bytes_that_are_not_utf8_are_reported_with_their_offset(before: str, bad: bytes, after: str, size: int) -> None:
    where = len(before.encode())
    with pieces_of(size), pytest.raises(DataError) as refused:
        read(put("a.txt", before.encode() + bad + after.encode()))
    assert f"a.txt is not UTF-8: byte 0x{bad[0]:02x} at offset {where:,}, in line {before.encode().count(10) + 1:,}. " in str(
        refused.value
    )


@settings(max_examples=30, deadline=None)
@given(before=TEXTS, after=TEXTS, size=PIECES)
def test_a_nul_is_reported_with_its_offset(before: str, after: str, size: int) -> None:
    with pieces_of(size), pytest.raises(DataError) as refused:
        read(put("a.txt", f"{before}\0{after}"))
    assert f"NUL byte at offset {len(before.encode()):,}: " in str(refused.value)


@pytest.mark.parametrize(("bad", "told"), [(b"\xfe", "byte 0xfe at offset 5,000,001"), (b"\0", "NUL byte at offset 5,000,001")])
def test_the_offset_in_a_later_chunk_of_the_real_size(bad: bytes, told: str) -> None:
    assert compressed_files.CHUNK_BYTES < 5_000_001
    with pytest.raises(DataError, match=told):
        read(put("a.txt", "\u00e9".encode() * 2_500_000 + b"a" + bad + b"abc"))
    assert list(cache_folder().iterdir()) == [], "no unfinished entry is left"


def test_an_incomplete_character_at_the_end_of_a_file_is_reported() -> None:
    with pytest.raises(DataError, match="byte 0xe6 at offset 3"):
        read(put("a.txt", "abc\u65e5".encode()[:-1]), put("b.txt", "\u65e5".encode()[-1:]))


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16-le", "is UTF-16"), ("utf-16-be", "is UTF-16"), ("utf-32-le", "is UTF-32"),
        ("utf-32-be", "NUL byte at offset 0"),
    ],
)  # fmt: skip
def test_other_encodings_are_named(encoding: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read(put("a.txt", "\ufeffabc\n".encode(encoding)))
    without_mark = "offset 0" if encoding.endswith("be") else "offset 1"
    with pytest.raises(DataError, match=f"NUL byte at {without_mark}"):
        read(put("b.txt", "abc\n".encode(encoding)))


@settings(max_examples=40, deadline=None)
@given(data=st.binary(min_size=1, max_size=60), size=PIECES)
def test_bytes_are_learned_as_they_are(data: bytes, size: int) -> None:
    with pieces_of(size):
        corpus = read(put("a.bin", data), tokens="bytes")
        assert bytes(corpus.ids.tolist()) == data
        assert corpus.ids.dtype == np.uint8
        assert corpus.notes == ()
        document = read("a.bin", tokens="bytes", documents="file")
        assert document.ids.tolist() == [256, *data, 256]
        if data.strip(b"\n"):
            lines = read("a.bin", tokens="bytes", documents="line")
            expected = [symbol for line in data.split(b"\n") if line for symbol in [*line, 256]]
            assert lines.ids.tolist() == [256, *expected]


# Documents


def test_lines_are_documents() -> None:
    corpus = read(put("a.txt", "\n\nfirst\r\n\r\n\n second\nlast"), documents="line")
    assert documents_of(corpus) == ["first", " second", "last"]
    assert (corpus.num_documents, corpus.longest_document) == (3, 7)
    assert isinstance(corpus.tokenizer, CharTokenizer)
    assert "\n" not in corpus.tokenizer.tokens, "the eos takes its place"
    assert len(corpus.ids) == len("first") + len(" second") + len("last") + 4


def test_files_are_documents() -> None:
    names = [put("a", "one\n"), put("b", ""), put("c", "\ufeff"), put("d", "two\n\nlines"), put("e", "\n")]
    corpus = read(*names, documents="file")
    assert documents_of(corpus) == ["one\n", "two\n\nlines", "\n"]
    assert (corpus.num_documents, corpus.longest_document) == (3, 10)


@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", b"\n\r\n\r\n\n"], ids=["empty", "only a mark", "blank lines"])
def test_an_empty_text_is_refused(content: bytes) -> None:
    name = put("a.txt", content)
    with pytest.raises(DataError, match=r"no text in a\.txt"):
        read(name, documents="line")
    with pytest.raises(DataError, match="no text in these 2 files"):
        read(name, put("b.txt", "\n"), documents="line")
    if not content.endswith(b"\n"):
        for unit in ("none", "file"):
            with pytest.raises(DataError, match="no text"):
                read(name, documents=unit)


SEVERAL = st.lists(st.text(st.sampled_from("ab\n\u65e5"), min_size=1, max_size=6), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(texts=SEVERAL, size=PIECES)
def test_files_are_joined_by_a_line_end_only_where_it_is_missing(texts: list[str], size: int) -> None:
    stream = ""
    for text in texts:
        missing = bool(stream) and not stream.endswith("\n") and "\n" in "".join(texts)
        stream += "\n" * missing + text
    with pieces_of(size):
        names = [put(f"{index}.txt", text) for index, text in enumerate(texts)]
        assert text_of(read(*names)) == stream
        assert bytes(read(*names, tokens="bytes").ids) == "".join(texts).encode(), "bytes are joined without a separator"
        assert documents_of(read(*names, documents="file")) == texts
        lines = [line for text in texts for line in text.split("\n") if line]
        if lines:
            assert documents_of(read(*names, documents="line")) == lines


# Ids


def alphabet(size: int) -> list[str]:
    return [chr(point) for point in range(0x21, 0x21 + size + 2048) if not 0xD800 <= point < 0xE000][:size]


@pytest.mark.slow
@pytest.mark.parametrize("unit", ["none", "file"])
@pytest.mark.parametrize(
    ("symbols", "width"),
    [(2, 1), (200, 1), (254, 1), (255, None), (256, 2), (300, 2), (65534, 2), (65535, None), (65536, 4), (70000, 4)],
)
def test_ids_have_the_smallest_type_for_the_vocabulary(unit: str, symbols: int, width: int | None) -> None:
    text = "".join(random.Random(0).sample(alphabet(symbols), symbols))
    corpus = read(put("a.txt", text), documents=unit, normalize="none")
    assert text_of(corpus) == text
    assert corpus.ids.dtype.kind == "u"
    assert width in (None, corpus.ids.dtype.itemsize)
    if unit == "file":
        assert documents_of(corpus) == [text]
    some = put("b.txt", text[1:] + "\u0e01\U0001f600" * (symbols < 300))
    other = read(some, documents=unit, known=corpus.tokenizer)
    assert text_of(other) == text[1:]
    assert other.num_unknown == 2 * (symbols < 300)


def test_the_ids_are_those_of_the_given_tokenizer() -> None:
    model = CharTokenizer("\nzca")
    corpus = read(put("a.txt", "abc\ncab\n"), known=model)
    assert corpus.ids.tolist() == model.encode("ac\nca\n").tolist() == [3, 2, 0, 2, 3, 0]
    assert corpus.tokenizer.to_json() == model.to_json()
    assert corpus.num_unknown == 2
    assert read("a.txt").tokenizer.vocab_size == 4, "without a tokenizer the text has ids of its own"


@settings(max_examples=40, deadline=None)
@given(text=TEXTS, known=st.sets(st.sampled_from(MIXED), min_size=1), size=PIECES)
def test_unknown_characters_of_a_text_are_counted_and_left_out(text: str, known: set[str], size: int) -> None:
    model = CharTokenizer(sorted(known))
    ids, unknown = model.encode(normalized(text)), sum(character not in known for character in normalized(text))
    with pieces_of(size):
        name = put("a.txt", text)
        if len(ids):
            corpus = read(name, known=model)
            assert corpus.ids.tolist() == ids.tolist()
            assert corpus.num_unknown == unknown
        else:
            with pytest.raises(DataError, match=f"none of the {unknown} characters" if unknown else "no text"):
                read(name, known=model)


def test_a_line_of_unknown_characters_is_no_document() -> None:
    corpus = read(put("a.txt", "ab\nxy\nxby\n"), documents="line", known=CharTokenizer("ab", has_eos=True))
    assert documents_of(corpus) == ["ab", "b"]
    assert (corpus.num_documents, corpus.longest_document, corpus.num_unknown) == (2, 2, 4)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (CharTokenizer("ab"), {"documents": "line"}),
        (CharTokenizer("ab", True), {}),
        (ByteTokenizer(), {}),
        (CharTokenizer("ab"), {"tokens": "bytes"}),
    ],
)
def test_a_tokenizer_of_another_kind_is_refused(model: Tokenizer, options: dict[str, str]) -> None:
    with pytest.raises(DataError, match="documents=|tokens="):
        read(put("a.txt", "ab\u65e5"), known=model, **options)


# The cache


def reads(*inputs: str, **options: Any) -> tuple[Corpus, bool]:
    """Return the corpus, and whether the text was encoded now."""
    told: list[str] = []
    with MessageHandler(told.append):
        corpus = open_corpus(inputs, DataOptions(**options))
    return corpus, bool(told)


def test_a_text_is_encoded_once_whatever_its_name() -> None:
    first, encoded = reads(put("a.txt", "abc\n"))
    assert encoded
    os.rename("a.txt", "b.md")
    os.utime("b.md", (1, 1))
    again, encoded = reads("b.md")
    assert not encoded
    assert (again.cache_key, everything(again)) == (first.cache_key, everything(first))


def test_an_edited_text_is_read_again_even_with_the_same_size_and_time() -> None:
    reads(put("a.txt", "abc\n"))
    before = os.stat("a.txt")
    put("a.txt", "abd\n")
    os.utime("a.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    corpus, encoded = reads("a.txt")
    assert encoded
    assert text_of(corpus) == "abd\n"


def test_the_cache_key_depends_on_all_that_changes_the_ids() -> None:
    put("a", "ab\nc")
    put("b", "d\n")
    put("ab", "ab\ncd\n")
    asked: list[tuple[tuple[str, ...], dict[str, str]]] = [
        (("a", "b"), {}), (("b", "a"), {}), (("ab",), {}), (("a", "b", "b"), {}), (("a", "b"), {"documents": "line"}),
        (("a", "b"), {"documents": "file"}), (("ab",), {"documents": "file"}), (("a", "b"), {"tokens": "bytes"}),
        (("ab",), {"tokens": "bytes", "documents": "file"}), (("a", "b"), {"tokens": "bytes", "documents": "file"}),
    ]  # fmt: skip
    corpora = [reads(*names, **options) for names, options in asked]
    models = [open_corpus(("ab",), DataOptions(), CharTokenizer(symbols)) for symbols in ("abcd\n", "dcba\n")]
    assert all(encoded for _, encoded in corpora)
    keys = {corpus.cache_key for corpus, _ in corpora} | {corpus.cache_key for corpus in models}
    assert len(keys) == len(asked) + 2
    assert not any(reads(*names, **options)[1] for names, options in asked)


def test_a_text_that_changes_while_it_is_read_is_refused() -> None:
    def write_on(message: str) -> None:
        with open("a.txt", "a") as file:
            file.write("more\n")

    with pytest.raises(DataError, match="changed while it was read"), MessageHandler(write_on):
        open_corpus([put("a.txt", "abc\n")], DataOptions())
    assert list(cache_folder().iterdir()) == []
    assert text_of(read("a.txt")) == "abc\nmore\n"


def test_a_text_that_vanishes_while_it_is_read_is_refused() -> None:
    def vanish(message: str) -> None:
        os.unlink("a.txt")

    with pytest.raises(StorageError, match=r"Cannot read a\.txt"), MessageHandler(vanish):
        open_corpus([put("a.txt", "abc\n")], DataOptions())
    assert list(cache_folder().iterdir()) == []


def mutants(content: bytes, draw: random.Random) -> Iterator[bytes | None]:
    """Yield damaged forms of a file: truncated, lengthened, emptied, removed, and with one bit flipped."""
    yield from (None, b"", content[:-1], content[: len(content) // 2], content + b"\0", content + b"}", content[1:])
    yield from (b"[]", b"{}", b"null", b"3", b'"digest"', b"{", b"\xff", bytes(len(content)))
    for _ in range(25):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        yield bytes(damaged)


@pytest.mark.parametrize("file", ["ids.bin", "corpus.json"])
@DOCUMENTS_OPTION
def test_a_damaged_entry_of_the_cache_is_made_again(file: str, unit: str) -> None:
    good = read(put("a.txt", "caf\u00e9 \u65e5\r\nabc\n"), documents=unit)
    expected = everything(good)
    path = cache_folder() / good.cache_key / file
    content = path.read_bytes()
    rebuilt = 0
    for damaged in mutants(content, random.Random(3)):
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
        corpus, encoded = reads("a.txt", documents=unit)
        assert everything(corpus) == expected
        rebuilt += encoded
        assert path.read_bytes() == content or json.loads(path.read_bytes()) == json.loads(content)
    assert rebuilt >= 36, "damage is detected"


@pytest.mark.parametrize(
    ("name", "value"),
    [("size", 3), ("documents", 7), ("dtype", "<u2"), ("unit", "line"), ("notes", ["x"]), ("vocabulary", {"kind": "?"})],
)
def test_an_edited_header_is_damage(name: str, value: Any) -> None:
    corpus = read(put("a.txt", "abcd"))
    path = cache_folder() / corpus.cache_key / "corpus.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    assert cached_corpus(corpus.cache_key) is None
    assert not path.parent.exists()
    assert everything(read("a.txt")) == everything(corpus)


def test_a_missing_or_invalid_entry_is_none() -> None:
    assert cached_corpus("0" * 32) is None
    cache_folder().mkdir()
    (cache_folder() / "file").write_text("x")
    assert cached_corpus("file") is None


def test_unfinished_entries_of_killed_processes_are_removed() -> None:
    left, busy = cache_folder() / "abc.partial-x1", cache_folder() / "def.partial-x2"
    left.mkdir(parents=True)
    busy.mkdir()
    os.utime(left, (0, 0))
    corpus = read(put("a.txt", "abc"))
    assert sorted(path.name for path in cache_folder().iterdir()) == sorted([corpus.cache_key, busy.name])


# Splits


def corpus_of(documents: list[str], fraction: float, size: int) -> tuple[Corpus, Any, Any, int]:
    """Return a corpus of documents (or a stream, if there is only one), its parts, and the requested boundary."""
    symbols = sorted(set("".join(documents)))
    vocabulary = CharTokenizer(symbols, has_eos=len(documents) > 1)
    ids = [vocabulary.eos_id] if len(documents) > 1 else []
    for document in documents:
        ids += vocabulary.encode(document).tolist() + [vocabulary.eos_id] * (len(documents) > 1)
    corpus = Corpus(np.array(ids, np.uint8), vocabulary, "line", "", "", True, len(documents), 0, 0, ())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "_BLOCK_TOKENS", size)
        first, last, _ = corpus.split(DataOptions(train_fraction=fraction, split_by="order"), seed=0)
    return corpus, first, last, int(len(ids) * fraction)


FRACTIONS = st.floats(0.001, 1)
DOCUMENTS = st.lists(st.text(st.sampled_from("abc"), min_size=1, max_size=8), min_size=2, max_size=20)


@given(text=st.text(st.sampled_from("abc"), min_size=1), fraction=FRACTIONS, size=st.integers(1, 9))
def test_a_stream_is_split_without_loss_or_overlap(text: str, fraction: float, size: int) -> None:
    corpus, first, last, cut = corpus_of([text], fraction, size)
    assert first.tolist() + last.tolist() == corpus.ids.tolist()
    assert len(first) == cut


@given(documents=DOCUMENTS, fraction=FRACTIONS, size=st.integers(1, 9))
def test_documents_are_split_without_loss_or_overlap(documents: list[str], fraction: float, size: int) -> None:
    corpus, first, last, cut = corpus_of(documents, fraction, size)
    if not len(last):
        assert fraction == 1
        assert documents_of(corpus, first) == documents
    else:
        train, validation = documents_of(corpus, first), documents_of(corpus, last)
        assert train + validation == documents
        at = len(first) - 1
        assert at >= cut, "at least the requested part"
        assert corpus.tokenizer.eos_id not in corpus.ids[cut:at], "and no more documents"


def test_nine_tenths_are_for_training() -> None:
    corpus = read(put("a.txt", "abcdefghij" * 10))
    assert [len(part) for part in corpus.split(DataOptions(), seed=0)] == [90, 10, 0]
    assert [len(part) for part in corpus.split(DataOptions(train_fraction=1.0), seed=0)] == [100, 0, 0]


# Long tests: speed and memory


@pytest.mark.long
@DOCUMENTS_OPTION
def test_encoding_keeps_up_with_a_disk(unit: str) -> None:
    draw = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz ,.ABC"
    block = "".join("".join(draw.choices(letters, k=draw.randint(20, 100))) + "\n" for _ in range(20_000)).encode()
    content = (block * (64_000_000 // len(block) + 1))[:64_000_000]
    rates = []
    for turn in range(5):
        name = put("a.txt", content[:-1] + b"%d" % turn)
        start = time.process_time()
        corpus = read(name, documents=unit)
        rates.append(len(corpus.ids) / 1e6 / (time.process_time() - start))
    assert sorted(rates)[2] >= 40, f"megabytes a second on one core: {rates}"


GROWTH = """
import resource, sys
from unrolled.text.corpus import open_corpus
from unrolled.options import DataOptions
from unrolled.training.tasks.text import TextTask
small, large, unit = sys.argv[1:]
open_corpus([small], DataOptions(documents=unit))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
open_corpus([large], DataOptions(documents=unit))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.long
@DOCUMENTS_OPTION
@pytest.mark.parametrize("ending", ["", ".zst"])
@pytest.mark.parametrize("letters", ["abcdefgh ", "\u0430\u0431\u0432\u65e5\U0001f600 "])
def test_memory_does_not_grow_with_the_text(unit: str, ending: str, letters: str) -> None:
    draw = random.Random(0)
    block = "".join("".join(draw.choices(letters, k=60)) + "\n" for _ in range(30_000)).encode()
    pack = PACKERS.get(ending, bytes)
    small = put("small.txt", "abc\n")
    large = put("large.txt" + ending, pack(block * (200_000_000 // len(block) + 1)))
    done = subprocess.run([sys.executable, "-c", GROWTH, small, large, unit], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 100_000, "kilobytes more than for a small text"


def test_only_several_files_are_told_to_be_one_text(caplog: pytest.LogCaptureFixture) -> None:
    for count in (1, 2):
        put(f"d/{count}.txt", "one text and another\n" * 30)
        caplog.clear()
        with caplog.at_level("INFO", logger="unrolled"):
            TextTask.open(TrainRequest.build(("d",), {}, "test").check())
        assert any("the files are one text" in message for message in caplog.messages) is (count == 2)
