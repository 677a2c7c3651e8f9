"""The page of an exported model of series, in a browser: it predicts as the command line does, and is used by keyboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.cli import Cli
from support.pages import open_page
from support.series import series_model
from support.tables import rows_of, write_long
from unrolled.checkpoints.model_file import save_model
from unrolled.tables.long_table import LongFormat

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]

READY = "#verified[data-ready]"
HOSTILE = "</script><img src=x onerror=alert(1)>"


def exported(cli: Cli, long: LongFormat, **model: Any) -> Path:
    """Save and export a model of series whose table has these columns of names and times; return the page."""
    model_file = series_model(**model)
    long = dataclasses.replace(long, covariates=model_file.spec.known_covariates)
    save_model(Path("m.safetensors"), dataclasses.replace(model_file, spec=dataclasses.replace(model_file.spec, long=long)))
    done = cli("export", "m.safetensors", "--to", "html", "--out", "m.html")
    assert done.code == 0, done.err
    assert "checked: node: every output" in done.out
    return Path("m.html").resolve()


def write_table(**columns: Any) -> str:
    """Write a table of two series of hours, with gaps, in the range of `series_model`."""
    draw = np.random.default_rng(3)
    hours = np.datetime64("2024-02-27T00:00") + np.timedelta64(1, "h") * np.arange(60)
    a, b = draw.normal([1e4, -3.0], [2.0, 500.0], (120, 2)).T
    names = ["north"] * 60 + [HOSTILE] * 60
    return write_long(
        "t.csv", {"name": names, "time": [*hours, *hours], "a": a, "b": [*b[:-4], "", "", "NA", b[-1]], **columns}
    )


def downloaded(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as download:
        page.click("#answers a")
    return rows_of(Path(download.value.path()).read_text("utf-8"))


def run(page: Page, table: str) -> None:
    page.set_input_files("#file", table)
    page.wait_for_selector("#results:not([hidden])")


@pytest.mark.parametrize(
    "model",
    [
        {"horizon": 30, "difference": 24, "cycles": ("day", "week"), "gaps": True},
        {"horizon": 5, "loss": "quantiles"},
        {"loss": "quantiles", "gaps": True},
        {"loss": "mse", "cycles": ("day",)},
        {"scale": "group", "center": "group", "horizon": 5, "gaps": True},
        {"center": "row", "loss": "gaussian", "gaps": True},
    ],
)
def test_the_page_predicts_what_the_command_line_predicts(cli: Cli, browser: Browser, model: dict[str, Any]) -> None:
    path, table = exported(cli, LongFormat("name", "time"), **model), write_table()
    with open_page(browser, path, ready=READY) as page:
        assert "This browser computes what the model computes" in page.inner_text("#verified")
        run(page, table)
        assert page.locator("#charts figure").count() == 4
        assert page.inner_text("#status").startswith("2 series of 120 steps.")
        found = downloaded(page)
    expected = rows_of(cli("predict", "m.safetensors", table, "--precision", "float32").out)
    assert list(found[0]) == list(expected[0])
    assert [row["time"] for row in found] == [row["time"].replace(" ", "T") for row in expected]
    for name in list(expected[0])[2:]:
        ours, theirs = (np.array([float(row[name]) for row in rows]) for rows in (found, expected))
        assert ours == pytest.approx(theirs, abs=2e-4 * float(np.ptp(theirs)) + 1e-6)


def test_a_forecast_reads_what_is_known_in_advance(cli: Cli, browser: Browser) -> None:
    model = {"horizon": 6, "known": True, "difference": 3, "gaps": True, "cycles": ("day",)}
    path = exported(cli, LongFormat("name", "time"), **model)
    draw = np.random.default_rng(4)
    hours = np.datetime64("2024-02-27T00:00") + np.timedelta64(1, "h") * np.arange(60)
    a, b = draw.normal([1e4, -3.0], [2.0, 500.0], (120, 2)).T.astype(str).tolist()
    for values in (a, b):
        values[54:60], values[112:] = [""] * 6, [""] * 8  # to be forecast, and two more
    price = [*draw.normal(3, 2, 117), "", "", 4.5]
    others = {"holiday": ["", "Easter", "May Day", "Monday"] * 30, "open": ["TRUE", "false", "1"] * 40}
    table = write_long(
        "t.csv", {"name": ["north"] * 60 + ["south"] * 60, "time": [*hours, *hours], "a": a, "b": b, "price": price, **others}
    )
    with open_page(browser, path, ready=READY) as page:
        assert "price, holiday, open, also in 6 rows after the last a" in page.inner_text("#rows-hint")
        run(page, table)
        found = downloaded(page)
        page.click("#example")
        page.wait_for_selector("#results:not([hidden])")
        assert "failed" not in str(page.get_attribute("#status", "class"))
    expected = rows_of(cli("predict", "m.safetensors", table, "--precision", "float32").out)
    assert [row["time"] for row in found] == [row["time"].replace(" ", "T") for row in expected]
    assert found[0]["time"] == "2024-02-29T06:00"
    for name in list(expected[0])[2:]:
        ours, theirs = (np.array([float(row[name]) for row in rows]) for rows in (found, expected))
        assert ours == pytest.approx(theirs, abs=2e-4 * float(np.ptp(theirs)) + 1e-6)


def test_labels_of_steps_and_what_the_table_says(cli: Cli, browser: Browser) -> None:
    table = write_table(state=["up", "down"] * 60)
    with open_page(browser, exported(cli, LongFormat("name", "time"), labels=True), ready=READY) as page:
        run(page, table)
        assert "of the labels are wrong" in page.locator("#charts figcaption").first.inner_text()
        found = downloaded(page)
        assert page.locator("#answers tbody tr").count() == len(found) == 120
    expected = rows_of(cli("predict", "m.safetensors", table, "--precision", "float32").out)
    assert [row["predicted"] for row in found] == [row["predicted"] for row in expected]
    assert all(0 < float(row["probability"]) <= 1 for row in found)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_it_fits_the_window_and_is_used_by_keyboard(cli: Cli, browser: Browser, width: int, dark: bool) -> None:
    path = exported(cli, LongFormat(None, "time", examples=("2024-01-01 10:00", "2024-01-01 11:00")), horizon=6)
    with open_page(browser, path, size=(width, 800), dark=dark, ready=READY) as page:
        page.focus("#example")
        page.keyboard.press("Enter")
        page.wait_for_selector("#results:not([hidden])")
        assert page.input_value("#rows").startswith("time\ta\tb\n2024-01-01 10:00\t")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.focus("#charts .panels")
        before = page.locator("#charts .readout").first.inner_text()
        page.keyboard.press("ArrowLeft")
        assert page.locator("#charts .readout").first.inner_text() != before
        first = page.locator("#answers tbody tr").first.inner_text().split()
        assert first[:3] == ["2024-01-05", "10:00", "1"]
        page.fill("#rows", "time,a\n1,2\n")
        page.focus("#predict")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status.failed")
        assert page.inner_text("#status") == "The table has no column 'b': its columns are 'time', 'a'."
        assert page.is_hidden("#results")


def test_a_page_that_computes_something_else_says_so(cli: Cli, browser: Browser) -> None:
    path = exported(cli, LongFormat(None, "time"), horizon=3)
    text = path.read_text("utf-8")
    path.write_text(text.replace('"logLimit":6', '"logLimit":2', 1), "utf-8")
    with open_page(browser, path, ready=READY) as page:
        assert "computes something else than the model (series 0" in page.inner_text("#verified.failed")
