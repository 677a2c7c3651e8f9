"""Progress of a training in a notebook: one display with a bar, the loss curve and the latest sample, replaced as it goes on.

It is made of display handles, which every front end has; widgets would need an extension of it.
"""

from __future__ import annotations

import importlib
import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from unrolled.display import escape
from unrolled.training.callbacks import Progress, ProgressCallback
from unrolled.views.progress import LogProgress, MessageProgress, format_duration, format_loss, loss_name
from unrolled.views.svg_curves import loss_curves_svg

DRAW_INTERVAL = 1.0
"""Seconds between two drawings; each is a message to the browser."""

MAX_MESSAGES = 12


def python_progress() -> ProgressCallback:
    """Return the progress for a training that Python code starts: a display in a notebook, else log lines."""
    return NotebookProgress() if in_notebook() else LogProgress()


def in_notebook() -> bool:
    """Return whether this is a kernel of Jupyter. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


class NotebookProgress(MessageProgress):
    """One display in the output of a cell."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []
        self._curves: dict[str, list[tuple[float, float]]] = {"training": [], "validation": []}
        self._sample = ""
        self._status: Progress | None = None
        self._handle: Any = None
        self._next_time = 0.0

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        super().__exit__(kind, error, traceback)
        if self._handle is not None or self.to_html():
            self._draw()

    def on_step(self, progress: Callable[[], Progress]) -> None:
        """Draw, if the last drawing is old enough."""
        if time.monotonic() < self._next_time:
            return
        self._status = progress()
        self._add_point("training", self._status, self._status.train_nats)
        self._draw()

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        """Draw with the new validation loss and sample."""
        self._status, self._sample = progress, sample or self._sample
        self._add_point("training", progress, progress.train_nats)
        self._add_point("validation", progress, val_nats)
        self._draw()

    def to_html(self) -> str:
        """Return the content of the display."""
        parts = []
        unit = "character" if self._status is None else self._status.loss_unit
        if (status := self._status) is not None:
            validation = self._curves["validation"][-1][1] if self._curves["validation"] else None
            losses = f"training {format_loss(status.train_nats, unit)}, validation {format_loss(validation, unit)}"
            numbers = (
                f"{status.fraction:.0%}, {format_duration(status.eta)} left; {loss_name(unit)}: {losses}; "
                f"step {status.step:,}, epoch {status.epochs:.2f}"
            )
            parts.append(f'<progress max="1" value="{status.fraction:.3f}" style="width:100%"></progress><div>{numbers}</div>')
        curves = {name: points for name, points in self._curves.items() if len(points) > 1}
        if curves and max(points[-1][0] for points in curves.values()) > 0:
            parts.append(f'<div style="max-width:480px">{loss_curves_svg(curves, unit)}</div>')
        if self._sample:
            parts.append(f'<pre style="white-space:pre-wrap;max-height:16em;overflow:auto">{escape(self._sample)}</pre>')
        messages = "<br>".join(map(escape, self._messages))
        return "".join(parts) + (f'<div style="opacity:.7;font-size:85%">{messages}</div>' if messages else "")

    def on_message(self, message: str) -> None:
        self._messages = [*self._messages, message][-MAX_MESSAGES:]

    def _add_point(self, name: str, progress: Progress, nats: float | None) -> None:
        if nats is not None and math.isfinite(nats):
            self._curves[name].append((progress.seconds, nats))

    def _draw(self) -> None:
        ipython: Any = importlib.import_module("IPython.display")
        content = ipython.HTML(self.to_html() or "<div>starting</div>")
        if self._handle is None:
            self._handle = ipython.display(content, display_id=True)
        else:
            self._handle.update(content)
        self._next_time = time.monotonic() + DRAW_INTERVAL
