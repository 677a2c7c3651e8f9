"""The exported page, in a browser: it computes the same bits, writes the command line's text, and is usable by keyboard."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.cli import Cli
from support.pages import open_page
from support.text_networks import saved_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

READY = "#verified[data-ready]"
SAME_BITS = "This browser computes the same bits as the model"


@pytest.fixture
def model_and_page(tmp_path: Path, cli: Cli) -> tuple[Path, Path]:
    path = saved_model(tmp_path / "m.safetensors", "lstm")
    assert cli("export", path, "--to", "html", "--out", "m.html").code == 0
    return path, Path("m.html").resolve()


def shown_text(page: Page) -> str:
    """Return the text of the page, line ends as such: a line end is shown as an arrow before it."""
    return str(page.evaluate("document.getElementById('text').textContent")).replace("\u21b5\n", "\n")


def write(page: Page, prompt: str, length: int, temperature: float = 0.8, seed: int = 1) -> None:
    for name, value in (("prompt", prompt), ("length", length), ("temperature", temperature), ("seed", seed)):
        page.fill(f"#{name}", str(value))
    page.press("#seed", "Enter")
    page.wait_for_selector("#stop[disabled]")  # the policy of the page forbids functions that playwright would evaluate


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "form", "read", "note"),
    [
        ("gru-reset-before", "none", "a\u00e9efi ", "\u25cc\u0301 left out; \ufb01 read as fi; \u201c read as \u2423."),
        ("lstm", "nfc", "a\u00e9\u00e9fi ", "\ufb01 read as fi; \u201c read as \u2423."),
    ],
)
def test_the_page_writes_the_text_of_the_command_line(
    tmp_path: Path, cli: Cli, browser: Browser, cell: str, form: str, read: str, note: str
) -> None:
    path = saved_model(tmp_path / "m.safetensors", cell, "plain", has_eos=False, normalization=form)
    assert cli("export", path, "--to", "html", "--out", "m.html").code == 0
    unknown = "A\u00c9e\u0301\ufb01\u201c"
    with open_page(browser, Path("m.html").resolve(), ready=READY) as page:
        assert SAME_BITS in page.inner_text("#verified")
        assert page.get_attribute("#verified", "data-products") == "wasm"  # the policy of the page permits it
        prompts = (
            ("abc \u65e5", "abc \u65e5", 0.7, 12),
            (unknown, read, 0.5, 7),
            ("", "", 1.0, 2**53 - 1),
            ("a", "a", 1e-40, 1),
        )
        for prompt, shown, temperature, seed in prompts:
            write(page, prompt, 150, temperature, seed)
            options = ["--length", 150, "--temperature", temperature, "--seed", seed, "--prompt", prompt]
            drawn = cli("sample", path, "--portable", *options).out.removeprefix(prompt)
            assert shown_text(page) + "\n" == shown + drawn
            summary = page.inner_text("#summary")
            assert summary == (
                f"Not known to the model: A read as a; \u00c9 read as \u00e9; {note}" if prompt == unknown else ""
            )


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_it_fits_the_window(model_and_page: tuple[Path, Path], browser: Browser, width: int, dark: bool) -> None:
    with open_page(browser, model_and_page[1], size=(width, 800), dark=dark, ready=READY) as page:
        write(page, "abc def", 400)
        page.check("#guesses")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.getElementById('text').getBoundingClientRect().top") < 500  # scrolled to, on a phone
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (background == "rgb(14, 16, 19)") is dark


@pytest.mark.slow
def test_scores_are_those_of_the_command_line(model_and_page: tuple[Path, Path], cli: Cli, browser: Browser) -> None:
    path, page_path = model_and_page
    text = "abc def ghi j\u00e9k"
    Path("t.txt").write_text(text, "utf-8")
    with open_page(browser, page_path, ready=READY) as page:
        page.fill("#pasted", text + "XYZ")
        page.click("#score button")
        page.wait_for_selector("#summary:has-text('bits per token')")
        summary = page.inner_text("#summary")
        assert "Not known to the model: X Y Z left out." in summary
        mean = float(summary.split(". ")[1].split(" ")[0])
    document = json.loads(cli("score", path, "t.txt", "--portable", "--per", "character", "--json").out)
    assert mean == pytest.approx(sum(token["bits"] for token in document["tokens"]) / len(text), abs=6e-4)


@pytest.mark.slow
def test_a_held_unit_changes_what_is_written_and_scored(model_and_page: tuple[Path, Path], cli: Cli, browser: Browser) -> None:
    path, page_path = model_and_page
    with open_page(browser, page_path, ready=READY) as page:
        page.fill("#layer", "1")
        page.fill("#unit", "3")
        page.fill("#value", "-1")
        page.check("#hold")
        write(page, "abc", 60, 1.0, 4)
        page.wait_for_selector("#held:not([hidden])")
        held = page.evaluate("document.getElementById('held-text').textContent")
        clamped = cli("sample", path, "--portable", "--length", 60, "--seed", 4, "--prompt", "abc", "--clamp", "1.3=-1").out
        assert held + "\n" == clamped
        assert held != shown_text(page)
        page.fill("#pasted", "abcdef abc")
        page.press("#score button", "Enter")
        page.wait_for_selector("#summary:has-text('With the unit held')")
        page.select_option("#color", "change")
        colors = page.evaluate("[...document.querySelectorAll('#text .character')].map((c) => c.style.backgroundColor)")
        assert len(set(colors)) > 3
        page.locator("#text .character").nth(4).click()
        assert re.fullmatch(r"Character 5: e, [\d.]+ bits \([+-]\d\.\d\d with the unit held\)", page.inner_text("#detail h2"))


@pytest.mark.slow
def test_keyboard_guesses_and_stop(tmp_path: Path, cli: Cli, browser: Browser) -> None:
    path = saved_model(tmp_path / "m.safetensors", "gru", has_eos=False)
    assert cli("export", path, "--to", "html", "--out", "m.html").code == 0
    with open_page(browser, Path("m.html").resolve(), ready=READY) as page:
        write(page, "abc def", 40)
        page.focus("#text")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#detail h2").startswith("Character 2: b")
        assert page.locator("#detail tr").count() == 5
        shares = [float(text.strip().rstrip("%")) for text in page.locator("#detail .number").all_inner_texts()]
        assert shares == sorted(shares, reverse=True)
        page.keyboard.press("End")
        assert page.locator("#text .current").count() == 1
        page.check("#guesses")
        assert page.locator("#text .character").nth(2).locator(".guess").count() == 5
        page.select_option("#color", "unit")
        assert "above 0" in page.inner_text("#legend")
        for prompt in ("abc", "ab" * 50_000):  # stopped while it writes, and while it reads
            page.set_checked("#guesses", prompt == "abc")
            page.fill("#prompt", prompt)
            page.fill("#length", "100000")
            page.click("#write-button")
            page.click("#stop")
            count = page.locator("#text .character").count()
            page.wait_for_timeout(100)
            assert page.locator("#text .character").count() == count < 100_000


@pytest.mark.slow
def test_a_browser_that_computes_something_else_says_so(model_and_page: tuple[Path, Path], browser: Browser) -> None:
    wrong = Path("wrong.html").resolve()
    source = model_and_page[1].read_text("utf-8")
    gate = "f(f(0.5 * t) + 0.5)"
    assert source.count(gate) == 1
    wrong.write_text(source.replace(gate, "f(f(0.5 * t) + 0.5000001)"), "utf-8")
    with open_page(browser, wrong, ready=READY) as page:
        assert "This browser computes something else than the model (logits or state at step" in page.inner_text("#verified")


COPIED = """() => {
  const [text, data] = [document.getElementById("text"), new DataTransfer()];
  getSelection().selectAllChildren(text);
  text.dispatchEvent(new ClipboardEvent("copy", { clipboardData: data, bubbles: true, cancelable: true }));
  return data.getData("text/plain");
}"""


@pytest.mark.slow
def test_characters_of_several_bytes_are_shown_and_copied(tmp_path: Path, cli: Cli, browser: Browser) -> None:
    prompt = "Stra\u00dfe \u6625\n\n\U0001f600\n"
    path = saved_model(tmp_path / "m.safetensors", "gru", is_bytes=True, has_eos=False)
    assert cli("export", path, "--to", "html", "--out", "m.html").code == 0
    with open_page(browser, Path("m.html").resolve(), ready=READY) as page:
        write(page, prompt, 40)
        assert shown_text(page).startswith(prompt)
        copied = str(page.evaluate(COPIED))  # without the arrows at line ends; bytes that are no character as U+FFFD
        assert copied.startswith(prompt)
        assert "\u21b5" not in copied
        assert len(prompt) < len(copied) <= len(prompt) + 40
        assert page.locator("#text .part").count() >= 1 + 2 + 3
        page.click("#text .part >> nth=0")
        assert page.inner_text("#detail h2").startswith("Byte 5: \\xc3, ")
