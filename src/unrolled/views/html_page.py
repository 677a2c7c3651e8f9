"""Self-contained pages: one HTML file with its styles, its script and its data inside.

Such a page can be opened from a mail attachment and loads nothing from the network; its content security policy forbids it.
A text that a model has read may be malicious: it is embedded as JSON in which no character can end the element around it,
and the scripts put it on the page as text only. The files are in `static`; `js_linker` links the scripts into one.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.views.js_linker import link

STATIC = Path(__file__).parent / "static"
ZLIB_LEVEL = 6  # level 9 makes a page 1% smaller and takes three times as long
SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
WASM_POLICY = SECURITY_POLICY.replace("script-src", "script-src 'wasm-unsafe-eval'")
"""Permits WebAssembly, not the evaluation of strings as scripts."""

PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<noscript>
<p class="message">This page needs JavaScript, which is switched off. It loads nothing from the network.</p>
</noscript>
{body}<script type="application/json" id="data">{data}</script>
<script type="module">
{script}</script>
</body>
</html>
"""
HEADER_MARK = "  <!-- page_header.html -->\n"
"""Where the body of a page has the common header: title, subtitle, and the button of the theme."""

SCRIPT_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
SURROGATE = re.compile("[\ud800-\udfff]")


def render_page(
    title: str, styles: Sequence[str], script: str, data: Mapping[str, Any], body: str, policy: str = SECURITY_POLICY
) -> str:
    """Return a whole page as HTML.

    Args:
        title: The text of the browser's tab.
        styles: Paths of style sheets in `static`, in order.
        script: Path of the JavaScript module in `static` that starts the page; the modules that it imports are added.
        data: JSON values for the scripts, without NaN; they read them from the element `data`.
        body: Path of the HTML file in `static` that is the body.
        policy: The content security policy.
    """
    parts = {
        "policy": policy,
        "title": html.escape(SURROGATE.sub("\ufffd", title)),
        "style": "".join(_read(path) for path in styles),
        "body": _read(body).replace(HEADER_MARK, _read("shared/page_header.html")),
        "data": to_script_json(data),
        "script": link(STATIC, script),
    }
    return PAGE_TEMPLATE.format(**parts)


def _read(path: str) -> str:
    return (STATIC / path).read_text("utf-8")


def to_script_json(data: Any) -> str:
    """Return JSON that can stand in a script element: pure ASCII, without any character that means something in HTML."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(SCRIPT_ESCAPES)


def pack_array(array: NDArray[Any]) -> str:
    """Return the numbers of an array as base64 of their deflated bytes (zlib), the lowest byte of a number first."""
    little_endian = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little_endian.tobytes(), ZLIB_LEVEL)).decode("ascii")
