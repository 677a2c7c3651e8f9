"""Styles of pages: every variable that they use is defined, or set by a script."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import unrolled.server
from unrolled.views import explorer, report, rows_page, series_page, surprisal_page, writer_page
from unrolled.views.html_page import STATIC

SERVER_STATIC = Path(unrolled.server.__file__).parent / "static"
SERVER_STYLES = re.findall(r'<link rel="stylesheet" href="/static/([^"]+)">', (SERVER_STATIC / "index.html").read_text("utf-8"))
PAGES = {
    **{page.__name__: page.STYLES for page in (explorer, report, rows_page, series_page, surprisal_page, writer_page)},
    "server": tuple(SERVER_STYLES),
}


@pytest.mark.parametrize("page", PAGES)
def test_variables_are_defined(page: str) -> None:
    assert PAGES[page]
    files = [STATIC / name if (STATIC / name).is_file() else SERVER_STATIC / name for name in PAGES[page]]
    styles = "".join(file.read_text("utf-8") for file in files)
    scripts = "".join(file.read_text("utf-8") for folder in (STATIC, SERVER_STATIC) for file in folder.rglob("*.js"))
    defined = set(re.findall(r"(--[\w-]+)\s*:", styles)) | set(re.findall(r'setProperty\(\s*"(--[\w-]+)"', scripts))
    assert set(re.findall(r"var\((--[\w-]+)\s*\)", styles)) <= defined
