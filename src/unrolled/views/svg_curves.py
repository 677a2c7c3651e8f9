"""Loss curves over time as a small SVG image, for a page or a README."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from html import escape

COLORS = (
    "#c0392b", "#2c7fb8", "#7f8c8d", "#27ae60", "#8e44ad", "#e67e22", "#16a085", "#d35490", "#8d6e63", "#1a237e", "#9e9d24",
    "#00acc1", "#5d4037", "#212121",
)  # fmt: skip
WIDTH, HEIGHT = 760.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 230.0, 20.0, 50.0


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
    body = "\n".join(elements)
    box = f'viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def _axes(
    to_pixels: Callable[[float, float], tuple[float, float]], max_seconds: float, min_nats: float, max_nats: float, unit: str
) -> str:
    title = "loss of scaled numbers" if unit == "number" else f"loss, nats per {unit}"
    elements = []
    for tenth in range(round(10 * min_nats), round(10 * max_nats) + 1, 2):
        (x, y), (x_end, _) = to_pixels(0, tenth / 10), to_pixels(max_seconds, tenth / 10)
        elements.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x_end:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        elements.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
    for fraction in (0, 0.25, 0.5, 0.75, 1):
        x, y = to_pixels(fraction * max_seconds, min_nats)
        elements.append(
            f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#555">{fraction * max_seconds:.3g}</text>'
        )
    x, y = to_pixels(max_seconds / 2, min_nats)
    elements.append(f'<text x="{x:.1f}" y="{y + 38:.1f}" text-anchor="middle" fill="#555">seconds of training</text>')
    elements.append(
        f'<text x="16" y="{HEIGHT / 2:.0f}" transform="rotate(-90 16 {HEIGHT / 2:.0f})" text-anchor="middle" fill="#555">'
        f"{escape(title)}</text>"
    )
    return "\n".join(elements)
