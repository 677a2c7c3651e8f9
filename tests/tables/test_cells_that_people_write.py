"""Numbers and times as people and programs write them are read as what they are, or refused; never as something else."""

import datetime
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.cli import Cli
from unrolled.errors import DataError, UsageError
from unrolled.series_options import SeriesOptions
from unrolled.tables.columns import column_from_json, column_to_json
from unrolled.tables.long_table import LongFormat, group_steps
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.pair_batching import read_pairs
from unrolled.tables.series_spec import group_sources, series_spec
from unrolled.tables.spec_inference import infer_spec
from unrolled.tables.step_times import next_times, time_keys
from unrolled.tables.table_files import open_table, open_with_columns
from unrolled.tables.table_format import TableFormat

DAYS = [datetime.date(2023, 12, 1) + datetime.timedelta(days=i) for i in range(62)]
MONTHS = [datetime.date(2023 + i // 12, i % 12 + 1, 1) for i in range(36)]
WEEKS = [datetime.date(2024, 1, 1) + datetime.timedelta(weeks=i) for i in range(60)]


@pytest.mark.parametrize(
    ("dates", "format", "following"),
    [
        (MONTHS, "%Y.%m", "2026.01"),
        (MONTHS, "%m.%Y", "01.2026"),
        (MONTHS, "%m/%Y", "01/2026"),
        (MONTHS, "%Y/%m", "2026/01"),
        (MONTHS, "%b-%y", "Jan-26"),
        (MONTHS, "%b '%y", "Jan '26"),
        (MONTHS, "%Y-%b", "2026-Jan"),
        (MONTHS, "%YM%m", "2026M01"),
        (MONTHS, "%Y年%m月", "2026年01月"),
        (MONTHS, "%Y%m.0", 202601),
        (WEEKS, "%G-W%V", "2025-W09"),
        (WEEKS, "%G week %V", "2025 week 09"),
        (WEEKS, "W%V/%G", "W09/2025"),
        (WEEKS, "%G%V", 202509),
        (DAYS, "%Y-%j", "2024-032"),
        (DAYS, "%Y%j", 2024032),
        (DAYS, "%Y%m%d.0", 20240201),
        (DAYS, "%d%m%Y", "01022024"),
        (DAYS, "%m%d%Y", "02012024"),
        (DAYS, "%y%m%d", 240201),
        (DAYS, "%d%m%y", "010224"),
        (DAYS, "%Y:%m:%d 12:30:00", "2024:02:01 12:30:00"),
        (DAYS, "%Y. %m. %d.", "2024. 02. 01."),
        (DAYS, "%a, %d %b %Y", "Thu, 01 Feb 2024"),
        (DAYS, "%A, %B %d, %Y", "Thursday, February 01, 2024"),
        (DAYS, "%m/%d/%Y, 6:00\u202fPM", "02/01/2024, 6:00\u202fPM"),
        (DAYS, "%Y年%m月%d日", "2024年02月01日"),
        (DAYS, "%d.%m.%Y 24:00", "02.02.2024 00:00"),
        (DAYS, "%Y%m%dT120000", "2024-02-01T12:00:00"),
        (DAYS, "%Y-%m-%dT12", "2024-02-01T12:00:00"),
    ],
)
def test_dates_are_sorted_and_go_on(dates: list[datetime.date], format: str, following: Any) -> None:
    """Once, some were sorted as numbers, as 01.2024 after 01.2023, and went on so: 2024.13, 2024366, 20231232."""
    times = [date.strftime(format) for date in dates]
    keys: Any = time_keys(times)
    days = [(date - datetime.timedelta(days="24:00" in format)) for date in (key.date() for key in keys)]
    assert days == dates
    assert time_keys(times[::-1]) == keys[::-1]
    assert next_times(times, 1) == [following]


def test_numbers_that_may_be_dates() -> None:
    seconds = [1703980800 + 86400 * i for i in range(30)]
    assert next_times(seconds, 1) == [1703980800 + 86400 * 30]
    months = [int(datetime.datetime(date.year, date.month, 1, tzinfo=datetime.UTC).timestamp() * 1000) for date in MONTHS]
    assert next_times(months, 1) == [int(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp() * 1000)]
    assert next_times([2023.11, 2023.12, 2024.01, 2024.02, *(round(2024 + i / 100, 2) for i in range(3, 11))], 2) == [
        "2024.11",
        "2024.12",
    ]
    for numbers in (
        [100101 + 100 * i for i in range(40)],
        [150101 + i for i in range(60)],
        [2014990 + i for i in range(60)],
        [f"{1990 + i / 12:.3f}" for i in range(40)],
        [round(1500.1 + i / 10, 1) for i in range(30)],
        [45291 + i for i in range(10)],
    ):
        assert all(isinstance(key, float) for key in time_keys(numbers))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "times",
    [
        ["24-Jan", "25-Jan"],
        ["2024-01-01-10-30", "2024-01-01-11-30"],
        ["2024 W60", "2024 W61"],
        ["2023-366", "2024-001"],
        ["2024-01-01 24:30", "2024-01-02 01:00"],
        ["1/24", "2/24"],
    ],
)
def test_times_that_may_be_something_else_are_refused(times: list[str]) -> None:
    assert isinstance(time_keys(times), int)


def write_steps(values: list[str], delimiter: str = ",", times: list[str] | None = None) -> None:
    times = times or [f"2024-{1 + i // 28:02}-{i % 28 + 1:02}" for i in range(len(values))]
    rows = [
        ("day", "x", "state"),
        *((t, f'"{x}"', "ab"[i % 5 < 2]) for i, (t, x) in enumerate(zip(times, values, strict=True))),
    ]
    Path("t.csv").write_text("".join(delimiter.join(row) + "\n" for row in rows))


VALUES = [1000 + 37 * i % 500 + (i % 4) / 4 for i in range(60)]


@pytest.mark.parametrize(
    ("delimiter", "write", "note"),
    [
        (",", lambda x: f"${x:,.2f}", "the unit $ is left out of 60 of 60 numbers, as in $1,000.00"),
        (",", lambda x: f"{x:,.2f}", "the comma groups digits in 60 numbers"),
        (",", lambda x: f"{x} kg", "the unit kg is left out of 60 of 60 numbers"),
        (",", lambda x: f"{x} °C", "the unit °C is left out"),
        (",", lambda x: f"{x:,}".replace(",", "\u202f"), ""),
        (";", lambda x: f"{x}".replace(".", ","), "the comma is read as the decimal point, as in 1000,0"),
        (";", lambda x: f"{x:,.2f} €".translate(str.maketrans(",.", ".,")), "the point groups digits"),
        (";", lambda x: f"{x:.3f}", ""),
        (",", lambda x: f"np.float64({x})", ""),
    ],
)
def test_numbers_of_steps_are_read_as_in_other_columns(
    delimiter: str, write: Any, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, they were labels: 60 of them, and of a source without a word."""
    write_steps([write(x) for x in VALUES], delimiter)
    table = open_table("t.csv")
    for source, target, options in (
        ("x", None, SeriesOptions(horizon=4, order_by="day")),
        ("x", "state", SeriesOptions(order_by="day")),
        ("state", "x", SeriesOptions(order_by="day")),
    ):
        caplog.clear()
        with caplog.at_level(logging.INFO, "unrolled"):
            grouped, spec = series_spec(table, source, target, options, "nfc")
        assert note in caplog.text if note else not caplog.messages
        [(_, row)] = grouped.rows()
        assert row["x"][:, 0].tolist() == VALUES
        assert spec.long is not None
        assert LongFormat.from_json(json.loads(json.dumps(spec.long.to_json()))) == spec.long
        if source == "x":
            [(_, row)] = group_sources(table, spec).rows()
            assert row["x"][:, 0].tolist() == VALUES


def test_steps_with_another_unit_are_gaps_or_refused() -> None:
    write_steps([f"{x} kg" for x in VALUES])
    _, spec = series_spec(open_table("t.csv"), "x", None, SeriesOptions(horizon=4, order_by="day"), "nfc")
    write_steps([*(f"{x} kg" for x in VALUES[:-1]), "5 g"])
    grouped = group_sources(open_table("t.csv"), spec)
    [(_, row)] = grouped.rows()
    assert np.isnan(row["x"][:, 0]).sum() == 1
    assert "'x': 1 value read as a gap; the first: t.csv, line 61: a number is expected, and this is '5 g'" in grouped.notes[-1]
    write_steps([f"{x} {'kg' if i % 2 else 'g'}" for i, x in enumerate(VALUES)])
    with pytest.raises(UsageError, match="such as '1000.0 g': name a column of numbers, all with the same unit or with none"):
        series_spec(open_table("t.csv"), "x", None, SeriesOptions(horizon=4, order_by="day"), "nfc")


@pytest.mark.parametrize(
    ("write", "note"),
    [
        (lambda x: f"{x / 60:.0f}:{x % 60:02.0f}", "values such as 17:40 are read as labels"),
        (lambda x: f"{x}".replace(".", ","), "values with a comma, such as 1000,0, are read as labels"),
        (lambda x: f"<{x}" if x % 1 == 0.25 else f"{x}", "others are not, such as <1037.25: they are read as labels"),
    ],
)
def test_values_of_steps_that_are_no_numbers_are_told(write: Any, note: str, caplog: pytest.LogCaptureFixture) -> None:
    write_steps([write(x) for x in VALUES])
    with caplog.at_level(logging.INFO, "unrolled"):
        series_spec(open_table("t.csv"), "x", "state", SeriesOptions(order_by="day"), "nfc")
    assert note in caplog.text


def test_known_covariates_are_numbers_with_units(cli: Cli) -> None:
    rows = [f"2024-{1 + i // 28:02}-{i % 28 + 1:02},{i % 7},${i % 5}.50" for i in range(84)]
    Path("t.csv").write_text("\n".join(["day,x,price", *rows, "2024-04-01,,$2.50", "2024-04-02,,$3.50", ""]))
    options = SeriesOptions(horizon=2, order_by="day", known_covariates="price")
    _, spec = series_spec(open_table("t.csv"), "x", None, options, "nfc")
    assert spec.long is not None
    [price] = spec.long.covariates
    assert (price.kind, price.inputs) == ("number", ("price",))


def test_times_with_decimal_commas_and_serial_dates() -> None:
    write_steps([f"{x}" for x in VALUES], ";", [f"{i // 2},{5 * (i % 2)}" for i in range(60)])
    grouped = group_steps(open_table("t.csv"), LongFormat(None, "day"), ("x",))
    [(_, row)] = grouped.rows()
    assert next_times(row["x"].times, 1) == [30]
    write_steps([f"{x}" for x in VALUES], times=[f"{45291 + i}" for i in range(60)])
    grouped = group_steps(open_table("t.csv"), LongFormat(None, "day"), ("x",))
    [(_, row)] = grouped.rows()
    assert "'day' is a number, such as 45291; if it is 2023-12-31, as Excel stores dates, write these" in str(grouped.notes)


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("\u20131.5", -1.5),
        ("\u22121.5", -1.5),
        ("1.5x10^3", 1500.0),
        ("1.5\u00d710\u207b\u00b2", 0.015),
        ("2\u00b710**-3", 0.002),
        ("1.5D+03", 1500.0),
        ("np.float64(1.5)", 1.5),
        ("Decimal('1.5')", 1.5),
        ("tensor(1.5000)", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
    ],
)
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_numbers_in_other_spellings(cell: str, number: float, delimiter: str) -> None:
    texts = [cell if i % 3 == 0 else f"{i}.25" for i in range(60)]
    Path("t.csv").write_text(
        "s;t\n".replace(";", delimiter) + "".join(f"film {i % 9}{delimiter}{t}\n" for i, t in enumerate(texts))
    )
    table = open_table("t.csv")
    spec, _ = infer_spec(table, "s", "t")
    assert spec.target.kind == "number"
    assert isinstance(spec.target, NumberColumn)
    [[scaled]] = read_pairs(table, spec).target[0].tolist()
    assert scaled * spec.target.scale[0] + spec.target.mean[0] == pytest.approx(number, abs=1e-4)


@pytest.mark.parametrize(
    ("delimiter", "cells", "kind", "note"),
    [
        (";", [f",{i:02}" for i in range(1, 61)], "number", "the comma is read as the decimal point, as in ,01"),
        (";", [f"{i},{i}E+02" for i in range(60)], "number", "the comma is read as the decimal point"),
        (
            ";",
            [f"{i}.{100 + 13 * i}" if i else "7" for i in range(60)],
            "number",
            "as in 1.113; if it groups digits, remove it",
        ),
        (";", [f"{i}.{13 * i}" for i in range(60)], "number", ""),
        (",", [f"{i},{i % 10}%" for i in range(60)], "text", "values with a comma, such as 0,0%, are read as text"),
        (",", [f"{i}-" if i % 2 else f"{i}" for i in range(60)], "text", "values such as 1- are read as text; to have numbers"),
        (",", [f"PT{i}H{i}M" for i in range(60)], "text", "values such as PT0H0M are read as text"),
        (
            ",",
            [f"T: {10 + i % 9} %" for i in range(60)],
            "labels",
            "values such as T: 10 % are read as labels; to have numbers",
        ),
        (",", [f"b'film {i}'" for i in range(60)], "text", "60 of 60 values have bytes as Python prints them"),
        (
            ",",
            [f"{2015 + i // 12}.{i % 12 + 1:02}" for i in range(60)],
            "number",
            "such as 2015.01 are read as numbers; if they are",
        ),
        (",", [f"{2015 + i / 7:.2f}" for i in range(60)], "number", ""),
        (",", [f"3x10{i}" for i in range(60)], "text", "values such as 3x100 are read as text"),
        (",", [f"{i:04}" for i in range(60)], "text", ""),
    ],
)
def test_cells_that_may_be_numbers_are_told(
    delimiter: str, cells: list[str], kind: str, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f'a film {i % 9}{delimiter}"{cell}"\n' for i, cell in enumerate(cells)]
    Path("t.csv").write_text(f"s{delimiter}t\n" + "".join(rows))
    with caplog.at_level(logging.INFO, "unrolled"):
        spec, _ = infer_spec(open_table("t.csv"), "s", "t")
    assert spec.target.kind == kind
    assert note in caplog.text if note else not caplog.messages


def test_lines_above_the_names_of_columns_are_left_out(cli: Cli) -> None:
    rows = "".join(f"{1 + i % 28:02}.01.2024;{i},50;film {i % 9}\n" for i in range(40))
    above = "Report of accounts;;\nFrom: 01.01.2024\n\n"
    names = "date;sum;text\n"
    for start in (above + names, f"# by a tool\n{above}{names};(EUR);\n", f"a;b;c;d;e\n{names}"):
        Path("t.csv").write_text(start + rows)
        table = open_table("t.csv")
        assert table.columns == ("date", "sum", "text")
        assert [cell.value for _, (cell,) in table.iter_cells(("sum",))][:2] == ["0,50", "1,50"]
        assert any("above the names of the columns left out" in note for note in table.notes)
    tiny = ("--steps", 1, "--hidden", 4, "--layers", 1, "--threads", 1, "--sample-length", 0)
    assert cli("train", "t.csv", "--source", "text", "--target", "sum", *tiny, "--out", "r").code == 0
    predicted = cli("predict", "r", "t.csv").out.splitlines()
    assert (predicted[0], len(predicted)) == ("date,sum,text,predicted", 41)


@pytest.mark.parametrize(
    "text",
    [
        "text\n" + "good, film\n" * 9,
        "a,b\n1,2\n3,4\n5\n" + "6,7\n" * 9,
        "a report\nwith words, and\n" + "more words, of prose\n" * 9,
        "id,text,label\n1,a,b,c\n" + "2,a,b\n" * 9,
    ],
)
def test_rows_that_do_not_fit_are_not_left_out(text: str) -> None:
    Path("t.csv").write_text(text)
    with pytest.raises(DataError, match="line [2-5]: "):
        list(open_table("t.csv").rows())


def test_one_object_of_many_texts_is_two_columns() -> None:
    texts = {f"menu.{i}": f"open film {i}" for i in range(12)}
    Path("t.json").write_text(json.dumps(texts))
    table = open_table("t.json")
    assert table.columns == ("key", "value")
    assert [cell.value for _, (cell,) in table.iter_cells(("value",))] == list(texts.values())
    assert table.notes == ("t.json: its 12 texts are the rows, of two columns, key and value",)


def test_names_of_columns_that_are_numbers_may_have_blanks() -> None:
    Path("t.tsv").write_text("geo\t2019 \t2020 \n" + "".join(f"C{i}\t{i}.5 \t: \n" for i in range(9)))
    assert open_with_columns("t.tsv", ("geo", "2020"), TableFormat()).columns == ("geo", "2019 ", "2020 ")


def test_points_of_euros_group_digits_and_the_others_are_told(caplog: pytest.LogCaptureFixture) -> None:
    def read(cells: list[str], target: str) -> Any:
        Path("t.csv").write_text("s;t\n" + "".join(f"{i % 7};{cell}\n" for i, cell in enumerate(cells)))
        caplog.clear()
        with caplog.at_level(logging.INFO, "unrolled"):
            return infer_spec(open_table("t.csv"), "s:text", target)[0].target

    prices = [f"{200 + i}.000 €" for i in range(60)]
    assert read(prices, "t").mean[0] == 229_500
    on_request = [price if i % 3 else "on request" for i, price in enumerate(prices)]
    assert read(on_request, "t").kind == "text"
    assert "40 of 60 values are numbers, others are not, such as on request: they are read as text" in caplog.text
    assert read(on_request, "t:number").mean[0] == 230_000
    assert read([f"1.{100 + i} €" for i in range(60)], "t").mean[0] == pytest.approx(1.1295)
    assert "the point is read as the decimal point, as in 1.100; if it groups digits, remove it" in caplog.text
    assert read([f"–{i}.5 kg" for i in range(60)], "t").mean[0] == -30
    assert read([f"${2 + i}.125" for i in range(60)], "t").mean[0] == 31.625


@pytest.mark.parametrize("missing", ["--", ".a", "n.a.", "1.#IND", "(null)"])
def test_other_names_of_missing_numbers(missing: str) -> None:
    write_steps([missing if i % 3 == 0 else f"{x}" for i, x in enumerate(VALUES)])
    grouped, _ = series_spec(open_table("t.csv"), "x", None, SeriesOptions(horizon=4, order_by="day"), "nfc")
    [(_, row)] = grouped.rows()
    assert np.isnan(row["x"][:, 0]).sum() == 20
    Path("t.csv").write_text("s,t\n" + "".join(f"film {i % 9},{missing if i % 2 else 'word'}\n" for i in range(40)))
    assert infer_spec(open_table("t.csv"), "s", "t")[0].target.kind == "label"


@pytest.mark.parametrize(
    "write", [lambda x: f"{x:,.0f}", lambda x: f"{x:,.0f}".replace(",", " "), lambda x: f"${x:,.2f}", lambda x: f"{x} kg"]
)
def test_numbers_of_steps_without_times_are_no_lists(write: Any, cli: Cli) -> None:
    """Once, `1,250` was a series of two steps, and each row one of its own."""
    values = [1000 + 250 * (i % 4) for i in range(60)]
    write_steps([write(x) for x in values])
    grouped, _ = series_spec(open_table("t.csv"), "x", None, SeriesOptions(horizon=4), "nfc")
    [(_, row)] = grouped.rows()
    assert row["x"][:, 0].tolist() == values
    tiny = ("--steps", 1, "--hidden", 4, "--layers", 1, "--threads", 1, "--sample-length", 0)
    assert cli("train", "t.csv", "--source", "x", "--horizon", 4, *tiny, "--out", "r").code == 0
    assert "None" not in cli("predict", "r", "t.csv").err


@pytest.mark.parametrize(
    ("delimiter", "cell", "steps"),
    [
        (",", "120 130 150 125", [120, 130, 150, 125]),
        (",", "120,130,150,125", [120, 130, 150, 125]),
        (",", "[1.5, 2.5, 3.5]", [1.5, 2.5, 3.5]),
        (";", "1,5 2,5 3,5", [1.5, 2.5, 3.5]),
        (";", "1, 2, 5", [1, 2, 5]),
        (",", "1,5 2,5 3,5", None),
    ],
)
def test_lists_of_steps(delimiter: str, cell: str, steps: list[float] | None, caplog: pytest.LogCaptureFixture) -> None:
    """Once, `1,5 2,5` in a file with semicolons was four steps."""
    write_steps([cell] * 20, delimiter)
    table = open_table("t.csv")
    if steps is None:
        with pytest.raises(DataError, match="of '1,5' the comma may be the decimal point: write points"):
            series_spec(table, "x", None, SeriesOptions(horizon=2), "nfc")
        return
    with caplog.at_level(logging.INFO, "unrolled"):
        _, spec = series_spec(table, "x", None, SeriesOptions(horizon=2), "nfc")
    assert caplog.messages == (["'x': the comma is read as the decimal point, as in 1,5"] if "1,5" in cell else [])
    column = column_from_json(json.loads(json.dumps(column_to_json(spec.source))))
    [(value, *_)] = [cells for _, cells in table.iter_cells(("x",))][:1]
    assert column.encode(value)[:, 0].tolist() == steps


@pytest.mark.parametrize(
    ("times", "utc", "following"),
    [
        (["2024/03/01 5:14:07 PM GMT+1", "2024/03/01 6:14:07 PM GMT+1"], [16, 17], "2024/03/01 7:14:07 PM GMT+1"),
        (["2024/03/01 5:14:07 PM EET", "2024/03/01 6:14:07 PM EET"], [15, 16], "2024/03/01 7:14:07 PM EET"),
        (["01/Mar/2024:05:14:07 +0530", "01/Mar/2024:06:14:07 +0530"], [23, 0], "01/Mar/2024:07:14:07 +0530"),
        (["10/27/2024 1:30 AM EDT", "10/27/2024 1:30 AM EST"], [5, 6], "10/27/2024 2:30 AM EST"),
    ],
)
def test_times_may_have_their_zone(times: list[str], utc: list[int], following: str) -> None:
    keys = time_keys(times)
    assert not isinstance(keys, int)
    dates = [key for key in keys if isinstance(key, datetime.datetime)]
    assert [date.astimezone(datetime.UTC).hour for date in dates] == utc
    assert next_times(times, 1) == [following]
    assert time_keys([*times, "2024/03/01 7:14:07 PM XYZT"]) == 2
