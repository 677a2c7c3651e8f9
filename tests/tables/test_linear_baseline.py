"""TF-IDF with a linear classifier, compared with a model that labels texts: it needs scikit-learn and the training rows."""

import csv
import json
import logging
import random
from pathlib import Path

import pytest

import unrolled
from support.cli import Cli
from unrolled.analysis.linear_baseline import NAME, predict_labels

pytest.importorskip("sklearn")
LABELS = {"who": "person", "where": "place", "when": "time"}


def write_table(path: Path, count: int) -> None:
    draw = random.Random(1)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(count):
            word = draw.choice(list(LABELS))
            writer.writerow([f"{word} {draw.choice(['is', 'was'])} {draw.randint(1, 99)} ?", LABELS[word]])


@pytest.mark.slow
def test_it_stands_next_to_the_model(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_table(Path("rows.csv"), 120)
    write_table(Path("new.csv"), 30)
    unrolled.train_table("rows.csv", "text", "label", steps=1, hidden=8, layers=1, out="run", threads=1, progress=False)
    report = unrolled.load_table("run").evaluate("new.csv")
    assert report.baselines[NAME]["accuracy"] == 1
    assert set(report.baselines[NAME]) == set(report.metrics)
    assert NAME in cli("eval", "run").out
    assert json.loads(cli("eval", "run", "new.csv", "--json").out)["baselines"][NAME]["accuracy"] == 1
    Path("rows.csv").unlink()
    assert NAME not in unrolled.load_table("run").evaluate("new.csv").baselines
    assert f"{NAME} is left out of the baselines: No such file" in caplog.text


def test_few_rows() -> None:
    assert predict_labels(["a b", "c d"], ["x", "y"], ["c", "a"]) == ["y", "x"]
    assert predict_labels(["a", "b"], ["x", "x"], ["b", "q"]) == ["x", "x"]
    assert predict_labels([" ", ""], ["x", "y"], ["q"]) == ["x"]
