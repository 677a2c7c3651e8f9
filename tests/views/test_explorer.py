"""The neuron explorer: the data of the page cannot be executed, and the page works in a real browser."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.pages import open_page
from unrolled.views.explorer import BODY, SCRIPT, STYLES, ExplorerData, explorer_page, payload
from unrolled.views.html_page import STATIC, pack_array, render_page, to_script_json

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("browser")  # the tests of this module share a page

LINES = (
    'He said "yes, I will" and left (by the door).\n'
    "\tif (a[0] < b) return a[1];\n"
    'Then "no" was all that she wrote, and "why" he asked.\n'
    "Café: a\u0301 b\u200bc \u202ed 日本 😀 &amp; <b>\n"
)
HOSTILE = [
    "</script><script>window.pwned=1</script>", "<img src=x onerror=window.pwned=1>", "<!--", "-->", "]]>", "&lt;",
    "\u202e", "\u202d", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\0", "\x1b", "\x7f", "\x85", "\r", "\r\n",
    "\ud800", "\udfff", "e" + "\u0301" * 500, "\u0301", "عربى", "\u00a0", "\u3164", "\U000e0041", "👩\u200d👩\u200d👧",
    "", "x" * 5000, "`${window.pwned=1}`", "'\";window.pwned=1;//",
]  # fmt: skip
QUOTES = 9  # the unit of layer 1 that is on inside quotes


def between(text: list[str], sign: str = '"') -> NDArray[np.float64]:
    parts = np.cumsum([character == sign for character in text]) % 2
    return np.where((parts == 1) | np.array([character == sign for character in text]), 1.0, -1.0)


def view(text: str | list[str] = LINES * 6, hidden: int = 12, cell: str = "lstm", full: bool = True) -> ExplorerData:
    """Return synthetic activations of two layers on a text: sine waves, and one unit that is on inside quotes."""
    tokens, rng = list(text), np.random.default_rng(5)
    count, units = len(tokens), 2 * hidden
    state = np.sin(np.arange(count)[:, None] / (3 + np.arange(units) % 97) + np.arange(units)).astype(np.float32)
    state[:, hidden + min(QUOTES, hidden - 1)] = between(tokens) * 0.95
    signals = {"h": state}
    if cell == "lstm":
        signals |= {"c": state * 2} | {gate: np.abs(np.roll(state, position + 1, 1)) for position, gate in enumerate("ifo")}
        signals["g"] = -state
    vocab = sorted({*tokens, ""})
    token_ids = {token: index for index, token in enumerate(vocab)}
    ids = rng.integers(0, len(vocab), (count, 5))
    ids[:-1, 0] = [token_ids[token] for token in tokens[1:]]
    probs = np.tile([0.8, 0.1, 0.05, 0.03, 0.01], (count, 1))
    bits = rng.exponential(1.5, count)
    bits[0] = np.nan
    quotes: dict[str, Any] = {"layer": 1, "unit": QUOTES, "feature": "inside quotes"}
    indent: dict[str, Any] = {"layer": 0, "unit": 4, "feature": "indent", "score": 0.7, "kind": "correlation", "p_value": 0.02}
    probes = [
        quotes | {"score": 0.99, "kind": "AUC", "p_value": 1e-9, "description": 'from " to "'},
        indent | {"description": "space at the start"},
    ]
    clamped = quotes | {"bits": 0.4, "seed": 3, "before": 'a "b" c', "after": 'a "b c'}
    effects = [clamped | {"value": 1.0, "changes": bits * 0.3}, clamped | {"value": -1.0, "changes": [(3, 0.5), (4, -1.25)]}]
    extra: dict[str, Any] = {"probes": probes, "importance": rng.random(units) / 50, "effects": effects} if full else {}
    return ExplorerData("A test", "2 layers", tokens, 2, hidden, signals, bits, vocab, ids, probs, **extra)


def unpacked(text: str, kind: str) -> NDArray[Any]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=kind)


# ---- the file


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_breaks_out_of_its_element(text: str) -> None:
    written = to_script_json({"text": text})
    assert not set(written) & set("<>&\u2028\u2029")
    assert written.isascii()
    assert json.loads(written) == {"text": text}


def test_a_page_is_one_file_that_loads_nothing() -> None:
    data = render_page("</title><script>x</script>\ud800", STYLES, SCRIPT, {"a": "</script>"}, BODY)
    data.encode()
    assert data.count("<script") == data.count("</script>") == 2
    assert "<title>&lt;/title&gt;&lt;script&gt;x&lt;/script&gt;\ufffd</title>" in data
    assert "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:" in data
    assert set(re.findall(r"https?://[^\s\"')]+", data)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|srcset)\s*=|@import|url\(", data)


@pytest.mark.parametrize("name", sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")))
def test_scripts_never_make_html_of_text(name: str) -> None:
    source = (STATIC / name).read_text("utf-8")
    assert source.startswith("// @ts-check\n")
    assert not re.search(r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\b|new Function|fetch\(|</script", source)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32"])
def test_packed_arrays_round_trip(kind: str) -> None:
    array = np.arange(-5, 100).astype(kind)
    assert unpacked(pack_array(array), kind).tolist() == array.tolist()
    assert unpacked(pack_array(array.astype(array.dtype.newbyteorder(">"))), kind).tolist() == array.tolist()
    assert unpacked(pack_array(np.zeros(0, kind)), kind).size == 0


def levels_of(spec: dict[str, Any], count: int) -> NDArray[Any]:
    rows = unpacked(spec["data"], "u1").reshape(-1, count if spec["highResolution"] else -(-count // 2))
    if spec["deltaEncoded"]:
        rows = np.cumsum(rows, 1, dtype=np.uint8)
    return rows if spec["highResolution"] else np.stack([rows & 15, rows >> 4], 2).reshape(len(rows), -1)[:, :count]


@pytest.mark.parametrize("length", [7, 40])
def test_quantized_signals_are_within_half_a_level(length: int) -> None:
    data = view(LINES[:length])
    for spec in payload(data)["activations"]:
        array = data.signals[spec["name"]]
        values = spec["min"] + levels_of(spec, length) / spec["maxLevel"] * (1 - spec["min"])
        right = np.tanh(array) if spec["name"] == "c" else array
        assert np.abs(values.T - right).max() <= 0.51 * (1 - spec["min"]) / spec["maxLevel"], spec["name"]


def test_quantization_keeps_zero_and_nan() -> None:
    state = np.array([[0.0], [np.nan], [2.0], [-2.0]])
    data = ExplorerData("", "", list("abcd"), 1, 1, {"h": state, "g": state}, state[:, 0], ["a"], np.zeros((4, 1), int), state)
    for spec, middle, missing in zip(payload(data)["activations"], (31, 7), (255, 15), strict=True):
        assert levels_of(spec, 4)[0].tolist() == [middle, missing, 2 * middle, 0]
    assert unpacked(payload(data)["surprisal"], "<u2").tolist() == [0, 65535, 2000, 0]


def test_arrays_of_the_wrong_shape_are_an_error() -> None:
    none = np.zeros((2, 5), int)
    with pytest.raises(ValueError, match=r"signals\['h'\] has shape \(3, 2\), expected \(2, 2\); bits has shape \(3,\)"):
        ExplorerData("", "", list("ab"), 1, 2, {"h": np.zeros((3, 2))}, np.zeros(3), [], none, none.astype(float))


# ---- the browser


def write_page(folder: Path, data: ExplorerData) -> Path:
    path = folder / "page.html"
    path.write_text(explorer_page(data), "utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(tmp_path_factory.mktemp("explorer"), view())


@pytest.fixture
def explorer(browser: Browser, file: Path) -> Iterator[Page]:
    with open_page(browser, file) as page:
        yield page


def token_span(page: Page, position: int) -> Any:
    return page.locator("#text .chunk > span").nth(position)


def wait_for_class(page: Page, position: int, pattern: str) -> None:
    """Wait until a token has a class like `pattern`, since the browser paints after the caption has changed."""
    query = "document.querySelectorAll('#text .chunk > span')[position].className"
    seen = f"([position, pattern]) => new RegExp(`^${{pattern}}$`).test({query})"
    page.wait_for_function(seen, arg=[position, pattern], timeout=5000)


def name(page: Page) -> str:
    return page.locator("#neuron-name").inner_text()


def test_the_text_is_colored_by_the_unit(explorer: Page) -> None:
    assert name(explorer) == f"1.{QUOTES}"
    for position in (0, 8, 10, 20, 30):
        steps = int((token_span(explorer, position).get_attribute("class") or "").removeprefix("activation").split()[0])
        assert steps == (39 if 8 <= position <= 20 else 1), position
    get_color = "e => getComputedStyle(e).backgroundColor"
    assert token_span(explorer, 10).evaluate(get_color) == "rgba(62, 188, 116, 0.95)"
    tops = [token_span(explorer, position).bounding_box()["y"] for position in (44, 45, 46)]
    assert tops[0] == tops[1] < tops[2]
    assert token_span(explorer, 45).text_content() == "↵\n"


@pytest.mark.slow
def test_keys_fields_and_lists_select_the_unit(explorer: Page, browser: Browser, file: Path) -> None:
    presses = ("ArrowRight", "k", "k", "j", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight")
    for key, unit in zip(presses, ("1.10", "1.11", "0.0", "1.11", "0.11", "1.11", "1.10", "1.11"), strict=True):
        explorer.keyboard.press(key)
        assert name(explorer) == unit
    explorer.wait_for_url("**#1.11", timeout=5000)
    explorer.keyboard.press("u")
    for typed, unit in (("0.7", "0.7"), ("3", "0.3"), ("QUOTE", f"1.{QUOTES}"), ("indent", "0.4"), ("no such", "0.4")):
        explorer.locator("#neuron-search").fill(typed)
        explorer.keyboard.press("Enter")
        assert name(explorer) == unit
    explorer.locator("#slider").fill("2")
    assert name(explorer) == "0.2"
    explorer.locator("#probes button").first.click()
    assert name(explorer) == f"1.{QUOTES}"
    explorer.locator("#importance button").nth(2).click()
    assert explorer.locator("#importance [aria-current=true] .code").inner_text() == name(explorer)
    with open_page(browser, file, "#0.5") as page:
        assert name(page) == "0.5"


@pytest.mark.slow
def test_signals_and_details(explorer: Page) -> None:
    explorer.locator("#activations button", has_text="f").click()
    assert "forget gate" in explorer.locator("#caption").inner_text()
    assert explorer.locator("#scale-low").inner_text() == "0 closed"
    token_span(explorer, 12).hover()
    assert "token 13 of" in explorer.locator("#token").inner_text()
    assert explorer.locator("#token .top-predictions li").count() == 5
    assert explorer.locator("#token .gates").count() == 4
    assert "80%" in explorer.locator("#tooltip").inner_text()
    assert explorer.locator("#saturation p").count() == 3
    explorer.mouse.move(5, 5)
    assert explorer.locator("#tooltip").is_hidden()


def test_predictions_are_below_their_tokens(explorer: Page) -> None:
    explorer.keyboard.press("2")
    column = explorer.locator(".prediction-column").first
    assert column.locator("b").inner_text() == LINES[0]
    assert column.locator("> span").count() == 5
    assert column.locator("> span").first.text_content() == LINES[1]
    assert "correct" in (column.locator("> span").first.get_attribute("class") or "")
    assert "probability16" in (column.locator("> span").first.get_attribute("class") or "")
    explorer.locator("#color-by [data-color-by=neuron]").click()
    assert (column.locator("b").get_attribute("class") or "") == "activation1"
    explorer.keyboard.press("3")
    assert explorer.locator("#caption").inner_text() == "Surprisal of each token"
    wait_for_class(explorer, 5, "surprisal[0-9]+")


@pytest.mark.slow
def test_interventions_are_displayed(explorer: Page) -> None:
    explorer.locator('[data-view="intervention"]').click()
    assert explorer.locator("#samples mark").all_inner_texts() == ['"', " "]
    assert explorer.locator("#interventions li").count() == 2
    explorer.locator("#interventions button").nth(1).click()
    assert "−1.00" in explorer.locator("#caption").inner_text()
    wait_for_class(explorer, 4, "change0")
    assert token_span(explorer, 5).get_attribute("class") == ""


@pytest.mark.slow
def test_a_selection_finds_its_neurons(explorer: Page) -> None:
    explorer.keyboard.press("ArrowRight")
    start, end = token_span(explorer, 8).bounding_box(), token_span(explorer, 20).bounding_box()
    explorer.mouse.move(start["x"] + 2, start["y"] + 8)
    explorer.mouse.down()
    explorer.mouse.move(end["x"] - 20, end["y"] + 8)
    explorer.mouse.move(end["x"] + 3, end["y"] + 8)
    explorer.mouse.up()
    assert explorer.locator("#text .selected").count() == 13
    assert "13 tokens" in explorer.locator("#selection .selected-text").inner_text()
    best = explorer.locator("#ranked-neurons li").first
    assert best.locator(".code").inner_text() == f"1.{QUOTES}"
    assert "recall 100%" in best.inner_text()
    best.locator("button").click()
    assert name(explorer) == f"1.{QUOTES}"
    snippet = explorer.locator("#selection .snippet").first
    assert snippet.locator("b").inner_text() in LINES
    snippet.click()
    assert explorer.locator("#text .cursor").count() == 1
    assert "selected" not in (explorer.locator("#text .cursor").get_attribute("class") or "")
    explorer.keyboard.press("Escape")
    assert explorer.locator("#text .selected").count() == 0


@pytest.mark.slow
def test_a_selection_can_be_made_without_dragging(explorer: Page) -> None:
    explorer.locator("#selection-start").click()
    token_span(explorer, 30).click()
    token_span(explorer, 26).click()
    assert explorer.locator("#text .selected").count() == 5
    explorer.locator("#selection-clear").click()
    token_span(explorer, 8).click()
    for _ in range(3):
        explorer.keyboard.press("Shift+ArrowRight")
    explorer.locator("#ranked-neurons li").first.wait_for()
    assert explorer.locator("#text .selected").count() == 4
    explorer.keyboard.press("Shift+ArrowDown")
    assert explorer.locator("#text .selected").count() > 30
    token_span(explorer, 3).click()
    token_span(explorer, 6).click(modifiers=["Shift"])
    assert explorer.locator("#text .selected").count() == 4


def test_text_is_found(explorer: Page) -> None:
    explorer.keyboard.press("/")
    explorer.keyboard.type("A[")
    assert explorer.locator("#find-count").inner_text() == "1 of 12"
    assert explorer.locator("#text .match").count() == 24
    explorer.keyboard.press("Enter")
    assert explorer.locator("#find-count").inner_text() == "2 of 12"
    explorer.locator("#find-previous").click()
    explorer.locator("#find-previous").click()
    assert explorer.locator("#find-count").inner_text() == "12 of 12"
    assert explorer.locator("#text .current-match").first.is_visible()


def test_light_dark_and_help(explorer: Page) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light = explorer.evaluate(back)
    explorer.locator("#theme").click()
    assert explorer.evaluate(back) != light
    explorer.keyboard.press("?")
    assert explorer.locator("#help").is_visible()
    explorer.keyboard.press("Escape")
    assert explorer.locator("#help").is_hidden()


def test_a_series_has_steps_and_no_tokens(browser: Browser, tmp_path: Path) -> None:
    data = replace(view(full=False), is_series=True, predicts_labels=True)
    data = replace(data, bits=np.full(len(data.token_texts), np.nan))
    with open_page(browser, write_page(tmp_path, data)) as page:
        assert f"step 1 of {len(data.token_texts)}" in page.locator("#token").inner_text()
        page.keyboard.press("?")
        shown = page.locator("#token-card, #selection-card, #help").all_inner_texts()
        labels = page.locator("[placeholder]").evaluate_all("all => all.map((field) => field.placeholder)")
        assert not re.findall(r"tokens?\b|\btext\b|nothing to predict", " ".join([*shown, *labels])), shown
        assert "Find in the series" in labels


@pytest.mark.slow
def test_a_narrow_screen_never_scrolls_sideways(browser: Browser, file: Path) -> None:
    with open_page(browser, file, size=(360, 700)) as page:
        for view_name in "1234":
            page.keyboard.press(view_name)
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert page.evaluate("document.getElementById('text-scroller').scrollWidth <= 360")


def test_only_parts_with_data_are_displayed(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, write_page(tmp_path, view(cell="rnn", full=False))) as page:
        cards = ("#probes-card", "#importance-card", "#interventions-card")
        for hidden in (*cards, '[data-view="intervention"]', "#activations", "#samples"):
            assert page.locator(hidden).is_hidden(), hidden
        page.keyboard.press("4")
        assert page.locator("#views [aria-pressed=true]").inner_text() == "Neuron"


@pytest.mark.slow
def test_hostile_tokens_are_displayed_and_never_run(browser: Browser, tmp_path: Path) -> None:
    data = view([*HOSTILE, *"end"])
    hostile = dict(data.probes[0], feature=HOSTILE[0], description=HOSTILE[1])
    effect = dict(data.effects[0], before=HOSTILE[0] + "\u202e", after=HOSTILE[1])
    texts: dict[str, Any] = {"title": HOSTILE[0], "subtitle": HOSTILE[1] + "\ud800", "probes": [hostile], "effects": [effect]}
    data = replace(data, **texts, eos_positions=[HOSTILE.index("")])
    with open_page(browser, write_page(tmp_path, data), size=(800, 700)) as page:
        labels = page.locator("#text .placeholder").all_inner_texts()
        expected = "U+202E U+200B U+200D U+FEFF U+2028 ␀ ␛ ␡ U+0085 U+D800 U+00A0 U+3164 end"
        assert not set(expected.split()) - set(labels)
        assert token_span(page, 0).text_content() == HOSTILE[0]
        for keys in "1234":
            page.keyboard.press(keys)
            for _ in range(len(HOSTILE) if keys == "1" else 2):
                page.keyboard.press(".")
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 800
        assert token_span(page, HOSTILE.index("e" + "\u0301" * 500)).text_content() == "e" + "\u0301" * 3 + "…"


def switch_times(page: Page) -> list[float]:
    """Return the milliseconds of script, style and layout for each of eight changes of the unit."""
    times: list[float] = page.evaluate("""() => Array.from({length: 8}, () => {
      const start = performance.now();
      document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      for (const span of document.querySelectorAll("#text span")) getComputedStyle(span).backgroundColor;
      document.body.offsetHeight;
      return performance.now() - start;
    })""")
    return times


@pytest.fixture
def large_page(browser: Browser, tmp_path: Path) -> AbstractContextManager[Page]:
    text = (LINES * 100)[:10_000]
    return open_page(browser, write_page(tmp_path, view(text, hidden=500, cell="rnn", full=False)))


@pytest.mark.serial
def test_a_large_text_is_recolored_quickly(large_page: AbstractContextManager[Page]) -> None:
    with large_page as page:
        times = switch_times(page)
        assert sorted(times)[len(times) // 2] < 100, times
        page.keyboard.press("2")
        page.locator(".prediction-column").first.wait_for()
        assert page.locator(".prediction-column").count() < 4000
        page.keyboard.press("1")
        token_span(page, 3).click()
        started = page.evaluate("performance.now()")
        token_span(page, 40).click(modifiers=["Shift"])
        assert page.locator("#ranked-neurons li").count() == 12
        assert page.evaluate("performance.now()") - started < 2000


@pytest.mark.serial
def test_a_line_of_two_hundred_thousand_characters(browser: Browser, tmp_path: Path) -> None:
    data = view("ab\u200bcd" * 40_000, hidden=2, cell="rnn", full=False)
    with open_page(browser, write_page(tmp_path, data), size=(700, 700)) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 700
        assert page.locator("#text .chunk > span").count() < 40_000
        assert sorted(switch_times(page))[4] < 150
        page.locator("#text-scroller").evaluate("e => { e.scrollTop = e.scrollHeight; }")
        page.wait_for_selector("#text .chunk:last-child > span")


def test_an_old_browser_gets_a_message(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(file.as_uri())
    page.locator("#message", has_text="too old for this page").wait_for()
    assert page.locator("#app").is_hidden()
    page.close()
