"""A real browser for the pages that the package writes: headless Chromium, with no network to ask."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

NAMES = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def skip_or_fail(what: str) -> None:
    """Skip with the reason; fail where the browser has to be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: pages must be tested here")
    pytest.skip(what)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, started once."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed")
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        skip_or_fail("there is no Chromium")
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@contextmanager
def open_page(
    browser: Browser,
    path: Path,
    at: str = "",
    size: tuple[int, int] = (1400, 900),
    dark: bool = False,
    ready: str = "#text .chunk span",
) -> Iterator[Page]:
    """Open a page file; when done, refuse anything that it said on the console or asked of a network.

    Args:
        at: The fragment of the address, with its "#".
        size: Width and height of the window.
        dark: Whether the reader's system is dark.
        ready: What is there once the page has drawn itself.
    """
    told: list[str] = []
    viewport: ViewportSize = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    page.on("request", lambda request: told.append(request.url))
    page.goto(path.as_uri() + at)
    page.wait_for_selector(ready, timeout=20_000)
    yield page
    context.close()
    rest = [line for line in told if line != path.as_uri() and not line.startswith(("data:", "blob:"))]
    assert not rest, rest
