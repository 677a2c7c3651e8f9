"""Times of steps as people write them: in several columns, without a date, in other languages; and what is below a table."""

from __future__ import annotations

import csv
import datetime
import io
from pathlib import Path
from typing import Any

import pytest

from support.cli import Cli
from support.tables import rows_of, write_long
from unrolled.errors import DataError
from unrolled.tables.long_table import LongFormat, group_steps
from unrolled.tables.step_times import next_times, series_keys, time_keys
from unrolled.tables.table_files import open_table

HOURS = [datetime.datetime(2024, 2, 28) + datetime.timedelta(hours=hour) for hour in range(48)]
TINY = ("--hidden", 4, "--layers", 1, "--threads", 1, "--steps", 2, "--horizon", 2)


def hours(format: str) -> list[str]:
    return [time.strftime(format) for time in HOURS]


def read_times(columns: dict[str, list[Any]], order_by: str, group_by: str | None = None) -> Any:
    table = open_table(write_long("t.csv", columns))
    grouped = group_steps(table, LongFormat(group_by, order_by), ("x",))
    return [row["x"] for _, row in grouped.rows()], grouped.notes


@pytest.mark.parametrize(
    ("columns", "order_by", "following"),
    [
        ({"date": hours("%Y-%m-%d"), "time": hours("%H:%M")}, "date,time", ("2024-03-01", "00:00")),
        ({"Uhr": hours("%H:%M:%S"), "Tag": hours("%d.%m.%Y")}, "Uhr,Tag", ("00:00:00", "01.03.2024")),
        ({"d": hours("%m/%d/%Y"), "t": hours("%I:%M %p")}, "d,t", ("03/01/2024", "12:00 AM")),
        ({"day": hours("%Y%m%d"), "hhmm": [t.hour * 100 for t in HOURS]}, "day,hhmm", ("20240301", "0000")),
        ({"day": hours("%Y-%m-%d"), "hour": [t.hour for t in HOURS]}, "day,hour", ("2024-03-01", "0")),
        (
            {"day": hours("%Y-%m-%d"), "HE": [t.hour + 1 for t in HOURS]},
            "day,HE", ("2024-03-01", "1"),
        ),
        (
            {"year": hours("%Y"), "mon": [t.month for t in HOURS], "day": [t.day for t in HOURS], "h": [t.hour for t in HOURS]},
            "year,mon,day,h", ("2024", "3", "1", "0"),
        ),
        (
            {"day": [t.day for t in HOURS], "month": hours("%b"), "year": hours("%Y"), "time": hours("%H:%M")},
            "year,month,day,time", ("2024", "Mar", "1", "00:00"),
        ),
        ({"year": [2023] * 3 + [2024], "quarter": [2, 3, 4, 1]}, "year,quarter", ("2024", "2")),
        ({"year": [2020, 2020], "week": [52, 53]}, "year,week", ("2021", "1")),
        ({"year": [2023, 2023], "month": ["11", "12"]}, "year,month", ("2024", "1")),
        ({"year": [2023, 2023], "doy": [364, 365]}, "year,doy", ("2024", "1")),
    ],
)  # fmt: skip
def test_times_in_several_columns_are_one_and_go_on_in_these(
    columns: dict[str, list[Any]], order_by: str, following: tuple[str, ...], cli: Cli
) -> None:
    count = len(next(iter(columns.values())))
    (steps,), _ = read_times({**columns, "x": list(range(count))}, order_by)
    assert steps[:, 0].tolist() == list(range(count))
    last = steps.times[-1]
    cells = last.cells_of(next_times(steps.times, 1)[0])
    assert tuple(map(str, cells)) == following
    assert last.parts == tuple(str(columns[name][-1]) for name in order_by.split(","))


def test_a_forecast_writes_the_columns_of_the_times(cli: Cli) -> None:
    columns: dict[str, list[Any]] = {"date": [f"{t:%Y-%m-%d}" for t in HOURS], "time": [f"{t:%H:%M}" for t in HOURS]}
    write_long("t.csv", {**columns, "x": [t.hour for t in HOURS]})
    cli("train", "t.csv", "--source", "x", "--order-by", "date,time", *TINY, "--out", "r")
    rows = list(csv.DictReader(io.StringIO(cli("predict", "r", "t.csv")[1])))
    assert [(row["date"], row["time"], row["step"]) for row in rows] == [
        ("2024-03-01", "00:00", "1"),
        ("2024-03-01", "01:00", "2"),
    ]
    assert "from 2, date,time" in cli("export", "r", "--to", "html")[2]


def test_columns_that_are_no_times_are_refused(cli: Cli) -> None:
    with pytest.raises(DataError, match=r"'a,b' are no parts of a time"):
        read_times({"a": [1, 2], "b": ["u", "v"], "x": [1, 2]}, "a,b")
    with pytest.raises(DataError, match=r"line 3: 'year,month,day' is '2023 2 29', and there is no such time"):
        read_times({"year": [2023, 2023], "month": [2, 2], "day": [28, 29], "x": [1, 2]}, "year,month,day")


