"""Display of results in a notebook: text colored by surprisal, the loss curve of a run, a table of facts about a model."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unrolled.checkpoints.run_dir import Run
from unrolled.checkpoints.run_summary import loss_curve
from unrolled.display import html_table
from unrolled.generation.sampling import Sample
from unrolled.views.svg_curves import loss_curves_svg


@dataclass(frozen=True, repr=False)
class NotebookSample(Sample):
    """A sample that a notebook displays colored by surprisal."""

    to_html: Callable[[str], str] = field(default=html.escape, repr=False, compare=False)

    def _repr_html_(self) -> str:
        return f"<div>seed {self.seed}, {self.num_tokens:,} tokens</div>{self.to_html(self.text)}"


class NotebookRun(Run):
    """A run folder that a notebook displays with its loss curve."""

    def _repr_html_(self) -> str:
        picture = run_loss_svg(self)
        return f"<div>{html.escape(str(self.path))}</div>{picture}"


def run_loss_svg(run: Run) -> str:
    """Return the loss curves of a run over time as an SVG; an empty text if there are no values yet."""
    unit = str(run.config.get("loss_unit", "character"))
    curve_names = {"train_nats": "training", "val_nats": "validation"}
    curves: dict[str, list[tuple[float, float]]] = {}
    for point in loss_curve(run.metrics.read()):
        for key, name in curve_names.items():
            if (value := point[key]) is not None and (seconds := point["seconds"]) is not None:
                curves.setdefault(name, []).append((seconds, value))
    return loss_curves_svg(curves, unit) if any(len(points) > 1 for points in curves.values()) else ""


def facts_table(rows: list[tuple[str, Any]], run: Run | None) -> str:
    """Return names and values as an HTML table, followed by the loss curve of the run, if there is one."""
    return html_table([(name, str(value)) for name, value in rows]) + ("" if run is None else run_loss_svg(run))
