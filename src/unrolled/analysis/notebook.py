"""How results show themselves in a notebook: text coloured by surprise, runs as a curve, models as a few facts."""

from __future__ import annotations

import html
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unrolled.checkpoints.run_dir import Run
from unrolled.generation.sampling import Sample
from unrolled.interpret.activations import Activations
from unrolled.views.colored_text import surprisal_html
from unrolled.views.svg_curves import loss_curves_svg


@dataclass(frozen=True)
class NotebookSample(Sample):
    """A sample that is coloured by what the model found surprising in it, once it is shown."""

    to_html: Callable[[str], str] = field(default=html.escape, repr=False, compare=False)

    def _repr_html_(self) -> str:
        return f"<div>seed {self.seed}, {self.num_tokens:,} symbols</div>{self.to_html(self.text)}"


class NotebookActivations(Activations):
    """A trace that shows its text, coloured by surprise, and what it holds."""

    def _repr_html_(self) -> str:
        num_steps, num_layers, hidden_size = self.h.shape
        sizes = f"{num_steps:,} steps, {num_layers} layers of {hidden_size} units"
        heading = f"{sizes}; {', '.join(self.states_and_gates)}; logits {self.logits.shape}"
        return f"<div>{html.escape(heading)}</div>{surprisal_html(self.tokenized.token_texts, self.bits())}"


class NotebookRun(Run):
    """A run folder that shows its loss."""

    def _repr_html_(self) -> str:
        picture = run_loss_svg(self)
        return f"<div>{html.escape(str(self.path))}</div>{picture}"


def run_loss_svg(run: Run) -> str:
    """Return the loss of a run against seconds as an SVG; an empty text before there is any."""
    curve_names = {"train_nats": "training", "val_nats": "validation"}
    curves: dict[str, list[tuple[float, float]]] = {}
    for record in run.metrics.read():
        for key, name in curve_names.items():
            value = record.get(key)
            if isinstance(value, float) and math.isfinite(value):
                curves.setdefault(name, []).append((float(record["seconds"]), value))
    return loss_curves_svg(curves) if any(len(points) > 1 for points in curves.values()) else ""


def facts_table(rows: list[tuple[str, Any]], run: Run | None) -> str:
    """Return facts as a small table, with the curve of the run below, if there is one."""
    align_left = ' style="text-align:left"'
    cells = "".join(
        f"<tr><th{align_left}>{html.escape(name)}</th><td{align_left}>{html.escape(str(value))}</td></tr>"
        for name, value in rows
    )
    return f"<table>{cells}</table>" + ("" if run is None else run_loss_svg(run))
