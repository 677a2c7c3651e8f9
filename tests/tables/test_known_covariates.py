"""Columns that are known for the steps of a forecast: `--known-covariates`."""

from __future__ import annotations

import csv
import datetime
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from support.tables import rows_of, write_long
from unrolled.errors import DataError, UsageError
from unrolled.options import MachineOptions
from unrolled.series_options import SeriesOptions
from unrolled.server.catalog import Catalog
from unrolled.server.table_columns import series_facts
from unrolled.tables.cell_values import Cell
from unrolled.tables.known_covariates import Covariate, count_known
from unrolled.tables.long_table import LongFormat, group_steps
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.scaling import Scaling
from unrolled.tables.series_baselines import forecast_baselines, series_baselines
from unrolled.tables.series_spec import series_spec
from unrolled.tables.step_arrays import SeriesName, StepArray
from unrolled.tables.table_files import open_table

HORIZON = 6
TINY = ("--hidden", 12, "--layers", 1, "--threads", 1, "--seed", 1, "--lr", 0.02, "--horizon", HORIZON)
KNOWN = ("--source", "sales", "--known-covariates", "promo,holiday", "--order-by", "day", *TINY)


def write_sales(path: str, num_days: int, num_ahead: int = HORIZON, shops: tuple[str, ...] = ()) -> tuple[str, list[float]]:
    """Write sales that nothing but promotions and holidays moves, and noise; return those of the days without a value, too."""
    draw, columns, hidden = np.random.default_rng(0), dict[str, list[Any]](), list[float]()
    for shop in shops or ("",):
        for day in range(num_days + num_ahead):
            promo, holiday = draw.random() < 0.2, draw.choice(["", "Easter", "Fair"], p=[0.8, 0.1, 0.1])
            sales = 100 + 40 * promo - 50 * (holiday == "Easter") + 25 * (holiday == "Fair") + draw.normal(0, 1)
            hidden += [sales] if day >= num_days else []
            row = {
                "shop": shop, "day": datetime.date(2024, 1, 1) + datetime.timedelta(days=day),
                "sales": f"{sales:.3f}" if day < num_days else "", "promo": "yes" if promo else "no", "holiday": holiday,
            }  # fmt: skip
            for name, value in row.items():
                columns.setdefault(name, []).append(value)
    return write_long(path, columns), hidden


def test_columns_become_inputs() -> None:
    flags = Covariate.fit("promo", None, ["0", "1", "0", "0"], False)
    cell = Cell(None, "t.csv")
    assert (flags.inputs, flags.encode(["1", "0"], cell, False).tolist()) == (("promo",), [[1], [0]])
    names = Covariate.fit("holiday", None, ["", "May", "Eid", None, "NA", "May"], False)
    assert names.inputs == ("holiday=Eid", "holiday=May")
    assert names.encode(["May", "", "Eid", "Yule"], cell, False).tolist() == [[0, 1], [0, 0], [1, 0], [0, 0]]
    assert names.unknown(["May", "Yule", ""]) == ["Yule"]
    assert Covariate.fit("open", None, [True, "False", "true"], False).encode([False, "TRUE"], cell, False).tolist() == [
        [0],
        [1],
    ]
    codes = Covariate.fit("kind", "label", [1, 2, "3"], False)
    assert (codes.kind, codes.inputs, codes.encode(["2"], cell, False).tolist()) == (
        "label", ("kind=1", "kind=2", "kind=3"), [[0, 1, 0]],
    )  # fmt: skip
    prices = Covariate.fit("price", None, ["1,5", "2,5", "", "3,5"], True)
    assert prices.inputs == ("price", "price is missing")
    assert prices.encode(["2,5", "", "3,5"], cell, True)[:, 1].tolist() == [0, 1, 0]
    for covariate in (flags, names, codes, prices):
        again = Covariate.from_json(json.loads(json.dumps(covariate.to_json())))
        assert (again.to_json(), again.inputs) == (covariate.to_json(), covariate.inputs)
    with pytest.raises(UsageError, match="51 different texts, such as 'note 0'"):
        Covariate.fit("note", None, [f"note {number}" for number in range(51)], False)
    with pytest.raises(DataError, match="a number is expected, and this is 'high'"):
        Covariate.fit("price", "number", ["1", "high"], False)


