"""A real browser for the pages that the package writes: headless Chromium, with no network to ask."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
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
def open_address(
    browser: Browser, address: str, own: tuple[str, ...], size: tuple[int, int], dark: bool, ready: str
) -> Iterator[Page]:
    """Open a page; when done, refuse anything that it said on the console or asked of a network.

    Args:
        address: The address, with a "#" before its fragment.
        own: Beginnings of the addresses that it may ask for.
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
    page.on("request", lambda request: None if request.url.startswith(own) else told.append(request.url))
    page.goto(address)
    page.wait_for_selector(ready, timeout=20_000)
    yield page
    context.close()
    assert not told, told


def open_page(
    browser: Browser,
    path: Path,
    at: str = "",
    size: tuple[int, int] = (1400, 900),
    dark: bool = False,
    ready: str = "#text .chunk span",
) -> AbstractContextManager[Page]:
    """Open a page file as `open_address` does; `at` is the fragment of the address, with its "#"."""
    return open_address(browser, path.as_uri() + at, (path.as_uri(), "data:", "blob:"), size, dark, ready)
