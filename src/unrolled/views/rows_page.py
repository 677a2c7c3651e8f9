"""Rows of a table with their answers and what moved them, as one self-contained HTML page."""

from __future__ import annotations

from typing import Any

from unrolled.views.html_page import render_page
from unrolled.views.report import to_json_value

STYLES = ("shared/page.css", "report/drawings.css", "report/report.css", "rows/rows.css")
SCRIPT = "rows/main.js"
BODY = "rows/rows.html"


def rows_page(data: dict[str, Any]) -> str:
    """Return the page. `data` has `title`, `subtitle`, `unit` of the effects, `is_number`, `rows`, and in `neurons` the name of
    the page of the hidden units, or None."""
    return render_page(f"{data['title']} - rows", STYLES, SCRIPT, to_json_value(data), BODY)
