"""Loss against seconds as a picture: a small SVG, for a page or a README."""

from __future__ import annotations

import math
from collections.abc import Callable
from html import escape

COLOURS = ("#c0392b", "#2c7fb8", "#7f8c8d", "#27ae60", "#8e44ad", "#e67e22")
WIDTH, HEIGHT = 760.0, 420.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 230.0, 20.0, 50.0


def draw(curves: dict[str, list[tuple[float, float]]]) -> str:
    """Return an SVG of curves of (seconds, nats a character), each named at its end. Both axes are linear."""
    points = [point for curve in curves.values() for point in curve]
    last = max(seconds for seconds, _ in points)
    low = math.floor(10 * min(nats for _, nats in points)) / 10
    high = min(math.ceil(10 * max(nats for _, nats in points)) / 10, low + 1.2)

    def place(seconds: float, nats: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * seconds / last
        return x, TOP + (HEIGHT - TOP - BOTTOM) * (high - min(nats, high)) / (high - low)

    parts = [_grid(place, last, low, high)]
    names: list[tuple[float, str, str]] = []
    for colour, (name, curve) in zip(COLOURS, curves.items(), strict=False):
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve if point[1] <= high))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        names.append((place(*curve[-1])[1], f"{name}  {curve[-1][1]:.3f}", colour))
    y = 0.0
    for wanted, text, colour in sorted(names):
        y = max(wanted, y + 16)
        x = WIDTH - RIGHT + 8
        parts.append(f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="{colour}">{escape(text)}</text>')
    body = "\n".join(parts)
    box = f'viewBox="0 0 {WIDTH:.0f} {HEIGHT:.0f}" font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>\n<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'


def _grid(place: Callable[[float, float], tuple[float, float]], last: float, low: float, high: float) -> str:
    parts = []
    for tenth in range(round(10 * low), round(10 * high) + 1, 2):
        (x, y), (end, _) = place(0, tenth / 10), place(last, tenth / 10)
        parts.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{end:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{tenth / 10:.1f}</text>')
    for share in (0, 0.25, 0.5, 0.75, 1):
        x, y = place(share * last, low)
        parts.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle" fill="#555">{share * last:.3g}</text>')
    x, y = place(last / 2, low)
    parts.append(f'<text x="{x:.1f}" y="{y + 38:.1f}" text-anchor="middle" fill="#555">seconds of training</text>')
    parts.append(
        f'<text x="16" y="{HEIGHT / 2:.0f}" transform="rotate(-90 16 {HEIGHT / 2:.0f})" text-anchor="middle" fill="#555">'
        "loss, nats a character</text>"
    )
    return "\n".join(parts)
