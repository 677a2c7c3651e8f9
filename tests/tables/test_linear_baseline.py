"""TF-IDF with a linear classifier, compared with a model that labels texts: it needs scikit-learn and the training rows."""

import csv
import json
import logging
import random
from pathlib import Path

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.analysis.linear_baseline import NAME, NUMBER_NAME, predict_labels, predict_numbers

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


@pytest.mark.slow
@pytest.mark.parametrize("labels", [("no", "yes"), ("9", "10")])  # 9 is before 10 among labels, and after it among texts
def test_two_labels_have_an_auc(labels: tuple[str, str]) -> None:
    draw = random.Random(1)
    rows = [" ".join(draw.choices(["warm", "cold", "dry", "wet"], k=4)) for _ in range(200)]
    lines = [f"{row},{labels[row.count('warm') > row.count('cold')]}" for row in rows]
    Path("rows.csv").write_text("\n".join(["text,label", *lines]) + "\n")
    model = unrolled.train_table(
        "rows.csv", "text", "label:label", steps=60, hidden=8, layers=1, lr=0.02, out="run", threads=1, progress=False
    )
    report = model.evaluate("rows.csv")
    assert report.metrics["roc_auc"] > 0.9
    assert report.baselines[NAME]["roc_auc"] > 0.9
    reversed_rows = [f"{line.rpartition(',')[0]},{labels[line.endswith(labels[0])]}" for line in lines]
    Path("wrong.csv").write_text("\n".join(["text,label", *reversed_rows]) + "\n")
    assert model.evaluate("wrong.csv").metrics["roc_auc"] == pytest.approx(1 - report.metrics["roc_auc"])
    Path("one.csv").write_text(f"text,label\nwarm,{labels[1]}\ncold,{labels[1]}\n")
    assert "roc_auc" not in model.evaluate("one.csv").metrics


@pytest.mark.slow
def test_numbers_have_one_too(cli: Cli) -> None:
    draw = random.Random(1)
    rows = [" ".join(draw.choices(["warm", "cold", "dry"], k=draw.randint(2, 9))) for _ in range(120)]
    lines = [f"{row},{row.count('warm') - 0.5 * row.count('cold') + 0.25}" for row in rows]
    Path("rows.csv").write_text("\n".join(["text,number", *lines]) + "\n")
    unrolled.train_table("rows.csv", "text", "number", steps=1, hidden=8, layers=1, out="run", threads=1, progress=False)
    metrics = unrolled.load_table("run").evaluate()
    assert metrics.baselines[NUMBER_NAME]["rmse"] < 0.2 * metrics.baselines["mean"]["rmse"]
    assert NUMBER_NAME in cli("eval", "run").out


def test_few_rows() -> None:
    assert predict_numbers(["a", "b"], np.array([1.0, 3.0]), ["q"]).shape == (1,)
    assert predict_numbers([" ", ""], np.array([1.0, 3.0]), ["q"]).tolist() == [2.0]
    labels, scores = predict_labels(["a b", "c d"], ["x", "y"], ["c", "a"])
    assert labels == ["y", "x"]
    assert scores is not None
    assert scores[0] > scores[1]
    assert predict_labels(["a", "b"], ["x", "x"], ["b", "q"]) == (["x", "x"], None)
    assert predict_labels([" ", ""], ["x", "y"], ["q"]) == (["x"], None)
    assert predict_labels(["a", "b", "c"], ["x", "y", "z"], ["b"]) == (["y"], None)
