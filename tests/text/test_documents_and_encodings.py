"""Texts of other encodings, documents between blank lines, and a column of a table as a text."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.errors import DataError, UsageError
from unrolled.options import DataOptions
from unrolled.tables.column_text import open_column
from unrolled.tables.table_format import TableFormat
from unrolled.text.corpus import Corpus, cache_folder, open_corpus
from unrolled.text.encodings import file_encoding

TINY = ("--threads", "1", "--steps", "3", "--hidden", "8", "--layers", "1", "--batch", "4", "--sample-length", "0")


def documents_of(corpus: Corpus) -> list[str]:
    eos = corpus.tokenizer.eos_id
    parts = np.split(corpus.ids, np.flatnonzero(corpus.ids == eos))[1:]
    return [corpus.tokenizer.decode(part[1:].tolist()) for part in parts if len(part) > 1]


def no_copies_are_left() -> bool:
    return not list(cache_folder().glob("unrolled-*"))


def test_of_many_files_that_are_no_text_some_are_named(cli: Cli) -> None:
    folder = Path("code")
    folder.mkdir()
    (folder / "a.py").write_text("print('hello')\n" * 40, "utf-8")
    for number in range(12):
        (folder / f"{number:02}.pyc").write_bytes(b"\0\1")
    done = cli("train", folder, *TINY)
    assert "code: 12 files left out that are empty or no text: 00.pyc, 01.pyc, 02.pyc, 03.pyc, 04.pyc and 7 more\n" in done.err


def test_what_a_folder_has_that_is_no_text_is_named(cli: Cli) -> None:
    folder = Path("my notes")
    folder.mkdir()
    (folder / "a.txt").write_bytes("ein gr\u00fc\u00dfen, ma\u00df\n".encode("latin-1") * 20)
    (folder / "b.rtf").write_text(r"{\rtf1\ansi Hello\par}")
    (folder / "c.jpg").write_bytes(b"\xff\xd8\xff\0")
    (folder / "d.html").write_text("<!DOCTYPE html><p>a</p>")
    done = cli("train", folder, *TINY)
    assert "my notes: 2 files left out that are empty or no text: b.rtf, c.jpg\n" in done.err
    assert "It looks like WINDOWS-1252" in done.err
    assert "iconv -f WINDOWS-1252 -t UTF-8 'my notes/a.txt' > utf8-a.txt" in done.err
    done = cli("train", folder, "--encoding", "latin-1", *TINY)
    assert "2 of 2 files read as latin-1" in done.err
    assert "1 file of HTML, read with the tags" in done.err
    done = cli("train", folder / "b.rtf", *TINY)
    assert (done.code, "it is a document in rich text format: save it as plain text (UTF-8)" in done.err) == (3, True)
    assert "a file is expected" not in cli("train", "no such book.txt", *TINY).err
    assert "the name of a file is expected, not a text" in cli("train", "no such book. Really", *TINY).err


def test_parts_between_blank_lines_are_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\n\nthe moon\r\nsings\r\n \t\r\n\r\nthe owl\n\n\n\nan end")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress("\u00e9t\u00e9\x1e\n".encode()))
    corpus = open_corpus([str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz")], DataOptions(documents="blank-line"))
    assert documents_of(corpus) == ["the moon\nsings", "the owl", "an end", "\u00e9t\u00e9 "]
    assert (corpus.num_documents, corpus.longest_document) == (4, 14)
    assert no_copies_are_left()
    as_bytes = open_corpus([str(tmp_path / "a.txt")], DataOptions(documents="blank-line", tokens="bytes"))
    assert documents_of(as_bytes)[1:] == ["the owl", "an end"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", 'text,n\n"two\nlines",1\n,2\nb,3\n'),
        ("t.tsv", 'text\tn\n"two\nlines"\t1\n\t2\nb\t3\n'),
        ("t.jsonl", '{"text": "two\\nlines"}\n{"text": null}\n{"text": "b"}\n'),
    ],
)
def test_cells_of_a_column_are_documents(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    corpus = open_column([str(tmp_path / name)], "text", TableFormat(), DataOptions())
    assert (documents_of(corpus), corpus.documents) == (["two\nlines", "b"], "cell")
    assert no_copies_are_left()
    with pytest.raises(UsageError, match="no column 'txt'; did you mean 'text'"):
        open_column([str(tmp_path / name)], "txt", TableFormat(), DataOptions())
    with pytest.raises(UsageError, match="without target=, a text is learned"):
        open_column([str(tmp_path / name)], "text:label", TableFormat(), DataOptions())


def test_a_text_has_no_column_to_learn(cli: Cli) -> None:
    Path("book.txt").write_text("The baker forgot two loaves.\nThe fox, as usual, did not.\n" * 40)
    done = cli("train", "book.txt", "--source", "typo", *TINY)
    assert done.code == 2
    assert done.err.splitlines()[-1] == (
        "unrolled: book.txt has no column 'typo': it is a text, not a table, so leave out --source to learn it as one text; "
        "--documents line makes each line one of its own."
    )
    assert "learns to write like" not in done.err
    assert not Path("runs").exists()


@pytest.mark.slow
def test_a_column_is_learned_sampled_scored_and_evaluated(cli: Cli) -> None:
    Path("t.csv").write_text("id,text\n" + "".join(f'{i},"I saw {i}\n#walk"\n' for i in range(30)))
    done = cli("train", "t.csv", "--source", "text", *TINY, "--out", "r")
    assert "learns to write like 'text'" in done.err
    assert "30 cells, the longest 14" in done.err
    assert unrolled.load("r").model_file.documents == "cell"
    assert cli("sample", "r", "--length", 20).code == 0
    Path("new.jsonl").write_text('{"text": "I saw 5\\n#walk"}\n')
    assert "over 14 characters" in cli("eval", "r", "new.jsonl").out
    assert json.loads(cli("score", "r", "new.jsonl", "--json").out)["lines"][1]["text"] == "#walk"
    assert cli("score", "r", "--top", 1).code == 0
    assert cli("train", "t.csv", "--source", "text", "--documents", "line", *TINY).code == 2
    assert cli("train", "t.csv", "--documents", "cell", *TINY).code == 2
    assert "--validation is for tables" in cli("train", "t.csv", "--source", "text", "--validation", "t.csv", *TINY).err
    Path("n.csv").write_text("".join(f"{number},a line {number % 7}\n" for number in range(30)))
    by_number = cli("train", "n.csv", "--source", "1", *TINY, "--out", "n")
    assert "30 cells" in by_number.err
    assert "n.csv: the first row is data, since columns are given by number" in by_number.err


def test_all_files_that_are_not_utf8_are_named_at_once(tmp_path: Path) -> None:
    for number, data in enumerate((b"plain\n", b"say \x93hi\x94\n", b"a caf\xe9\n", "\u00e9t\u00e9\n".encode())):
        (tmp_path / f"book{number}.txt").write_bytes(data)
    with pytest.raises(DataError) as refused:
        open_corpus([str(tmp_path)], DataOptions())
    message = str(refused.value)
    assert message.startswith("2 of 4 files are not UTF-8: ")
    assert "book1.txt (byte 0x93 at offset 4, in line 1, looks like WINDOWS-1252)" in message
    assert "encoding='windows-1252'" in message
    assert "iconv -f WINDOWS-1252 -t UTF-8 FILE > NEW" in message
    corpus = open_corpus([str(tmp_path)], DataOptions(encoding="windows-1252"))
    assert corpus.tokenizer.decode(corpus.ids.tolist()) == "plain\nsay \u201chi\u201d\na caf\u00e9\n\u00e9t\u00e9\n"
    assert no_copies_are_left()
    with pytest.raises(UsageError, match="encoding= is for text, and tokens='bytes'"):
        open_corpus([str(tmp_path)], DataOptions(encoding="latin-1", tokens="bytes"))


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (b"abc", "windows-1252", "cp1252"),
        ("\u00e9t\u00e9".encode(), "windows-1252", "utf-8-sig"),
        ("ab".encode("utf-16"), "utf-16", "utf-16"),
        ("ab".encode("utf-16-le"), "utf-16-le", "utf-16-le"),
        ("\u732b".encode("iso2022_jp"), "iso2022_jp", "iso2022_jp"),
        (b"abc", None, "utf-8-sig"),
        (b"abc", "UTF8", "utf-8-sig"),
    ],
)
def test_a_file_that_shows_that_it_is_utf8_is_read_so(tmp_path: Path, data: bytes, name: str | None, expected: str) -> None:
    (tmp_path / "t.txt").write_bytes(data)
    assert file_encoding(tmp_path / "t.txt", name) == expected


def test_a_wrong_encoding_is_reported_with_its_byte(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(b"one\ntwo \x81\n")
    with pytest.raises(DataError, match="is not cp1252: byte 0x81 at offset 8, in line 2. Give another encoding="):
        open_corpus([str(tmp_path / "t.txt")], DataOptions(encoding="windows-1252"))


def test_other_commands_read_encodings_too(cli: Cli) -> None:
    Path("t.txt").write_bytes(("un caf\u00e9 noir\n" * 30).encode("latin-1"))
    assert cli("train", "t.txt", "--encoding", "latin-1", *TINY, "--out", "r").code == 0
    assert "over 389 characters of the text" in cli("eval", "r", "t.txt", "--encoding", "latin-1").out
    scores = json.loads(cli("score", "r", "t.txt", "--encoding", "latin-1", "--json").out)
    assert (scores["characters"], scores["unknown"], scores["lines"][0]["text"]) == (389, 0, "un caf\u00e9 noir")
    assert "not UTF-8" in cli("eval", "r", "t.txt").err
    assert (
        cli("explain", "r", "t.txt", "--encoding", "latin-1", "--length", 100, "--probe-length", 100, "--out", "e.html").code
        == 0
    )


@pytest.mark.slow
def test_escapes_in_stop_and_prompt(cli: Cli) -> None:
    Path("t.txt").write_text("ab\n\ncd\n\n" * 40)
    assert cli("train", "t.txt", *TINY, "--out", "r").code == 0
    model = unrolled.load("r")
    assert cli("sample", "r", "--length", 60, "--prompt", r"a\nb").out == model.sample("a\nb", length=60) + "\n"
    stopped = cli("sample", "r", "--length", 200, "--stop", r"\n")
    assert stopped.out == model.sample(length=200, stop=["\n"]) + "\n"
    assert "\n" not in stopped.out[:-1]
    told = cli("sample", "r", "--length", 10, "--stop", "Q\\n").err
    assert "--stop 'Q\\n': the model never writes 'Q'" in told
    Path("s.txt").write_text("a\\n" * 80)
    assert cli("train", "s.txt", *TINY, "--out", "s").code == 0
    read = cli("sample", "s", "--length", 20, "--prompt", r"a\n")
    assert read.out.startswith("a\\n")
    assert "is read as it is" in read.err


@pytest.mark.slow
def test_a_model_of_bytes_writes_its_bytes(tmp_path: Path) -> None:
    Path("t.bin").write_bytes(bytes(range(256)) * 4)
    model = unrolled.train(
        "t.bin", tokens="bytes", steps=2, threads=1, hidden=8, layers=1, batch=4, sample_length=0, progress=False
    )
    command = [sys.executable, "-m", "unrolled", "sample", str(model.path.parent), "--length", "100", "--threads", "1"]
    drawn = subprocess.run(command, check=True, capture_output=True).stdout
    sample = next(model.samples(length=100, count=1))
    assert len(drawn) == 100
    assert drawn == sample.data == b"".join(model.stream_bytes(length=100))
    assert sample.text == drawn.decode("utf-8", "replace") == "".join(model.stream(length=100))
    text_model = unrolled.train(
        text="some text " * 20, steps=2, threads=1, hidden=8, layers=1, batch=4, sample_length=0, progress=False
    )
    assert next(text_model.samples(length=5, count=1)).data is None
