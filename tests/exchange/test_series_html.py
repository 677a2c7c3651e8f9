"""Models of series as a page: its script computes what the model computes; wrong writers; times, draws, rows as in Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.programs import change_script, run_module
from support.series import COVARIATES, LAYER_FAULTS, MODELS, model_with_start, right_and_wrong, series_model
from unrolled.errors import UsageError
from unrolled.exchange import series_page_data
from unrolled.exchange.export_job import ExportError
from unrolled.exchange.series_html_export import export_series_html, unsupported_series_in_page
from unrolled.exchange.series_model import SeriesModel
from unrolled.exchange.series_page_data import MISSING_NAMES
from unrolled.tables.long_table import LongFormat
from unrolled.tables.step_times import next_times, time_positions
from unrolled.tables.time_features import next_seconds
from unrolled.views.series_predictor_page import date_rules, scaling_data

PAGE = Path("m.html")
MORE_MODELS: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in ("mingru", "minlstm", "rg-lru", "slstm", "mogrifier-lstm")},
    "a forecast of quantiles": {"horizon": 5, "difference": 1, "loss": "quantiles"},
    "a forecast without a spread": {"horizon": 5, "loss": "mse"},
    "a forecast of one step": {"horizon": 1, "loss": "mae", "gaps": True},
    "a forecast with covariates": {"horizon": 5, "known": True, "gaps": True, "cycles": ("day",)},
    "changes with covariates": {"horizon": 9, "known": True, "difference": 7, "loss": "quantiles", "center": "group"},
    "without what the columns share": {"center": "row", "gaps": True},
    "labels without the median of a series": {"center": "group", "labels": True, "gaps": True},
    "without the spread of a series": {"scale": "group", "loss": "mse"},
    "a forecast in the unit of each series": {"scale": "group", "center": "group", "horizon": 5, "gaps": True},
}


QUICK = (
    "lstm",
    "labels",
    "forecast with the calendar",
    "the scaling is dropped",
    "the calendar is frozen",
    "changes with covariates",
    "without what the columns share",
    "a forecast in the unit of each series",
    "two gates are swapped",
)


def some_slow(names: Iterable[str]) -> list[Any]:
    """Return parameters of a test that starts a program for each: those that are not `QUICK` are marked slow."""
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow([*MODELS, *MORE_MODELS]))
def test_the_script_computes_what_the_model_computes(name: str, node: str) -> None:
    model_file = series_model(**(MODELS | MORE_MODELS)[name])
    result = export_series_html(model_file, name, PAGE)
    assert result.checks[0].startswith("node: every output of series of 2, 14, ")
    assert ("and 2 forecasts" in result.checks[0]) is bool(model_file.spec.horizon)
    assert b"https:" not in result.files[PAGE]


def test_the_state_that_a_series_starts_from(node: str) -> None:
    export_series_html(model_with_start()[0], "m", PAGE)


@pytest.mark.parametrize("fault", some_slow(LAYER_FAULTS))
def test_a_wrong_writer_is_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is written from a model with the fault, and its test vectors are those of the right one."""
    right, wrong = right_and_wrong(fault)
    model_data = series_page_data.model_data
    monkeypatch.setattr(series_page_data, "model_data", lambda _: model_data(SeriesModel.of(wrong)))
    with pytest.raises(ExportError, match=r"computes something else than the model: series \d"):
        export_series_html(right, "m", PAGE)


DATA_FAULTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "the scaling is dropped": lambda data: {"scaling": data["scaling"] | {"center": [0, 0], "spread": [1, 1]}},
    "spikes are not clipped": lambda data: {"scaling": data["scaling"] | {"low": [None, None], "high": [None, None]}},
    "the unit of the answers is dropped": lambda data: {"target": data["target"] | {"spread": [1, 1]}},
    "the calendar has other cycles": lambda data: {"cycles": [cycle | {"seconds": 5e4} for cycle in data["cycles"]]},
    "weeks begin on another day": lambda data: {"firstWeekday": 4},
    "changes are from another step": lambda data: {"lag": 6},
    "changes have no scale": lambda data: {"change": data["change"] | {"spread": [1, 1]}},
    "the second layer is dropped": lambda data: {"layers": data["layers"][:1]},
}


