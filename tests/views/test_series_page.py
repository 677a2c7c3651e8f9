"""The page of series in a real browser: what is drawn, and what can be read from it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from support.pages import open_page
from unrolled.views.series_page import series_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = "</script><img src=x onerror=window.pwned=1>"
HOUR = 3600


def forecast_chart(steps: int = 96, horizon: int = 24) -> dict[str, Any]:
    """Return the chart of a river with a gap and a spike, and two forecasts of a day each, the last of which goes on."""
    truth: list[float | None] = [300 + 10 * math.sin(step / 8) for step in range(steps - horizon)] + [None] * horizon
    truth[10], truth[20] = None, 9999.0
    starts = [steps - 2 * horizon, steps - horizon]
    guess = [None] * starts[0] + [300 + 9 * math.sin(step / 8) for step in range(starts[0], steps)]
    days = [f"{1 + step // 24:02}.03.2024 {step % 24:02}:00" for step in range(steps)]
    return {
        "series": "Köln", "column": "level (cm)", "note": "", "time": "date", "time_name": "Zeitpunkt", "horizon": horizon,
        "x": [1709251200 + HOUR * step for step in range(steps)], "times": days, "starts": starts,
        "truth": truth, "predicted": guess, "levels": [0.1, 0.9], "error": 1.25,
        "baseline_error": 2.5, "baseline_name": "last value",
        "low": [value and value - 4 for value in guess], "high": [value and value + 4 for value in guess],
        "baseline": [value and 305.0 for value in guess], "labels": [],
    }  # fmt: skip


def label_chart() -> dict[str, Any]:
    """Return the chart of a column of readings whose state is predicted."""
    states = [0, 0, 1, 1, None, 1]
    return {
        "series": HOSTILE, "column": "x", "note": "", "time": "", "time_name": "", "horizon": 0, "x": [1, 2, 3, 4, 5, 6],
        "times": [], "starts": [], "truth": [0.5, 0.25, None, 1, 2, 3], "true_label": states, "label": [0, 1, 1, 1, 1, 1],
        "labels": ["down", "up"], "levels": [], "error": 0.2, "baseline_error": None, "baseline_name": "",
    }  # fmt: skip


@pytest.fixture(scope="module", params=[1280, 400])
def page(browser: Browser, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Page]:
    path = tmp_path_factory.mktemp("series") / "explain.html"
    data = {"title": HOSTILE, "subtitle": "1 x 8 LSTM", "neurons": "n.html", "note": "Drawn: 2 of 9 series."}
    path.write_text(series_page(data | {"series": [forecast_chart(), label_chart()]}), "utf-8")
    with open_page(browser, path, size=(request.param, 800), ready="figure.series svg") as opened:
        yield opened


def paths(page: Page, selector: str) -> list[str]:
    """Return what the paths in the first figure draw."""
    made: list[str] = (
        page.locator("figure").first.locator(selector).evaluate_all("all => all.map(path => path.getAttribute('d'))")
    )
    return made


def test_lines_break_at_gaps_and_where_a_forecast_starts(page: Page) -> None:
    [truth], forecasts, [band] = paths(page, "path.truth"), paths(page, "path.first"), paths(page, "path.band")
    assert truth.count("M") == 2
    assert [line.count("M") for line in forecasts] == [2, 1]
    assert (band.count("M"), band.count("Z")) == (2, 2)
    assert page.locator("figure").first.locator("line.reference").count() == 2
    assert page.evaluate("window.pwned") is None
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#note").inner_text() == "Drawn: 2 of 9 series."


def test_axes_have_the_units_and_times_of_the_source(page: Page) -> None:
    figure = page.locator("figure").first
    ticks = figure.locator("text.tick.middle").all_text_contents()
    assert {"Mar 2", "Mar 4"} <= set(ticks)
    assert figure.locator("text.axis-title").all_text_contents() == [
        "level (cm)", "predicted \u2212 true", "2024-03-01 to 2024-03-04 23:00",
    ]  # fmt: skip
    caption = " ".join(figure.locator("figcaption").inner_text().split())
    assert caption == "Köln, level (cm) Root mean squared error 1.25; last value 2.5. 1 true number is beyond the axis."
    end = figure.locator("svg svg").last.evaluate(
        "area => Number(area.getAttribute('y')) + Number(area.getAttribute('height'))"
    )
    baseline = float(figure.locator("text.tick.middle").first.get_attribute("y") or 0)
    assert baseline - 14 < end < baseline - 8, "lines that leave the chart end above the labels"
    link = page.locator("#neurons a").evaluate("a => getComputedStyle(a).color")
    assert link == page.locator("path.first").first.evaluate("path => getComputedStyle(path).stroke")
    heights = figure.locator("text.tick.end").all_text_contents()
    assert "300" in heights
    assert "10,000" not in heights


def test_the_cursor_reads_every_step(page: Page) -> None:
    figure = page.locator("figure").first
    panels, readout = figure.locator(".panels"), figure.locator(".readout")
    panels.focus()
    page.keyboard.press("Home")
    assert readout.inner_text().split("\n")[0].startswith("01.03.2024 00:00")
    assert "300" in readout.inner_text()
    page.keyboard.press("End")
    shown = " ".join(readout.inner_text().split())
    assert "04.03.2024 23:00 true \u2013 forecast " in shown
    assert "80% within " in shown
    assert panels.get_attribute("aria-valuenow") == "95"
    figure.locator(".chart").first.hover(position={"x": 100, "y": 60})
    assert "04.03.2024" not in readout.inner_text()


def test_labels_are_strips_under_the_numbers(page: Page) -> None:
    figure = page.locator("figure").nth(1)
    assert "20% of the labels are wrong." in figure.locator("figcaption").inner_text()
    assert figure.locator("rect").count() == 3 + 2
    assert {"true", "predicted"} <= set(figure.locator("text.tick.end").all_text_contents())
    figure.locator(".panels").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert " ".join(figure.locator(".readout").inner_text().split()) == "step 2 x 0.25 true down predicted up"
