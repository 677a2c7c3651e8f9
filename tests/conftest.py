"""Fixtures that every test can ask for; and an empty cache and an empty folder for each of them."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported. Tiny models gain nothing from more than one thread; `make test-instructions` tries 2 and 3.
os.environ["OMP_NUM_THREADS"] = os.environ.get("UNROLLED_TEST_THREADS", "1")

from support.cli import cli
from support.faults import quick_trainings
from support.forks import forks
from support.live_server import page_server
from support.native import best_set_again
from support.pages import browser
from support.programs import compiler, node
from support.texts import sentences

__all__ = ["best_set_again", "browser", "cli", "compiler", "forks", "node", "page_server"]

THREADS = int(os.environ["OMP_NUM_THREADS"])


@pytest.fixture(scope="session", autouse=True)
def in_a_hurry() -> Iterator[None]:
    """Nothing waits for the disk, in fixtures of modules too."""
    with quick_trainings():
        yield


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has an empty cache and works in an empty folder."""
    monkeypatch.setenv("UNROLLED_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Undo `threads=2` of a test: the threads of all tests after it would wait for each other on the same few cores."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """A text of some 12 kB."""
    path = tmp_path / "book.txt"
    path.write_text(sentences(400), "utf-8")
    return path
