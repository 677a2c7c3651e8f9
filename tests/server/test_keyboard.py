"""A whole visit to the page of `unrolled serve` by the keyboard only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.live_server import LiveServer, open_live

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.xdist_group("page"), pytest.mark.slow]  # one server for all

MAX_STOPS = 60
FOCUSED = """() => {
  const at = document.activeElement;
  const [box, style] = [at.getBoundingClientRect(), getComputedStyle(at)];
  const isSeen = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.left >= 0 && box.right <= innerWidth;
  return [at.outerHTML.slice(0, 80), isSeen, parseFloat(style.outlineWidth) >= 2 && style.outlineStyle !== "none"];
}"""
"""What has the focus, whether it is in the window, and whether its focus is drawn."""


def go_to(page: Page, selector: str, key: str = "Tab") -> None:
    """Press Tab, or another key, until an element has the focus; every stop on the way is seen, and shows its focus."""
    for _ in range(MAX_STOPS):
        page.keyboard.press(key)
        name, is_seen, has_outline = page.evaluate(FOCUSED)
        assert name.startswith("<body") or (is_seen and has_outline), name
        if has_focus(page, selector):
            return
    raise AssertionError(f"{selector} is not reached by {key}")


def has_focus(page: Page, selector: str) -> bool:
    return bool(page.evaluate(f"document.activeElement.matches({json.dumps(selector)})"))


def to_tab(page: Page, name: str, key: str) -> None:
    """Go back to the row of parts, and press a key there, which opens a part."""
    go_to(page, "[role=tab]", "Shift+Tab")
    page.keyboard.press(key)
    assert has_focus(page, f"#tab-{name}")
    page.wait_for_selector(f"#panel-{name}[data-ready]:not([hidden])")


def test_texts_are_written_stopped_and_continued(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server, "#write?hold=1") as page:  # the step of held units is slow enough to be stopped
        go_to(page, "#tab-write")
        go_to(page, "#prompt")
        page.keyboard.type("the ")
        go_to(page, "#length")
        page.keyboard.type("10000")
        go_to(page, "#prompt", "Shift+Tab")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".sample-text[aria-busy=true] .token >> nth=20")
        go_to(page, "#stop")
        page.keyboard.press("Enter")  # which switches the button off
        page.wait_for_selector(".sample-head:has-text('stopped')")
        assert has_focus(page, "#write-button")
        page.keyboard.press("Enter")
        page.wait_for_selector(".sample-text[aria-busy=true] .token >> nth=20")
        page.keyboard.press("Escape")
        page.wait_for_selector(".sample-head:has-text('stopped')")
        go_to(page, "#length", "Shift+Tab")
        page.keyboard.type("30")
        go_to(page, ".sample-text")
        for _ in range(6):
            page.keyboard.press("ArrowRight")
        assert page.inner_text(".guess-title").startswith("Character 6: ")
        go_to(page, ".guess")
        page.keyboard.press("Enter")
        assert has_focus(page, ".sample-text")
        page.wait_for_selector(".sample-text[aria-busy=false]")
        assert page.locator(".token").count() == 6 + 30
        page.keyboard.press("End")
        assert page.inner_text(".guess-title").startswith("Character 36: ")
        page.keyboard.press("Escape")
        assert page.inner_text("#guess-panel").startswith("Point at a character")
        go_to(page, "#hold", "Shift+Tab")
        page.keyboard.press("Space")
        assert not page.is_checked("#hold")
        page.keyboard.press("Space")
        go_to(page, "#hold-value")
        page.keyboard.press("ArrowLeft")
        assert page.inner_text("#hold-shown") == "0.9"
        go_to(page, "#more-settings summary")
        page.keyboard.press("Enter")
        go_to(page, "#top-k")


def test_all_parts_are_visited(browser: Browser, page_server: LiveServer) -> None:
    with open_live(browser, page_server) as page:
        go_to(page, "#tab-write")
        page.keyboard.press("End")
        assert has_focus(page, "#tab-tables")
        page.keyboard.press("ArrowRight")
        assert has_focus(page, "#tab-write")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("[data-run=text]")
        go_to(page, "#train-details summary")
        go_to(page, "#train-is-table")
        go_to(page, "#run-filter")
        go_to(page, "[data-run=text] .run-name button")
        page.keyboard.press("Enter")
        page.wait_for_selector("[data-run=text] .run-sample")
        go_to(page, "[data-run=text] .run-sample")
        go_to(page, "[data-run=text] a", "Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#panel-write:not([hidden])")
        assert page.input_value("#write-model") == "text"
        to_tab(page, "learn", "ArrowRight")
        page.keyboard.press("ArrowRight")
        page.wait_for_selector("#panel-inside[data-ready]")
        go_to(page, "#inside-text")
        page.keyboard.type("the fox")
        go_to(page, "#inside-button")
        page.keyboard.press("Enter")
        page.wait_for_selector(".view .token >> nth=6")
        go_to(page, ".token-text")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#inside-detail .guess-title").startswith("Character 1: t")
        to_tab(page, "tables", "End")
        page.wait_for_selector("#table-fields textarea")
        go_to(page, "#table-example")
        page.keyboard.press("Enter")
        go_to(page, "#table-button", "Shift+Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#answer ruby", timeout=60_000)
        go_to(page, "#theme", "Shift+Tab")
        page.keyboard.press("Space")
        assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_key_is_asked_for_and_refused(browser: Browser, page_server: LiveServer) -> None:
    """Escape leaves the dialog as Cancel does, also after a key that was given before."""
    with open_live(browser, page_server) as page:
        page.evaluate("import('/static/api.js').then(({ request }) => { window.ask = () => request('/v1/models'); })")
        page.evaluate("sessionStorage.clear()")
        page.evaluate("""() => {
          const real = window.fetch;
          window.keys = [];
          window.fetch = (path, options) => {
            window.keys.push(options.headers.Authorization ?? null);
            return Promise.resolve(new Response('{"error": {"message": "A key is needed."}}', { status: 401 }));
          };
          window.asked = window.ask().catch((error) => error.message);
        }""")
        page.wait_for_selector("#key-dialog[open]")
        assert has_focus(page, "#key")
        page.keyboard.type("first")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.type("second")
        page.keyboard.press("Escape")
        assert page.evaluate("window.asked") == "A key is needed."
        assert page.evaluate("window.keys") == [None, "Bearer first"]
