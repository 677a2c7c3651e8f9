"""The examples in the docstrings of everything public run, and there is one in each."""

import doctest
import inspect
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

import unrolled
from unrolled.text.midi_files import midi_bytes
from unrolled.text.midi_text import parse_song

FUNCTIONS = [unrolled.train, unrolled.train_table, unrolled.load, unrolled.load_table, unrolled.import_model]
CLASSES: list[type] = [unrolled.Model, unrolled.TableModel, unrolled.RNN, unrolled.GRU, unrolled.LSTM]
METHODS = [
    function
    for owner in (unrolled.Model, unrolled.TableModel)
    for name, function in inspect.getmembers(owner, inspect.isfunction)
    if not name.startswith("_")
]
FLAGS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a text, a table and songs, a small model of each in runs/, and a model of PyTorch."""
    path = tmp_path_factory.mktemp("doctests")
    (path / "book.txt").write_text("".join(f"The cat number {number} sat on the mat.\n" for number in range(60)), "utf-8")
    words = [f"{a}{b}{a}" for a in "ab" for b in "abcdefghijklmnopqrst"]
    (path / "words.csv").write_text("word,label\n" + "".join(f"{w},starts with {w[0]}\n" for w in words), "utf-8")
    layers = {"embedding": torch.nn.Embedding(9, 4), "gru": torch.nn.GRU(4, 8), "head": torch.nn.Linear(8, 9)}
    torch.save(torch.nn.ModuleDict(layers).state_dict(), path / "lm.pt")
    (path / "chars.json").write_text('["a", "b", "c", "d", "e", "f", "g", " ", "."]', "utf-8")
    (path / "songs").mkdir()
    for number in range(4):
        song = parse_song(f"T120 M4/4\n C4:{number + 1} +12 E4:12", 12, Counter())
        (path / f"songs/{number}.mid").write_bytes(midi_bytes(song, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(path / "cache"))
        patch.chdir(path)
        unrolled.train("book.txt", steps=30, hidden=8, batch=4, bptt=8, sample_length=0, progress=False)
        unrolled.train_table("words.csv", "word:text", "label:label", steps=5, hidden=8, progress=False)
        unrolled.train("songs", steps=2, hidden=8, batch=2, bptt=8, train_fraction=1.0, sample_length=0, progress=False)
    return path


def subject(thing: Any) -> str:
    return str(thing.__qualname__)


@pytest.mark.slow
@pytest.mark.parametrize("thing", [*FUNCTIONS, *CLASSES, *METHODS], ids=subject)
def test_examples_run(thing: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("UNROLLED_CACHE", str(folder / "cache"))
    names = {
        "unrolled": unrolled,
        "model": unrolled.load("runs/book", threads=1),
        "table_model": unrolled.load_table("runs/words", threads=1),
    }
    examples = doctest.DocTestParser().get_doctest(thing.__doc__ or "", names, thing.__qualname__, None, 0)
    assert examples.examples or thing in (unrolled.Model, unrolled.TableModel)  # the methods of these two have them
    report: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(examples, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("function", [*FUNCTIONS, *METHODS], ids=subject)
def test_docstrings_describe_arguments_results_and_errors(function: Any) -> None:
    text = inspect.getdoc(function) or ""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    described = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert "Returns:" in text or "Yields:" in text or text.startswith("Return")
    assert "Example:" in text
    for parameter in described:
        assert f" {parameter.name}" in text or f"`{parameter.name}`" in text or len(described) == 1, parameter.name
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            assert f"    {parameter.name}" in text, parameter.name
