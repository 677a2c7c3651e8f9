"""Pages that need nothing but themselves: one HTML file, with its style, its script and its numbers inside.

Such a page opens from a mail attachment and asks no network for anything; its content security policy says so to the
browser. What a model has read may be hostile: it travels as JSON in which no character can end the element around it,
and the scripts put it on the page as text only.
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

FOLDER = Path(__file__).parent
LEVEL = 6  # 9 makes a page 1% smaller in three times the time
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)
SKELETON = """<!doctype html>
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
{body}<script type="application/json" id="data">{data}</script>
<script type="module">
{script}</script>
</body>
</html>
"""
ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
SURROGATE = re.compile("[\ud800-\udfff]")


def page(title: str, style_names: Sequence[str], script_names: Sequence[str], data: Mapping[str, Any], body_name: str) -> str:
    """Return a whole page as HTML.

    Args:
        title: The text of the browser's tab.
        style_names: Style sheets of this folder, in order.
        script_names: Scripts of this folder, in order. They become one module: a later one sees the names of an earlier.
        data: What the scripts read from the element `data`; anything that JSON can have, and no NaN.
        body_name: The HTML file of this folder that is the body.
    """
    parts = {
        "policy": POLICY,
        "title": html.escape(SURROGATE.sub("\ufffd", title)),
        "style": joined(style_names),
        "body": joined([body_name]),
        "data": embedded(data),
        "script": joined(script_names),
    }
    return SKELETON.format(**parts)


def joined(names: Sequence[str]) -> str:
    """Return the text of files of this folder, one after another."""
    return "".join((FOLDER / name).read_text("utf-8") for name in names)


def embedded(data: Any) -> str:
    """Return JSON that can stand in a script element: pure ASCII, without any character that means something in HTML."""
    return json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).translate(ESCAPES)


def pack(array: NDArray[Any]) -> str:
    """Return the numbers of an array as base64 of their deflated bytes (zlib), the lowest byte of a number first."""
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(little.tobytes(), LEVEL)).decode("ascii")
