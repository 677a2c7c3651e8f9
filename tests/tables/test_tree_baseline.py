"""Gradient-boosted trees next to models of columns: they learn from the same rows, and are right where they can be."""

import csv
import logging
import random
from pathlib import Path
from typing import Any

import pytest

import unrolled
from support.cli import Cli
from unrolled.analysis.tree_baseline import NAME

pytest.importorskip("sklearn")
TINY: dict[str, Any] = {"steps": 1, "hidden": 8, "layers": 1, "threads": 1, "progress": False}


def write_rows(path: str, count: int, seed: int = 1) -> None:
    draw = random.Random(seed)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "city", "note", "label", "number"])
        for _ in range(count):
            age, city, word = draw.uniform(0, 90), draw.choice(["Rome", "Oslo", "Bern"]), draw.choice(["fine", "poor", "odd"])
            is_yes = (age > 40) == (city == "Oslo")
            number = age * (city == "Rome") + 50 * (word == "fine")
            age_text = "" if draw.random() < 0.1 else f"{age:.2f}"
            writer.writerow([age_text, city, f"{word} {draw.choice(['day', 'week'])}", "yes" if is_yes else "no", number])


@pytest.mark.slow
def test_a_label_of_several_columns(cli: Cli, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write_rows("rows.csv", 400)
    write_rows("new.csv", 100, seed=2)
    unrolled.train_table("rows.csv", ["age", "city", "note"], "label", out="run", **TINY)
    report = unrolled.load_table("run").evaluate("new.csv")
    assert report.baselines[NAME]["accuracy"] > 0.85  # a tenth of the ages is missing, and a half of those are guessed
    assert set(report.baselines[NAME]) == set(report.metrics)
    assert report.baselines[NAME]["roc_auc"] > 0.85
    assert NAME in cli("eval", "run").out
    assert NAME in cli("report", "run").out + Path("run/report.html").read_text("utf-8")
    Path("rows.csv").unlink()
    assert NAME not in unrolled.load_table("run").evaluate("new.csv").baselines
    assert f"{NAME} is left out of the baselines: No such file" in caplog.text


@pytest.mark.slow
def test_a_number_of_several_columns_and_of_one_vector() -> None:
    write_rows("rows.csv", 400)
    unrolled.train_table("rows.csv", ["age", "city", "note"], "number", out="run", **TINY)
    metrics = unrolled.load_table("run").evaluate()
    assert metrics.baselines[NAME]["rmse"] < 0.5 * metrics.baselines["mean"]["rmse"]
    draw = random.Random(1)
    lines = [f"{a:.3f} {b:.3f},{a * b:.4f}" for a, b in ((draw.random(), draw.random()) for _ in range(300))]
    Path("vectors.csv").write_text("\n".join(["v,y", *lines]) + "\n")
    unrolled.train_table("vectors.csv", "v:vector", "y:number", out="vector-run", **TINY)
    metrics = unrolled.load_table("vector-run").evaluate()
    assert metrics.baselines[NAME]["rmse"] < 0.5 * metrics.baselines["mean"]["rmse"]


def test_there_is_none_for_sequences() -> None:
    lines = [f'{{"v": [{i}, {i + 1}], "w": "a b", "label": ["x", "y"]}}' for i in range(30)]
    Path("rows.jsonl").write_text("\n".join(lines) + "\n")
    unrolled.train_table("rows.jsonl", "w:words", "label", out="run", **TINY)
    assert NAME not in unrolled.load_table("run").evaluate().baselines