def test_times_without_a_date_go_on_after_midnight(cli: Cli) -> None:
    (steps,), notes = read_times({"time": ["22:00", "23:30", "0:15", "7:00"], "x": [1, 2, 3, 4]}, "time")
    assert steps[:, 0].tolist() == [1, 2, 3, 4]
    assert [int(second) for second in steps.seconds] == [79200, 84600, 87300, 111600]
    assert "'time' has no dates: it goes on for 1 day after midnight, in this order" in notes
    (steps,), _ = read_times({"time": ["7:00", "0:15", "23:30"], "x": [3, 2, 1]}, "time")  # the newest first
    assert steps[:, 0].tolist() == [1, 2, 3]
    columns: dict[str, list[Any]] = {"s": list("aabb"), "time": ["9:00", "10:00", "8:00", "9:00"], "x": [1, 2, 3, 4]}
    (first, second), _ = read_times(columns, "time", "s")
    assert (first.times, second.times) == (["9:00", "10:00"], ["8:00", "9:00"])
    assert next_times(["10:30 PM", "11:30 PM"], 1) == ["12:30 AM"]
    with pytest.raises(DataError, match=r"line 4: 'time' is '11:00', and times without a date go on"):
        read_times({"time": ["10:00", "12:00", "11:00"], "x": [1, 2, 3]}, "time")
    assert series_keys([["9:00"], ["8:00", "9:00", "8:59"]]) == (1, 2)


@pytest.mark.parametrize(
    ("times", "following"),
    [
        (["30 janv. 2024", "31 janv. 2024"], "01 févr. 2024"),
        (["31 mars 2024", "1er avril 2024"], "2 avril 2024"),
        (["28. Februar 2024", "29. Februar 2024"], "01. März 2024"),
        (["30-Mrz-24", "31-Mrz-24"], "01-Apr-24"),
        (["30 de marzo de 2024", "31 de marzo de 2024"], "01 de abril de 2024"),
        (["30 января 2024 г.", "31 января 2024 г."], "01 февраля 2024 г."),
        (["2024. január 30.", "2024. január 31."], "2024. február 01."),
        (["NOV 2023", "DIC 2023"], "ENE 2024"),
        (["31 maj 2024", "1 juni 2024"], "2 juni 2024"),
        (["31/Jan/2024", "01/Feb/2024"], "02/Feb/2024"),
    ],
)
def test_months_in_other_languages(times: list[str], following: str) -> None:
    pytest.importorskip("babel")
    assert next_times(times, 1) == [following]


def test_a_month_that_languages_disagree_about_is_refused() -> None:
    pytest.importorskip("babel")
    assert time_keys(["listopad 2024"]) == 0  # October in Croatian, November in Czech and Polish
    assert next_times(["listopad 2024", "prosinec 2024"], 1) == ["leden 2025"]


def test_a_day_of_a_month_is_no_year(cli: Cli) -> None:
    assert isinstance(time_keys(["Nov-24", "Dec-24", "Jan-25"]), list)
    for days in ([f"Jan-{day:02}" for day in range(1, 29)], ["24-Jan", "25-Jan"], ["Jan 24", "Jan 25"]):
        with pytest.raises(DataError, match=rf"line 2: 'd' is '{days[0]}', and a day without a year cannot be sorted"):
            read_times({"d": days, "x": list(range(len(days)))}, "d")


FOOTER = "Total,496\n,\nSource: a made office,\n"


@pytest.mark.parametrize("order_by", ["day", None])
def test_totals_and_sources_at_the_end_are_no_steps(order_by: str | None, cli: Cli) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(40)]
    path = write_long("t.csv", {"day": days, "x": list(range(40))})
    Path(path).write_text(Path(path).read_text() + FOOTER)
    grouped = group_steps(open_table(path), LongFormat(None, order_by), ("x",))
    assert [row["x"].ravel().tolist() for _, row in grouped.rows()] == [list(range(40))]
    assert "3 rows at the end are no step and left out, from line 42: 'Total'" in grouped.notes


def test_one_time_that_is_wrong_is_no_footer(cli: Cli) -> None:
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=day) for day in range(40)]
    with pytest.raises(DataError, match="line 42: 'day' is '2024-02-30'"):
        read_times({"day": [*days, "2024-02-30"], "x": list(range(41))}, "day")


def test_thousands_and_millions_are_numbers(cli: Cli) -> None:
    values = [f"{day}.5K" if day % 3 else f"1.{day:02}M" for day in range(60)]
    write_long("t.csv", {"day": list(range(60)), "x": values, "y": list(range(60))})
    _, out, error = cli("train", "t.csv", "--source", "y", "--target", "x:number", *TINY[:-2], "--out", "r")
    assert "'x': K, M and B are read as thousands, millions and billions, as in 1.00M" in error
    report = cli("eval", "r", "t.csv", "--json")[1]
    assert '"rmse"' in report
    assert rows_of(cli("predict", "r", "t.csv")[1])[0]["x"] == "1.00M"
