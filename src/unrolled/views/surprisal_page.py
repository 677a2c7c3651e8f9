"""A scored text as a page: its lines coloured by surprise, and the most surprising of them first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from unrolled.evaluation.line_surprisal import ScoredLine, ScoreTotals
from unrolled.views.html_page import render_page

STYLES = ("shared/page.css", "surprisal/surprisal.css")
SCRIPT = "surprisal/main.js"
BODY = "surprisal/surprisal.html"


def surprisal_page(
    title: str,
    model_names: Sequence[str],
    totals: ScoreTotals,
    first_lines: Sequence[ScoredLine],
    top_lines: Sequence[ScoredLine],
) -> str:
    """Return the page of a text: `lines` are those it begins with, `top` the most surprising of all.

    `names` are what the models are called; colours are the first one's.
    """
    data = {
        "title": title,
        "models": [
            {"name": name, "bits": totals.bits_per_character(index), "linesPredictedBest": totals.best_lines[index]}
            for index, name in enumerate(model_names)
        ],
        "characterCount": totals.num_chars,
        "unknownCount": totals.num_unknown,
        "lineCount": totals.num_lines,
        "lines": [_line_dict(line) for line in first_lines],
        "topLines": [_line_dict(line) for line in top_lines],
    }
    return render_page(f"{title} - how surprising", STYLES, SCRIPT, data, BODY)


def _line_dict(line: ScoredLine) -> dict[str, Any]:
    """Return a line; bits of characters are in hundredths, -1 where there are none."""
    chars, char_bit_array = line.chars_and_bits()
    return {
        "number": line.number,
        "characters": chars,
        "shortened": line.is_truncated,
        "bits": [-1 if math.isnan(char_bits) else round(100 * char_bits) for char_bits in char_bit_array.tolist()],
        "meanBits": [char_bit_array / max(1, line.num_tokens) for char_bit_array in line.bits],
    }
