"""A column type that is added from outside works everywhere: it is a class and an entry in `COLUMN_TYPES`."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from support.runs import assert_same_run
from support.tables import write_csv
from unrolled.errors import DataError
from unrolled.tables.cell_values import Array, Cell, parse_text
from unrolled.tables.columns import COLUMN_TYPES
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.numeric_columns import NumberColumn

TINY = ("--hidden", 16, "--layers", 1, "--batch", 8, "--threads", 1, "--precision", "float32")


class DurationColumn(NumberColumn):
    """A time "minutes:seconds", as a number of seconds."""

    kind = "duration"

    @staticmethod
    def parse(cell: Cell) -> Array:
        minutes, colon, seconds = parse_text(cell).partition(":")
        if not (colon and minutes.isdecimal() and seconds.isdecimal()):
            raise DataError(f"{cell.location}: a duration such as 3:45 is expected, and this is '{cell.value}'.")
        return np.array([[60.0 * int(minutes) + int(seconds)]])

    def decode(self, values: Array) -> str:
        seconds = max(0, round(float(self.unscale(values)[0, 0])))
        return f"{seconds // 60}:{seconds % 60:02}"


class BooleanColumn(LabelColumn):
    """Yes or no, in several spellings."""

    kind = "boolean"

    def encode(self, cell: Cell) -> Array:
        return super().encode(cell._replace(value="yes" if parse_text(cell).lower() in ("yes", "y", "true", "1") else "no"))

    @classmethod
    def fit(cls, name: str, cells: Any, config: dict[str, Any]) -> "BooleanColumn":
        return cls(name, ["no", "yes"])


@pytest.fixture(autouse=True)
def register(monkeypatch: pytest.MonkeyPatch) -> None:
    for column_type in (DurationColumn, BooleanColumn):
        monkeypatch.setitem(COLUMN_TYPES, column_type.kind, column_type)


def races(count: int, seed: int) -> Path:
    """Distances in laps, the time for them, and whether it was longer than a minute, in several spellings."""
    draw, rows = random.Random(seed), []
    for _ in range(count):
        laps = draw.randint(1, 9)
        seconds = 20 * laps + draw.randint(0, 3)
        long = draw.choice(["yes", "True", "1"] if seconds > 60 else ["no", "0"])
        rows.append({"laps": "|" * laps, "time": f"{seconds // 60}:{seconds % 60:02}", "long": long})
    return write_csv(Path(f"races-{seed}.csv"), rows)


def test_a_new_numeric_target_trains_evaluates_predicts_and_loads(cli: Cli) -> None:
    flags = ("--source", "laps:text", "--target", "time:duration", *TINY, "--lr", 0.02)
    done = cli("train", races(150, 1), *flags, "--steps", 150, "--out", "run")
    assert done.code == 0, done.err
    assert "time: duration: many-to-one" in done.err
    report = json.loads(cli("eval", "run", races(30, 2), "--json").out)
    assert report["headline"] == "rmse"
    assert report["metrics"]["rmse"] < 50 < report["baselines"]["mean"]["rmse"]  # in seconds
    assert json.loads(cli("eval", "run", "--json").out)["rows"] < 30
    rows = list(csv.DictReader(io.StringIO(cli("predict", "run", races(30, 2)).out)))
    predicted, truth = ([DurationColumn.parse(Cell(row[name], "")).item() for row in rows] for name in ("predicted", "time"))
    assert np.corrcoef(predicted, truth)[0, 1] > 0.6
    assert unrolled.load_table("run").predict(["|||"]) == [row["predicted"] for row in rows if row["laps"] == "|||"][:1]


def test_a_new_label_target_has_the_metrics_and_probabilities_of_labels(cli: Cli) -> None:
    flags = ("--source", "laps:text", "--target", "long:boolean", *TINY, "--lr", 0.02)
    assert cli("train", races(150, 1), *flags, "--steps", 60, "--out", "run").code == 0
    report = json.loads(cli("eval", "run", races(30, 2), "--json").out)
    assert report["headline"] == "accuracy"
    row = next(csv.DictReader(io.StringIO(cli("predict", "run", races(30, 2), "--probabilities").out)))
    assert float(row["p_yes"]) + float(row["p_no"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_run_with_a_new_column_resumes(cli: Cli) -> None:
    flags = ("--source", "time:duration", "--target", "long:boolean", *TINY, "--steps", 20)
    cli("train", races(60, 1), *flags, "--out", "whole")
    cli("train", races(60, 1), *flags, "--stop-after", 9, "--out", "stopped")
    assert cli("train", "--resume", "stopped").code == 0
    assert_same_run(Path("whole"), Path("stopped"), 20)


def test_the_command_line_offers_the_new_kind_and_names_bad_cells(cli: Cli) -> None:
    done = cli("train", races(20, 1), "--source", "laps:text", "--target", "time:duratoin", *TINY)
    assert done.code == 2
    assert "did you mean 'duration'?" in done.err or ", duration" in done.err
    path = write_csv(Path("bad.csv"), [{"laps": "|", "time": "1:05"}, *[{"laps": "||", "time": "soon"}] * 2])
    done = cli("train", path, "--source", "laps:text", "--target", "time:duration", *TINY, "--out", "run")
    assert done.code == 3
    assert "line 3: a duration such as 3:45 is expected" in done.err


def test_a_model_with_an_unregistered_kind_is_refused(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("--source", "laps:text", "--target", "time:duration", *TINY, "--steps", 2)
    cli("train", races(20, 1), *flags, "--out", "run")
    monkeypatch.delitem(COLUMN_TYPES, "duration")
    done = cli("predict", "run", races(20, 1))
    assert done.code == 4
    assert "a column of the kind 'duration', which is none of text, label" in done.err


def test_the_help_lists_the_built_in_kinds(cli: Cli) -> None:
    built_in = ", ".join(kind for kind in COLUMN_TYPES if kind not in ("duration", "boolean"))
    assert built_in in " ".join(cli("train", "--help").out.split())
