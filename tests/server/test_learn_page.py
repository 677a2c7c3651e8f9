"""The part Learn of the page of `unrolled serve`: runs that grow are followed, and trainings are started and controlled."""

from __future__ import annotations

import json
import shutil
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.live_server import LiveServer, open_live
from support.served_page import open_served, stream_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.xdist_group("page")  # one server for all


def add_records(path: Path, *records: dict[str, Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def train_record(step: int, nats: float) -> dict[str, Any]:
    return {"event": "train", "step": step, "seconds": step / 10, "tokens_per_second": 4321.0, "train_nats": nats}


def facts(page: Page, run: str) -> str:
    return page.inner_text(f".run[data-run='{run}'] .run-facts")


def wait_for_facts(page: Page, run: str, part: str) -> None:
    page.wait_for_selector(f".run[data-run='{run}'] .run-facts:has-text('{part}')", timeout=10_000)


@pytest.mark.slow
def test_a_run_of_the_command_line_is_followed(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#learn?runs=growing") as page:
        page.wait_for_selector("text=/^0 of [0-9]+ runs$/")
        run = page_server.runs / "growing"
        run.mkdir()
        (run / "config.json").write_text('{"inputs": ["a.txt"], "options": {"steps": 500, "hidden": 8}}', "utf-8")
        log = run / "metrics.jsonl"
        add_records(log, train_record(10, 3.0), train_record(20, 2.5))
        wait_for_facts(page, "growing", "step 20 of 500")
        page.wait_for_selector("#loss-chart .band")
        before = page.get_attribute("#loss-chart .band", "d")
        started = time.monotonic()
        add_records(log, train_record(30, 2.0), {"event": "validation", "step": 30, "val_nats": 2.1, "val_bits": 3.03})
        wait_for_facts(page, "growing", "step 30 of 500")
        assert time.monotonic() - started < 5  # one second on a machine that does nothing else
        assert "train 2.885 \u00b7 validation 3.030 bits per character \u00b7 4,321 tokens/s" in facts(page, "growing")
        page.wait_for_selector("#loss-chart .dots[d*='h0']", state="attached")
        assert page.get_attribute("#loss-chart .band", "d") != before
        page.click("text=growing")
        page.wait_for_selector("text=none yet")
        add_records(run / "samples.jsonl", {"step": 30, "val_nats": 2.1, "text": "<img src=x onerror=window.hit=1> said\nshe"})
        page.wait_for_selector(".run-sample:has-text('<img src=x onerror=window.hit=1> said')")
        assert page.evaluate("window.hit") is None
        assert page.inner_text(".run.chosen .code.small") == "unrolled train a.txt"
        (run / "samples.jsonl").write_text("", "utf-8")  # as a training does that goes on from an earlier step
        (run / "checkpoints" / "step-30").mkdir(parents=True)
        page.wait_for_selector(".run.chosen >> text=none yet")


def runs_of(*statuses: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"run-{index}", "status": status, "kind": "text", "steps": 40, "total_steps": 100, "started": 1.0,
            "command": f"unrolled train book.txt --hidden {64 + index}", "loss": 2.0, "validation_loss": 2.5, "error": None,
            "unit": "bits per character", "baselines": {"uniform": 6.5, "5-gram": 3.0}, "tokens_per_second": 1000.0,
            "eta_seconds": 90.0, "has_model": True,
        }
        for index, status in enumerate(statuses)
    ]  # fmt: skip


METRICS = {
    "step": [10.0, 20.0, 40.0], "train_min": [4.0, 2.0, None], "train_max": [5.0, 3.0, None],
    "validation": [[20, 3.0], [40, 2.5]], "unit": "bits per character",
}  # fmt: skip


def answers(runs: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Return what a server of runs answers; `more` has other answers by path, with "__" for a slash."""
    return {
        "GET /v1/models": {"data": []}, "GET /api/runs": runs, "GET /api/events": stream_of({"runs": []}, event="runs"),
        **{f"GET /api/runs/{run['id']}/metrics": METRICS for run in runs},
        **{f"GET /api/runs/{run['id']}/samples": {"samples": []} for run in runs},
        **more,
    }  # fmt: skip


@pytest.mark.slow
def test_many_runs_are_on_one_chart_chosen_by_a_filter(browser: Browser) -> None:
    runs = runs_of("running", "finished", "paused", "dead", "stopped")
    with open_served(browser, answers(runs), "#learn") as page:
        page.wait_for_selector("#loss-chart .line >> nth=4", state="attached")
        assert page.locator("#loss-chart .reference").count() == 0
        page.fill("#run-filter", "hidden 66")
        page.wait_for_selector("text=1 of 5 runs")
        assert page.locator("#loss-chart .line").count() == 1
        assert page.locator("#loss-chart .reference").count() == 2  # the baselines of the only run
        page.fill("#run-filter", "")
        page.uncheck("[data-run=run-1] input")
        assert page.locator("#loss-chart .line").count() == 4
        page.click("text=run-4")
        assert page.locator("#loss-chart .line.chosen").count() == 1
        assert "Baselines: uniform 6.500, 5-gram 3.000" in page.inner_text(".run.chosen")
        assert "1 min 30 s left" in facts(page, "run-0")
        page.check("#log-steps")
        assert "log=1" in page.evaluate("location.hash")
        names = [page.locator(f"[data-run=run-{index}] .run-buttons").inner_text().split() for index in range(5)]
        assert names == [["Pause", "Stop"], [], ["Resume", "Stop"], ["Resume"], ["Resume"]]


def test_a_run_that_diverges_leaves_the_chart_to_the_others(browser: Browser) -> None:
    runs = runs_of("finished", "running")
    diverged = METRICS | {"validation": [[20, 3.0], [40, 900.0]]}
    with open_served(browser, answers(runs) | {"GET /api/runs/run-1/metrics": diverged}, "#learn") as page:
        page.wait_for_selector("#loss-chart .line >> nth=1", state="attached")
        ticks = [float(text) for text in page.locator("#loss-chart text.tick.end").all_text_contents()]
        assert 5 <= max(ticks) <= 10


@pytest.mark.slow
def test_trainings_are_started_paused_resumed_and_stopped(browser: Browser) -> None:
    runs, sent = runs_of("running"), []

    def train(request: Request) -> dict[str, Any]:
        sent.append(request.post_data_json)
        runs.insert(0, {**runs[0], "id": "new", "kind": None, "status": "starting"})
        return {"run": "new"}

    def control(request: Request) -> dict[str, Any]:
        action = request.url.rsplit("/", 1)[1]
        sent.append(action)
        runs[-1]["status"] = {"pause": "paused", "resume": "running", "stop": "stopped"}[action]
        return {}

    def upload(request: Request) -> dict[str, Any]:
        sent.append((request.url.rsplit("/", 1)[1], request.post_data))
        return {"upload": "up1", "bytes": 3, "columns": ["word", "a;b", "c:d"]}

    more = {f"POST /api/runs/run-0/{action}": control for action in ("pause", "resume", "stop")}
    more |= {"POST /api/train": train, "POST /api/uploads": upload}
    with open_served(browser, answers(runs) | more, "#learn") as page:
        for name in ("Pause", "Resume", "Stop"):
            page.click(f"[data-run=run-0] button:has-text('{name}')")
        page.wait_for_selector("[data-run=run-0] .status.stopped")
        page.click("#train-button")
        page.wait_for_selector("text=Paste a text or choose a file first.")
        page.fill("#train-text", "a text to learn")
        page.fill("#train-name", "mine")
        page.fill("#train-hidden", "32")
        page.click("#train-button")
        page.wait_for_selector("[data-run=new].chosen .status:has-text('starting')")
        page.fill("#train-text", 'word;"a;b"\nx;y\n')
        page.check("#train-is-table")
        page.wait_for_selector("#train-target option >> nth=1", state="attached")
        assert page.input_value("#train-target") == "a;b"
        page.click("#train-button")
        page.wait_for_selector("#train-button:not([disabled])")
        page.select_option("#train-source", "c:d")  # a name that would be read as one with a kind
        page.click("#train-columns summary")
        page.select_option("#train-time", "word")
        page.select_option("#train-series", "a;b")
        page.fill("#train-horizon", "12")
        assert page.is_disabled("#train-target")
        page.click("#train-button")
        page.wait_for_selector("#train-button:not([disabled])")
    common = {"minutes": 3, "hidden": 32}  # no layers and no cell: they are left to the recipe
    assert sent == [
        "pause", "resume", "stop", {"text": "a text to learn", "name": "mine", "options": common},
        ("uploads?name=pasted.csv&columns=1", 'word;"a;b"\nx;y\n'),
        {"upload": "up1", "name": "mine", "options": common | {"source": "word", "target": "a;b"}},
        {"upload": "up1", "name": "mine", "options": common | {
            "source": "2", "horizon": 12, "order_by": "word", "group_by": "a;b",
        }},
    ]  # fmt: skip


def test_a_forecast_reads_what_is_known_in_advance(browser: Browser) -> None:
    """The columns that nothing else uses are offered, once a forecast is wanted."""
    sent: list[dict[str, Any]] = []
    runs = runs_of("running")

    def train(request: Request) -> dict[str, Any]:
        sent.append(request.post_data_json or {})
        return {"run": "run-0"}

    table = {"upload": "up", "columns": ["day", "sales", "price, net", "holiday", "shop"]}
    with open_served(browser, answers(runs) | {"POST /api/train": train, "POST /api/uploads": table}, "#learn") as page:
        page.check("#train-is-table")
        page.fill("#train-text", "day,sales\n1,2\n")
        page.wait_for_selector("#train-source option >> nth=4", state="attached")
        page.click("#train-columns summary")
        assert not page.is_visible("#train-known")
        page.select_option("#train-source", "sales")
        page.select_option("#train-time", "day")
        page.fill("#train-horizon", "14")
        known = page.get_by_role("group", name="Known in advance, such as holidays")
        assert known.locator("label").all_inner_texts() == ["price, net", "holiday", "shop"]
        for name in ("price, net", "holiday", "shop"):
            known.get_by_label(name).check()
        page.select_option("#train-series", "shop")
        assert known.locator("label").all_inner_texts() == ["price, net", "holiday"]
        page.click("#train-button")
        page.wait_for_selector("#train-note:has-text('run-0 has started')")
        page.fill("#train-horizon", "")
        assert not known.is_visible()
        page.click("#train-button")
        page.wait_for_selector("#train-button:not([disabled])")
    forecast, predicted = (body["options"] for body in sent)
    assert forecast["known_covariates"] == ["2", "holiday"]  # by its number: a comma is between two names
    assert (forecast["source"], forecast["order_by"], forecast["group_by"], forecast["horizon"]) == ("sales", "day", "shop", 14)
    assert "known_covariates" not in predicted


@pytest.mark.slow
def test_tables_and_texts_in_files_are_learned(browser: Browser, page_server: LiveServer, tmp_path: Path) -> None:
    """Whatever their format, which the server reads."""
    rows = "text;mood:now\n" + "good film;yes\nbad film;no\n" * 30
    (tmp_path / "utf16.csv").write_text(rows, "utf-16")
    with zipfile.ZipFile(tmp_path / "one.csv.zip", "w") as archive:
        archive.writestr("data.csv", rows)
    (tmp_path / "rows.jsonl").write_text('{"q": "who", "a": "x"}\n{"q": "what", "a": "y"}\n' * 30, "utf-8")
    with open_live(browser, page_server, "#learn") as page:
        for name, columns in (
            ("utf16.csv", ["text", "mood:now"]),
            ("one.csv.zip", ["text", "mood:now"]),
            ("rows.jsonl", ["q", "a"]),
        ):
            page.set_input_files("#train-file", tmp_path / name)
            page.wait_for_selector(f"#train-source option:text-is('{columns[0]}')", state="attached")
            assert page.locator("#train-target option").all_inner_texts() == columns
        page.set_input_files("#train-file", tmp_path / "utf16.csv")
        page.wait_for_selector("#train-source option >> nth=1", state="attached")
        for field, value in (("name", "from-a-file"), ("minutes", "0.05"), ("hidden", "4"), ("layers", "1")):
            page.fill(f"#train-{field}", value)
        page.click("#train-button")
        page.wait_for_selector("[data-run=from-a-file] .status:text-is('finished')", timeout=60_000)
        page.click("text=Predict with this model")
        page.wait_for_selector("#table-about:has-text('It predicts mood:now (label) from text.')")
    if (started := page_server.running.services.trainings._started.get("from-a-file")) is not None:  # its process still ends
        started.process.wait(20)
    shutil.rmtree(page_server.runs / "from-a-file")


def test_the_columns_that_the_server_suggests_are_chosen(browser: Browser, tmp_path: Path) -> None:
    """Until a person chooses others, which stay."""
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("id,label,text\n", "utf-8")
    table = {"upload": "up", "columns": ["id", "label", "text"], "source": "text", "target": "label"}
    with open_served(browser, answers([]) | {"POST /api/uploads": table}, "#learn") as page:

        def chosen() -> list[str]:
            return [page.input_value(f"#train-{name}") for name in ("source", "target", "time")]

        page.set_input_files("#train-file", tmp_path / "a.csv")
        page.wait_for_selector("#train-source option >> nth=2", state="attached")
        assert chosen() == ["text", "label", ""]
        page.select_option("#train-target", "id")
        page.set_input_files("#train-file", tmp_path / "b.csv")
        page.wait_for_selector("#train-note:empty", state="attached")
        assert chosen() == ["text", "id", ""]


def test_a_table_that_cannot_be_read_has_no_columns(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "right.csv").write_text("a,b\n1,2\n", "utf-8")
    (tmp_path / "wrong.csv").write_text("?", "utf-8")
    uploads = {"POST /api/uploads": lambda request: 400 if "wrong" in request.url else {"upload": "up", "columns": ["a", "b"]}}
    with open_served(browser, answers([]) | uploads, "#learn") as page:
        page.set_input_files("#train-file", tmp_path / "right.csv")
        page.wait_for_selector("#train-source option >> nth=1", state="attached")
        page.set_input_files("#train-file", tmp_path / "wrong.csv")
        page.wait_for_selector("#error:has-text('refused with 400')")
        assert page.locator("#train-source option").count() == 0
        page.set_input_files("#train-file", tmp_path / "right.csv")
        page.wait_for_selector("#train-source option >> nth=1", state="attached")
        assert not page.is_visible("#error")


def test_a_training_that_failed_says_why(browser: Browser) -> None:
    """With no sample of the run that was looked at before."""
    old, broken = runs_of("finished", "dead")
    told = "'t' repeats: add group_by='id', a shorter horizon= or smaller hidden=; lr= is high. known_covariates=: 'x' is empty"
    reason = (
        "'t' repeats: add “Series” 'id', a shorter “Forecast of the source, in steps” or smaller “Hidden”; lr= is high. "
        "“Known in advance, such as holidays”: 'x' is empty"
    )
    failed = {**broken, "id": "new", "kind": None, "error": told, "command": "", "has_model": False}
    stopped = {**broken, "error": "It was ended by signal 9."}
    samples = {"GET /api/runs/run-0/samples": {"samples": [{"step": 40, "text": "of another run", "val_nats": 1.0}]}}
    with open_served(browser, answers([old, stopped]) | samples | {"GET /api/runs": [failed, old, stopped]}, "#learn") as page:
        page.wait_for_selector(f"text={reason}")
        assert facts(page, "new") == reason
        assert facts(page, "run-1").startswith("step 40")
        assert facts(page, "run-1").endswith("signal 9.")
        assert page.locator("[data-run=new] .run-buttons button").count() == 0
        page.click("text=run-0")
        page.wait_for_selector("[data-run=run-0] .run-sample")
        page.click("[data-run=new] .run-name button")
        page.wait_for_selector("[data-run=new] >> text=none yet")
        assert page.locator(".run-sample").count() == 0
        assert page.inner_text(".run-detail .code") == ""
