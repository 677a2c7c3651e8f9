"""The page about series is a program: its blocks run as they are written."""

import csv
import io
import re
import shlex
from pathlib import Path

from support.cli import Cli

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "series.md"


def test_the_page_runs(cli: Cli) -> None:
    outputs = {}
    for language, block in re.findall(r"```(python|sh)\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL):
        if language == "python":
            exec(compile(block, "series.md", "exec"), {})
            continue
        for line in block.strip().splitlines():
            words = shlex.split(line)
            assert words[0] == "unrolled"
            result = cli(*words[1:], *(["--threads", "1", "--sample-length", "0"] if words[1] == "train" else []))
            assert result.code == 0, result.err
            outputs[tuple(words[1:3])] = result
    assert "2 steps have a number far out of the range" in outputs["train", "machine.csv"].err
    assert "machine.csv, line 202, machine.csv, line 557" in outputs["train", "machine.csv"].err
    forecast = list(csv.DictReader(io.StringIO(outputs["predict", "runs/load"].out)))
    assert [row["time"] for row in forecast[:2]] == ["2024-02-01T00:00:00", "2024-02-01T01:00:00"]
    assert list(forecast[0]) == ["time", "step", "predicted", "p10", "p50", "p90"]
    flows = list(csv.DictReader(io.StringIO(outputs["predict", "runs/river"].out)))
    assert len(flows) == 1200
    assert {row["gauge"] for row in flows} == {f"gauge {i}" for i in range(12)}
    for run in ("runs/load", "runs/river", "runs/machine"):
        assert (
            "baseline" in outputs["eval", run].out
            or "mean" in outputs["eval", run].out
            or "majority" in outputs["eval", run].out
        )