@pytest.mark.parametrize("fault", some_slow(DATA_FAULTS))
def test_wrong_columns_are_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model_file = series_model(horizon=3, difference=7, cycles=("day", "week"), gaps=True)
    model_data = series_page_data.model_data
    monkeypatch.setattr(series_page_data, "model_data", lambda series: (data := model_data(series)) | DATA_FAULTS[fault](data))
    with pytest.raises(ExportError, match="computes something else than the model"):
        export_series_html(model_file, "m", PAGE)


SCRIPT_FAULTS = {
    "the calendar is frozen": ("const turns = seconds / period;", "const turns = 0.25;"),
    "gaps are not told": ("gaps[column] = Number(isGap);", "gaps[column] = 0;"),
    "the initial state is dropped": ("state.numSteps++;", "state.numSteps++; state.h[0].fill(0);"),
    "quantiles of a forecast are those of one path": ("path < numPaths; path++", "path < 1; path++"),
    "a forecast does not read what it drew": ("([...path[place], ...gaps", "([...path[0], ...gaps"),
    "draws are uniform": ("const draw = createNormals(seed);", "const draw = () => 0.5;"),
    "covariates are those of this step": ("known: known.slice(1) };", "known };"),
    "covariates have no changes": ("f(value - covariates[place - lag][index])", "0"),
    "a forecast stays without its drift": ("* factor[column] + shift[column]", ""),
    "the drift is the mean": ("shift = own.map(({ center }) => center);", "shift = own.map(({ center }) => center + 0.1);"),
    "spreads are those of all numbers": ("(third - first) / normalIqr", "0"),
    "gaps of covariates are zeros": ("if (value !== null && !isGap)", "last[place] = 0; if (value !== null && !isGap)"),
    "categories keep their case": ("text.toLowerCase()]", "text]"),
    "levels are those of the last step": ("...known.slice(-reach)]", "...new Array(reach).fill(known[known.length - 1])]"),
}  # fmt: skip


