"""Samples that a program of the user keeps, and the share of valid ones in the report."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import unrolled
from unrolled.analysis import keep_if
from unrolled.analysis.novel_samples import sample_ids
from unrolled.cli.main import main
from unrolled.errors import UsageError
from unrolled.generation.sampling import Sample
from unrolled.text.tokenizer import ByteTokenizer

SMALL: dict[str, Any] = {"hidden": 8, "layers": 1, "batch": 2, "steps": 5, "sample_length": 0, "threads": 1}
EVEN = "import sys; text = sys.stdin.read(); sys.exit('odd' if len(text) % 2 else 0)"


@pytest.fixture
def model() -> unrolled.Model:
    Path("names.txt").write_text(
        "".join(f"{name}{ending}\n" for name in ("an", "be", "cy", "do") for ending in ("na", "n", "x"))
    )
    Path("even.py").write_text(EVEN)
    unrolled.train("names.txt", documents="line", out="run", progress=False, **SMALL)
    return unrolled.load("run")


def test_only_what_the_command_keeps(model: unrolled.Model, capfd: pytest.CaptureFixture[str]) -> None:
    command = f"{sys.executable} even.py"
    kept = list(model.samples(count=5, length=9, seed=2, keep_if=command))
    assert len(kept) == 5
    assert all(len(sample.text) % 2 == 0 for sample in kept)
    assert all(sample.text == model.sample(length=9, seed=sample.seed) for sample in kept)
    assert main(["sample", "run", "--count", "3", "--length", "9", "--keep-if", command]) == 0
    assert re.search(r"3 of [0-9]+ samples were kept by", capfd.readouterr().err)
    assert main(["sample", "run", "--length", "9", "--keep-if", command, "--json"]) == 0
    assert len(json.loads(capfd.readouterr().out)["samples"][0]["text"]) % 2 == 0


def test_a_command_that_keeps_nothing(model: unrolled.Model) -> None:
    Path("never.py").write_text("import sys; sys.exit('line 1\\nno molecule')")
    with pytest.raises(UsageError, match=r"Only 0 of 20 samples were kept \(0 of 20 .*it said last: no molecule\)"):
        model.sample(length=5, keep_if=f"{sys.executable} never.py")


def test_commands_that_cannot_judge(model: unrolled.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep_if, "TIMEOUT_SECONDS", 0.3)
    for command, message in (
        ("no-such-program -x", "there is no program 'no-such-program'"),
        ("", "there is no program ''"),
        ("cat 'open", "No closing quotation; quote it"),
        ("sh -c 'sleep 60 & sleep 60'", "did not end within 0.3 seconds"),
        ("sh -c no-such-program", "cannot be run: .*not found"),
    ):
        with pytest.raises(UsageError, match=message):
            model.sample(length=5, keep_if=command)


@pytest.mark.slow
def test_the_report_says_how_many_are_valid(model: unrolled.Model) -> None:
    assert model is not None
    assert main(["report", "run", "--keep-if", "grep -q a"]) == 0
    page = Path("run/report.html").read_text("utf-8")
    found = re.search(r'"valid": ?([0-9.]+)', page)
    assert found is not None
    assert 0 <= float(found[1]) <= 1
    unrolled.train("names.txt", out="stream", progress=False, **SMALL)
    assert main(["report", "stream", "--keep-if", "true"]) == 2


def test_bytes_that_are_no_text_are_searched_as_they_are() -> None:
    sample = Sample("a\ufffd", "", 1, 2, "length", b"a\xff")
    assert sample_ids(ByteTokenizer(), sample).tolist() == [0x61, 0xFF]