def test_a_gap_is_the_last_number_before_it(cli: Cli) -> None:
    heat = Covariate.fit("heat", None, [1.0, 2.0, 3.0], False)
    cell = Cell(StepArray.make(np.zeros(0), lines=[2, 3, 4]), "t.csv")
    filled = heat.encode([3.0, "", 2.0], cell, False)
    assert filled[1] == filled[0] != filled[2]
    assert (heat.gaps([3.0, "", None]), Covariate.fit("heat", None, [1.0, ""], False).gaps([""])) == ([1, 2], [])
    columns = {"t": [1, 2, 3, 4], "x": [5, 6, "", ""], "heat": [3, "", 2, ""]}
    table = open_table(write_long("t.csv", columns))
    grouped = group_steps(table, LongFormat(None, "t", (heat,)), ("x",))
    [(_, row)] = grouped.rows()
    inputs = row["x"].covariates[:, 0].tolist()
    assert inputs[0] == inputs[1] != inputs[2] == inputs[3]
    told = "'heat' is empty in 1 step that is to be forecast, from line 5: the last number before it is read"
    assert told in grouped.notes


def test_steps_without_a_value_at_the_end_are_to_be_forecast(cli: Cli) -> None:
    assert [count_known(columns) for columns in ([["1", "", "2", ""]], [["1", ""], ["", "2"]], [["", "NA"]])] == [3, 2, 0]
    columns = {"g": "aaabb", "t": [1, 2, 3, 1, 2], "x": [5, 6, "", "", ""], "promo": [0, 1, 1, 0, 1]}
    table = open_table(write_long("t.csv", columns))
    promo = Covariate.fit("promo", None, [0, 1], False)
    grouped = group_steps(table, LongFormat("g", "t", (promo,)), ("x",))
    [(_, row)] = grouped.rows()
    assert (row["x"].tolist(), row["x"].covariates.tolist(), row["x"].times) == ([[5], [6]], [[0], [1], [1]], ["1", "2", "3"])
    assert "3 rows after the last values are of steps that are not known yet" in grouped.notes
    assert "1 of 2 series has no values, and cannot be forecast" in grouped.notes
    part = SeriesName.of(Cell(row["x"], "t")).part(row["x"], 1, 2, 3)
    assert (part.tolist(), part.covariates.tolist()) == ([[6]], [[1], [1], [1], [1]]), "the last is repeated"


def test_a_forecast_reads_what_is_known_of_the_step_that_it_predicts() -> None:
    values = np.arange(5.0)[:, None]
    column = NumbersColumn("x", ["x"], Scaling.fit(values), horizon=3, covariates=("promo",))
    known = np.array([[0], [1], [0], [0], [1], [1], [0], [1]], dtype=np.float32)
    read = column.encode(Cell(StepArray.make(values, covariates=known), "t.csv"))
    assert column.to_inputs(read)[:, 1].tolist() == [1, 0, 0, 1, 1]
    assert column.inputs_in_advance(read, 6, 2).tolist() == [[0], [1]]
    column.difference = 2
    assert column.size == 4
    assert column.to_inputs(read)[:, 3].tolist() == [0, 0, -1, 1, 1], "changes from two steps before"
    assert column.inputs_in_advance(read, 6, 2).tolist() == [[0, -1], [1, 0]]
    again = NumbersColumn.from_dict("x", json.loads(json.dumps(column.to_dict())))
    assert again.to_inputs(read).tolist() == column.to_inputs(read).tolist()


