"""Pages of real runs, on texts and on tables of every mode, opened in a browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import unrolled
from support.cli import Cli
from support.pages import open_page
from support.tables import MODES, write_jsonl
from support.texts import sentences

pytestmark = pytest.mark.xdist_group("report")  # the tests of this module share their runs

SMALL: dict[str, Any] = {"hidden": 16, "progress": False, "threads": 1, "precision": "float32"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of a run on a text, one on a list of names, and one of each mode."""
    folder = tmp_path_factory.mktemp("reports")
    book, names = folder / "book.txt", folder / "names.txt"
    hostile = '</script><script>document.title="pwned"</script>\n'
    book.write_text("".join(sentences(30, seed) + hostile for seed in range(20)), "utf-8")
    names.write_text("".join(f"{a}{b}{c}\n" for a in "bdfgk" for b in "aeio" for c in "lmnrst"), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        unrolled.train(str(book), out=str(folder / "book"), steps=60, batch=4, bptt=16, sample_length=30, **SMALL)
        unrolled.train(str(names), out=str(folder / "names"), documents="line", steps=60, **SMALL)
        for name, (make, source, target) in MODES.items():
            table = write_jsonl(folder / f"{name}.jsonl", make(80, 1))
            unrolled.train_table(str(table), source, target, out=str(folder / name), steps=20, **SMALL)
    return {name: str(folder / name) for name in ("book", "names", *MODES)}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["book", "names"])
def test_a_text_is_reported(cli: Cli, runs: dict[str, str], name: str, browser: Browser) -> None:
    done = cli("report", runs[name], "--order", 4, "--threads", 1, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["version"] == 2
    page = Path(found["page"])
    assert page == Path(runs[name]) / "report.html"
    by_name = {row["name"]: row["nats"] for row in found["baselines"]["rows"]}
    assert list(by_name)[2:] == ["xz", "this model"]
    assert by_name["uniform"] > next(nats for label, nats in by_name.items() if label.endswith("-gram (the best order)"))
    assert [row["is_model"] for row in found["baselines"]["rows"]].count(True) == 1
    curves = found["curves"]
    assert [row[0] for row in curves["train"]] == [10, 20, 30, 40, 50, 60]
    assert all(len(row) == 4 for rows in (curves["train"], curves["validation"], curves["lr"]) for row in rows)
    assert len(found["samples"]) >= 3
    assert found["diagnosis"]
    assert found["advice"]
    assert {row[2] for group in found["settings"] for row in group["rows"] if row[0] == "hidden"} == {"given"}
    assert {row[2] for group in found["settings"] for row in group["rows"] if row[0] == "dropout"} == {"chosen by the recipe"}
    assert sum(row["tokens"] for row in found["loss_breakdown"]["rows"]) > 0
    assert (found["memorization"]["documents"] is None) == (name == "book")
    assert set(found["gate_saturation"]["points"]) == {"i", "f", "o"}
    with open_page(browser, page, ready="svg") as opened:
        assert "pwned" not in opened.title()


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODES))
def test_a_table_is_reported(cli: Cli, runs: dict[str, str], name: str, browser: Browser) -> None:
    done = cli("report", runs[name], "--threads", 1, "--out", "report.html")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "page: report.html"
    with open_page(browser, Path("report.html").absolute(), ready="svg") as opened:
        headings = " ".join(opened.locator("h2").all_inner_texts())
    assert ("attention" in headings.lower()) == (name == "many-to-many"), headings


