"""How results show themselves in a notebook: text coloured by surprise, runs as a curve, models as a few facts."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unrolled.checkpoints.run_dir import Run
from unrolled.generation.sampling import Sample
from unrolled.interpret.activations import Trace
from unrolled.views.colored_text import surprise_html
from unrolled.views.svg_curves import draw


@dataclass(frozen=True)
class ShownSample(Sample):
    """A sample that is coloured by what the model found surprising in it, once it is shown."""

    colour: Callable[[str], str] = field(default=html.escape, repr=False, compare=False)

    def _repr_html_(self) -> str:
        return f"<div>seed {self.seed}, {self.symbols:,} symbols</div>{self.colour(self.text)}"


class ShownTrace(Trace):
    """A trace that shows its text, coloured by surprise, and what it holds."""

    def _repr_html_(self) -> str:
        steps, layers, size = self.h.shape
        head = f"{steps:,} steps, {layers} layers of {size} units; {', '.join(self.signals)}; logits {self.logits.shape}"
        return f"<div>{html.escape(head)}</div>{surprise_html(self.reading.shown, self.bits())}"


class ShownRun(Run):
    """A run folder that shows its loss."""

    def _repr_html_(self) -> str:
        picture = curve(self)
        return f"<div>{html.escape(str(self.path))}</div>{picture}"


def curve(run: Run) -> str:
    """Return the loss of a run against seconds as an SVG; an empty text before there is any."""
    named = {"train_nats": "training", "val_nats": "validation"}
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in run.metrics.read():
        for key, name in named.items():
            value = record.get(key)
            if isinstance(value, float) and math.isfinite(value):
                curves.setdefault(name, []).append((float(record["seconds"]), value))
    return draw(curves) if any(len(points) > 1 for points in curves.values()) else ""


def facts(rows: list[tuple[str, Any]], run: Run | None) -> str:
    """Return facts as a small table, with the curve of the run below, if there is one."""
    left = ' style="text-align:left"'
    cells = "".join(
        f"<tr><th{left}>{html.escape(name)}</th><td{left}>{html.escape(str(value))}</td></tr>" for name, value in rows
    )
    return f"<table>{cells}</table>" + ("" if run is None else curve(run))
