"""What the tests share: a cache of their own, small texts, and the command line called in this process."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ["OMP_NUM_THREADS"] = "1"  # tiny models gain nothing from more, and threads that wait for each other are slow

from browser import browser

from unrolled.cli import main  # after the number of threads is set

__all__ = ["browser"]  # one for all tests: Playwright runs once in a process


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty cache and works in an empty folder."""
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def sentences(count: int, seed: int = 0) -> str:
    """Return lines of a tiny grammar: enough structure to be learned in seconds."""
    draw = random.Random(seed)
    words = ["the", "a", "old", "red", "dog", "fox", "jumps", "sleeps", "and", "but", "today"]
    return "".join(" ".join(draw.choices(words, k=draw.randint(3, 8))).capitalize() + ".\n" for _ in range(count))


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of some 12 kB."""
    path = tmp_path / "book.txt"
    path.write_text(sentences(400), "utf-8")
    return path


class Done(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Call the command line in this process."""

    def call(*arguments: object) -> Done:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    return call


SMALL = ("--hidden", 16, "--batch", 4, "--bptt", 8, "--sample-length", 20)
