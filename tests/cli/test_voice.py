"""What commands say: rows by the figure that is shown, one row for the n-grams, one judgement in all places, and grammar."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from unrolled.cli.parser import program_name

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 4, "bptt": 8, "sample_length": 0, "progress": False, "threads": 1}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("voice")
    (folder / "book.txt").write_text("the cat sat on the mat.\n\nthe dog ran.\n" * 200, "utf-8")
    unrolled.train(str(folder / "book.txt"), out=str(folder / "run"), steps=30, **SMALL)
    return str(folder / "run")


def test_scored_lines_are_sorted_by_what_is_shown(cli: Cli, run: str, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("the cat sat.\n\nzzz qqq zzz\nthe dog ran on the mat and on the mat.\n", "utf-8")
    lines = cli("score", run, text).out.splitlines()
    assert lines[0].endswith(" in 4 lines")
    assert lines[2].split() == ["line", "excess", "bits", "(bits", "per", "token)"]
    rows = [line.split() for line in lines[3:]]
    assert len(rows) == 4
    excess = [float(row[1]) for row in rows]
    assert excess == sorted(excess, reverse=True)
    assert next(row for row in rows if row[0] == "2")[3:] == ["\u21b5"]


def test_one_line_of_one_character(cli: Cli, run: str, tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_text("th", "utf-8")
    assert cli("score", run, text).out.startswith("1 character in 1 line\n")


def test_a_text_without_anything_to_predict_is_not_perfect(cli: Cli, run: str, tmp_path: Path) -> None:
    """Once, an empty file had 0 bits per character, which is what a perfect model has."""
    text = tmp_path / "t.txt"
    text.write_text("", "utf-8")
    for flags in ([], ["--json"], ["--per", "character"], ["--html", tmp_path / "page.html"]):
        done = cli("score", run, text, *flags)
        assert (done.code, done.out, done.err) == (3, "", f"unrolled: There is no text in {text}.\n")
    assert not (tmp_path / "page.html").exists()
    text.write_text("t", "utf-8")
    assert json.loads(cli("score", run, text, "--json").out)["bits_per_character"] is None
    assert cli("score", run, text, "--html", tmp_path / "page.html").code == 0
    assert '"bits":null' in (tmp_path / "page.html").read_text("utf-8").replace(" ", "")
    assert repr(unrolled.load(run).score("t")) == "<ScoredText: 1 token, nothing to predict>"


def test_the_next_command_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `make train`, the program is in .venv/bin: to type `unrolled` gave 'command not found'."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "unrolled"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n", "utf-8")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/usr/bin")
    assert program_name() == "bin/unrolled"
    monkeypatch.setenv("PATH", str(program.parent))
    assert program_name() == "unrolled"


def test_ngrams_are_one_row(cli: Cli, run: str) -> None:
    out = cli("eval", run, "--baselines", "--order", 9).out
    rows = [line for line in out.splitlines() if "-gram" in line and "of other orders" not in line]
    assert len(rows) == 1
    assert "(the best order)" in rows[0]
    best = int(rows[0].split("-gram")[0])
    shown = re.fullmatch(r"n-grams of other orders, in nats: (.*) \(1 to 9 were measured\)", out.splitlines()[-1])
    assert shown is not None
    assert [int(part.split(":")[0]) for part in shown[1].split(", ")] == [n for n in (best - 1, best + 1) if 1 <= n <= 9]
    assert len(json.loads(cli("eval", run, "--baselines", "--order", 9, "--json").out)["baselines"]) >= 11


def test_report_and_explain_judge_alike(cli: Cli, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("the cat sat on the mat.\n" * 100, "utf-8")
    model = unrolled.train(str(text), out="short", steps=5, **SMALL)
    assert "too short to find detectors" in cli("explain", "short").err
    report = model.report(order=3, samples=1)
    detectors = next(item for item in report.data["headline"] if item["name"] == "detectors")
    assert detectors["value"] == "not known"
    assert "too short to find detectors" in detectors["note"]
    assert report.data["detectors"] is None
    assert [row["name"] for row in report.data["baselines"]["rows"]][1:] == [
        f"{model.baselines(order=3).best_ngram[0]}-gram (the best order)", "xz", "this model",
    ]  # fmt: skip


def test_a_table_as_a_text_says_what_to_type(cli: Cli) -> None:
    Path("my table.csv").write_text("id,first name,c\n" + "".join(f"{i},name {i},{'yz'[i % 2]}\n" for i in range(300)), "utf-8")
    done = cli("train", "my table.csv", "--steps", 1, "--hidden", 8, "--layers", 1, "--batch", 2, "--bptt", 8, "--threads", 1)
    assert done.code == 0
    assert "the columns of my table.csv are id, first name, c; to learn" in done.err
    assert "unrolled train 'my table.csv' --source 'first name' --target c" in done.err