def test_what_cannot_be_read_in_advance_is_refused(cli: Cli) -> None:
    table, _ = write_sales("sales.csv", 60)
    forecast = ("--source", "sales", "--horizon", 3, "--known-covariates")
    for settings, problem in (
        (("--source", "sales", "--target", "promo", "--known-covariates", "holiday"), "are for forecasts: add --horizon"),
        ((*forecast, "sales"), "'sales' is forecast, and so not known in advance: leave it out"),
        ((*forecast, "day"), "'day' is the time of the steps: leave it out"),
        ((*forecast, "promo,promo"), "'promo' is named twice: leave it out"),
        ((*forecast, "holiday", "--group-by", "holiday"), "'holiday' says which series a row belongs to: leave it out"),
        ((*forecast, "promos"), "did you mean 'promo'?"),
        ((*forecast, ""), "has no column ''. Its columns: shop, day, sales, promo, holiday. If the first row"),
        ((*forecast, "promo:image"), "say promo:number or promo:label"),
        ((*forecast, "shop"), "'shop' has no value in any row: leave it out"),
        (("--source", "sales", "--known-covariates", "promo"), "or forecast its numbers with --horizon"),
    ):
        refused = cli("train", table, *settings, "--order-by", "day", "--steps", 2, "--out", "no")
        assert (refused.code in (2, 3), problem in refused.err) == (True, True), refused.err
    Path("lists.jsonl").write_text('{"x": [1, 2, 3], "promo": [0, 1, 0]}\n' * 20)
    refused = cli("train", "lists.jsonl", "--source", "x", "--horizon", 2, "--known-covariates", "promo", "--out", "no")
    assert (refused.code, "for a table with one row per step" in refused.err) == (2, True), refused.err


def test_a_column_that_never_changes_is_told(caplog: pytest.LogCaptureFixture) -> None:
    rows = {"x": range(30), "open": [1] * 30, "promo": [0, 1] * 15}
    options = SeriesOptions(horizon=2, known_covariates="open,promo")
    series_spec(open_table(write_long("flat.csv", rows)), "x", None, options, "none")
    (told,) = (record.message for record in caplog.records if record.name == series_spec.__module__)
    assert told == "--known-covariates: 'open' is the same in all rows, so a forecast learns nothing from it"


def test_linear_autoregression_reads_what_is_known_in_advance() -> None:
    """A series that is exactly linear in its last value and in what is known of this and the last step is forecast exactly."""
    draw = np.random.default_rng(1)
    known = draw.integers(0, 2, (410, 2)).astype(np.float32)
    values = np.full((400, 1), 10.0)
    for step in range(1, 400):
        values[step] = 4 + 0.6 * values[step - 1] + 5 * known[step, 0] - 3 * known[step, 1] + 2 * known[step - 1, 0]
    values[7] = np.nan
    truth, history = values[395:], StepArray.make(values[:395], covariates=known)
    stats = series_baselines([(history, history)], 5)
    assert np.abs(forecast_baselines(history, 5, stats)["linear"] - truth).max() < 0.01
    no_more = StepArray.make(values[:395], covariates=known[:396])  # the last one known is repeated
    assert abs(forecast_baselines(no_more, 1, stats)["linear"] - truth[:1]).item() < 0.01
    short = StepArray.make(values[380:395], covariates=known[380:])  # fewer steps than lags
    assert np.abs(forecast_baselines(short, 5, stats)["linear"] - truth).max() < 2
    blind = series_baselines([(np.asarray(history), np.asarray(history))], 5)
    assert "covariate_lags" not in blind
    assert np.abs(forecast_baselines(np.asarray(history), 5, blind)["linear"] - truth).max() > 2


@pytest.mark.parametrize(("num_steps", "width", "num_lags"), [(2000, 2, 24), (120, 2, 3), (2000, 40, 4), (90, 30, 0)])
def test_linear_autoregression_has_few_coefficients_for_few_steps(num_steps: int, width: int, num_lags: int) -> None:
    draw = np.random.default_rng(1)
    series = StepArray.make(draw.normal(size=(num_steps, 1)), covariates=draw.normal(size=(num_steps, width)))
    stats = series_baselines([(series, series)], 5)
    assert stats["covariate_lags"] == num_lags
    assert len(stats["autoregression"][0]) == len(stats["lags"]) + width * (1 + num_lags) + 1


