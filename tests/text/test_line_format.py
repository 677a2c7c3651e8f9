"""Masks and keys of the lines of a log, and files with the lines of each session together."""

import re
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from unrolled.datasets.service_log import KEY_PATTERN, service_log
from unrolled.errors import DataError, UsageError
from unrolled.options import DataOptions
from unrolled.text import line_format, session_files
from unrolled.text.corpus import open_corpus
from unrolled.text.line_format import MASK_SYMBOLS, MASKS, OLD_MASKS, KeyFinder, LineFormat, compile_key, split_lines

ALL = ",".join(name for name in MASKS if name not in {"key", *OLD_MASKS.values()})
N, H, A, U, P, T, K = (MASKS[name].symbol for name in ("numbers", "hex", "ip", "uuid", "path", "time", "key"))
ABC = "0123abcd-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("", ""),
        ("no thing here", "no thing here"),
        ("took 12 ms, 3.5 s and -7 of 1e6", f"took {N} ms, {N} s and {N} of {N}e{N}"),
        ("a1b2 x-9 [3] (4) 5/6", f"a{N}b{N} x-{N} [{N}] ({N}) {N}/{N}"),
        ("from 10.0.0.1 to 10.0.0.1:8080.", f"from {A} to {A}:{N}."),
        ("version 1.2.3.4.5", f"version {N}"),
        ("fe80::1 and ::1 and 2001:db8:0:0:0:0:0:1", f"{A} and {A} and {A}"),
        ("std::vector and a:b", "std::vector and a:b"),
        (f"id {ABC}, {ABC.upper()}", f"id {U}, {U}"),
        ("0xDEADbeef 0x1 cafe12 c0ffee99", f"{H} {H} {N} {N}"),
        ("of one kind: 7555191319994958 755519131999495a 719792e0 deadbeef", f"of one kind: {N} {N} {N} {N}"),
        ("words: decade faced added acceded effaced", "words: decade faced added acceded effaced"),
        ("open /var/log/app.log, ./a/b ../c ~/d C:\\x\\y.txt", f"open {P}, {P} {P} {P} {P}"),
        ("and/or n/a http://host/index.html", "and/or n/a http://host/index.html"),
        ("2026-03-01 12:00:00.123 x", f"{T} x"),
        ("2026-03-01T12:00:00,123Z 2026-03-01T12:00:00+01:00 2026-03-01", f"{T} {T} {T}"),
        ("Mar  1 12:00:00 host", f"{T} host"),
        ("[01/Mar/2026:12:00:00 +0000] at 12:00:00", f"[{T}] at {T}"),
        ("Sun, Mar 1 12:00:00 2026", f"{T}"),
        ("\u0663 \u00e9 \u65e5 9\u5186", f"{N} \u00e9 \u65e5 {N}\u5186"),
    ],
)
def test_masks(line: str, masked: str) -> None:
    assert LineFormat.parse(ALL).apply(line) == masked
    assert LineFormat.parse(ALL).apply(f"{line}\n{line}\n") == f"{masked}\n{masked}\n"


def test_hexadecimal_words_without_numbers_and_as_they_were() -> None:
    line = "0x1f cafe12 deadbeef 7555191319994958 7"
    assert LineFormat.parse("hex").apply(line) == f"{H} {H} {H} 7555191319994958 7"
    before = {"mask": ["hex", "numbers"], "group_by": None}  # the header of a model that was saved before they were one kind
    format = LineFormat.from_json(before)
    assert format.apply(line) == LineFormat.from_json(format.to_json()).apply(line) == f"{H} {H} deadbeef {N} {N}"


@pytest.mark.parametrize("mask", [ALL, "numbers", "key", "key,numbers"])
def test_what_the_symbols_of_a_line_stand_for(mask: str) -> None:
    format = LineFormat.parse(mask, KEY_PATTERN if "key" in mask else None)
    finder = KeyFinder(format) if "key" in mask else None
    for line in [*(entry.text for entry in service_log(200)), f"10.0.0.1 {N} [{K}] said {T}", f"id {ABC}: /var/x, 7", ""]:
        masked = format.apply(line if finder is None else finder.find([line])[0][0])
        parts, values = MASK_SYMBOLS.split(masked), format.masked_values(line)
        assert "".join(text + value for text, value in zip(parts, [*values, ""], strict=True)) == line


def test_only_what_is_asked_for_is_masked_and_all_is_counted() -> None:
    line = f"10.0.0.1 sent 5 to {N} and 0x1"
    counts: Counter[str] = Counter()
    assert LineFormat.parse("ip, hex").apply(line, counts) == f"{A} sent 5 to {N} and {H}"
    assert counts == {"ip": 1, "hex": 1}
    counts = Counter()
    LineFormat.parse("numbers").apply(line, counts)
    assert counts == {"numbers": 4}  # the symbol that was there is none
    assert LineFormat().apply(line) == line


def test_masks_take_time_proportional_to_the_line() -> None:
    everything = LineFormat.parse(ALL)
    for piece in ("a", "1", "1.", "1:", "ab:", "::", "/a", "/", "-", "0x", "a1", "12:", "2026-", "1.1.1.", "Mar ", "Mon, "):
        started = time.perf_counter()
        everything.apply(piece * 30_000)
        assert time.perf_counter() - started < 1.5, piece


