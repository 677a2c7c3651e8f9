"""The page about series is a program: its blocks run as they are written."""

import csv
import io

import pytest

from support.cli import Cli
from support.howto import run_page


@pytest.mark.slow
def test_the_page_runs(cli: Cli) -> None:
    outputs = {tuple(words[:2]): result for words, result in run_page("series.md", cli)}
    assert "2 steps have a number far out of the range" in outputs["train", "machine.csv"].err
    assert "machine.csv, line 202, machine.csv, line 557" in outputs["train", "machine.csv"].err
    forecast = list(csv.DictReader(io.StringIO(outputs["predict", "runs/load"].out)))
    assert [row["time"] for row in forecast[:2]] == ["2024-02-01T00:00", "2024-02-01T01:00"]
    assert list(forecast[0]) == ["time", "step", "predicted", "p10", "p50", "p90"]
    sales = list(csv.DictReader(io.StringIO(outputs["predict", "runs/sales"].out)))
    assert [int(row["day"]) for row in sales] == list(range(360, 374))
    flows = list(csv.DictReader(io.StringIO(outputs["predict", "runs/river"].out)))
    assert len(flows) == 1200
    assert {row["gauge"] for row in flows} == {f"gauge {i}" for i in range(12)}
    for run in ("runs/load", "runs/sales", "runs/river", "runs/machine"):
        assert (
            "baseline" in outputs["eval", run].out
            or "mean" in outputs["eval", run].out
            or "majority" in outputs["eval", run].out
        )
