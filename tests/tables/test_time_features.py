"""The calendar as an input of series: `--time-features`."""

from __future__ import annotations

import datetime
import json

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from support.tables import rows_of, write_long
from unrolled.errors import DataError
from unrolled.tables.cell_values import Cell
from unrolled.tables.long_table import LongFormat, group_steps
from unrolled.tables.numbers_column import NumbersColumn
from unrolled.tables.scaling import Scaling
from unrolled.tables.step_arrays import StepArray
from unrolled.tables.step_times import time_positions
from unrolled.tables.table_files import open_table
from unrolled.tables.time_features import find_cycles, next_seconds, time_features

HOUR, DAY = 3600.0, 86400.0


def test_cycles_are_those_that_the_steps_go_through() -> None:
    assert find_cycles([np.arange(24 * 3) * HOUR]) == ("day",)
    assert find_cycles([np.arange(24 * 30) * HOUR]) == ("day", "week")
    assert find_cycles([np.arange(1100) * DAY]) == ("week", "year")
    assert find_cycles([np.arange(900) * 300.0]) == ("hour", "day")
    assert find_cycles([np.arange(40) * 30.5 * DAY]) == ("year",)
    assert find_cycles([np.arange(5) * HOUR, np.zeros(0), np.zeros(1)]) == ()
    assert find_cycles([np.zeros(100)]) == (), "all steps have the same time"


def test_the_weekday_is_that_of_the_calendar() -> None:
    dates = [datetime.datetime(2024, 3, day, 18, tzinfo=datetime.UTC) for day in range(1, 9)]
    features = time_features(np.array([date.timestamp() for date in dates]), ("day", "week"))
    assert features[:, :2] == pytest.approx(np.tile([-1.0, 0.0], (8, 1)), abs=1e-6), "six in the evening"
    assert features[:, 2:].argmax(1).tolist() == [date.weekday() for date in dates]
    before_1970 = datetime.datetime(1969, 7, 20, tzinfo=datetime.UTC)
    assert time_features(np.array([before_1970.timestamp()]), ("week",))[0].argmax() == before_1970.weekday()


def test_the_hour_of_a_time_with_an_offset_is_that_of_its_clock(cli: Cli) -> None:
    """Eight is eight in winter and in summer, and steps stay in the order of time where clocks are set back."""
    texts = ["2024-01-05T08:00+01:00", "2024-07-05T08:00+02:00", "2024-10-27T02:30+02:00", "2024-10-27T02:30+01:00"]
    table = open_table(write_long("zone.csv", {"t": texts[::-1], "x": [3, 2, 1, 0]}))
    [(_, row)] = group_steps(table, LongFormat(None, "t"), ("x",)).rows()
    assert row["x"][:, 0].tolist() == [0, 1, 2, 3]
    assert (row["x"].seconds / HOUR % 24).tolist() == [8, 8, 2.5, 2.5]
    kind, places = time_positions(texts)
    assert (kind, places[3] - places[2]) == ("UTC", HOUR)


