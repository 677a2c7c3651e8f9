"""A file that grows, is replaced, cut, or is not there yet: no line is lost, none comes twice."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from unrolled.errors import DataError
from unrolled.text import followed_file
from unrolled.text.followed_file import FollowedFile


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_file, "POLL_SECONDS", 0.001)


def follow(path: Path, *steps: Callable[[], object], from_start: bool = False) -> tuple[list[str], FollowedFile]:
    """Return the lines that come while `steps` happen, one after the other, each when nothing new has come for a while."""
    remaining, quiet, lines = list(steps), 0, list[str]()

    def should_stop() -> bool:
        nonlocal quiet
        quiet += 1
        if quiet > 4:
            quiet = 0
            if not remaining:
                return True
            remaining.pop(0)()
        return False

    file = FollowedFile(path, from_start, should_stop)
    lines.extend(f"earlier {line}" for line in file.earlier_lines())
    for batch in file.batches():
        lines += batch
    return lines, file


def append(path: Path, data: str | bytes) -> Callable[[], object]:
    def write() -> None:
        with open(path, "ab") as file:
            file.write(data if isinstance(data, bytes) else data.encode())

    return write


def test_new_lines_come_when_they_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("old\nhalf")
    lines, _ = follow(path, append(path, " done\none\r\ntw"), append(path, "o"), append(path, "\n\nlast without end"))
    assert lines == ["earlier old", "half done", "one", "two", ""]
    lines, _ = follow(path, from_start=True)
    assert lines == ["old", "half done", "one", "two", ""]


def test_a_file_that_is_not_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    lines, _ = follow(path, append(path, "one\n"), append(path, "two\n"))
    assert lines == ["one", "two"]
    with pytest.raises(DataError, match="is a folder"):
        FollowedFile(tmp_path)


def test_rotation(tmp_path: Path) -> None:
    path, old = tmp_path / "a.log", tmp_path / "a.log.1"
    path.write_text("0\n")
    lines, file = follow(
        path,
        append(path, "1\npart"),
        lambda: path.rename(old),
        append(old, "ial\nlate\nno end"),  # the program writes to the old file until it is told
        append(path, "2\n"),
        lambda: os.replace(path, old),
        append(path, "3\n"),
        path.unlink,
        append(path, "4\n"),
    )
    assert lines == ["earlier 0", "1", "partial", "late", "no end", "2", "3", "4"]
    assert (file.num_rotations, file.num_truncations) == (3, 0)


def test_truncation(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("a long line that was there\n")
    lines, file = follow(path, append(path, "1\nhalf"), lambda: path.write_text(""), append(path, "2\n"))
    assert lines == ["earlier a long line that was there", "1", "half", "2"]
    assert (file.num_rotations, file.num_truncations) == (0, 1)


def test_only_the_end_of_a_long_file_is_read_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_file, "WARMUP_BYTES", 10)
    path = tmp_path / "a.log"
    path.write_text("abcdefgh\nijk\nlmn\n")
    assert follow(path, append(path, "new\n"))[0] == ["earlier ijk", "earlier lmn", "new"]


def test_long_lines_and_bytes_that_are_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_file, "MAX_PARTIAL_BYTES", 5)
    path = tmp_path / "a.log"
    lines, file = follow(path, append(path, b"\xff\xfe ok\n"), append(path, b"0123456789"), append(path, "é\rx\n"))
    assert lines == ["\ufffd\ufffd ok", "0123456789", "é x"]
    assert file.num_undecodable == 1


def test_no_line_is_lost_while_another_thread_writes_and_rotates(tmp_path: Path) -> None:
    path, done = tmp_path / "a.log", threading.Event()

    def write() -> Iterator[None]:
        for number in range(600):
            with open(path, "a") as file:
                file.write(f"{number}\n")
            if number % 97 == 96:
                while seen[-1:] != [str(number)]:
                    done.wait(0.001)
                path.rename(tmp_path / f"a.log.{number}")
        done.set()
        yield

    seen: list[str] = []
    file = FollowedFile(path, True, lambda: done.is_set() and len(seen) >= 600)
    file.earlier_lines()
    writer = threading.Thread(target=lambda: list(write()))
    writer.start()
    for batch in file.batches():
        seen += batch
    writer.join()
    assert seen == list(map(str, range(600)))
    assert file.num_rotations >= 5
