"""The result of an evaluation: metrics of a model and of its baselines, as JSON and as text tables."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import Displayed, html_table, plural

IntArray = npt.NDArray[np.int64]

ERRORS = frozenset(("rmse", "mae", "esr"))
"""Metrics of which less is better."""

BEST_OR_WORST = (0, 1, 100)
"""Values of a metric at which a baseline that is as good says nothing against the model: nobody can be better, or worse."""

MAX_PRINTED_LABELS = 20
"""With more labels than this, the confusion matrix is not printed: it would be wider than a terminal."""


@dataclass(frozen=True, repr=False)
class MetricReport(Displayed):
    """Metrics of predictions.

    `metrics` maps names to values; the first is the headline. `baselines` has the same metrics for each named baseline.
    `labels` and `confusion` `(labels, labels)`, counts by [truth, predicted], are set if the target is one of few labels.
    `warning` says what makes the metrics worthless, such as that all predictions are the same.
    `num_steps` is the number of labels in all rows, if a row has several. `standard_error` is that of the headline metric, and
    `split` the part of the table that the rows are. The baselines `informed` know more of a row than the model does.
    `row_noun` is what people count: rows, steps, or forecasts, of which a series has many.
    """

    metrics: dict[str, float]
    baselines: dict[str, dict[str, float]]
    num_rows: int
    labels: tuple[str, ...] = ()
    confusion: IntArray | None = field(default=None, compare=False)  # arrays have no single answer to ==
    notes: tuple[str, ...] = ()
    num_steps: int | None = None
    standard_error: float | None = None
    split: str = "all"
    warning: str = ""
    informed: tuple[str, ...] = ()
    row_noun: str = "row"

    @property
    def num_evaluated(self) -> int:
        """How many rows, steps or forecasts were evaluated."""
        return self.num_steps if self.row_noun == "step" and self.num_steps is not None else self.num_rows

    def count(self, split: str = "") -> str:
        """Return how many rows, steps or forecasts were evaluated, in words."""
        return plural(self.num_evaluated, f"{split} {self.row_noun}".strip())

    @property
    def facts(self) -> Mapping[str, object]:
        metrics = {name: _format_metric(name, value) for name, value in self.metrics.items()}
        return {**metrics, f"{self.row_noun}s": f"{self.num_evaluated:,}"}

    @property
    def headline(self) -> str:
        """The name of the metric to look at first."""
        return next(iter(self.metrics))

    def _repr_html_(self) -> str:
        rows = [
            [name, *(_format_metric(name, part.get(name)) for part in (self.metrics, *self.baselines.values()))]
            for name in self.metrics
        ]
        tables = html_table(rows, ["metric", "model", *self.baselines])
        if self.confusion is not None and len(self.labels) <= MAX_PRINTED_LABELS:
            names = [escape_label(label) for label in self.labels]
            counts = [[name, *map(str, row)] for name, row in zip(names, self.confusion.tolist(), strict=True)]
            tables += html_table(counts, ["truth \\ predicted", *names])
        return f"<div>{self.count()}</div>{tables}"

    def in_words(self, split: str, error: float | None = None) -> str:
        """Return the first metrics, on rows of `split`, with the baselines; `error` is the standard error of the headline."""
        metrics = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in list(self.metrics.items())[:2]]
        if error is not None:
            metrics[0] += f" (standard error {error:.3f})"
        baselines = "; ".join(
            f"{name}: {metrics_of[self.headline]:.3f}"
            for name, metrics_of in self.baselines.items()
            if self.headline in metrics_of
        )
        summary = f"{', '.join(metrics)} on {self.count(split)}" + (f" ({baselines})" if baselines else "")
        return f"{summary}; {self.warning}" if self.warning else summary

    @property
    def better_baseline(self) -> str:
        """The name of the baseline that is best in the headline metric, if it is at least as good as the model; or empty.

        Those that know more than the model are no bar to it.
        """
        sign, own = (-1 if self.headline in ERRORS else 1), self.metrics[self.headline]
        fair = {name: metrics for name, metrics in self.baselines.items() if name not in self.informed}
        found = {name: sign * metrics[self.headline] for name, metrics in fair.items() if self.headline in metrics}
        best = max(found, key=lambda name: found[name], default="")
        ties = own not in BEST_OR_WORST and found.get(best) == sign * own
        return best if best and (found[best] > sign * own or ties) else ""

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; a number that is not finite is null, since JSON cannot represent it."""
        return {
            "headline": self.headline,
            "metrics": _finite_or_none(self.metrics),
            "standard_error": self.standard_error,
            "split": self.split,
            "baselines": {name: _finite_or_none(metrics) for name, metrics in self.baselines.items()},
            "rows": self.num_rows,
            "row_noun": self.row_noun,
            "steps": self.num_steps,
            "labels": list(self.labels),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "notes": [note for note in (self.warning, *self.notes) if note],
        }

    def to_text(self) -> str:
        """Return the report as plain text in aligned columns, without a final line end."""
        counts_line = self.count()
        counts_line += "" if self.num_steps is None or self.row_noun == "step" else f", {plural(self.num_steps, 'step')}"
        counts_line += "" if self.split == "all" else f" of the {self.split} split"
        if self.standard_error is not None:
            counts_line += f"; standard error of {self.headline.replace('_', ' ')}: {self.standard_error:.3f}"
        lines = [["metric", "model", *self.baselines]]
        for name, value in self.metrics.items():
            baseline_values = [metrics.get(name) for metrics in self.baselines.values()]
            lines.append([name, *(_format_metric(name, metric) for metric in (value, *baseline_values))])
        blocks = [f"{counts_line}\n" + _align_columns(lines)]
        if self.confusion is not None:
            names = [escape_label(label) for label in self.labels]
            if len(names) <= MAX_PRINTED_LABELS:
                blocks.append("rows: truth, columns: predicted\n" + _align_columns(_confusion_lines(names, self.confusion)))
            if len(names) > 2:
                blocks.append(_align_columns(_label_lines(names, self.confusion)))
        if notes := [note for note in (self.warning, *self.notes) if note]:
            blocks.append("\n".join(notes))
        return "\n\n".join(blocks)