STEP_BY_STEP = ("many-to-one", "many-to-many")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODES))
def test_rows_of_every_mode_are_explained(cli: Cli, runs: dict[str, str], name: str, browser: Browser) -> None:
    done = cli("explain", runs[name], "--threads", 1, "--length", 200, "--out", "rows.html", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["rows"]
    assert all(row["answer"] is not None and row["columns"] for row in found["rows"])
    wrong = [row["wrong"] for row in found["rows"]]
    assert wrong == sorted(wrong, key=lambda is_wrong: not is_wrong)
    with open_page(browser, Path("rows.html").absolute(), ready="#rows .row") as opened:
        shown, num_rows = opened.locator("#rows .row").count(), len(found["rows"])
        assert 0 < shown <= min(40, num_rows)  # equal rows are shown once
        if shown < 40:
            assert opened.locator("#count").inner_text().startswith(f"{num_rows} of {num_rows} rows")
        assert opened.locator("#rows img").count() == shown * (name in ("one-to-one", "synced"))
        parts = opened.locator("#rows .row").first.locator(".answers > div")
        tops = parts.evaluate_all("all => all.map(one => one.offsetTop)")
        assert name not in ("one-to-one", "many-to-one") or len(set(tops)) < len(tops), "short ones are side by side"
        opened.set_viewport_size({"width": 400, "height": 800})
        assert opened.evaluate("document.documentElement.scrollWidth") <= 400
    assert Path("rows-neurons.html").exists() == (name in STEP_BY_STEP)
    if name in STEP_BY_STEP:
        with open_page(browser, Path("rows-neurons.html").absolute(), ready="#text .chunk span") as opened:
            assert opened.locator('[data-view="surprisal"]').is_hidden()
    else:
        refused = cli("explain", runs[name], "--threads", 1, "--terminal")
        assert (refused.code, "step by step" in refused.err) == (2, True)
    assert cli("explain", runs[name], "--clamp", "0.1=0", "--threads", 1).code == 2


@pytest.mark.slow
def test_an_explorer_opens_in_a_browser(cli: Cli, runs: dict[str, str], browser: Browser) -> None:
    done = cli("explain", runs["book"], "--length", 300, "--probe-length", 3000, "--out", "x.html", "--threads", 1)
    assert done.code == 0, done.err
    with open_page(browser, Path("x.html").absolute(), ready="#text .chunk span") as opened:
        for key in "1234":
            opened.keyboard.press(key)
        opened.keyboard.press("ArrowRight")
        assert "pwned" not in opened.title()


def test_a_surprisal_page_opens_in_a_browser(cli: Cli, runs: dict[str, str], browser: Browser, tmp_path: Path) -> None:
    text = tmp_path / "hostile.txt"
    text.write_text('The dog.\n</script><script>document.title="pwned"</script>\n\u202eback\u202c \u200b\n', "utf-8")
    done = cli("score", runs["book"], text, "--compare", runs["book"], "--html", "surprisal.html", "--threads", 1)
    assert done.code == 0, done.err
    with open_page(browser, Path("surprisal.html").absolute(), ready="#lines li") as opened:
        assert opened.locator("#lines li").count() == 3
        assert opened.locator("#models tbody tr").count() == 2
        excess = [float(number) for number in opened.locator("#top-lines .excess").all_inner_texts()]
        assert len(excess) == 3
        assert excess == sorted(excess, reverse=True)
        assert "pwned" not in opened.title()
    assert cli("score", runs["book"], text, "--html", "surprisal.html", "--json").code == 2


def test_a_model_without_its_run_has_nothing_to_report(cli: Cli, runs: dict[str, str], tmp_path: Path) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((Path(runs["book"]) / "model.safetensors").read_bytes())
    done = cli("report", alone)
    assert (done.code, "nothing to report" in done.err) == (2, True)


def test_results_are_displayed_in_a_notebook(runs: dict[str, str]) -> None:
    model = unrolled.load(runs["book"], threads=1)
    sample = next(model.samples("The <b>", length=40))
    activations = model.trace("The <b> & the dog")
    assert model.run is not None
    results: list[Any] = [model, model.run, sample, activations, model.score("The <b>")]
    for result in results:
        markup = result._repr_html_()
        assert len(markup) > 100
        assert "<b>" not in markup
    assert "<svg" in model._repr_html_()
    assert not re.search(r"<script|onerror|http(?!://www.w3.org)", model.run._repr_html_())