@pytest.mark.slow
def test_a_forecast_with_holidays_knows_them(cli: Cli) -> None:
    """Nothing else than promotions and holidays can be known: with them, the errors are those of the noise, of deviation 1."""
    table, coming = write_sales("sales.csv", 300)
    trained = cli("train", table, *KNOWN, "--steps", 80, "--out", "known")
    assert trained.code == 0, trained.err
    assert cli("train", table, *KNOWN[:2], *KNOWN[4:], "--steps", 80, "--out", "blind").code == 0
    known, blind = (json.loads(cli("eval", run, "--json").out)["rmse"] for run in ("known", "blind"))
    assert (known < 4, blind > 15) == (True, True), (known, blind)
    answer = rows_of(cli("predict", "known", table).out)
    assert [row["day"] for row in answer] == [f"2024-10-{day:02}" for day in range(27, 27 + 5)] + ["2024-11-01"]
    assert np.sqrt(np.mean((np.array([float(row["predicted"]) for row in answer]) - coming) ** 2)) < 5
    lines = Path(table).read_text().splitlines(keepends=True)
    Path("short.csv").write_text("".join(lines[:-2]))
    short = cli("predict", "known", "short.csv")
    assert short.code == 3
    assert "reads 'promo', 'holiday' of each step, and 4 rows have these after the last 'sales': add 2" in short.err
    Path("gap.csv").write_text("".join([*lines[:-1], lines[-1].replace(",yes,", ",maybe,").replace(",no,", ",maybe,")]))
    odd = cli("predict", "known", "gap.csv")
    assert "'promo' has 1 text that training did not have, and that count as none: 'maybe'" in odd.err
    for command in (("explain", "known"), ("explain", "known", table), ("explain", "known", "short.csv"), ("report", "known")):
        made = cli(*command, "--out", "page.html", "--force")
        assert made.code == 0, made.err
    assert cli("eval", "known", "short.csv").code == 0
    refused = cli("export", "known", "--to", "c")
    assert (refused.code, "--known-covariates are read with the step that is predicted" in refused.err) == (2, True), (
        refused.err
    )
    assert cli("export", "known", "--to", "card", "--out", "card.md").code == 0
    assert "| promo | known in advance | label |" in Path("card.md").read_text()


@pytest.mark.slow
def test_frames_groups_and_the_form_of_the_server(cli: Cli) -> None:
    path, _ = write_sales("shops.csv", 120, shops=("A", "B"))
    table = rows_of(Path(path).read_text())
    settings: dict[str, Any] = {"order_by": "day", "group_by": "shop", "horizon": HORIZON, "hidden": 8, "layers": 1, "steps": 5}
    model = unrolled.train_table(
        table, "sales", known_covariates=["promo", "holiday"], **settings, out="runs/frame", progress=False
    )
    assert [len(each.values) for each in model.predictions(table)] == [HORIZON, HORIZON]
    some = [row for row in table if row["shop"] == "A" or row["sales"]]
    assert [len(each.values) for each in model.predictions(some)] == [HORIZON, 0]
    flags = ("--group-by", "shop", *KNOWN, "--steps", 5)
    assert cli("train", path, *flags, "--out", "runs/file").code == 0
    partly = write_long("part.csv", {name: [row[name] for row in some] for name in some[0]})
    answer = cli("predict", "runs/file", partly)
    assert {row["shop"] for row in rows_of(answer.out)} == {"A"}
    assert "1 of 2 rows has no prediction" in answer.err
    assert "part.csv, B: a forecast of 6 steps reads 'promo', 'holiday' of each step, and 0 rows have these" in answer.err
    facts = series_facts(Catalog(None, [Path("runs/file/model.safetensors")], MachineOptions()).entry("file", "table"))
    assert facts is not None
    assert (facts["order_by"], facts["known_covariates"]) == ("day", ["promo", "holiday"])
    rows = list(csv.DictReader(io.StringIO(facts["example"])))
    assert [bool(row["sales"]) for row in rows[-HORIZON - 1 :]] == [True] + [False] * HORIZON
    assert len(unrolled.load_table("runs/file").predictions(rows)[0].values) == HORIZON


@pytest.mark.slow
def test_a_forecast_with_covariates_resumes_bit_by_bit(cli: Cli) -> None:
    table, _ = write_sales("sales.csv", 150)
    assert cli("train", table, *KNOWN, "--steps", 6, "--out", "whole").code == 0
    assert cli("train", table, *KNOWN, "--steps", 6, "--stop-after", 3, "--out", "half").code == 0
    resumed = cli("train", "--resume", "half")
    assert resumed.code == 0, resumed.err
    whole, half = (unrolled.load_table(name).session.saved for name in ("whole", "half"))
    assert whole.spec.to_json() == half.spec.to_json()
    first, second = whole.model.state_dict(), half.model.state_dict()
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)