def _finite_or_none(metrics: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _format_metric(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name in ("bleu", "chrf") or 10 <= abs(value) < 1e6:
        return f"{value:,.2f}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.3g}"


def _confusion_lines(names: Sequence[str], confusion: IntArray) -> list[list[str]]:
    """Return the confusion matrix with its headings, truncated to fit a terminal if possible."""
    max_width = min(12, max(4, 76 // len(names) - 2))
    rows = [[_truncate(name, 20), *map(str, counts)] for name, counts in zip(names, confusion.tolist(), strict=True)]
    return [["", *(_truncate(name, max_width) for name in names)], *rows]


def _label_lines(names: Sequence[str], confusion: IntArray) -> list[list[str]]:
    """Return precision, recall, F1 and the true count of each label; a dash for a ratio with denominator zero."""
    lines = [["label", "precision", "recall", "f1", "count"]]
    columns = (np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))
    for name, hits, predicted, actual in zip(names, *(column.tolist() for column in columns), strict=True):
        fractions = ((hits, predicted), (hits, actual), (2 * hits, predicted + actual))
        lines.append(
            [
                _truncate(name, 30),
                *(f"{numerator / denominator:.3f}" if denominator else "-" for numerator, denominator in fractions),
                f"{actual:,}",
            ]
        )
    return lines


def _align_columns(lines: Sequence[Sequence[str]]) -> str:
    """Return the lines as columns two spaces apart, the first aligned left and the others right."""
    widths = [max(map(_display_width, column)) for column in zip(*lines, strict=True)]
    padded = []
    for cells in lines:
        first_pad, *other_pads = (" " * (width - _display_width(cell)) for width, cell in zip(widths, cells, strict=True))
        padded.append("  ".join([cells[0] + first_pad, *map(str.__add__, other_pads, cells[1:])]))
    return "\n".join(padded)


def escape_label(label: str) -> str:
    """Return the label with unprintable characters as escape sequences; an empty label is two quotes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in label) or "''"


def _display_width(text: str) -> int:
    """Return how many terminal columns the text takes: two for wide East Asian characters, none for combining accents."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _truncate(text: str, max_width: int) -> str:
    while _display_width(text) > max_width:
        text = text.removesuffix("…")[:-1] + "…"
    return text