def test_next_times_are_in_months_where_the_steps_are() -> None:
    months = [datetime.datetime(2023 + m // 12, m % 12 + 1, 1, tzinfo=datetime.UTC).timestamp() for m in range(17)]
    assert next_seconds(np.array(months[:14]), 3).tolist() == months[14:]
    assert next_seconds(np.array([0.0, 60.0, 120.0, 300.0, 360.0]), 2).tolist() == [420.0, 480.0], "after a gap, as usual"
    assert next_seconds(np.array([5.0]), 2).tolist() == [5.0, 5.0]


def test_a_forecast_reads_the_calendar_of_the_step_that_it_predicts() -> None:
    column = NumbersColumn("x", ["x"], Scaling.fit(np.arange(9.0)[:, None]), horizon=3, cycles=("day",))
    values = StepArray.make(np.arange(9.0)[:, None], seconds=np.arange(9) * HOUR)
    read = column.encode(Cell(values, "t.csv"))
    inputs = column.to_inputs(read)
    assert inputs.shape == (9, column.size) == (9, 3)
    assert np.array_equal(inputs[:, 1:], time_features(np.arange(1, 10) * HOUR, ("day",)))
    assert np.array_equal(column.inputs_in_advance(read, 10, 3), time_features(np.arange(10, 13) * HOUR, ("day",)))
    regression = NumbersColumn("x", ["x"], column.scaling, cycles=("day",))
    assert np.array_equal(regression.to_inputs(read)[:, 1:], time_features(np.arange(9) * HOUR, ("day",)))
    again = NumbersColumn.from_dict("x", json.loads(json.dumps(column.to_dict())))
    assert (again.cycles, again.to_inputs(read).tolist()) == (("day",), inputs.tolist())
    assert "cycles" not in NumbersColumn("x", ["x"], column.scaling, horizon=2).to_dict()
    with pytest.raises(ValueError, match="no cycle"):
        NumbersColumn.from_dict("x", column.to_dict() | {"cycles": ["moon"]})
    with pytest.raises(DataError, match="reads the day of each step, and the steps have no dates"):
        column.encode(Cell(np.arange(4.0), "t.csv"))


def write_weeks(path: str, num_days: int) -> str:
    """Write a day's numbers that are high from Monday to Friday, with noise, from Monday, 2024-01-01 on."""
    draw, start = np.random.default_rng(0), datetime.date(2024, 1, 1)
    dates = [start + datetime.timedelta(days=day) for day in range(num_days)]
    return write_long(path, {"day": dates, "x": [50.0 * (date.weekday() < 5) + draw.normal(0, 1) for date in dates]})


TINY = ("--hidden", 12, "--layers", 1, "--threads", 1, "--seed", 1, "--lr", 0.02, "--steps", 60, "--horizon", 9)


@pytest.mark.slow
def test_a_forecast_knows_the_days_of_the_week(cli: Cli) -> None:
    """Without the calendar, a network has to count to seven; with it, the first forecasts already know the weekend."""
    table, flags = write_weeks("days.csv", 330), ("--source", "x", "--order-by", "day", "--difference", "off", *TINY)
    trained = cli("train", table, *flags, "--out", "auto")
    assert trained.code == 0, trained.err
    assert "reads the day of the week of each step (--time-features on)" in trained.err
    assert json.loads(cli("eval", "auto", "--json").out)["rmse"] < 3
    coming = rows_of(cli("predict", "auto", table).out)
    weekdays = [datetime.date.fromisoformat(row["day"]).weekday() for row in coming]
    assert [float(row["predicted"]) > 25 for row in coming] == [weekday < 5 for weekday in weekdays]
    assert cli("train", table, *flags, "--time-features", "off", "--out", "off").code == 0
    first, second = (unrolled.load_table(name).spec.to_json()["source"] for name in ("auto", "off"))
    assert (first["cycles"], "cycles" in second) == (["week"], False)
    one = rows_of(cli("predict", "auto", write_long("one.csv", {"day": ["2025-03-05"], "x": [50]})).out)
    assert [row["day"] for row in one] == [f"2025-03-{day:02}" for day in range(6, 15)], "a Wednesday, and the days after it"
    assert [float(row["predicted"]) > 25 for row in one] == [day not in (8, 9) for day in range(6, 15)]
    without = cli("predict", "auto", write_long("plain.csv", {"x": range(20)}))
    assert (without.code, "'day'" in without.err) == (2, True), without.err


@pytest.mark.slow
def test_a_forecast_with_the_calendar_resumes_bit_by_bit(cli: Cli) -> None:
    table, flags = write_weeks("days.csv", 200), ("--source", "x", "--order-by", "day", *TINY, "--steps", 6)
    assert cli("train", table, *flags, "--time-features", "on", "--out", "whole").code == 0
    assert cli("train", table, *flags, "--time-features", "on", "--stop-after", 3, "--out", "half").code == 0
    assert cli("train", "--resume", "half").code == 0
    whole, half = (unrolled.load_table(name).session.saved for name in ("whole", "half"))
    assert whole.spec.to_json() == half.spec.to_json()
    first, second = whole.model.state_dict(), half.model.state_dict()
    assert all(np.array_equal(first[name].numpy(), second[name].numpy()) for name in first)


@pytest.mark.slow
def test_the_calendar_of_a_regression_and_of_labels(cli: Cli) -> None:
    """The target is the day of the week alone, so that only a model with the calendar can know it."""
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(300)]
    noise = np.random.default_rng(1).normal(size=300)
    columns = {"day": days, "x": noise, "open": ["yes" if day.weekday() < 5 else "no" for day in days]}
    table, flags = write_long("open.csv", columns), ("--target", "open", "--order-by", "day", *TINY[:-2])
    trained = cli("train", table, "--source", "x", *flags, "--time-features", "on", "--out", "on")
    assert trained.code == 0, trained.err
    assert json.loads(cli("eval", "on", "--json").out)["accuracy"] > 0.95
    assert cli("explain", "on", "--out", "page.html").code == 0


def test_dates_are_asked_for(cli: Cli) -> None:
    table = write_long("steps.csv", {"t": range(80), "x": range(80)})
    flags = ("--source", "x", "--order-by", "t", *TINY, "--time-features", "on", "--out", "no")
    refused = cli("train", table, *flags)
    assert (refused.code, "--time-features on: the steps have no dates" in refused.err) == (2, True), refused.err