@pytest.mark.parametrize("fault", some_slow(SCRIPT_FAULTS))
def test_a_wrong_script_is_caught(fault: str, node: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change_script(monkeypatch, *SCRIPT_FAULTS[fault])
    model_file = series_model(horizon=9, difference=7, cycles=("day",), gaps=True, known=True, scale="group")
    with pytest.raises(ExportError, match="computes something else than the model"):
        export_series_html(model_file, "m", PAGE)


def test_without_node_the_page_checks_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert "The page replays its test vectors when it opens" in export_series_html(series_model(), "m", PAGE).checks[0]


def test_what_has_no_page_is_refused() -> None:
    assert "the cell mlstm is not in the page" in str(unsupported_series_in_page(series_model("mlstm")))


@pytest.mark.parametrize(
    ("order_by", "examples", "message"),
    [
        ("date,time", (), "reads the time of a step from one column, and the model from 2, date,time"),
        ("t", ("18:00", "18:05"), "'t' has times such as '18:00'"),
    ],
)
def test_times_that_a_page_does_not_read_are_refused(order_by: str, examples: tuple[str, ...], message: str) -> None:
    model_file = series_model("lstm")
    spec = dataclasses.replace(model_file.spec, long=LongFormat(None, order_by, examples=examples))
    with pytest.raises(UsageError, match=message):
        series_page_data.page_data(spec, SeriesModel.of(model_file), "title")


def test_draws_are_those_of_numpy(node: str) -> None:
    """So the page forecasts the numbers of `unrolled predict`; of 60,000 draws, some are from the tails of the ziggurat."""
    seeds, count = [0, 1, 2**40 + 5], 20_000
    expression = "data.seeds.map((seed) => Array.from({ length: data.count }, module.createNormals(seed)))"
    drawn = run_module(node, "series_predictor/normals.js", expression, {"seeds": seeds, "count": count})
    expected = np.stack([np.random.default_rng(seed).standard_normal(count) for seed in seeds])
    assert np.abs(expected).max() > 3.66
    assert np.array(drawn) == pytest.approx(expected, abs=1e-13)


TIMES: dict[str, list[str]] = {
    "hours": ["2024-02-28 22:00", "2024-02-28 23:00", "2024-02-29 00:00"],
    "days": ["2024-02-27", "2024-02-28"],
    "ends of months": ["2023-11-30", "2023-12-31", "2024-01-31"],
    "months": ["1960-11", "1960-12"],
    "quarters": ["2023Q3", "2023Q4"],
    "German dates": ["30.12.2023", "31.12.2023"],
    "American dates": ["12/30/23 6:00 PM", "12/31/23 6:00 PM"],
    "days of two digits that either part may be": [f"{day:02}/01/2024" for day in range(1, 10)],
    "years of two digits": [f"{day:02}/03/24" for day in range(1, 13)],
    "names": ["Dec 30, 2023", "Dec 31, 2023"],
    "names in capitals": ["30-NOV-2023", "01-DEC-2023"],
    "full names": ["November 2023", "December 2023"],
    "digits": ["20240228", "20240229"],
    "digits with hours": ["2024022822", "2024022823"],
    "digits of months": ["202311", "202312"],
    "seconds": ["2024-02-28T23:59:58", "2024-02-28T23:59:59"],
    "weeks": ["2020-W52", "2020-W53"],
    "days of weeks": ["2024-W05-1", "2024-W06-1"],
    "zones": ["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00"],
    "months with points": ["2024.11", "2024.12"],
    "months with points, without zeros": ["2024.08", "2024.09", "2024.1", "2024.11"],
    "months before years": ["11.2024", "12.2024"],
    "short months": ["Nov-24", "Dec-24"],
    "years before names": ["2024 Nov", "2024 Dec"],
    "months with slashes": ["11/2024", "12/2024"],
    "Japanese months": ["2024年11月", "2024年12月"],
    "Japanese dates": ["2024年12月30日", "2024年12月31日"],
    "Korean dates": ["2024. 12. 30.", "2024. 12. 31."],
    "quarters before years": ["Q3 2024", "Q4 2024"],
    "weeks after blanks": ["2020 W52", "2020 W53"],
    "weeks before years": ["W52/2020", "W53/2020"],
    "no such week": ["2024 W52", "2024 W53"],
    "weeks of digits": [f"2024{week}" for week in range(43, 53)],
    "days of years": ["2023-364", "2023-365"],
    "days of leap years": ["2024-365", "2024-366"],
    "no such day of a year": ["2023-365", "2023-366"],
    "days of years of digits": ["2024365", "2024366"],
    "days before months, of digits": [f"{day:02}122024" for day in range(20, 32)],
    "years of two digits, of digits": [f"2412{day}" for day in range(20, 32)],
    "numbers of six digits": [f"{100_000 + 7 * number}" for number in range(12)],
    "numbers of eight digits": ["12345678", "12345679"],
    "numbers with a point": ["20241230.0", "20241231.0"],
    "seconds since 1970": ["1735600000", "1735603600"],
    "milliseconds since 1970": ["1735600000500", "1735603600500"],
    "nanoseconds since 1970": ["1735600000500000000", "1735603600500000000"],
    "weekdays": ["Mon, Dec 30, 2024", "Tue, Dec 31, 2024"],
    "full weekdays": ["Monday 30 December 2024", "Tuesday 31 December 2024"],
    "a form's zone": ["2024/03/01 10:14:07 PM GMT+1", "2024/03/01 11:14:07 PM GMT+1", "2024/03/02 12:14:07 AM GMT+1"],
    "half an hour": ["2024/03/01 5:14:07 AM GMT-05:30", "2024/03/01 6:14:07 AM GMT-05:30"],
    "a server's": ["01/Mar/2024:05:14:07 +0100", "01/Mar/2024:05:15:07 +0100"],
    "names of zones": ["10/27/2024 1:30 AM EDT", "10/27/2024 2:30 AM EDT"],
    "no zone": ["31.12.2024 18:00 XYZT", "31.12.2024 19:00 XYZT"],
    "a browser's": ["Fri Mar 01 2024 05:14:07 GMT+0100 (CET)", "Fri Mar 01 2024 05:15:07 GMT+0100 (CET)"],
    "a photo's": ["2024:12:31 12:30:00", "2024:12:31 12:30:01"],
    "American, with a narrow blank": ["12/30/2024, 6:00\u202fPM", "12/31/2024, 6:00\u202fPM"],
    "midnight at the end of a day": ["31.12.2024 23:00", "31.12.2024 24:00"],
    "basic ISO": ["20241231T120000", "20241231T130000"],
    "hours alone": ["2024-12-31T12", "2024-12-31T13"],
    "numbers of days": [str(number) for number in range(45_290, 45_300)],
    "a gap": [f"2024-01-{day:02}" for day in range(1, 29) if day != 13],
    "working days": [f"2024-01-{day:02}" for day in (1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 15)],
    "numbers": ["1", "3", "5"],
    "fractions": ["0.25", "0.5"],
    "numbers without a distance": ["1", "3", "4"],
    "one date": ["2024-01-31"],
    "texts": ["2024-01-01", "later"],
    "either order": ["1/2/2024", "1/3/2024"],
    "no such day": ["2023-02-28", "2023-02-29"],
}  # fmt: skip


OFFSETS = {
    "zones": 3600, "a form's zone": 3600, "half an hour": -19_800, "a server's": 3600, "names of zones": -14_400,
    "a browser's": 3600,
}  # fmt: skip


def test_times_are_read_and_continued_as_in_python(node: str) -> None:
    expression = """data.times.map((times) => {
      const reader = module.createTimes(data.dates);
      const reading = reader.read(times);
      if (typeof reading === "number") return { bad: reading, next: reader.nextTimes(times, 3, []) };
      const [seconds, next] = [reader.secondsOf(reading.keys), reader.nextTimes(times, 3, [])];
      return { at: reading.keys.map(module.orderOf), next, seconds: seconds.length ? reader.nextSeconds(seconds, 3) : [] };
    })"""
    data = {"dates": date_rules(), "times": list(TIMES.values())}
    for (name, times), found in zip(
        TIMES.items(), run_module(node, "series_predictor/times.js", expression, data), strict=True
    ):
        _, places = time_positions(times)
        assert found.get("at", []) == places, name
        assert found["next"] == [str(time) for time in next_times(times, 3)], name
        if found.get("seconds"):
            offset = OFFSETS.get(name, 0)  # seconds are those of the clock
            assert found["seconds"] == next_seconds(np.array(places) + offset, 3).tolist(), name


def test_a_series_of_one_step_goes_on_as_the_training_table(node: str) -> None:
    expression = "data.cases.map(([times, examples]) => module.createTimes(data.dates).nextTimes(times, 2, examples))"
    cases = [
        (["2024-01-31"], ["2023-05-31", "2023-06-30"]),
        (["2024-01-15"], ["2023-05-15", "2023-06-15"]),
        (["7"], ["3", "5"]),
        (["7"], ["2023-05-15", "2023-06-15"]),
    ]
    found = run_module(node, "series_predictor/times.js", expression, {"dates": date_rules(), "cases": cases})
    assert found == [[str(time) for time in next_times(times, 2, examples)] for times, examples in cases]
    assert found[0] == ["2024-02-29", "2024-03-31"]


def read_table(node: str, text: str, **columns: Any) -> Any:
    """Return the series of a table as the page reads them, or the message of its error."""
    expression = """(() => {
      try { return module.readSeries(data.text, data.columns); } catch (error) {
        if (error instanceof __modules["shared/columns.js"].TableError) return error.message;
        throw error;
      }
    })()"""
    settings: dict[str, Any] = {
        "columns": ["x"],
        "truth": [],
        "groupBy": None,
        "orderBy": None,
        "examples": [],
        "needsDates": False,
        "covariates": [],
        "missingNames": MISSING_NAMES,
        "horizon": 0,
    }
    settings |= {"missing": ["", "NA"], "dates": date_rules()}
    return run_module(node, "series_predictor/rows.js", expression, {"text": text, "columns": settings | columns})


def test_rows_are_read(node: str) -> None:
    table = 'name;T;x;y\nb;02.01.2024;1.234,5;\na;01.01.2024;-2,5;up\nb;01.01.2024;NA;"a;b"\n'
    found = read_table(node, table, groupBy="name", orderBy="t", truth=["y"])
    series = {each["name"]: each for each in found["series"]}
    assert series["b"]["numbers"] == [[None], [1234.5]]
    assert series["b"]["times"] == ["01.01.2024", "02.01.2024"]
    assert series["b"]["truth"] == [["a;b"], [""]]
    assert series["a"]["seconds"] == [1704067200]
    assert found["notes"] == ["2 rows were not in the order of 't', and were sorted."]
    assert read_table(node, "1\n2.5\n\u22123")["series"][0]["numbers"] == [[1], [2.5], [-3]]  # a column without a name
    twice = read_table(node, "t\tx\n1\t5\n1\t6\n", orderBy="t")
    assert twice["notes"] == ["1 row has the same 't' as another row of the series, and is a step of their own."]


PRICE: dict[str, Any] = {
    "covariates": [{"name": "price", "scaling": scaling_data(COVARIATES[0].scaling), "hasGaps": False, "categories": []}],  # type: ignore[arg-type]
    "horizon": 2,
}


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", {}, "There are no rows"),
        ("x\n", {}, "no rows below it"),
        ("y,z\n1,2\n", {}, "has no column 'x': its columns are 'y', 'z'"),
        ("x\n1\nabc\n", {}, "Row 3: a number is expected in 'x', and this is 'abc'"),
        ("x\n1\n1e39\n", {}, "Row 3: the number in 'x' is infinite"),
        ("x\n1\n", {"orderBy": "t"}, "has no column 't'"),
        ("t,x\nsoon,1\n", {"orderBy": "t"}, "'t' is 'soon' in one row"),
        ("t,x\n1,1\n2,5\n", {"orderBy": "t", "needsDates": True}, "'t' has numbers: give it dates"),
        ("x,price\n1,1\n2,1\n,1\n", PRICE, "reads 'price' of each step, and 1 row has these after the last 'x': add 1 with"),
        ("x,price\n1,1\n2,many\n,1\n,1\n", PRICE, "'many' is no number, and 'price' has numbers"),
    ],
)
def test_rows_that_cannot_be_read_are_told(node: str, text: str, columns: dict[str, Any], message: str) -> None:
    assert message in read_table(node, text, **columns)


def test_a_gap_in_what_is_known_in_advance_is_the_last_number_and_told(node: str) -> None:
    found = read_table(node, "x,price\n1,1\n2,3\n,\n,1\n", **PRICE)
    assert found["notes"] == ["'price' is empty in 1 step to be forecast: the last number before is read."]
    (series,) = found["series"]
    first, second, gap, fourth = (inputs for (inputs,) in series["covariates"])
    assert (gap, fourth) == (second, first)
