"""The report of a training run as one self-contained HTML page.

The samples in the order of training are from Karpathy's post (The Unreasonable Effectiveness of Recurrent Neural
Networks, 2015); the plots of gate saturation and of the loss by class of token are from Karpathy, Johnson and Fei-Fei
(Visualizing and Understanding Recurrent Networks, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from unrolled.views.html_page import render_page

STYLES = ("shared/page.css", "report/drawings.css", "report/report.css")
SCRIPT = "report/main.js"
BODY = "report/report.html"


def report_page(data: dict[str, Any]) -> str:
    """Return the report of a run as one HTML page.

    Args:
        data: The data of the page by section, with a `title`; a section that is missing, None or empty is left out. Numbers
            may be NaN or infinite: they are displayed as unknown. The scripts of the page document the keys of each section.
    """
    return render_page(f"{data['title']} - report", STYLES, SCRIPT, to_json_value(data), BODY)


def to_json_value(value: Any) -> Any:
    """Return data as JSON values: numpy's types as Python's, and None for a number that is not finite."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_value(part) for part in value]
    return value
