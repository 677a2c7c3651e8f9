"""A scored text as a page: its lines coloured by surprise, and the most surprising of them first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unrolled.inference.lines import Line, Totals
from unrolled.views.page import page

STYLES = ("page.css", "heat.css")
SCRIPTS = ("page.js", "heat.js")


def heat_page(title: str, names: Sequence[str], totals: Totals, lines: Sequence[Line], top: Sequence[Line]) -> str:
    """Return the page of a text: `lines` are those it begins with, `top` the most surprising of all.

    `names` are what the models are called; colours are the first one's.
    """
    data = {
        "title": title,
        "models": [
            {"name": name, "bits": totals.bits_per_character(index), "best": totals.best[index]}
            for index, name in enumerate(names)
        ],
        "characters": totals.characters,
        "unknown": totals.unknown,
        "count": totals.lines,
        "lines": [_line(line) for line in lines],
        "top": [_line(line) for line in top],
    }
    return page(f"{title} - how surprising", STYLES, SCRIPTS, data, "heat.html")


def _line(line: Line) -> dict[str, Any]:
    """Return a line; bits of characters are in hundredths, -1 where there are none."""
    shown, bits = line.shown()
    return {
        "number": line.number,
        "text": shown,
        "cut": line.is_cut,
        "bits": [-1 if math.isnan(own) else round(100 * own) for own in bits.tolist()],
        "means": [bits / max(1, line.symbols) for bits in line.bits],
    }
