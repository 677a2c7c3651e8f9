"""Accuracy against length as a small SVG image: a panel for each language, a line for each model."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from unrolled.views.svg_curves import COLORS

PANEL_WIDTH, PANEL_HEIGHT, MARGIN, PANELS_IN_ROW = 190.0, 130.0, 44.0, 4


def accuracy_svg(panels: Mapping[str, Mapping[str, Mapping[int, float]]]) -> str:
    """Return an SVG of `panels`: by panel and model, the accuracy (0 to 1) at each length. Lengths are equally spaced.

    Example:
        >>> accuracy_svg({"parity": {"lstm": {40: 1.0, 256: 0.99}}}).count("<polyline")
        1
    """
    models = list(dict.fromkeys(model for curves in panels.values() for model in curves))
    colors = {model: COLORS[index % len(COLORS)] for index, model in enumerate(models)}
    columns = min(PANELS_IN_ROW, len(panels))
    rows = -(-len(panels) // columns)
    elements = []
    for index, (title, curves) in enumerate(panels.items()):
        left = MARGIN + (index % columns) * (PANEL_WIDTH + MARGIN)
        elements.append(_panel(title, curves, colors, left, MARGIN + (index // columns) * (PANEL_HEIGHT + MARGIN)))
    x = MARGIN + columns * (PANEL_WIDTH + MARGIN)
    elements += [
        f'<text x="{x:.0f}" y="{MARGIN + 16 * index + 8:.0f}" fill="{colors[model]}">{escape(model)}</text>'
        for index, model in enumerate(models)
    ]
    width = x + 190
    height = max(MARGIN + rows * (PANEL_HEIGHT + MARGIN), MARGIN + 16 * len(models))
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12"'
    body = "\n".join(elements)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def _panel(title: str, curves: Mapping[str, Mapping[int, float]], colors: Mapping[str, str], left: float, top: float) -> str:
    """Return one panel with its axes, whose upper left corner is at `left`, `top`."""
    lengths = sorted({length for curve in curves.values() for length in curve})
    xs = {length: left + PANEL_WIDTH * (index + 0.5) / len(lengths) for index, length in enumerate(lengths)}
    parts = [f'<text x="{left:.0f}" y="{top - 8:.0f}" font-weight="bold">{escape(title)}</text>']
    for accuracy in (0.0, 0.5, 1.0):
        y = top + PANEL_HEIGHT * (1 - accuracy)
        parts.append(f'<line x1="{left:.1f}" y1="{y:.1f}" x2="{left + PANEL_WIDTH:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 4:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{accuracy:.1f}</text>')
    for length, x in xs.items():
        y = top + PANEL_HEIGHT + 14
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="#555">{length}</text>')
    for model, curve in curves.items():
        points = " ".join(f"{xs[length]:.1f},{top + PANEL_HEIGHT * (1 - curve[length]):.1f}" for length in sorted(curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colors[model]}" stroke-width="1.8"/>')
    return "\n".join(parts)
