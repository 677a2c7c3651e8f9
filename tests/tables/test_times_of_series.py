"""Steps of series that are missing, equal or at other distances, and dates as names of columns."""

import datetime
from pathlib import Path

import pytest

from support.cli import Cli

TINY = ("--hidden", 8, "--layers", 1, "--threads", 1, "--steps", 2, "--sample-length", 0)


@pytest.mark.parametrize(
    ("hours", "note"),
    [
        ([hour for hour in range(40) if hour % 10 != 7], "4 steps are missing between the others, which are 1 hour apart"),
        ([*range(40), *(40 + part / 4 for part in range(40))], "some steps are 15 minutes apart, and others 1 hour"),
        ([24 * day for day in range(40) if day % 7 < 5], ""),  # the first day is a Monday
        ([hour + (hour * 7 % 13) / 60 for hour in range(40)], ""),
    ],
)
def test_times_that_are_missing_or_at_other_distances_are_told(hours: list[float], note: str, cli: Cli) -> None:
    start = datetime.datetime(2024, 1, 1)
    lines = [f"{start + datetime.timedelta(hours=hour)},{number % 5}" for number, hour in enumerate(hours)]
    Path("t.csv").write_text("\n".join(["time,x", *lines]) + "\n")
    error = cli("train", "t.csv", "--source", "x", "--target", "x", "--horizon", 1, "--order-by", "time", *TINY).err
    assert (note in error) if note else ("apart" not in error and "missing" not in error)


def test_equal_rows_of_a_series_are_one_step(cli: Cli) -> None:
    """Files that overlap were joined: ten hours counted twice, and the period was 25 hours instead of 24."""
    start = datetime.datetime(2024, 1, 1)
    lines = [f"{start + datetime.timedelta(hours=hour)},{hour % 24}" for hour in range(100)]
    Path("t.csv").write_text("\n".join(["time,x", *lines[:60], *lines[50:], ""]))
    arguments = ("--source", "x", "--target", "x", "--horizon", 1, "--order-by", "time", *TINY)
    error = cli("train", "t.csv", *arguments, "--out", "run").err
    assert "t.csv: 100 steps of 1 series" in error
    assert "10 rows left out that are equal to another one at the same time" in error
    Path("new.csv").write_text("\n".join(["time,x", *lines[:30], *lines[28:40], ""]))
    assert cli("predict", "run", "new.csv").out.splitlines()[-1].startswith("2024-01-02 16:00:00,")
    Path("shops.csv").write_text("\n".join(["time,x,shop", *(f"{line},A\n{line},B" for line in lines), ""]))
    error = cli("train", "shops.csv", *arguments, "--out", "shops").err  # rows that differ are steps of their own
    assert "100 rows have the same 'time' as another row of their series, and are steps of their own" in error


def test_wide_series_may_have_dates_as_names(cli: Cli) -> None:
    days = [datetime.date(2020, 1, 22) + datetime.timedelta(day) for day in range(30)]
    names = [f"{day.month}/{day.day}/{day:%y}" for day in days]
    lines = [",".join([f"land {k}", "1.5", *(str(k * 10 + i) for i in range(30))]) for k in range(9)]
    Path("t.csv").write_text("\n".join([",".join(["country", "Lat", *names]), *lines]) + "\n")
    result = cli("train", "t.csv", "--source", "1/22/20", "--target", "2/20/20", *TINY)
    assert result.code == 3
    assert "has series in the columns 1/22/20 to 2/20/20, and '1/22/20' is a single step" in result.err
