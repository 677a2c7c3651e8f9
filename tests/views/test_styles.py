"""Styles of pages: every variable that they use is defined, and texts are shown in the direction of their script."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import unrolled.server
from unrolled.views.html_page import STATIC

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SERVER_STATIC = Path(unrolled.server.__file__).parent / "static"
SERVER_STYLES = re.findall(r'<link rel="stylesheet" href="/static/([^"]+)">', (SERVER_STATIC / "index.html").read_text("utf-8"))
MODULES_OF_PAGES = tuple(
    f"unrolled.views.{name}"
    for name in (
        "explorer", "report", "rows_page", "series_page", "series_predictor_page", "surprisal_page", "text_classifier_page",
        "writer_page",
    )
)  # fmt: skip
PAGES = {**{name: importlib.import_module(name).STYLES for name in MODULES_OF_PAGES}, "server": tuple(SERVER_STYLES)}


def styles_of(page: str) -> str:
    """Return all styles of a page."""
    files = [STATIC / name if (STATIC / name).is_file() else SERVER_STATIC / name for name in PAGES[page]]
    return "".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_defined(page: str) -> None:
    assert PAGES[page]
    styles = styles_of(page)
    scripts = "".join(file.read_text("utf-8") for folder in (STATIC, SERVER_STATIC) for file in folder.rglob("*.js"))
    defined = set(re.findall(r"(--[\w-]+)\s*:", styles)) | set(re.findall(r'setProperty\(\s*"(--[\w-]+)"', scripts))
    assert set(re.findall(r"var\((--[\w-]+)\s*\)", styles)) <= defined


TEXTS = {
    "server": '<div class="sample-text">{}</div>|token',
    "unrolled.views.explorer": '<div class="text"><div class="chunk">{}</div></div>|',
    "unrolled.views.report": '<div class="colored-text">{}</div>|',
    "unrolled.views.surprisal_page": '<div class="lines"><code>{}</code></div>|character',
    "unrolled.views.text_classifier_page": '<p class="parts code">{}</p>|part',
    "unrolled.views.writer_page": '<div id="text">{}</div>|character',
}
"""The element of a text that is shown token by token, and the class of a token, by page."""


@pytest.mark.parametrize("page", TEXTS)
def test_hebrew_is_read_from_the_right(browser: Browser, page: str) -> None:
    """Tokens that are isolated from each other would stand in the order of Latin letters, the first one at the left."""
    box, _, name = TEXTS[page].partition("|")
    tokens = "".join(f'<span class="{name}">{token}</span>' for token in "\u05e9\u05dc\u05d5\u05dd 12")
    tab = browser.new_page()
    tab.set_content(f"<!doctype html><style>{styles_of(page)}</style>{box.format(tokens)}")
    places = tab.evaluate("[...document.querySelectorAll('span')].map(token => token.getBoundingClientRect().x)")
    tab.close()
    assert places[:5] == sorted(places[:5], reverse=True)
    assert places[5] < places[6] < places[4]  # a number in it
