"""A scored text as an HTML page: the lines with the highest surprisal and the first lines, colored by surprisal."""

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
    """Return the page of a text: `first_lines` are its first lines, `top_lines` those with the highest excess surprisal.

    The colors are those of the first model.
    """
    data = {
        "title": title,
        "models": [
            {
                "name": name,
                "bits": totals.bits_per_character(index) if totals.num_chars else None,
                "linesPredictedBest": totals.best_lines[index],
            }
            for index, name in enumerate(model_names)
        ],
        "characterCount": totals.num_chars,
        "unknownCount": totals.num_unknown,
        "lineCount": totals.num_lines,
        "lines": [_line_dict(line) for line in first_lines],
        "topLines": [_line_dict(line) for line in top_lines],
    }
    return render_page(f"{title} - surprisal", STYLES, SCRIPT, data, BODY)


def _line_dict(line: ScoredLine) -> dict[str, Any]:
    """Return a line as JSON values; the bits of characters are in hundredths, -1 for a character without context."""
    chars, bits = line.source_and_bits()
    return {
        "number": line.number,
        "place": None if line.file is None else line.place,
        "characters": chars,
        "shortened": line.is_truncated,
        "excess": line.excess_surprisal,
        "bits": [-1 if math.isnan(char_bits) else round(100 * char_bits) for char_bits in bits.tolist()],
        "meanBits": [model_bits / max(1, line.num_tokens) for model_bits in line.bits],
    }
