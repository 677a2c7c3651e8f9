"""The explorer's page: what it holds cannot break out of it, and what it shows works in a real browser."""

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

pytestmark = pytest.mark.xdist_group("browser")  # one worker makes what the module's tests share

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
QUOTES = 9  # the unit of layer 1 that follows quotes


def between(text: list[str], sign: str = '"') -> NDArray[np.float64]:
    parts = np.cumsum([character == sign for character in text]) % 2
    return np.where((parts == 1) | np.array([character == sign for character in text]), 1.0, -1.0)


def view(text: str | list[str] = LINES * 6, hidden: int = 12, cell: str = "lstm", full: bool = True) -> ExplorerData:
    """Return a made-up reading of a text by two layers: waves, and one unit that follows quotes perfectly."""
    symbols, rng = list(text), np.random.default_rng(5)
    count, units = len(symbols), 2 * hidden
    state = np.sin(np.arange(count)[:, None] / (3 + np.arange(units) % 97) + np.arange(units)).astype(np.float32)
    state[:, hidden + min(QUOTES, hidden - 1)] = between(symbols) * 0.95
    signals = {"h": state}
    if cell == "lstm":
        signals |= {"c": state * 2} | {gate: np.abs(np.roll(state, place + 1, 1)) for place, gate in enumerate("ifo")}
        signals["g"] = -state
    alphabet = sorted({*symbols, ""})
    number = {symbol: place for place, symbol in enumerate(alphabet)}
    ids = rng.integers(0, len(alphabet), (count, 5))
    ids[:-1, 0] = [number[symbol] for symbol in symbols[1:]]
    chances = np.tile([0.8, 0.1, 0.05, 0.03, 0.01], (count, 1))
    bits = rng.exponential(1.5, count)
    bits[0] = np.nan
    quotes: dict[str, Any] = {"layer": 1, "unit": QUOTES, "feature": "inside quotes"}
    indent: dict[str, Any] = {"layer": 0, "unit": 4, "feature": "indent", "score": 0.7, "kind": "correlation", "p": 0.02}
    probes = [
        quotes | {"score": 0.99, "kind": "AUC", "p": 1e-9, "means": 'from " to "'},
        indent | {"means": "space at the start"},
    ]
    held = quotes | {"bits": 0.4, "seed": 3, "before": 'a "b" c', "after": 'a "b c'}
    effects = [held | {"value": 1.0, "changes": bits * 0.3}, held | {"value": -1.0, "changes": [(3, 0.5), (4, -1.25)]}]
    extra: dict[str, Any] = {"probes": probes, "importance": rng.random(units) / 50, "effects": effects} if full else {}
    return ExplorerData("A test", "2 layers", symbols, 2, hidden, signals, bits, alphabet, ids, chances, **extra)


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
    made = render_page("</title><script>x</script>\ud800", STYLES, SCRIPT, {"a": "</script>"}, BODY)
    made.encode()
    assert made.count("<script") == made.count("</script>") == 2
    assert "<title>&lt;/title&gt;&lt;script&gt;x&lt;/script&gt;\ufffd</title>" in made
    assert "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:" in made
    assert set(re.findall(r"https?://[^\s\"')]+", made)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\b(src|srcset)\s*=|@import|url\(", made)


@pytest.mark.parametrize("name", sorted(path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*.js")))
def test_scripts_never_make_html_of_text(name: str) -> None:
    source = (STATIC / name).read_text("utf-8")
    assert source.startswith("// @ts-check\n")
    assert not re.search(r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\b|new Function|fetch\(|</script", source)


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32"])
def test_packed_numbers_come_back(kind: str) -> None:
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
def test_signals_keep_their_values_within_half_a_level(length: int) -> None:
    made = view(LINES[:length])
    for spec in payload(made)["activations"]:
        array = made.signals[spec["name"]]
        values = spec["min"] + levels_of(spec, length) / spec["maxLevel"] * (1 - spec["min"])
        right = np.tanh(array) if spec["name"] == "c" else array
        assert np.abs(values.T - right).max() <= 0.51 * (1 - spec["min"]) / spec["maxLevel"], spec["name"]


def test_zero_stays_zero_and_nothing_stays_nothing() -> None:
    state = np.array([[0.0], [np.nan], [2.0], [-2.0]])
    made = ExplorerData("", "", list("abcd"), 1, 1, {"h": state, "g": state}, state[:, 0], ["a"], np.zeros((4, 1), int), state)
    for spec, middle, missing in zip(payload(made)["activations"], (31, 7), (255, 15), strict=True):
        assert levels_of(spec, 4)[0].tolist() == [middle, missing, 2 * middle, 0]
    assert unpacked(payload(made)["surprisal"], "<u2").tolist() == [0, 65535, 2000, 0]


def test_arrays_that_do_not_fit_are_refused() -> None:
    none = np.zeros((2, 5), int)
    with pytest.raises(ValueError, match=r"signals\['h'\] has shape \(3, 2\), expected \(2, 2\); bits has shape \(3,\)"):
        ExplorerData("", "", list("ab"), 1, 2, {"h": np.zeros((3, 2))}, np.zeros(3), [], none, none.astype(float))


# ---- the browser


def written(folder: Path, made: ExplorerData) -> Path:
    path = folder / "page.html"
    path.write_text(explorer_page(made), "utf-8")
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("explorer"), view())


@pytest.fixture
def shown(browser: Browser, file: Path) -> Iterator[Page]:
    with open_page(browser, file) as page:
        yield page


def symbol(page: Page, place: int) -> Any:
    return page.locator("#text .chunk > span").nth(place)


def painted(page: Page, place: int, pattern: str) -> None:
    """Wait until a symbol has a class like `pattern`: a busy browser says what it shows before it has painted it all."""
    query = "document.querySelectorAll('#text .chunk > span')[place].className"
    seen = f"([place, pattern]) => new RegExp(`^${{pattern}}$`).test({query})"
    page.wait_for_function(seen, arg=[place, pattern], timeout=5000)


def name(page: Page) -> str:
    return page.locator("#neuron-name").inner_text()


def test_the_text_is_coloured_by_the_unit(shown: Page) -> None:
    assert name(shown) == f"1.{QUOTES}"
    for place in (0, 8, 10, 20, 30):
        steps = int((symbol(shown, place).get_attribute("class") or "").removeprefix("activation").split()[0])
        assert steps == (39 if 8 <= place <= 20 else 1), place
    colour = "e => getComputedStyle(e).backgroundColor"
    assert symbol(shown, 10).evaluate(colour) == "rgba(62, 188, 116, 0.95)"
    assert symbol(shown, 0).evaluate("e => getComputedStyle(e).unicodeBidi") == "isolate"
    tops = [symbol(shown, place).bounding_box()["y"] for place in (44, 45, 46)]
    assert tops[0] == tops[1] < tops[2]
    assert symbol(shown, 45).text_content() == "↵\n"


def test_keys_fields_and_lists_choose_the_unit(shown: Page, browser: Browser, file: Path) -> None:
    presses = ("ArrowRight", "k", "k", "j", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowRight")
    for key, unit in zip(presses, ("1.10", "1.11", "0.0", "1.11", "0.11", "1.11", "1.10", "1.11"), strict=True):
        shown.keyboard.press(key)
        assert name(shown) == unit
    shown.wait_for_timeout(300)
    assert shown.url.endswith("#1.11")
    shown.keyboard.press("u")
    for typed, unit in (("0.7", "0.7"), ("3", "0.3"), ("QUOTE", f"1.{QUOTES}"), ("indent", "0.4"), ("no such", "0.4")):
        shown.locator("#neuron-search").fill(typed)
        shown.keyboard.press("Enter")
        assert name(shown) == unit
    shown.locator("#slider").fill("2")
    assert name(shown) == "0.2"
    shown.locator("#probes button").first.click()
    assert name(shown) == f"1.{QUOTES}"
    shown.locator("#importance button").nth(2).click()
    assert shown.locator("#importance [aria-current=true] .code").inner_text() == name(shown)
    with open_page(browser, file, "#0.5") as page:
        assert name(page) == "0.5"


def test_signals_and_details(shown: Page) -> None:
    shown.locator("#activations button", has_text="f").click()
    assert "forget gate" in shown.locator("#caption").inner_text()
    assert shown.locator("#scale-low").inner_text() == "0 closed"
    symbol(shown, 12).hover()
    assert "token 13 of" in shown.locator("#token").inner_text()
    assert shown.locator("#token .top-predictions li").count() == 5
    assert shown.locator("#token .gates").count() == 4
    assert "80%" in shown.locator("#tooltip").inner_text()
    assert shown.locator("#saturation p").count() == 3
    shown.mouse.move(5, 5)
    assert shown.locator("#tooltip").is_hidden()


def test_predictions_are_below_their_tokens(shown: Page) -> None:
    shown.keyboard.press("2")
    column = shown.locator(".prediction-column").first
    assert column.locator("b").inner_text() == LINES[0]
    assert column.locator("> span").count() == 5
    assert column.locator("> span").first.text_content() == LINES[1]
    assert "correct" in (column.locator("> span").first.get_attribute("class") or "")
    assert "probability16" in (column.locator("> span").first.get_attribute("class") or "")
    shown.locator("#color-by [data-color-by=neuron]").click()
    assert (column.locator("b").get_attribute("class") or "") == "activation1"
    shown.keyboard.press("3")
    assert shown.locator("#caption").inner_text() == "Surprisal of each token"
    painted(shown, 5, "surprisal[0-9]+")


def test_interventions_are_shown(shown: Page) -> None:
    shown.locator('[data-view="intervention"]').click()
    assert shown.locator("#samples mark").all_inner_texts() == ['"', " "]
    assert shown.locator("#interventions li").count() == 2
    shown.locator("#interventions button").nth(1).click()
    assert "−1.00" in shown.locator("#caption").inner_text()
    painted(shown, 4, "change0")
    assert symbol(shown, 5).get_attribute("class") == ""


def test_a_selection_finds_its_neurons(shown: Page) -> None:
    shown.keyboard.press("ArrowRight")
    start, end = symbol(shown, 8).bounding_box(), symbol(shown, 20).bounding_box()
    shown.mouse.move(start["x"] + 2, start["y"] + 8)
    shown.mouse.down()
    shown.mouse.move(end["x"] - 20, end["y"] + 8)
    shown.mouse.move(end["x"] + 3, end["y"] + 8)
    shown.mouse.up()
    assert shown.locator("#text .selected").count() == 13
    assert "13 tokens" in shown.locator("#selection .selected-text").inner_text()
    best = shown.locator("#ranked-neurons li").first
    assert best.locator(".code").inner_text() == f"1.{QUOTES}"
    assert "recall 100%" in best.inner_text()
    best.locator("button").click()
    assert name(shown) == f"1.{QUOTES}"
    place = shown.locator("#selection .snippet").first
    assert place.locator("b").inner_text() in LINES
    place.click()
    assert shown.locator("#text .cursor").count() == 1
    assert "selected" not in (shown.locator("#text .cursor").get_attribute("class") or "")
    shown.keyboard.press("Escape")
    assert shown.locator("#text .selected").count() == 0


def test_a_selection_can_be_made_without_dragging(shown: Page) -> None:
    shown.locator("#selection-start").click()
    symbol(shown, 30).click()
    symbol(shown, 26).click()
    assert shown.locator("#text .selected").count() == 5
    shown.locator("#selection-clear").click()
    symbol(shown, 8).click()
    for _ in range(3):
        shown.keyboard.press("Shift+ArrowRight")
    shown.locator("#ranked-neurons li").first.wait_for()
    assert shown.locator("#text .selected").count() == 4
    shown.keyboard.press("Shift+ArrowDown")
    assert shown.locator("#text .selected").count() > 30
    symbol(shown, 3).click()
    symbol(shown, 6).click(modifiers=["Shift"])
    assert shown.locator("#text .selected").count() == 4


def test_text_is_found(shown: Page) -> None:
    shown.keyboard.press("/")
    shown.keyboard.type("A[")
    assert shown.locator("#find-count").inner_text() == "1 of 12"
    assert shown.locator("#text .match").count() == 24
    shown.keyboard.press("Enter")
    assert shown.locator("#find-count").inner_text() == "2 of 12"
    shown.locator("#find-previous").click()
    shown.locator("#find-previous").click()
    assert shown.locator("#find-count").inner_text() == "12 of 12"
    assert shown.locator("#text .current-match").first.is_visible()


def test_light_dark_and_help(shown: Page) -> None:
    back = "getComputedStyle(document.body).backgroundColor"
    light = shown.evaluate(back)
    shown.locator("#theme").click()
    assert shown.evaluate(back) != light
    shown.keyboard.press("?")
    assert shown.locator("#help").is_visible()
    shown.keyboard.press("Escape")
    assert shown.locator("#help").is_hidden()


def test_a_narrow_screen_never_scrolls_sideways(browser: Browser, file: Path) -> None:
    with open_page(browser, file, size=(360, 700)) as page:
        for view_name in "1234":
            page.keyboard.press(view_name)
            assert page.evaluate("document.documentElement.scrollWidth") == 360
            assert page.evaluate("document.getElementById('text-scroller').scrollWidth <= 360")


def test_only_parts_with_data_are_shown(browser: Browser, tmp_path: Path) -> None:
    with open_page(browser, written(tmp_path, view(cell="rnn", full=False))) as page:
        cards = ("#probes-card", "#importance-card", "#interventions-card")
        for hidden in (*cards, '[data-view="intervention"]', "#activations", "#samples"):
            assert page.locator(hidden).is_hidden(), hidden
        page.keyboard.press("4")
        assert page.locator("#views [aria-pressed=true]").inner_text() == "Neuron"


def test_hostile_symbols_are_shown_and_never_run(browser: Browser, tmp_path: Path) -> None:
    made = view([*HOSTILE, *"end"])
    hostile = dict(made.probes[0], feature=HOSTILE[0], means=HOSTILE[1])
    effect = dict(made.effects[0], before=HOSTILE[0] + "\u202e", after=HOSTILE[1])
    texts: dict[str, Any] = {"title": HOSTILE[0], "subtitle": HOSTILE[1] + "\ud800", "probes": [hostile], "effects": [effect]}
    made = replace(made, **texts, eos_positions=[HOSTILE.index("")])
    with open_page(browser, written(tmp_path, made), size=(800, 700)) as page:
        labels = page.locator("#text .placeholder").all_inner_texts()
        expected = "U+202E U+200B U+200D U+FEFF U+2028 ␀ ␛ ␡ U+0085 U+D800 U+00A0 U+3164 end"
        assert not set(expected.split()) - set(labels)
        assert symbol(page, 0).text_content() == HOSTILE[0]
        for keys in "1234":
            page.keyboard.press(keys)
            for _ in range(len(HOSTILE) if keys == "1" else 2):
                page.keyboard.press(".")
        assert page.evaluate("typeof window.pwned") == "undefined"
        assert page.locator("img").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") == 800
        assert symbol(page, HOSTILE.index("e" + "\u0301" * 500)).text_content() == "e" + "\u0301" * 3 + "…"


def seconds_of_switches(page: Page) -> list[float]:
    """Return the milliseconds of script, style and layout that each of some switches of the unit takes."""
    times: list[float] = page.evaluate("""() => Array.from({length: 8}, () => {
      const start = performance.now();
      document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      for (const span of document.querySelectorAll("#text span")) getComputedStyle(span).backgroundColor;
      document.body.offsetHeight;
      return performance.now() - start;
    })""")
    return times


@pytest.fixture
def large(browser: Browser, tmp_path: Path) -> AbstractContextManager[Page]:
    text = (LINES * 100)[:10_000]
    return open_page(browser, written(tmp_path, view(text, hidden=500, cell="rnn", full=False)))


def test_large_readings_stay_smooth(large: AbstractContextManager[Page]) -> None:
    with large as page:
        times = seconds_of_switches(page)
        assert sorted(times)[len(times) // 2] < 100, times
        page.keyboard.press("2")
        page.locator(".prediction-column").first.wait_for()
        assert page.locator(".prediction-column").count() < 4000
        page.keyboard.press("1")
        symbol(page, 3).click()
        started = page.evaluate("performance.now()")
        symbol(page, 40).click(modifiers=["Shift"])
        assert page.locator("#ranked-neurons li").count() == 12
        assert page.evaluate("performance.now()") - started < 2000


def test_a_line_of_two_hundred_thousand_characters(browser: Browser, tmp_path: Path) -> None:
    made = view("ab\u200bcd" * 40_000, hidden=2, cell="rnn", full=False)
    with open_page(browser, written(tmp_path, made), size=(700, 700)) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 700
        assert page.locator("#text .chunk > span").count() < 40_000
        assert sorted(seconds_of_switches(page))[4] < 150
        page.locator("#text-scroller").evaluate("e => { e.scrollTop = e.scrollHeight; }")
        page.wait_for_selector("#text .chunk:last-child > span")


def test_an_old_browser_is_told(browser: Browser, file: Path) -> None:
    page = browser.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(file.as_uri())
    page.locator("#message", has_text="too old for this page").wait_for()
    assert page.locator("#app").is_hidden()
    page.close()
