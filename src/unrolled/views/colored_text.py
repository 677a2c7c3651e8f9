"""Text colored by surprisal or by a unit's activation, on a terminal and in a notebook."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy.typing as npt
from rich.console import Console
from rich.style import Style
from rich.text import Text

from unrolled.display import escape, printable
from unrolled.evaluation.line_surprisal import ScoredLine

FULL_COLOR_BITS = 8.0
"""Bits at which a token has the full color."""

MAX_HTML_TOKENS = 4000
"""Maximum number of tokens that a notebook displays."""

MARKED_VALUE = 0.5
"""Activation, or minus it, from which a character has a mark where there are no colors."""

EMPTY_LINE = "\u21b5"
"""Shown for an empty line, whose surprisal is that of its line end."""

Color = tuple[int, int, int]


class ResultConsole(Console):
    """A console for results: a closed pipe ends the command as for any other output."""

    def on_broken_pipe(self) -> None:
        """Pass the error on; rich would exit with 1."""
        raise


def surprisal_color(bits: float) -> Color | None:
    """Return the background of a token with this surprisal, from white to red; None for nan."""
    if math.isnan(bits):
        return None
    strength = min(1.0, max(0.0, bits / FULL_COLOR_BITS))
    return 255, int(255 - 165 * strength), int(255 - 175 * strength)


def activation_color(value: float) -> Color | None:
    """Return the background for a unit's activation in -1 to 1: green if positive, blue if negative."""
    if math.isnan(value):
        return None
    strength = min(1.0, abs(value))
    high, low = int(255 - 60 * strength), int(255 - 200 * strength)
    return (low, high, low) if value > 0 else (low, int(255 - 140 * strength), 255)


def color_text(token_texts: Sequence[str], values: npt.NDArray[Any], color_of: Callable[[float], Color | None]) -> Text:
    """Return a text for a terminal, with the background of each token by its value."""
    text = Text()
    for token_text, value in zip(token_texts, values.tolist(), strict=True):
        background = color_of(value)
        style = Style(color="black", bgcolor=f"rgb({background[0]},{background[1]},{background[2]})") if background else Style()
        if token_text == "\n":
            text.append("\u21b5", style)
            text.append("\n")
        else:
            text.append(printable(token_text), style)
    return text


def mark_text(token_texts: Sequence[str], values: Iterable[float]) -> str:
    """Return a text without colors: below each line one with `+` and `-` below activations from `MARKED_VALUE` in size.

    Example:
        >>> print(mark_text(["a", "\\n", "bc"], [0.9, 0.1, -0.7]))
        a↵
        +
        bc
        --
    """
    lines = [["", ""]]
    for token_text, value in zip(token_texts, values, strict=True):
        shown = EMPTY_LINE if token_text == "\n" else printable(token_text)
        mark = "+" if value >= MARKED_VALUE else "-" if value <= -MARKED_VALUE else " "
        lines[-1][0] += shown
        lines[-1][1] += mark * len(shown)
        if token_text == "\n":
            lines.append(["", ""])
    return "\n".join(line.rstrip() for pair in lines if pair[0] for line in pair)


def print_lines(model_names: Sequence[str], lines: Sequence[ScoredLine], use_color: bool) -> None:
    """Print lines with their number, the excess surprisal that they are sorted by, and the bits per token of each model.

    With `use_color`, the characters are colored by surprisal. An empty line is shown as its line end.
    """
    console = ResultConsole(highlight=False, soft_wrap=True)
    model_headings = " ".join(
        f"{f'bits {index + 1}' if len(model_names) > 1 else 'bits':>7}" for index in range(len(model_names))
    )
    width = max([9, *(len(printable(line.place)) for line in lines)])
    console.print(Text(f"{'line':>{width}} {'excess':>7} {model_headings}  (bits per token)", style="bold"))
    for line in lines:
        means = " ".join(f"{bits / max(1, line.num_tokens):7.2f}" for bits in line.bits)
        prefix = f"{printable(line.place):>{width}} {line.excess_surprisal:7.2f} {means}  "
        texts, bits = line.source_and_bits()
        body = color_text(texts, bits, surprisal_color) if use_color else Text(printable("".join(texts)))
        if not line.text:
            body.append(EMPTY_LINE, style="dim")
        if line.is_truncated:
            body.append(" ...", style="dim")
        console.print(Text(prefix) + body)


def surprisal_html(token_texts: Sequence[str], bits: npt.NDArray[Any]) -> str:
    """Return a text as HTML for a notebook, colored by surprisal; a token's tooltip has its bits."""
    spans = []
    for token_text, token_bits in zip(token_texts[:MAX_HTML_TOKENS], bits[:MAX_HTML_TOKENS].tolist(), strict=True):
        background = surprisal_color(token_bits)
        style = f"background:rgb({background[0]},{background[1]},{background[2]})" if background else ""
        title = "" if math.isnan(token_bits) else f"{token_bits:.2f} bits"
        spans.append(f'<span style="{style}" title="{title}">{escape(token_text)}</span>')
    omitted_note = (
        "" if len(token_texts) <= MAX_HTML_TOKENS else f"<div>... and {len(token_texts) - MAX_HTML_TOKENS:,} more tokens</div>"
    )
    css = "white-space:pre-wrap;overflow-wrap:anywhere;color:#111;background:#fff;padding:.5em"
    return f'<div style="{css}"><code style="color:#111;background:#fff">{"".join(spans)}</code>{omitted_note}</div>'
