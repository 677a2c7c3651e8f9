"""The page of an exported model that labels a text, in a browser: answers of the command line, live, and by keyboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import unrolled
from support.classifiers import WORDS, classifier
from support.cli import Cli
from support.pages import open_page
from support.tables import rows_of, write_csv
from unrolled.checkpoints.model_file import save_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.xdist_group("browser"), pytest.mark.slow]

READY = "#verified[data-ready]"
HOSTILE = "</script><img src=x onerror=alert(1)> was awful"


@pytest.fixture(params=["words", "characters"])
def page_path(request: pytest.FixtureRequest, cli: Cli) -> Path:
    save_model(Path("m.safetensors"), classifier(request.param))
    done = cli("export", "m.safetensors", "--to", "html", "--out", "m.html", "--weights", "float32")
    assert done.code == 0, done.err
    return Path("m.html").resolve()


def write(page: Page, text: str) -> None:
    page.evaluate("delete document.getElementById('parts').dataset.ready")
    page.fill("#text", text)
    page.wait_for_selector("#parts[data-ready]")


def test_a_text_is_answered_and_explained_as_on_the_command_line(page_path: Path, cli: Cli, browser: Browser) -> None:
    text = "The battery was awful, but NASA is really nice! caf\u00e9 running"
    with open_page(browser, page_path, ready=READY) as page:
        assert "This browser computes what the model computes" in page.inner_text("#verified")
        write(page, "good")
        write(page, text)
        names = page.locator("#probabilities .name").all_inner_texts()
        shares = [float(share.rstrip("%")) for share in page.locator("#probabilities .number").all_inner_texts()]
        titles = [part.get_attribute("title") or "" for part in page.locator("#parts .part").all()]
        effects = [float(title.split()[0].replace("\u2212", "-")) for title in titles]
        page.fill("#text", "  ")
        page.wait_for_selector("#answer", state="hidden")
    options = ["--text", text, "--precision", "float32", "--json"]
    row = json.loads(cli("predict", "m.safetensors", "--count", 3, *options).out)["rows"][0]
    assert names == [row[name] for name in ("predicted", "predicted_2", "predicted_3")]
    assert shares == pytest.approx([100 * row[name] for name in ("probability", "probability_2", "probability_3")], abs=0.51)
    write_csv(Path("t.csv"), [{"text": text}])
    cli("explain", "m.safetensors", "t.csv", "--out", "e.html", "--precision", "float32")
    page_data = Path("e.html").read_text("utf-8").split('id="data">')[1].split("</script>")[0]
    assert effects == pytest.approx(json.loads(page_data)["rows"][0]["columns"][0]["effect"], abs=2e-3)


def test_rows_are_answered_as_on_the_command_line(page_path: Path, cli: Cli, browser: Browser) -> None:
    texts = [*WORDS.split(" , "), HOSTILE, 'a "quoted", text', "two\nlines", "NASA 5th"]
    table = write_csv(Path("t.csv"), [{"text": text, "label": "label 1"} for text in texts])
    expected = rows_of(cli("predict", "m.safetensors", table, "--precision", "float32").out)
    with open_page(browser, page_path, ready=READY) as page:
        page.set_input_files("#file", table)
        page.wait_for_selector("#answers table")
        right = sum(row["predicted"] == "label 1" for row in expected)
        assert f"{len(texts)} texts. {right} of {len(texts)} answers are those of the column 'label'" in page.inner_text(
            "#status"
        )
        with page.expect_download() as download:
            page.click("#answers a")
        found = rows_of(Path(download.value.path()).read_bytes().decode("utf-8"))
        assert [row["text"] for row in found] == texts
        assert [row["predicted"] for row in found] == [row["predicted"] for row in expected]
        page.fill("#rows", "one text\nanother text\n\n")
        page.focus("#predict")
        page.keyboard.press("Enter")
        page.wait_for_selector("#status:has-text('2 texts.')")
        page.fill("#rows", " \n")
        page.keyboard.press("Tab")
        page.click("#predict")
        page.wait_for_selector("#status.failed")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_it_fits_the_window(cli: Cli, browser: Browser, width: int, dark: bool) -> None:
    save_model(Path("m.safetensors"), classifier(labels=30))
    assert cli("export", "m.safetensors", "--to", "html", "--out", "m.html", "--weights", "float32").code == 0
    with open_page(browser, Path("m.html").resolve(), size=(width, 800), dark=dark, ready=READY) as page:
        write(page, WORDS + " " + "x" * 300)
        assert page.locator("#probabilities li").count() == 20
        page.fill("#rows", WORDS)
        page.click("#predict")
        page.wait_for_selector("#answers table")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"tags": "words"}, "the battery was awful in K\u00f6ln ?"), ({"tags": "characters", "tokens": "characters"}, "bad cafe")],
)
def test_each_token_has_the_label_of_the_command_line(cli: Cli, browser: Browser, settings: dict[str, Any], text: str) -> None:
    save_model(Path("m.safetensors"), classifier(**settings))
    assert cli("export", "m.safetensors", "--to", "html", "--out", "m.html", "--weights", "float32").code == 0
    separator = "" if settings["tags"] == "characters" else " "
    texts = [text, "bad cab", "the battery"]
    expected = unrolled.load_table("m.safetensors").predictions(texts)
    rows = [{"text": row, "labels": answer.text} for row, answer in zip(texts, expected, strict=True)]
    first = rows[1]["labels"]
    rows[1]["labels"] = ("I" if first[0] == "B" else "B") + first[1:]
    table = write_csv(Path("t.csv"), rows)
    with open_page(browser, Path("m.html").resolve(), ready=READY) as page:
        page.fill("#text", text)
        page.wait_for_selector("#parts[data-ready]")
        assert separator.join(page.locator("#parts rt").all_inner_texts()) == expected[0].text
        assert page.locator("#parts .outside").count() == expected[0].text.count("O")
        page.set_input_files("#file", table)
        page.wait_for_selector("#answers a")
        num_labels = sum(len(row["labels"].split()) if separator else len(row["labels"]) for row in rows)
        assert f"{num_labels - 1} of {num_labels} answers are those of the column 'labels'" in page.inner_text("#status")
        cells = page.locator("#answers tbody td").all_inner_texts()
    assert [cell.strip() for cell in cells[1::3]] == [answer.text for answer in expected]
    assert [float(cell) for cell in cells[2::3]] == pytest.approx([answer.probability for answer in expected], abs=1e-3)
