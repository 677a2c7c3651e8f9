"""Numbers of a source that are very unevenly spread, such as incomes, are read by their place among quantiles."""

import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from unrolled.errors import ModelError
from unrolled.tables.cell_values import Cell
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.numeric_columns import NumberColumn


def cells_of(values: list[Any]) -> list[Cell]:
    return [Cell(value, "t", line, None) for line, value in enumerate(values, 2)]


def incomes(count: int, seed: int = 1) -> list[float]:
    draw = random.Random(seed)
    return [draw.lognormvariate(0, 3) for _ in range(count)]


def test_the_median_is_in_the_middle_and_larger_numbers_are_larger() -> None:
    values = incomes(1001)
    column = NumberColumn.fit("income", cells_of([repr(value) for value in values]), {"is_source": True})
    encoded = [float(column.encode(cell)[0, 0]) for cell in cells_of([-5, 0, *sorted(values), 1e6, 1e9])]
    assert encoded == sorted(encoded)
    assert len(set(encoded)) > 990  # of float32
    assert abs(float(column.encode(cells_of([sorted(values)[500]])[0])[0, 0])) < 1e-6
    assert 0.8 < np.std(encoded) < 1.2
    again = column_from_json(column_to_json(column))
    assert [float(again.encode(cell)[0, 0]) for cell in cells_of(values)] == [
        float(column.encode(cell)[0, 0]) for cell in cells_of(values)
    ]


def test_other_columns_and_targets_are_scaled_as_before() -> None:
    values = [random.Random(1).gauss(5, 2) for _ in range(100)]
    even = NumberColumn.fit("x", cells_of(values), {"is_source": True})
    target = NumberColumn.fit("x", cells_of(incomes(100)), {"is_source": False})
    few = NumberColumn.fit("x", cells_of([0] * 99 + [1]), {"is_source": True})
    for column in (even, target, few):
        assert set(column.to_dict()) == {"mean", "scale"}
    assert even.encode(cells_of([5.0])[0])[0, 0] == pytest.approx((5 - even.to_dict()["mean"][0]) / even.to_dict()["scale"][0])


def test_a_source_that_numbers_the_rows_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Of rows that are sorted by their label, an `id` made 0.9 of the held-out rows right."""
    with caplog.at_level(logging.INFO, "unrolled"):
        NumberColumn.fit("id", cells_of(list(range(100, 200))), {"is_source": True})
    assert "'id' numbers the rows (100, 101, ...), which says where a row stands in this file" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, "unrolled"):
        NumberColumn.fit("age", cells_of([i * 7 % 90 for i in range(100)]), {"is_source": True})
        NumberColumn.fit("y", cells_of(list(range(100))), {"is_source": False})
    assert "numbers the rows" not in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"quantiles": [2.0, 1.0]}, {"scores": [1.0]}, {"quantiles": [1.0, float("nan")]}, {"quantiles": [1.0], "scores": [0.0]}],
)
def test_quantiles_of_a_damaged_file_are_refused(change: dict[str, Any]) -> None:
    value = {"mean": [0.0], "scale": [1.0], "quantiles": [1.0, 2.0], "scores": [-1.0, 1.0]}
    NumberColumn.from_dict("x", value)
    with pytest.raises(ModelError, match="The quantiles of the column 'x' cannot be read"):
        NumberColumn.from_dict("x", value | change)


@pytest.mark.slow
def test_a_label_that_follows_the_median_of_incomes_is_learned() -> None:
    """Scaled by mean and deviation, nearly all incomes were one number: 0.51 of such labels were right."""

    def write(path: str, seed: int) -> None:
        other = random.Random(seed + 100)
        rows = [(income, other.gauss(0, 1)) for income in incomes(600, seed)]
        lines = [f"{income:.5g},{x:.4f},{'yes' if (income > 1) == (x > 0) else 'no'}" for income, x in rows]
        Path(path).write_text("\n".join(["income,x,label", *lines]) + "\n")

    write("rows.csv", 1)
    write("new.csv", 2)
    model = unrolled.train_table(
        "rows.csv", ["income", "x"], "label", steps=300, hidden=32, layers=1, out="run", threads=1, progress=False
    )
    assert model.evaluate("new.csv").metrics["accuracy"] > 0.9
