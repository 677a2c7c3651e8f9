"""The parts Look inside and Tables of the page of `unrolled serve`."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support.live_server import LiveServer, open_live
from support.served_page import open_served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Request

pytestmark = pytest.mark.xdist_group("page")  # one server for all

TABLE = {"id": "colors", "kind": "table", "tokens": None, "layers": 1, "hidden": 8, "cell": "gru", "parameters": 900}
COLUMNS = [
    {"name": "text", "role": "source", "kind": "text", "labels": None, "examples": ["the red dog"]},
    {"name": "place", "role": "source", "kind": "label", "labels": ["here", "there"], "examples": []},
    {"name": "label", "role": "target", "kind": "label", "labels": ["warm", "cold"], "examples": []},
]


@pytest.mark.slow
def test_activations_and_surprise_are_those_of_the_server(browser: Browser, page_server: LiveServer) -> None:
    text = "the fox sleeps.\n"
    body = {"model": "text", "text": text}
    score = page_server.post("/api/score", body)
    trace = page_server.post("/api/trace", body | {"layer": 1, "units": [3, 0]})
    with open_live(browser, page_server, "#inside?inside_layer=1&units=3%2C+0") as page:
        page.fill("#inside-text", text)
        page.click("#inside-button")
        page.wait_for_selector(".view >> nth=2")
        assert page.locator(".view").count() == 3
        assert page.inner_text("#inside-note") == f"{score['bits_per_character']:.3f} bits per character."
        token = page.locator("[aria-label='Layer 1, unit 3'] .token").nth(5)
        token.click()
        title = page.inner_text("#inside-detail .guess-title")
        value = trace["values"][5][0]
        assert title == f"Character 6: o, {score['tokens'][5]['bits']:.2f} bits, activation {value:.2f}"
        assert page.locator("#inside-detail .guess").count() == 5
        assert ("above" if value > 0 else "below") in str(token.get_attribute("style"))
        page.fill("#inside-units", "")
        page.click("#inside-button")
        page.wait_for_selector(".view >> nth=4")
        page.fill("#inside-units", "3; x")
        page.click("#inside-button")
        assert page.evaluate("document.getElementById('inside-units').validity.patternMismatch")


@pytest.mark.slow
def test_a_row_is_predicted(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#tables") as page:
        page.wait_for_selector("#table-fields textarea")
        assert page.inner_text("#table-fields label") == "word (text)"
        page.fill("#table-fields textarea", "abc")
        page.click("#table-button")
        page.wait_for_selector("#answer ruby", timeout=60_000)
        expected = page_server.post("/api/predict", {"model": "table", "rows": [{"word": "abc"}]})["answers"][0]
        labels = [label for label, _ in itertools.groupby(expected["answer"])]
        assert page.locator("#answer rt").all_inner_texts() == labels


ATTENTION = {"source": ["a", " b", "c"], "target": ["x", "y"], "weights": [[0.2, 0.8, 0], [0.5, 0.2, 0.3]]}


def predict(request: Request) -> dict[str, Any]:
    rows = json.loads(request.post_data or "")["rows"]
    return {
        "answers": [
            {
                "answer": f"{row['place']}/{row['text']}".removesuffix("there/nothing"),
                "probabilities": {"warm": 0.7, "cold": 0.3},
                "attention": ATTENTION,
            }
            for row in rows
        ]
    }


ANSWERS = {"GET /v1/models": {"data": [TABLE]}, "GET /api/models/colors": {"columns": COLUMNS}, "POST /api/predict": predict}


@pytest.mark.slow
def test_the_form_has_a_field_for_each_source_column(browser: Browser) -> None:
    with open_served(browser, ANSWERS, "#tables") as page:
        page.wait_for_selector("#table-fields select")
        assert page.get_attribute("#table-fields textarea", "placeholder") == "the red dog"
        page.click("#table-button")  # the text is missing
        assert page.locator(".answer-text").count() == 0
        page.fill("#table-fields textarea", "a blue cat")
        page.select_option("#table-fields select", "there")
        page.press("#table-fields select", "Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(".answer-text")
        assert page.inner_text(".answer-text") == "there/a blue cat"
        assert page.locator(".probabilities .number").all_inner_texts() == ["70%", "30%"]
        assert page.locator("#answer .left-labels text").all_text_contents() == ["x", "y"]
        page.focus(".matrix-box")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#answer .readout").split() == ["output", "x", "attends", "to", "b", "80%"]
        page.fill("#table-fields textarea", "nothing")
        page.click("#table-button")
        page.wait_for_selector(".answer-text:has-text('(empty)')")


CSV = 'place,text,predicted,probability\nhere,"a ""b""\n c",warm,0.7\nthere,=1,cold,1e-05\n'


def answers_of_files(sent: list[Any]) -> dict[str, Any]:
    """Return the answers of a server to a file, whose name, content and request are added to `sent`."""

    def upload(request: Request) -> dict[str, Any]:
        sent.extend((parse_qs(urlsplit(request.url).query)["name"], request.post_data))
        return {"upload": "upload-1"}

    def predict_file(request: Request) -> dict[str, Any]:
        sent.append(json.loads(request.post_data or ""))
        return {"csv": CSV, "notes": ["1 row <b> of 2 has no text"]}

    return ANSWERS | {"POST /api/uploads": upload, "POST /api/predict": predict_file}


def test_a_file_comes_back_with_the_answers_of_the_server(browser: Browser, tmp_path: Path) -> None:
    sent: list[Any] = []
    path = tmp_path / "my rows.tsv"
    path.write_text("place\ttext\nhere\tcaf\u00e9\n", "utf-16")
    with open_served(browser, answers_of_files(sent), "#tables") as page:
        page.wait_for_selector("#table-fields select")
        page.set_input_files("#table-file", path)
        with page.expect_download() as download:
            page.click("text=Download the answers (CSV)")
        assert download.value.suggested_filename == "answers-my rows.csv"
        assert download.value.path().read_bytes().decode() == CSV
        assert page.locator("#answers th").all_inner_texts() == ["predicted", "probability", "place", "text"]
        assert page.locator("#answers td").all_text_contents() == [
            "warm", "0.7", "here", 'a "b"\n c', "cold", "1e-05", "there", "=1"
        ]  # fmt: skip
        assert page.inner_text("#answers > p:last-child") == "1 row <b> of 2 has no text"
    assert sent == [
        ["my rows.tsv"], "place\ttext\nhere\tcaf\u00e9\n", {"model": "colors", "upload": "upload-1", "charts": True}
    ]  # fmt: skip


def test_a_file_that_is_refused_leaves_the_sentence_of_the_server(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n", "utf-8")
    with open_served(browser, answers_of_files([]) | {"POST /api/predict": 400}, "#tables") as page:
        page.wait_for_selector("#table-fields select")
        page.set_input_files("#table-file", path)
        page.wait_for_selector("#error:has-text('refused with 400')")
        assert page.is_visible("#table-hint")
        assert page.input_value("#table-file") == "", "the same file can be chosen again"


def form_of(*columns: dict[str, Any], series: Any = None, answers: Any = ()) -> dict[str, Any]:
    """Return the answers of a server with one model, of a table with these columns."""
    full = [{"labels": None, "examples": [], **column} for column in columns]
    return ANSWERS | {
        "GET /api/models/colors": {"columns": full, "series": series},
        "POST /api/predict": {"answers": list(answers)},
    }


IMAGE = {"kind": "image", "shape": [2, 2, 1], "low": 0.0, "high": 10.0}
PNG_OF_GRAY = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="  # one pixel of 128


@pytest.mark.slow
def test_a_picture_is_read_and_shown(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "gray.png").write_bytes(base64.b64decode(PNG_OF_GRAY))
    (tmp_path / "text.png").write_text("no picture", "utf-8")
    columns = ({"name": "before", "role": "source", **IMAGE}, {"name": "after", "role": "target", **IMAGE})
    picture = {"answer": "[[0,10],[5,0]]", "probability": 0.1, "attention": ATTENTION | {"source": ["1"]}}
    with open_served(browser, form_of(*columns, answers=[picture]), "#tables") as page:
        page.set_input_files("#table-fields input[type=file]", tmp_path / "text.png")
        page.wait_for_selector("#error:has-text('no picture that this browser can read')")
        page.set_input_files("#table-fields input[type=file]", tmp_path / "gray.png")
        page.wait_for_selector("#table-fields textarea:valid")
        assert json.loads(page.input_value("#table-fields textarea")) == [[5.01961, 5.01961]] * 2
        page.click("#table-button")
        page.wait_for_selector("#answer canvas")
        pixels = "[...document.querySelector('#answer canvas').getContext('2d').getImageData(0, 0, 2, 2).data]"
        assert page.evaluate(pixels)[::4] == [0, 255, 128, 0]
        assert page.locator("#answer .matrix-box").count() == 0  # over one step there is nothing to attend to


@pytest.mark.slow
def test_labels_stand_under_the_steps(browser: Browser) -> None:
    columns = (
        {"name": "words", "role": "source", "kind": "labels", "labels": ["a", "b"], "examples": ["a b a"]},
        {"name": "tags", "role": "target", "kind": "labels", "labels": ["x", "y"]},
    )
    steps = [["Anna", "x"], ["Bell", "x"], ["left", "y"]]
    with open_served(browser, form_of(*columns, answers=[{"answer": "x x y", "steps": steps}]), "#tables") as page:
        assert (
            page.get_attribute("#table-fields textarea", "placeholder") == "a b a"
        )  # a label for each step is no choice of one
        page.fill("#table-fields textarea", "Anna Bell left")
        page.click("#table-button")
        page.wait_for_selector("#answer ruby")
        assert page.locator("#answer ruby > span").all_inner_texts() == ["Anna", "Bell", "left"], "a label for each word"
        assert page.locator("#answer rt").all_inner_texts() == ["x", "x", "y"]


@pytest.mark.slow
def test_series_are_rows_in_and_rows_out(browser: Browser) -> None:
    sent: list[Any] = []
    csv = "time,step,predicted\n,1,0.5\n,2,1\n"
    columns = ({"name": "load", "role": "source", "kind": "numbers"}, {"name": "load", "role": "target", "kind": "numbers"})
    series = {"group_by": None, "order_by": "time", "example": "time,load\n7,8\n"}

    def forecast(request: Request) -> dict[str, Any] | int:
        if "empty" in sent[-1]:
            return 400
        chart = {
            "series": "", "column": "load <b>", "time": "number", "time_name": "time", "horizon": 2, "x": [1, 2, 3, 4],
            "starts": [2], "truth": [2.5, 3, None, None], "predicted": [None, None, 0.5, 1], "levels": [0.1, 0.9],
            "low": [None, None, 0.25, 0.5], "high": [None, None, 0.75, 2], "error": None, "labels": [],
        }  # fmt: skip
        return {"csv": csv, "notes": [], "charts": [chart], "note": ""}

    served = answers_of_files(sent) | form_of(*columns, series=series) | {"POST /api/predict": forecast}
    with open_served(browser, served, "#tables") as page:
        assert str(page.get_attribute("#table-fields textarea", "placeholder")).startswith("time,load")
        assert page.is_visible("#table-hint")
        page.click("#table-example")
        assert page.input_value("#table-fields textarea") == "time,load\n7,8\n"
        page.fill("#table-fields textarea", "time;load\n1;2,5\n2;3\n")
        page.click("#table-button")
        page.wait_for_selector("#answers tbody tr >> nth=1")
        assert sent == [["pasted.csv"], "time;load\n1;2,5\n2;3\n"]
        assert page.locator("#answers th").all_inner_texts() == ["time", "step", "predicted"]
        assert page.locator("#answers tbody tr:last-child td").all_inner_texts() == ["", "2", "1"]
        assert not page.is_visible("#table-hint")
        page.wait_for_selector("#answer .drawing .band", state="attached")
        assert page.inner_text("#answer h3") == "load <b>"
        assert page.locator("#answer .drawing .reference").count() == 1  # where the forecast starts
        page.focus("#answer .panels")
        page.keyboard.press("End")
        shown = " ".join(page.inner_text("#answer .readout").split())
        assert shown == "time 4 true \u2013 forecast 1 80% within 0.5 to 2"
        page.fill("#table-fields textarea", "empty\n")
        page.click("#table-button")
        page.wait_for_selector("#error:has-text('refused with 400')")
        assert page.is_visible("#table-hint")
        assert page.locator("#answers th, #answer h3").count() == 0, "the answers of other rows"
