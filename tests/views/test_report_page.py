"""The report page: its data cannot be executed, and the page works in a real browser."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from support.pages import open_page
from unrolled.views.report import report_page, to_json_value

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")  # the tests of this module share a page

HOSTILE = "</script><script>window.pwned=1</script><img src=x onerror=window.pwned=1>\u202e\u200b\0 عربى\ud800"
TEXT = 'ROMEO:\nWhat light is this? "It is the east", he said,\n\tand Juliet is the sun.\n\n'
LN2 = math.log(2)
STEPS = [50, 100, 200, 400, 800, 1600, 3000]


def loss(step: float) -> float:
    return 1.35 + 2.9 * math.exp(-math.log1p(step / 40))


def curves() -> dict[str, Any]:
    rng = np.random.default_rng(3)
    steps = list(range(1, 3001, 10))
    row = [[step, step * 0.11, step * 6400] for step in steps]
    return {
        "loss_unit": "character",
        "train": [[*start, loss(start[0]) - start[0] / 4e4 + rng.normal() * 0.02] for start in row],
        "validation": [[*start, loss(start[0])] for start in row[::15]] + [[3000, 330.0, 19_200_000, 1.43]],
        "lr": [[*start, 9e-4 * (0.5 + 0.5 * math.cos(start[0] / 3000 * 3.1))] for start in row],
        "gradient_norm": [[*start, 0.4 + abs(rng.normal()) * 0.2 + (9 if start[0] == 1501 else 0)] for start in row],
        "references": [{"name": "7-gram", "nats": 1.61}, {"name": "xz", "nats": 1.66}],
    }


def text_report() -> dict[str, Any]:
    """Return the data of a text report with all sections."""
    rng, hidden, layers = np.random.default_rng(5), 64, 2
    novelty = [[n, 1 / (1 + math.exp(4 - n * 0.5)), 1 / (1 + math.exp(3.4 - n * 0.5))] for n in range(1, 51)]
    counting = [{"name": f"{n}-gram", "nats": 2.9 - n / 5, "bits": (2.9 - n / 5) / LN2, "is_model": False} for n in range(1, 7)]
    ranges = [(f"{name}, layer {layer}", rng.integers(10, 900, 41).tolist()) for name in "hc" for layer in (0, 1)]
    samples = [
        {"step": step, "seconds": step * 0.11, "val_nats": loss(step), "text": f"sample {step}\n{TEXT * 5}"} for step in STEPS
    ]
    tokens = list((TEXT * 5)[:300])
    quoted = np.cumsum([token == '"' for token in tokens]) % 2
    detector = {"layer": 1, "neuron": 9, "feature": "inside quotes", "metric": "AUC", "score": 0.993}
    detector |= {"description": 'from " to "'}
    other = detector | {"layer": 0, "feature": "column", "sign": -1, "p_value": 0.01, "is_detector": False}
    detectors = [detector | {"sign": 1, "p_value": 1e-4, "is_detector": True}, other]
    waves = [("inside quotes", 1, (quoted * 1.9 - 0.95).tolist()), ("column", 0, np.sin(np.arange(300) / 9).tolist())]
    bits = {
        "start of word": (2330, 10605.2, 12000.1),
        "inside a word": (9100, 9800.0, 11000.0),
        "line end": (700, 900.0, 1500.0),
        "other punctuation": (650, 1700.5, 2100.0),
        "white space": (2400, 1300.0, 1900.0),
    }
    return {
        "title": "shakespeare",
        "subtitle": "2 x 64 LSTM, 69,313 parameters, text of 1,115,394 characters",
        "created": "2026-07-30, unrolled 0.1",
        "command": "unrolled sample runs/shakespeare --temperature 0.8",
        "headline": [
            {"name": "bits per character", "value": "2.051", "note": "1.422 nats, on the validation text"},
            {"name": "best n-gram (7)", "value": "2.323", "note": "0.272 bits more than this model"},
            {"name": "training", "value": "5.5 min", "note": "17.20 passes"},
            {"name": "longest copy", "value": "41 tokens", "note": "of the training text, in samples"},
        ],
        "diagnosis": "The model is better than n-grams and still improves: train it longer.",
        "advice": [
            "Train longer: validation fell until the last step.",
            "A larger --hidden would fit the memory of this machine.",
        ],
        "settings": [
            {
                "group": "model",
                "rows": [["cell", "lstm", ""], ["hidden", "64", "given"], ["layers", "2", "chosen by the recipe"]],
            },
            {"group": "training", "rows": [["lr", "0.002", "chosen by the recipe"], ["minutes", "5", "given"]]},
        ],
        "curves": curves(),
        "samples": samples,
        "baselines": {
            "note": "n-grams: interpolated modified Kneser-Ney.",
            "rows": counting + [{"name": "this model", "nats": 1.42, "bits": 2.05, "is_model": True}],
        },
        "ngram_samples": [{"name": f"{n}-gram", "text": f"{n} grams\n{TEXT * 3}"} for n in (2, 4, 7)],
        "model_sample": TEXT * 4,
        "loss_breakdown": {
            "models": ["this model", "7-gram"],
            "rows": [{"name": name, "tokens": own[0], "bits": list(own[1:])} for name, own in bits.items()],
        },
        "memorization": {
            "samples": 5,
            "tokens": 5000,
            "longest_copy": 41,
            "copied_text": "What light is this? It is the east, he sa",
            "seed": 3,
            "new_ngrams": novelty,
            "documents": {"generated": 200, "new": 0.91, "distinct": 0.97},
        },
        "detectors": {
            "share": 0.187,
            "tokens": 30000,
            "rows": detectors * 7,
            "snippet": {
                "tokens": tokens,
                "rows": [{"layer": layer, "neuron": 9, "feature": name, "values": values} for name, layer, values in waves],
            },
        },
        "context_use": {
            "contexts": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512],
            "nats": [1.4 + 1.5 * 0.55**n for n in range(10)],
            "effective_context": 64,
            "gradient_share": [0.4 * n**-1.4 for n in range(1, 129)],
        },
        "gate_saturation": {
            "names": ["i", "f", "o"],
            "layers": layers,
            "hidden_size": hidden,
            "points": {name: (rng.dirichlet([1, 1.5, 2], hidden * layers)[:, :2]).round(3).tolist() for name in "ifo"},
        },
        "histograms": [{"name": name, "low": -1, "high": 1, "counts": counts} for name, counts in ranges],
    }


def table_report(labels: int = 60) -> dict[str, Any]:
    """Return what a report of a table has beside its curves."""
    rng = np.random.default_rng(2)
    counts = rng.poisson(0.25, (labels, labels)) + np.diag(rng.integers(10, 60, labels))
    counts[3, 4] = 33
    source, target = list("3 July 2026"), list("2026-07-03")
    weights = rng.dirichlet(np.full(len(source), 0.2), len(target))
    return {
        "title": "dates",
        "headline": [{"name": "accuracy", "value": "93.2%", "note": "466 of 500"}],
        "curves": curves(),
        "table": {
            "headline": "accuracy",
            "metrics": {"accuracy": 0.932, "macro F1": 0.91234},
            "rows": 500,
            "evaluated": "500 rows",
            "notes": ["On the test part."],
            "baselines": {
                "most frequent label": {"accuracy": 0.12, "macro F1": 0.01},
                "logistic regression": {"accuracy": 0.871},
            },
            "labels": [f"label {n}" for n in range(labels)],
            "confusion": counts,
        },
        "attention": [
            {"source": source, "target": target, "weights": weights, "truth": "2026-07-03"},
            {"source": source, "target": target, "weights": weights, "truth": "2026-07-04"},
        ],
        "errors": [
            {
                "source": [
                    {"name": "review", "text": "surest of all, and a longer text that has to be wrapped " * 3},
                    {"name": "age", "text": "41"},
                ],
                "truth": {"text": "bee"},
                "predicted": {"text": "wasp"},
                "probability": 0.99,
            },
            {"source": [{"text": "less sure"}], "truth": {"text": "a"}, "predicted": {"text": "b"}, "probability": 0.4},
            {"source": [{"text": "unknown"}], "truth": {"text": "a"}, "predicted": {"text": "c"}, "probability": None},
        ],
    }


# ---- the file


def test_numbers_that_json_has_not_become_unknown() -> None:
    made = to_json_value(
        {"a": [math.nan, 1.5, (math.inf, {"b": -math.inf})], 3: np.float32("nan"), "c": np.array([[1.0, np.nan]]), "d": "NaN"}
    )
    assert made == {"a": [None, 1.5, [None, {"b": None}]], "3": None, "c": [[1.0, None]], "d": "NaN"}
    json.dumps(made, allow_nan=False)


def test_the_page_is_one_file_that_loads_nothing() -> None:
    made = report_page(text_report() | {"title": HOSTILE})
    made.encode()
    assert made.count("<script") == made.count("</script>") == 2
    assert set(re.findall(r"https?://[^\s\"')]+", made)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|srcset)\s*=|@import|url\(", report_page(text_report()))
    assert len(made) < 400_000


# ---- the browser


@contextmanager
def open_report(
    browser: Browser, data: dict[str, Any], folder: Path, size: tuple[int, int] = (1400, 900), dark: bool = False
) -> Iterator[Page]:
    """Open the report of some data; when done, refuse anything that it said on the console or asked of a network."""
    path = folder / "report.html"
    path.write_text(report_page(data), "utf-8")
    with open_page(browser, path, size=size, dark=dark, ready="#app") as page:
        wait(page, "[...document.querySelectorAll('.chart')].every(chart => chart.firstChild)")
        yield page


def wait(page: Page, truth: str) -> None:
    """Wait until an expression is true. Playwright's own way evaluates text in the page, which the page's policy forbids."""
    for _ in range(400):
        if page.evaluate(truth):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"never true: {truth}")


def sections(page: Page) -> list[str]:
    names: list[str] = page.evaluate("[...document.querySelectorAll('main > section')].map(section => section.id)")
    return names


@pytest.fixture(scope="module")
def shared(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with open_report(browser, text_report(), tmp_path_factory.mktemp("report")) as page:
        yield page


def test_sections_stand_in_their_order(shared: Page) -> None:
    order = [
        "result",
        "curves",
        "samples",
        "baselines",
        "ngram-samples",
        "loss-breakdown",
        "memorization",
        "detectors",
        "context-use",
        "gate-saturation",
        "histograms",
        "settings",
    ]
    assert sections(shared) == order
    assert shared.locator("#contents a").count() == len(order)
    assert shared.locator("#contents").is_visible()
    assert shared.locator("#result .value").first.inner_text() == "2.051"
    for drawing in shared.locator("svg[role=img]").all():
        assert len(drawing.get_attribute("aria-label") or "") > 15
    assert not shared.locator("text", has_text=re.compile("NaN|undefined|null")).count()
    assert not re.search(r"\b(NaN|undefined|null|unknown)\b", shared.locator("main").inner_text())


@pytest.mark.slow
def test_the_slider_and_play_change_the_sample(shared: Page) -> None:
    slider, pane = shared.locator("#samples input"), shared.locator("#samples .sample-box")
    assert f"sample {STEPS[-1]}" in pane.inner_text()
    slider.fill("0")
    assert f"sample {STEPS[0]}" in pane.inner_text()
    assert "step 50" in shared.locator("#samples .readout").inner_text()
    shared.get_by_label("Next sample").click()
    assert slider.input_value() == "1"
    shared.get_by_label("Previous sample").click()
    first = shared.locator("#curves .mark.current").get_attribute("cx")
    shared.get_by_role("button", name="Play").click()
    wait(shared, "document.querySelector('#samples input').value === '2'")
    shared.get_by_role("button", name="Pause").click()
    assert f"sample {STEPS[2]}" in pane.inner_text()
    assert shared.locator("#curves .mark.current").get_attribute("cx") != first
    shared.locator("#curves .mark").nth(5).click()
    assert f"sample {STEPS[5]}" in pane.inner_text()


def test_axes_switch_and_the_cursor_reads_values(shared: Page) -> None:
    box, readout = shared.locator("#curves .panels"), shared.locator("#curves .readout")
    assert shared.locator("#curves .chart").count() == 3
    for button, title in (("Steps", "steps"), ("Characters read", "characters read"), ("Time", "minutes")):
        shared.locator("#curves button", has_text=button).click()
        assert shared.locator("#curves .axis-title.end").inner_html() == title
    shared.locator("#curves button", has_text="bits").click()
    assert shared.locator("#curves .axis-title").first.inner_html() == "bits per character"
    assert f"{1.43 / LN2:.3f}" in readout.inner_text()
    shared.locator("#curves button", has_text="nats").click()
    box.focus()
    shared.keyboard.press("Home")
    assert readout.inner_text().startswith("step 1,")
    shared.keyboard.press("ArrowRight")
    assert "step 11," in readout.inner_text()
    assert box.get_attribute("aria-valuetext") == readout.text_content()
    shared.locator("#curves .chart").nth(1).hover(position={"x": 300, "y": 50})
    assert "step 11," not in readout.inner_text()
    assert "learning rate" in readout.inner_text()


def test_the_inside_is_shown(shared: Page) -> None:
    assert shared.locator("#baselines li").count() == 7
    assert shared.locator("#baselines li").first.get_attribute("class") == "this-model"
    assert "7 grams" in shared.locator("#ngram-samples .sample-box").first.inner_text()
    shared.locator("#ngram-samples button", has_text="2-gram").click()
    assert "2 grams" in shared.locator("#ngram-samples .sample-box").first.inner_text()
    assert shared.locator("#gate-saturation figure").count() == 3
    spans = shared.locator("#detectors .colored-text > span")
    colors = [spans.nth(TEXT.index('"') + at).evaluate("e => getComputedStyle(e).backgroundColor") for at in (3, -3)]
    assert colors == ["rgba(62, 188, 116, 0.95)", "rgba(112, 164, 255, 0.95)"]
    assert shared.locator("#detectors tbody tr").count() == 10
    shared.locator("#detectors .more").click()
    assert shared.locator("#detectors tbody tr").count() == 14
    assert shared.locator("#settings .chip").all_inner_texts() == ["hidden 64", "minutes 5"]
    shared.locator("#settings summary").first.click()
    assert shared.locator("#settings .is-given").first.is_visible()


def point(page: Page, where: str) -> None:
    """Point at the first cell of a heat map."""
    first = page.locator(where).first
    first.evaluate("e => e.closest('section').scrollIntoView()")
    place: Any = first.bounding_box()
    page.mouse.move(place["x"] + 5, place["y"] + 5)


def test_flags_stay_on_one_line(browser: Browser, tmp_path: Path) -> None:
    told = "It was best after 3% of the time. " + "More rows or more --dropout would help. " * 20
    with open_report(browser, text_report() | {"diagnosis": told, "advice": [told]}, tmp_path, size=(400, 700)) as page:
        flags = page.locator(".diagnosis code, .advice li code")
        assert flags.all_inner_texts() == ["--dropout"] * 40
        assert set(flags.evaluate_all("all => all.map(flag => flag.getClientRects().length)")) == {1}
        assert page.inner_text(".diagnosis") == told.strip()


@pytest.mark.slow
def test_counts_of_one_have_the_singular(browser: Browser, tmp_path: Path) -> None:
    report = text_report()
    report["memorization"] |= {"samples": 1, "tokens": 1000, "longest_copy": 1}
    with open_report(browser, report, tmp_path) as page:
        shown = page.locator("body").inner_text()
    assert "has 1 token in 1 sample with 1,000 tokens in total, with seed 3:" in shown


def test_confusion_attention_and_errors(browser: Browser, tmp_path: Path) -> None:
    with open_report(browser, table_report(), tmp_path) as page:
        assert sections(page) == ["result", "curves", "table", "confusion", "attention", "errors"]
        assert "label 3 as label 4" in page.locator(".confused-pairs li").first.inner_text().replace("␣", " ")
        assert "0.932" in page.locator("#table tbody tr").first.inner_text()
        readout = page.locator("#confusion .readout")
        page.locator("#confusion .matrix-box").focus()
        for key in ["ArrowDown"] * 3 + ["ArrowRight"] * 4:
            page.keyboard.press(key)
        assert "33 times" in readout.inner_text()
        point(page, "#confusion .cells")
        assert "predicted correctly" in readout.inner_text()
        point(page, "#attention .cells")
        assert "%" in page.locator("#attention .readout").first.inner_text()
        assert "correct" in page.locator("#attention figcaption").first.inner_text()
        assert page.locator("#errors li").first.inner_text().count("wasp") == 1
        assert page.locator("#errors li").last.inner_text().count("probability") == 0


@pytest.mark.slow
def test_large_confusion_matrices_are_quick(browser: Browser, tmp_path: Path) -> None:
    with open_report(browser, table_report(256), tmp_path, size=(360, 700)) as page:
        assert page.locator("#confusion path").count() <= 40
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        box = page.locator("#confusion .matrix-box")
        assert box.evaluate("e => e.scrollWidth > e.clientWidth && e.scrollHeight > e.clientHeight")


@pytest.mark.slow
@pytest.mark.parametrize("empty", ["missing", "null", "hollow"])
def test_missing_sections_stay_absent(browser: Browser, tmp_path: Path, empty: str) -> None:
    full = text_report() | table_report() | {"title": "bare"}
    data = {name: value if name == "title" else None if empty == "null" else type(value)() for name, value in full.items()}
    with open_report(browser, {"title": "bare"} if empty == "missing" else data, tmp_path) as page:
        assert sections(page) == []
        assert page.locator("h1").inner_text() == "bare"


def replaced(value: Any) -> Any:
    """Return data of the same form with every text hostile and every number unknown in places."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, dict):
        return {key: replaced(part) for key, part in value.items()}
    return [replaced(part) for part in value] if isinstance(value, list) else value


