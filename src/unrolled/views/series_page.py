"""Series with what was predicted for them, as one self-contained HTML page."""

from __future__ import annotations

from typing import Any

from unrolled.views.html_page import render_page
from unrolled.views.report import to_json_value

STYLES = ("shared/page.css", "report/drawings.css", "report/report.css", "series/series.css")
SCRIPT = "series/main.js"
BODY = "series/series.html"


def series_page(data: dict[str, Any]) -> str:
    """Return the page. `data` has `title`, `subtitle`, `series`, which `report/series.js` describes, a `note`, and in `neurons`
    the name of the page of the hidden units, or None."""
    return render_page(f"{data['title']} - series", STYLES, SCRIPT, to_json_value(data), BODY)
