"""The part Write of the page of `unrolled serve`, in a browser with a real server."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import pytest

from support.cli import Cli
from support.live_server import LiveServer, open_live
from support.served_page import open_served, stream_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.xdist_group("page")  # one server for all
IDLE = "#stop[disabled]"


def shown_text(page: Page, sample: int = 1) -> str:
    """Return the text of a sample, line ends as such: a line end is shown as an arrow before it."""
    text = page.locator(f".sample:nth-child({sample}) .sample-text").evaluate("box => box.textContent")
    return str(text).replace("\u21b5\n", "\n")


def write(page: Page, **fields: object) -> None:
    """Fill fields, write, and wait until all is written."""
    for name, value in fields.items():
        page.fill(f"#{name}", str(value))
    page.click("#write-button")
    page.wait_for_selector(".token:not(.prompt) >> nth=0")
    page.wait_for_selector(IDLE)


@pytest.mark.slow
def test_it_writes_the_text_of_the_command_line(browser: Browser, page_server: LiveServer, cli: Cli) -> None:
    sample = ("--precision", "float32", "--seed", 5, "--length", 300, "--temperature", 0.7, "--prompt", "the ")
    from_cli = cli("sample", page_server.runs / "text", *sample).out
    with open_live(browser, page_server) as page:
        write(page, prompt="the ", seed=5, length=300, temperature=0.7)
        assert shown_text(page) + "\n" == from_cli
        assert re.fullmatch(r"seed 5, 300 characters, [\d,]+ a second", page.inner_text(".sample-head .number"))
        colors = page.evaluate("[...document.querySelectorAll('.token')].map((token) => token.style.backgroundColor)")
        assert len(set(colors)) > 5
        page.uncheck("#colors")
        assert set(page.evaluate("[...document.querySelectorAll('.token')].map((t) => t.style.backgroundColor)")) == {""}


@pytest.mark.slow
def test_several_samples_are_those_of_their_seeds(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server) as page:
        write(page, prompt="a ", seed=7, length=60, samples=3)
        texts = [shown_text(page, number) for number in (1, 2, 3)]
        assert len(set(texts)) == 3
        alone = [page_server.completion(prompt="a ", max_tokens=60, temperature=0.8, seed=seed) for seed in (7, 8, 9)]
        assert texts == ["a " + text for text in alone]


def test_stop_texts_and_filters_are_sent(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#write?top_k=3&top_p=0.9&min_p=0.05&stop=%5Cn&prompt=the+&length=500") as page:
        assert page.get_attribute("#more-settings", "open") == ""
        write(page)
        settings = {"top_k": 3, "top_p": 0.9, "min_p": 0.05, "stop": "\n", "temperature": 0.8}
        assert shown_text(page) == "the " + page_server.completion(prompt="the ", seed=1, max_tokens=500, **settings)
        assert page.inner_text(".sample-head .number").endswith("ended")


@pytest.mark.slow
def test_stop_fork_replace_continue_and_undo(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#write?hold=1") as page:  # the step of held units is slow enough to be stopped
        page.fill("#length", "10000")
        page.click("#write-button")
        page.wait_for_selector(".token >> nth=50")
        page.click("#stop")
        stopped = shown_text(page)
        page.wait_for_timeout(200)
        assert shown_text(page) == stopped
        assert len(stopped) < 10_000
        assert page.inner_text(".sample-head .number").endswith("stopped")
        page.uncheck("#hold")
        page.fill("#length", "40")
        page.locator(".token").nth(19).click()
        assert page.inner_text(".guess-title").startswith("Character 20: ")
        assert page.locator(".guess").count() == 5
        page.click(".fork")
        page.wait_for_selector(IDLE)
        forked = shown_text(page)
        assert forked == stopped[:20] + page_server.completion(prompt=stopped[:20], max_tokens=40, seed=2, temperature=0.8)
        page.locator(".token").nth(9).click()
        other = page.locator(".guess .code").nth(4).inner_text()
        page.locator(".guess").nth(4).click()
        page.wait_for_selector(IDLE)
        replaced = shown_text(page)
        assert replaced[:9] == stopped[:9]
        assert replaced[9] == other.replace("\u2423", " ").replace("\u21b5", "\n")
        assert len(replaced) == 50
        page.click("text=Continue")
        page.wait_for_selector(IDLE)
        assert shown_text(page).startswith(replaced)
        assert len(shown_text(page)) == 90
        for before in (replaced, forked, stopped, None):
            page.click("#undo")
            assert page.locator(".sample").count() == (before is not None)
            assert before is None or shown_text(page) == before
        assert page.is_disabled("#undo")


@pytest.mark.slow
def test_a_held_unit_changes_the_text_and_its_slider_changes_it_while_it_is_written(
    browser: Browser, page_server: LiveServer
) -> None:
    with open_live(browser, page_server, "#write?hold=1&hold_layer=1&hold_unit=2&hold_value=-1&samples=2") as page:
        write(page, prompt="the ", length=40)
        held = {"layer": 1, "unit": 2, "value": -1.0}
        text = page_server.completion(prompt="the ", max_tokens=40, seed=1, temperature=0.8, hold=held)
        assert shown_text(page) == "the " + text
        page.fill("#length", "400")
        page.click("#write-button")
        page.wait_for_selector(".token >> nth=20")
        page.locator("#hold-value").fill("1")
        page.wait_for_selector(IDLE)
        assert [len(shown_text(page, sample)) for sample in (1, 2)] == [404, 404]
        assert page.inner_text("#hold-shown") == "1.0"
        page.fill("#hold-unit", "999")
        page.click("#write-button")  # there is no such unit: the form says so
        assert len(shown_text(page)) == 404


@pytest.mark.slow
def test_settings_are_in_the_address(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#write?temperature=0.3&prompt=%3Cb%3E%C3%A9&hold=1&nothing=3&model=none") as page:
        assert page.input_value("#prompt") == "<b>\u00e9"
        assert page.input_value("#temperature") == "0.3"
        assert page.is_checked("#hold")
        assert page.input_value("#write-model") == "text"
        page.fill("#seed", "77")
        page.press("#seed", "Tab")
        assert page.evaluate("location.hash") == "#write?model=text&prompt=%3Cb%3E%C3%A9&temperature=0.3&seed=77&hold=1"
        page.reload()
        page.wait_for_selector("html[data-ready]")
        assert page.input_value("#seed") == "77"
        page.click("#tab-learn")
        assert page.evaluate("location.hash").startswith("#learn?")


@pytest.mark.slow
def test_everything_is_done_by_keyboard(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server) as page:
        page.fill("#length", "30")
        page.focus("#prompt")
        page.keyboard.type("the ")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".token >> nth=33")
        page.wait_for_selector(IDLE)
        written = shown_text(page)
        page.focus(".sample-text")
        for key in ("End", "ArrowLeft", "Home", *["ArrowRight"] * 7):
            page.keyboard.press(key)
        assert page.inner_text(".guess-title").startswith("Character 8: ")
        page.keyboard.press("Enter")
        page.wait_for_selector("text=seed 2")
        page.wait_for_selector(IDLE)
        assert shown_text(page)[:8] == written[:8]
        assert len(shown_text(page)) == 38
        page.fill("#length", "10000")
        page.press("#prompt", "Control+Enter")
        page.wait_for_selector("#stop:not([disabled])")
        page.keyboard.press("Escape")
        page.wait_for_selector(IDLE)
        page.focus("#tab-write")
        for name in ("learn", "inside", "tables", "write"):
            page.keyboard.press("ArrowRight")
            assert page.locator(":focus").get_attribute("id") == f"tab-{name}"
            assert page.get_attribute(f"#tab-{name}", "aria-selected") == "true"
            assert page.is_visible(f"#panel-{name}")


@pytest.mark.slow
def test_a_long_text_is_drawn_in_few_frames(browser: Browser, page_server: LiveServer) -> None:
    """At most 30 frames a second, however many tokens arrive."""
    with open_live(browser, page_server) as page:
        page.evaluate(
            "window.changes = 0; new MutationObserver(() => window.changes++).observe("
            "document.getElementById('sample-cards'), { childList: true, subtree: true })"
        )
        write(page, length=4000)
        seconds = page.evaluate("performance.now() / 1000")
        assert page.locator(".token").count() == 4000
        assert 0 < page.evaluate("window.changes") <= 31 * seconds + 10


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_it_fits_the_window(browser: Browser, page_server: LiveServer, width: int, dark: bool) -> None:
    with open_live(browser, page_server, size=(width, 800), dark=dark) as page:
        write(page, prompt="x" * 300, samples=2, length=200)
        page.locator(".token").nth(310).click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 16, 19)") is dark
        page.click("#theme")
        assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 16, 19)") is not dark


def test_unknown_characters_a_model_that_is_gone_and_a_broken_connection_are_reported(browser: Browser) -> None:
    model = {"kind": "text", "tokens": "characters", "layers": 1, "hidden": 4, "cell": "lstm", "parameters": 9}
    models = [{"id": name, **model} for name in ("new", "old")]
    replies: list[Any] = [stream_of({"choices": [], "unknown": "\u20ac"}, "[DONE]"), 404]
    answers = {"GET /v1/models": lambda request: {"data": models}, "POST /v1/completions": lambda request: replies.pop(0)}
    with open_served(browser, answers, "#write?model=old") as page:
        assert page.input_value("#write-model") == "old"
        page.click("#write-button")
        page.wait_for_selector(
            "#write-note:text-is('Not known to the model, which reads the nearest characters instead: \u20ac')"
        )
        page.wait_for_selector(IDLE)
        models.pop()
        page.click("#write-button")
        page.wait_for_selector("text=refused with 404")
        page.wait_for_selector("#write-model option:only-child", state="attached")
        assert page.input_value("#write-model") == "new"
        breaking = "new Response(new ReadableStream({ pull: (stream) => stream.error(new TypeError('network error')) }))"
        page.evaluate(f"window.fetch = async () => {breaking}")
        page.click("#write-button")
        page.wait_for_selector("text=The server does not answer: it was stopped, or the connection is lost.")
        page.wait_for_selector(IDLE)


@pytest.mark.parametrize(("steps", "chosen"), [((0, 5), "two"), ((0, 0), "one"), ((None, 5), "one"), ((7, 5), "one")])
def test_a_model_that_has_learned_is_chosen_first(browser: Browser, steps: tuple[int | None, int], chosen: str) -> None:
    """An imported model has no steps, and has learned elsewhere."""
    model = {"kind": "text", "tokens": "characters", "layers": 1, "hidden": 4, "cell": "lstm", "parameters": 9}
    models = [{"id": name, "steps": number, **model} for name, number in zip(("one", "two"), steps, strict=True)]
    with open_served(browser, {"GET /v1/models": {"data": models}}, "#write") as page:
        page.wait_for_selector("#write-model option >> nth=1", state="attached")
        assert page.input_value("#write-model") == chosen


def tokens_of(*texts: str) -> dict[str, Any]:
    """Return a frame with tokens, each of them two bits."""
    guesses: dict[str, Any] = {"token_logprobs": [-2 * math.log(2)] * len(texts), "top_logprobs": [{}] * len(texts)}
    return {"choices": [{"index": 0, "text": "", "logprobs": {"tokens": texts, **guesses}, "finish_reason": None}]}


@pytest.mark.slow
def test_a_text_goes_on_with_another_model_and_its_bytes_are_characters(browser: Browser) -> None:
    model = {"kind": "text", "layers": 1, "hidden": 4, "cell": "lstm", "parameters": 9}
    models = [{"id": name, "tokens": name, **model} for name in ("words", "bytes")]
    replies = [tokens_of("the", " sun"), tokens_of("\\xe6", "\\x97", "\\xa5", "!")]
    answers = {
        "GET /v1/models": {"data": models}, "POST /api/state": {"state": "s"},
        "POST /v1/completions": lambda request: stream_of(replies.pop(0), "[DONE]"),
    }  # fmt: skip
    with open_served(browser, answers) as page:
        page.click("#write-button")
        page.wait_for_selector(IDLE)
        page.wait_for_selector(".token")
        assert shown_text(page) == "the sun"
        page.hover(".token >> nth=1")
        assert page.inner_text(".guess-title").startswith("Token 2:")
        page.select_option("#write-model", "bytes")
        page.click("text=Continue")
        page.wait_for_selector(".token >> nth=3")
        assert shown_text(page) == "the sun\u65e5!"
        page.hover(".token >> nth=2")
        assert page.inner_text(".guess-title") == "Character 3: \u65e5, 6.00 bits"


@pytest.mark.slow
def test_a_long_prompt_is_a_few_elements_and_the_next_seed_is_another_text(browser: Browser, page_server: LiveServer) -> None:
    prompt = "the fox sleeps. " * 2000
    with open_live(browser, page_server) as page:
        assert page.is_visible("#write-hint")
        page.evaluate("text => { document.getElementById('prompt').value = text; }", prompt)
        write(page, length=20, seed=4)
        assert not page.is_visible("#write-hint")
        assert page.locator(".token.prompt").count() == 2001
        first = page_server.completion(prompt=prompt, max_tokens=20, temperature=0.8, seed=4)
        assert shown_text(page)[-20:] == first
        page.click("#next-seed")
        page.wait_for_selector(".sample-head:has-text('seed 5, 20 characters')")
        page.wait_for_selector(IDLE)
        assert shown_text(page)[-20:] == page_server.completion(prompt=prompt, max_tokens=20, temperature=0.8, seed=5) != first
        assert "seed=5" in page.evaluate("location.hash")