@pytest.mark.parametrize(
    ("mask", "group_by", "message"),
    [
        ("number", None, "mask='number': expected some of .*did you mean 'numbers'\\?$"),
        ("ip,,hex", None, "mask='': expected some of"),
        ("key", None, "add group_by="),
        (None, "(", "is no regular expression"),
        (None, "", "matches an empty text"),
        (None, r"(\d*)", "matches an empty text"),
        (None, "x" * 1001, "at most 1,000"),
    ],
)
def test_formats_that_cannot_be_used_are_refused(mask: str | None, group_by: str | None, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        LineFormat.parse(mask, group_by)


def test_a_format_is_the_same_after_it_was_saved() -> None:
    for given in (LineFormat(), LineFormat.parse("time,ip,key", r"id=(\w+)")):
        assert LineFormat.from_json(given.to_json()) == given
    damaged_formats: list[object] = [
        None,
        [],
        {},
        {"mask": "ip"},
        {"mask": ["no"]},
        {"mask": [], "group_by": 3},
        {"mask": [], "group_by": "("},
    ]
    for damaged in damaged_formats:
        with pytest.raises(ValueError, match="mask|pattern|regular"):
            LineFormat.from_json(damaged)


def test_keys() -> None:
    finder = KeyFinder(LineFormat.parse("key", r"id=(\w*)|user (\w+) on (\w+)"))
    lines, keys = finder.find(["a id=7 b id=8", "user eve on web.", "nothing", "id=", "x" * 20_000 + " id=9"])
    assert keys == ["7", "eve web", None, None, None]
    assert lines[:4] == [f"a id={K} b id=8", f"user {K} on web.", "nothing", "id="]
    assert [len(line) for line in lines[4:]] == [line_format.MAX_LINE]
    assert finder.notes() == ["3 of 5 lines have no key: each is a session of its own", "1 line cut at 16,384 characters"]
    whole = KeyFinder(LineFormat.parse(None, r"req-\d+"))
    assert whole.find(["a req-12 b"]) == (["a req-12 b"], ["req-12"])


def test_a_pattern_that_backtracks_is_stopped_with_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_format, "MAX_SEARCH_SECONDS", 0.1)
    before = signal.getsignal(signal.SIGALRM)
    finder = KeyFinder(LineFormat.parse(None, "((a+)+)b"))
    with pytest.raises(DataError, match=re.escape("takes more than 0.1 s at line 3: it backtracks")):
        finder.find(["ab", "ab", "a" * 60, "ab"])
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_timer_of_the_caller_goes_on() -> None:
    signal.setitimer(signal.ITIMER_REAL, 100)
    try:
        compile_key("a")
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def sessions(paths: list[Path], mask: str | None, group_by: str, tokens: str = "characters") -> list[str]:
    options = DataOptions(documents="session", tokens=tokens)
    corpus = open_corpus(list(map(str, paths)), options, line_format=LineFormat.parse(mask, group_by))
    eos_id, documents = corpus.tokenizer.eos_id, list[list[int]]()
    for token in corpus.ids.tolist():
        if token == eos_id:
            documents.append([])
        else:
            documents[-1].append(token)
    assert documents.pop() == []
    assert corpus.num_documents == len(documents)
    return [corpus.tokenizer.decode(ids) for ids in documents]


@pytest.mark.parametrize("tokens", ["characters", "bytes"])
@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_sessions_stand_together_over_all_files(
    tokens: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(session_files, "BATCH_LINES", batch)
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    first.write_bytes("id=1 é\r\nid=2 a 5\r\n\r\nno key\x1e\r\nid=1 b".encode())
    second.write_text("id=2 c\n\nid=3 d\nid=1 e\n")
    found = sessions([first, second], "numbers,key", r"id=(\d)", tokens)
    if tokens == "bytes":
        found = [text.replace("\r", "") for text in found if text.strip()]
    expected = [f"id={K} é\nid={K} b\nid={K} e\n", f"id={K} a {N}\nid={K} c\n", "no key \n", f"id={K} d\n"]
    assert found == expected
    assert "7 lines in 4 sessions" in caplog.text or tokens == "bytes"
    assert "of 7 lines have no key" in caplog.text or tokens == "bytes"
    assert f"masked: 1 number as {N}, 6 keys as {K}" in caplog.text
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_file()]  # copies


def test_a_pattern_that_finds_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="finds no key in any of 2 lines"):
        sessions([tmp_path / "a.log"], None, "id=(.)")
    assert not [path for path in (tmp_path / "cache").iterdir() if path.is_file()]


def test_the_sessions_of_a_simulated_log_are_those_that_were_written(tmp_path: Path) -> None:
    log = [line.text for line in service_log(400, seed=5)]
    (tmp_path / "a.log").write_text("\n".join(log) + "\n")
    expected: dict[str, str] = {}
    for line in log:
        key = re.findall(KEY_PATTERN, line)[0]
        expected[key] = expected.get(key, "") + line + "\n"
    assert sessions([tmp_path / "a.log"], None, KEY_PATTERN) == list(expected.values())


def test_lines() -> None:
    assert [split_lines(text) for text in ("", "a", "a\n", "a\n\nb", "\n")] == [[], ["a"], ["a"], ["a", "", "b"], [""]]