@pytest.mark.slow
def test_hostile_text_is_shown_and_never_run(browser: Browser, tmp_path: Path) -> None:
    data: dict[str, Any] = replaced(to_json_value(text_report() | table_report(5)))
    data["gate_saturation"] = data["samples"][0]["seconds"] = data["samples"][1]["val_nats"] = None
    data["curves"]["train"][5] = [51, None, None, math.nan]
    with open_report(browser, data, tmp_path, size=(360, 700)) as page:
        shown = HOSTILE
        for character, name in (("\u202e", "U+202E"), ("\u200b", "U+200B"), ("\0", "␀"), ("\ud800", "U+D800")):
            shown = shown.replace(character, name)
        assert page.locator("h1").text_content() == shown
        assert not page.locator("main", has_text="could not be shown").count()
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 360


LABELS_OUTSIDE = """[...document.querySelectorAll("svg text.tick")].filter((label) =>
    label.getBoundingClientRect().left < label.ownerSVGElement.getBoundingClientRect().left - 0.5
).map((label) => label.textContent)"""
"""The labels of axes that begin left of their chart, where they are cut off."""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_never_scrolls_sideways(browser: Browser, tmp_path: Path, width: int) -> None:
    with open_report(browser, table_report() | text_report(), tmp_path, size=(width, 800), dark=True) as page:
        assert len(sections(page)) == 16
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate(LABELS_OUTSIDE) == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.locator("#theme").click()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
        page.set_viewport_size({"width": 700, "height": 800})
        wait(page, "(width => width > 500 && width < 700)(document.querySelector('.chart svg').clientWidth)")
