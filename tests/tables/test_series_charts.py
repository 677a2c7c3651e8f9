"""What the pages of a model of series draw: the series by name and time, what was predicted, and a baseline beside it."""

import datetime
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from support.cli import Cli
from unrolled.analysis.series_charts import MAX_DRAWN_STEPS, series_charts
from unrolled.tables.step_times import time_positions

TINY = ("--hidden", 4, "--layers", 1, "--threads", 1, "--steps", 2)
START = datetime.datetime(2024, 3, 1)


def write_gauges(name: str, steps: int = 150, gauges: int = 2) -> str:
    """Write hourly levels and rain of some gauges, with a gap in each series."""
    lines = ["gauge,time,rain,level,state"]
    for gauge in range(gauges):
        for step in range(steps):
            level = "" if step == steps - 20 else f"{100 * gauge + 10 * math.sin(step / 4):.2f}"
            time = (START + datetime.timedelta(hours=step)).isoformat(sep=" ", timespec="minutes")
            lines.append(f"g{gauge},{time},{step % 7},{level},{'up' if math.cos(step / 4) > 0 else 'down'}")
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def train(cli: Cli, table: str, *flags: Any, out: str = "run") -> unrolled.TableModel:
    """Train a tiny model of the gauges."""
    done = cli("train", table, "--group-by", "gauge", "--order-by", "time", *flags, *TINY, "--out", out)
    assert done.code == 0, done.err
    return unrolled.load_table(out)


@pytest.mark.slow
def test_a_forecast_is_drawn_with_its_times_and_goes_on_after_the_end(cli: Cli) -> None:
    model = train(cli, write_gauges("g.csv"), "--source", "level", "--horizon", 6)
    charts = model.explain("g.csv").series
    assert [(chart["series"], chart["column"], chart["time"]) for chart in charts] == [
        (f"g{n}", "level", "date") for n in (0, 1)
    ]
    for chart in charts:
        starts, gap = chart["starts"], chart["times"].index("2024-03-06 10:00")
        assert np.diff(starts).tolist() == [6] * (len(starts) - 1)
        assert chart["truth"][gap] is None
        assert chart["truth"][-6:] == [None] * 6
        assert all(isinstance(chart[key][-1], float) for key in ("predicted", "low", "high", "baseline"))
        assert (chart["times"][-7:-5], chart["x"][-1] - chart["x"][-2]) == (["2024-03-07 05:00", "2024-03-07 06:00"], 3600)
        assert chart["error"] > 0
    held_out = model.report(out="r.html").data["series"]
    assert held_out[0]["times"][-1].startswith("2024-03-07 ")
    assert None not in held_out[0]["truth"][-3:]


@pytest.mark.slow
def test_what_explain_draws_is_named_on_the_command_line(cli: Cli) -> None:
    train(cli, write_gauges("g.csv"), "--source", "level", "--horizon", 6)
    printed = cli("explain", "run", "g.csv")
    assert printed.out.splitlines()[0].startswith("g0, level: root mean squared error ")
    assert "hidden units: run/explain-neurons.html\npage: run/explain.html\n" in printed.out
    answer = json.loads(cli("explain", "run", "--json").out)
    assert [(chart["series"], chart["column"]) for chart in answer["series"]] == [("g0", "level"), ("g1", "level")]
    page = Path(answer["page"]).read_text("utf-8")
    assert ('"neurons":"explain-neurons.html"' in page, Path(answer["neurons_page"]).is_file()) == (True, True)


@pytest.mark.slow
def test_a_number_or_a_label_at_every_step_is_drawn_beside_the_truth(cli: Cli) -> None:
    table = write_gauges("g.csv")
    model = train(cli, table, "--source", "rain", "--target", "level", "--loss", "quantiles")
    [first, second] = model.explain(table).series
    assert (len(first["x"]), first["starts"], second["truth"][:2]) == (150, [], [100.0, 102.47])
    assert all(low <= value <= high for low, value, high in zip(first["low"], first["predicted"], first["high"], strict=True))
    Path("new.csv").write_text("".join(f"{line.rsplit(',', 2)[0]}\n" for line in Path(table).read_text().splitlines()))
    unknown = model.explain("new.csv").series[0]
    assert (set(unknown["truth"]), unknown["error"], None in unknown["predicted"]) == ({None}, None, False)
    assert "the true numbers are not known" in model.explain("new.csv").summary()
    labeled = train(cli, table, "--source", "rain,level", "--target", "state", out="labels").explain().series
    assert {chart["column"] for chart in labeled} == {"rain", "level"}
    assert set(labeled[0]["true_label"]) <= {0.0, 1.0}
    assert 0 <= labeled[0]["error"] <= 1


def test_of_a_long_series_the_end_and_the_largest_errors_are_drawn(cli: Cli) -> None:
    model = train(cli, write_gauges("g.csv", 1500, 1), "--source", "rain", "--target", "level")
    charts = model.explain("g.csv").series
    assert [chart["note"] for chart in charts] in (["the last steps"], ["the last steps", "the largest errors"])
    assert {len(chart["x"]) for chart in charts} == {MAX_DRAWN_STEPS}
    assert series_charts(model.spec, [], None) == []


@pytest.mark.slow
def test_a_series_among_many_is_chosen_and_the_page_says_so(cli: Cli) -> None:
    result = train(cli, write_gauges("g.csv", 40, 9), "--source", "level", "--horizon", 2).explain("g.csv")
    assert [chart["series"] for chart in result.series] == ["g0", "g1", "g3", "g4", "g6", "g8"]
    assert result.note == "Drawn: 6 of 9 series."


def test_times_have_places_on_an_axis() -> None:
    assert time_positions(["31.12.2024", "1.1.2025"]) == ("date", [1735603200.0, 1735689600.0])
    summer = ["2024-03-31T01:45+01:00", "2024-03-31T03:00+02:00"]
    assert time_positions(summer) == ("UTC", [1711845900.0, 1711846800.0])
    assert time_positions([1949, 1950.5]) == ("number", [1949.0, 1950.5])
    assert time_positions(["a", "b"]) == time_positions([None]) == time_positions([]) == ("", [])


@pytest.mark.slow
def test_spikes_do_not_decide_the_linear_baseline(cli: Cli) -> None:
    """Once, one reading of 1e6 made the linear autoregression useless, and the model look better than it was."""
    draw = np.random.default_rng(0)
    values = [0.0]
    for _ in range(900):
        values.append(0.95 * values[-1] + draw.standard_normal())
    values[300] = 1e6
    Path("s.csv").write_text("t,x\n" + "".join(f"{step},{value:.4f}\n" for step, value in enumerate(values)))
    assert cli("train", "s.csv", "--source", "x", "--order-by", "t", "--horizon", 1, *TINY, "--out", "run").code == 0
    baselines = unrolled.load_table("run").evaluate().baselines
    assert baselines["linear"]["rmse"] < baselines["mean"]["rmse"]
    assert baselines["linear"]["rmse"] < 1.3
