"""Subtitles as text: SRT as it is found, WebVTT with its parts, files that are neither; and archives of several texts."""

import logging
import zipfile
from pathlib import Path

import pytest

import unrolled
from support.cli import TINY_RUN, Cli
from unrolled.errors import DataError
from unrolled.options import DataOptions
from unrolled.text.corpus import cache_folder, open_corpus

SRT = """\ufeff1
00:00:01,000 --> 00:00:02,500
<i>The moon</i> was
full {\\an8}tonight.

2
00:00:03,000 --> 00:00:04,000 X1:10 X2:20
- Who is there?
- <font color="#ff0000">Me.</font> I <3 you,

and 5 < 6.

3
00:00:05,000 --> 00:00:06,000

4
00:01:05,000 --> 00:01:06,000
1984
5
00:01:07,000 --> 00:01:08,000
In 1984
"""
SRT_TEXT = "The moon was full tonight.\n- Who is there?\n- Me. I <3 you, and 5 < 6.\n1984\nIn 1984\n"
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE never said

intro
00:01.000 --> 00:02.000 align:start position:0%
<v.loud Anna>Tom &amp; Anna<00:00:01.500><c> met</c>

00:02.000 --> 00:02.010
Tom & Anna met

00:02.010 --> 00:03.000
Tom & Anna met
by the&nbsp;sea
"""
VTT_TEXT = "Tom & Anna met\nby the sea\n"


def text_of(path: Path, **options: str) -> str:
    corpus = open_corpus([str(path)], DataOptions(**options))  # type: ignore[arg-type]
    return corpus.tokenizer.decode(corpus.ids.tolist())


def test_srt_is_its_text_with_what_is_left_out_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "film.srt"
    path.write_bytes(SRT.replace("\n", "\r\n").encode())
    with caplog.at_level("INFO"):
        assert text_of(path) == SRT_TEXT
    assert "5 cues of subtitles read as text, without numbers and times, 1 cues without text, 5 tags" in caplog.text
    assert not list(cache_folder().glob("unrolled-*"))
    path.write_bytes(SRT.replace("moon", "mo\u00f6n").encode("windows-1252", "ignore"))
    assert text_of(path, encoding="windows-1252") == SRT_TEXT.replace("moon", "mo\u00f6n")
    with pytest.raises(DataError, match=r"film.srt is not UTF-8: byte 0xf6 .* in line 3\. It looks like WINDOWS-1252"):
        text_of(path)
    path.write_bytes(SRT.encode("utf-16"))
    assert text_of(path, encoding="utf-16") == SRT_TEXT
    with pytest.raises(DataError, match=r"film.srt is UTF-16, and UTF-8 is expected"):
        text_of(path)
    assert text_of(path, tokens="bytes", encoding=None) != SRT_TEXT  # type: ignore[arg-type]


def test_webvtt_has_notes_styles_entities_and_captions_that_roll(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "film.en.VTT"
    path.write_text(VTT, "utf-8")
    with caplog.at_level("INFO"):
        assert text_of(path) == VTT_TEXT
    assert "3 cues" in caplog.text
    assert "2 repeated lines" in caplog.text
    assert "4 lines outside cues" in caplog.text


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_what_is_no_subtitles_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    for content, expected in (
        ("", "a.... has no cue"),
        ("just a text\nof two lines\n", "has no cue of .* subtitles, .*name it .txt to read it as it is"),
        (
            "1\n00:00:01,000 --> 00:00:02,000\nhi\n\n2\n00:00:xx --> 00:00:04,000\nho\n",
            "line 6: '00:00:xx --> 00:00:04,000' has no",
        ),
        ("1\n00:00:01,000 -->", "line 2: '00:00:01,000 -->' has no two times"),
    ):
        path.write_text(content)
        with pytest.raises(DataError, match=expected):
            text_of(path)
        assert not list(cache_folder().glob("unrolled-*"))


def test_a_truncated_file_is_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "cut.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nhi there\n\n2\n00:00:03,000 --> 00:00:04,000\n")
    assert text_of(tmp_path / "cut.srt") == "hi there\n"


def test_commands_read_subtitles_in_folders_as_they_were_learned(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "a.srt").write_text(SRT * 20, "utf-8")
    (tmp_path / "films" / "b.txt").write_text("A text.\n" * 20)
    done = cli("train", tmp_path / "films", "--steps", 3, "--out", tmp_path / "run", *TINY_RUN)
    assert done.code == 0
    assert "100 cues of subtitles read as text" in done.err + done.out
    scored = cli("score", tmp_path / "run", tmp_path / "films" / "a.srt", "--json")
    assert scored.code == 0
    assert "-->" not in scored.out
    model = unrolled.load(tmp_path / "run")
    assert model.evaluate(str(tmp_path / "films" / "a.srt")).num_unknown == 0
    assert ">" not in model.tokenizer.token_strings()


def test_an_archive_of_several_texts_is_read_in_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "films.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("films/b.srt", SRT)
        archive.writestr("films/a.txt", "First.\r\n")
        archive.writestr("films/poster.png", bytes(100))
        archive.writestr("__MACOSX/films/._a.txt", "junk")
    with caplog.at_level("INFO"):
        assert text_of(path) == "First.\n" + SRT_TEXT
    assert "films.zip: 2 files read in the order of their names, 1 file left out that is empty or no text" in caplog.text
    corpus = open_corpus([str(path)], DataOptions(documents="file"))
    assert corpus.num_documents == 2
    long_name = tmp_path / ("\u96fb\u5f71" * 41 + ".srt")  # a copy has a longer name, and names have at most 255 bytes
    long_name.write_text(SRT)
    assert text_of(long_name) == SRT_TEXT
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"../{long_name.name}", SRT)
        archive.writestr("C:\\b.txt", "Two.")
    assert text_of(path) == SRT_TEXT + "Two."
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        archive.writestr("b.srt", SRT)
        archive.writestr(".DS_Store", "junk")
    assert text_of(tmp_path / "one.zip") == SRT_TEXT
    assert not list(cache_folder().glob("unrolled-*"))


def test_archives_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "films.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "caf\u00e9 au lait\n".encode("windows-1252"))
        archive.writestr("b.txt", "tea")
    with pytest.raises(DataError, match=r"a.txt is not UTF-8: byte 0xe9 .* It looks like WINDOWS-1252"):
        text_of(path)
    assert text_of(path, encoding="windows-1252").split() == ["caf\u00e9", "au", "lait", "tea"]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"tea", b"toe"))
    with pytest.raises(DataError, match=r"films.zip.* is damaged"):
        text_of(path)
    path.write_bytes(content[:60])
    with pytest.raises(DataError, match=r"films.zip is damaged"):
        text_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.bin", bytes(10))
        archive.writestr("b.bin", bytes(10))
    with pytest.raises(DataError, match="films.zip has no text among its 2 files"):
        text_of(path)
    assert not list(cache_folder().glob("unrolled-*"))


def test_substation_alpha_is_its_dialogue(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It was learned as it is, with styles and times."""
    events = (
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        "Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,to do\n"
        "Dialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{\\i1}Well, hello{\\i0}\\Nthere\n"
        "Dialogue: 0,0:00:03.00,0:00:04.00,Default,,0,0,0,,- No.\\N- Yes,\\hyes!\n"
    )
    path = tmp_path / "film.ass"
    path.write_text(
        f"[Script Info]\nTitle: X\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: D,Arial\n\n[Events]\n{events}", "utf-8"
    )
    with caplog.at_level(logging.INFO, "unrolled"):
        assert text_of(path) == "Well, hello there\n- No.\n- Yes, yes!\n"
    assert "2 cues of subtitles read as text, without numbers and times, 1 comments, 2 tags" in caplog.text
    (tmp_path / "none.ass").write_text("[Script Info]\nTitle: X\n")
    with pytest.raises(DataError, match="no cue of SubStation Alpha subtitles, which begins with a line like Dialogue: 0,"):
        text_of(tmp_path / "none.ass")


def test_lyrics_are_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "song.lrc"
    path.write_text("[ar:X]\n[00:12.00]First <00:12.50>line\n[00:15.00][01:15.00]chorus\n[00:20]\n", "utf-8")
    assert text_of(path) == "First line\nchorus\n"
