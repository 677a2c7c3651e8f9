"""Curves as a small SVG image, for a page or a README: loss against seconds, accuracy against length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from html import escape

COLORS = (
    "#c0392b", "#2c7fb8", "#7f8c8d", "#27ae60", "#8e44ad", "#e67e22", "#16a085", "#d35490", "#8d6e63", "#1a237e", "#9e9d24",
    "#00acc1", "#5d4037", "#212121",
)  # fmt: skip
WIDTH, HEIGHT = 760.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 230.0, 20.0, 50.0
PANEL_WIDTH, PANEL_HEIGHT, MARGIN, PANELS_IN_ROW = 190.0, 130.0, 44.0, 4


def loss_curves_svg(curves: dict[str, list[tuple[float, float]]], unit: str = "character") -> str:
    """Return an SVG of curves of (seconds, nats per `unit`), each labeled at its end. Both axes are linear.

    The loss of a `number` is that of scaled numbers, which has no unit.
    """
    points = [point for curve in curves.values() for point in curve]
    max_seconds = max(seconds for seconds, _ in points)
    min_nats = math.floor(10 * min(nats for _, nats in points)) / 10
    max_nats = min(math.ceil(10 * max(nats for _, nats in points)) / 10, min_nats + 1.2)

    def to_pixels(seconds: float, nats: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * seconds / max_seconds
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (max_nats - min(nats, max_nats)) / (max_nats - min_nats)

    elements = [_axes(to_pixels, max_seconds, min_nats, max_nats, unit)]
    labels: list[tuple[float, str, str]] = []
    for color, (name, curve) in zip(itertools.cycle(COLORS), curves.items(), strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (to_pixels(*point) for point in curve if point[1] <= max_nats))
        elements.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2.5"/>')
        labels.append((to_pixels(*curve[-1])[1], f"{name}  {curve[-1][1]:.3f}", color))
    y = 0.0
    for label_y, text, color in sorted(labels):
        y = max(label_y, y + 16)
        x = WIDTH - RIGHT + 8
        elements.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="{color}">{escape(text)}</text>')
    return _svg(WIDTH, HEIGHT, elements)


def _svg(width: float, height: float, elements: Iterable[str]) -> str:
    """Return an image of these elements on white."""
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" font-size="12"'
    body = "\n".join(elements)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def _axis_label(x: float, y: float, text: object, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#555">{text}</text>'


def _grid_line(x: float, y: float, x_end: float) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y:.1f}" stroke="#ddd"/>'


def _axes(
    to_pixels: Callable[[float, float], tuple[float, float]], max_seconds: float, min_nats: float, max_nats: float, unit: str
) -> str:
    title = "loss of scaled numbers" if unit == "number" else f"loss, nats per {unit}"
    elements = []
    for tenth in range(round(10 * min_nats), round(10 * max_nats) + 1, 2):
        (x, y), (x_end, _) = to_pixels(0, tenth / 10), to_pixels(max_seconds, tenth / 10)
        elements += [_grid_line(x, y, x_end), _axis_label(x - 8, y + 4, f"{tenth / 10:.1f}", "end")]
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        x, y = to_pixels(fraction * max_seconds, min_nats)
        elements.append(_axis_label(x, y + 18, f"{fraction * max_seconds:.3g}"))
    x, y = to_pixels(max_seconds / 2, min_nats)
    elements.append(_axis_label(x, y + 38, "seconds of training"))
    elements.append(
        f'<text x="16" y="{HEIGHT / 2:.0f}" transform="rotate(-90 16 {HEIGHT / 2:.0f})" text-anchor="middle" fill="#555">'
        f"{escape(title)}</text>"
    )
    return "\n".join(elements)


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
    return _svg(width, height, elements)


def _panel(title: str, curves: Mapping[str, Mapping[int, float]], colors: Mapping[str, str], left: float, top: float) -> str:
    """Return one panel with its axes, whose upper left corner is at `left`, `top`."""
    lengths = sorted({length for curve in curves.values() for length in curve})
    xs = {length: left + PANEL_WIDTH * (index + 0.5) / len(lengths) for index, length in enumerate(lengths)}
    parts = [f'<text x="{left:.0f}" y="{top - 8:.0f}" font-weight="bold">{escape(title)}</text>']
    for accuracy in (0.0, 0.5, 1.0):
        y = top + PANEL_HEIGHT * (1 - accuracy)
        parts += [_grid_line(left, y, left + PANEL_WIDTH), _axis_label(left - 4, y + 4, f"{accuracy:.1f}", "end")]
    parts += [_axis_label(x, top + PANEL_HEIGHT + 14, length) for length, x in xs.items()]
    for model, curve in curves.items():
        points = " ".join(f"{xs[length]:.1f},{top + PANEL_HEIGHT * (1 - curve[length]):.1f}" for length in sorted(curve))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colors[model]}" stroke-width="1.8"/>')
    return "\n".join(parts)
