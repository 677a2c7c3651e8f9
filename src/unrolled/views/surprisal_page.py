"""A scored text as a page: its lines coloured by surprise, and the most surprising of them first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unrolled.evaluation.line_surprisal import Line, Totals
from unrolled.views.html_page import page

STYLES = ("shared/page.css", "surprisal/surprisal.css")
SCRIPT = "surprisal/main.js"
BODY = "surprisal/surprisal.html"


def heat_page(title: str, names: Sequence[str], totals: Totals, lines: Sequence[Line], top: Sequence[Line]) -> str:
    """Return the page of a text: `lines` are those it begins with, `top` the most surprising of all.

    `names` are what the models are called; colours are the first one's.
    """
    data = {
        "title": title,
        "models": [
            {"name": name, "bits": totals.bits_per_character(index), "linesPredictedBest": totals.best[index]}
            for index, name in enumerate(names)
        ],
        "characterCount": totals.characters,
        "unknownCount": totals.unknown,
        "lineCount": totals.lines,
        "lines": [_line(line) for line in lines],
        "topLines": [_line(line) for line in top],
    }
    return page(f"{title} - how surprising", STYLES, SCRIPT, data, BODY)


def _line(line: Line) -> dict[str, Any]:
    """Return a line; bits of characters are in hundredths, -1 where there are none."""
    shown, bits = line.shown()
    return {
        "number": line.number,
        "characters": shown,
        "shortened": line.is_cut,
        "bits": [-1 if math.isnan(own) else round(100 * own) for own in bits.tolist()],
        "meanBits": [bits / max(1, line.symbols) for bits in line.bits],
    }
