"""A model of series as one HTML page that works offline: rows are pasted or opened, predicted, drawn, and written as a table.

The page computes with `static/series_predictor/predictor.js`, and replays test vectors when it opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unrolled.tables import date_formats, step_times
from unrolled.tables.date_formats import DateFormat
from unrolled.tables.scaling import Scaling
from unrolled.views.html_page import WASM_POLICY, render_page
from unrolled.views.report import to_json_value

STYLES = ("shared/page.css", "report/drawings.css", "report/report.css", "shared/form_page.css")
SCRIPT = "series_predictor/main.js"
BODY = "series_predictor/series_predictor.html"


def series_predictor_page(data: Mapping[str, Any]) -> str:
    """Return the page. `data` has `title`, `subtitle`, the `model`, the columns of the `table`, and what its scripts
    (`static/series_predictor/main.js`) need else."""
    return render_page(str(data["title"]), STYLES, SCRIPT, to_json_value(data), BODY, WASM_POLICY)


def scaling_data(scaling: Scaling) -> dict[str, Any]:
    """Return a scaling as JSON values, None for a limit that is infinite."""
    names = ("center", "spread", "low", "high")
    return {name: to_json_value(getattr(scaling, name)) for name in names}


def date_rules() -> dict[str, Any]:
    """Return how dates are read and continued, for `static/series_predictor/times.js`: patterns as JavaScript has them."""
    iso, *others = map(_in_javascript, date_formats.DATE_FORMATS)
    return {
        "iso": iso,
        "patterns": others,
        "sure": [{"pattern": _in_javascript(format), "epochDigits": format.num_digits} for format in date_formats.SURE_DIGITS],
        "likely": list(map(_in_javascript, date_formats.LIKELY_DIGITS)),
        "weekdays": list(date_formats.WEEKDAYS),
        "monthNames": list(date_formats.MONTH_NAMES),
        "zones": date_formats.ZONES,
        "centuryPivot": date_formats.CENTURY_PIVOT,
        "minOrderedTimes": step_times.MIN_ORDERED_TIMES,
        "minSpanRatio": step_times.MIN_SPAN_RATIO,
        "maxComparedTimes": step_times.MAX_COMPARED_TIMES,
        "minUsualShare": step_times.MIN_USUAL_SHARE,
    }


def _in_javascript(format: DateFormat) -> str:
    return format.pattern.replace("(?P<", "(?<").replace("(?P=separator)", r"\k<separator>")
