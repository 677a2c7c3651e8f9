"""Texts in colour: by surprise or by a unit, on a terminal and in a notebook."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
from rich.console import Console
from rich.style import Style
from rich.text import Text

from unrolled.evaluation.line_surprisal import Line
from unrolled.views.progress import printable

SURPRISING = 8.0
"""Bits at which a symbol has the full colour."""

SHOWN = 4000
"""Symbols that a notebook shows."""

Colour = tuple[int, int, int]


def by_surprise(bits: float) -> Colour | None:
    """Return the background of a symbol of so many bits: from none to red; None for nan."""
    if math.isnan(bits):
        return None
    share = min(1.0, max(0.0, bits / SURPRISING))
    return 255, int(255 - 165 * share), int(255 - 175 * share)


def by_state(value: float) -> Colour | None:
    """Return the background of a unit's state in -1 to 1: green where it is excited, blue where it is not."""
    if math.isnan(value):
        return None
    share = min(1.0, abs(value))
    high, low = int(255 - 60 * share), int(255 - 200 * share)
    return (low, high, low) if value > 0 else (low, int(255 - 140 * share), 255)


def coloured(shown: Sequence[str], values: npt.NDArray[Any], colour: Callable[[float], Colour | None]) -> Text:
    """Return a text for a terminal, each symbol on the background that its value has."""
    text = Text()
    for symbol, value in zip(shown, values.tolist(), strict=True):
        back = colour(value)
        style = Style(color="black", bgcolor=f"rgb({back[0]},{back[1]},{back[2]})") if back else Style()
        if symbol == "\n":
            text.append("\u21b5", style)
            text.append("\n")
        else:
            text.append(printable(symbol), style)
    return text


def lines_table(names: Sequence[str], lines: Sequence[Line], in_colour: bool) -> None:
    """Print lines with their number and bits a symbol for each model; their symbols on the colour of their surprise."""
    console = Console(highlight=False, soft_wrap=True)
    models = " ".join(f"{f'bits {index + 1}' if len(names) > 1 else 'bits':>7}" for index in range(len(names)))
    console.print(Text(f"{'line':>9} {models}  (a symbol)", style="bold"))
    for line in lines:
        means = " ".join(f"{bits / max(1, line.symbols):7.2f}" for bits in line.bits)
        head = f"{line.number:>9} {means}  "
        body = coloured(*line.shown(), by_surprise) if in_colour else Text(printable(line.text))
        if line.is_cut:
            body.append(" ...", style="dim")
        console.print(Text(head) + body)


def surprise_html(shown: Sequence[str], bits: npt.NDArray[Any]) -> str:
    """Return a text for a notebook, coloured by surprise; the bits show when one points at a symbol."""
    parts = []
    for symbol, own in zip(shown[:SHOWN], bits[:SHOWN].tolist(), strict=True):
        back = by_surprise(own)
        style = f"background:rgb({back[0]},{back[1]},{back[2]})" if back else ""
        title = "" if math.isnan(own) else f"{own:.2f} bits"
        parts.append(f'<span style="{style}" title="{title}">{html.escape(printable(symbol))}</span>')
    more = "" if len(shown) <= SHOWN else f"<div>... and {len(shown) - SHOWN:,} symbols more</div>"
    look = "white-space:pre-wrap;overflow-wrap:anywhere;color:#111;background:#fff;padding:.5em"
    return f'<div style="{look}"><code style="color:#111;background:#fff">{"".join(parts)}</code>{more}</div>'
