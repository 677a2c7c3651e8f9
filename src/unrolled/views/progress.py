"""Progress of a training on stderr: a live bar on a terminal, a `key=value` line per interval elsewhere.

Results go to stdout and are printed by `cli`.
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleRenderable, Group
from rich.control import Control
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.segment import ControlType, Segment
from rich.table import Table
from rich.text import Text

from unrolled.display import printable
from unrolled.flag_names import in_terms_of_caller
from unrolled.training.callbacks import Progress, ProgressCallback

LOG_INTERVAL = 5.0
"""Seconds between two log lines; the first comes after `FIRST_LOG_AFTER`."""

FIRST_LOG_AFTER = 1.0
MAX_SAMPLE_CHARS = 120
"""Characters of a sample in a log line; the whole sample is in samples.jsonl."""

BAR_INTERVAL = 0.25


def loss_name(unit: str) -> str:
    """Return what a loss per `unit` is shown as: bits, but the loss of scaled numbers has no unit."""
    return "loss" if unit == "number" else "bits"


def format_loss(nats: float | None, unit: str) -> str:
    """Return a loss as `loss_name` calls it, or a dash."""
    if nats is None:
        return "-"
    if unit == "number":  # a likelihood can be large where the predictions are good
        return f"{nats:.3f}" if nats < 1000 else f"{nats:.4g}"
    return f"{nats / math.log(2):.3f}" if nats < 100 else "exploding"


def format_duration(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class MessageHandler(logging.Handler):
    """While entered, passes each message of a logger of this package and of those below it to `sink`."""

    def __init__(self, sink: Callable[[str], None], logger_name: str = "unrolled") -> None:
        super().__init__(logging.INFO)
        self._sink, self._logger = sink, logging.getLogger(logger_name)
        self._level = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a message. An error of the sink is raised, unlike in other handlers: stderr may be closed or full."""
        self._sink(printable(in_terms_of_caller(record.getMessage())))

    def __enter__(self) -> Self:
        self._level = self._logger.level
        if not self._logger.isEnabledFor(logging.INFO):
            self._logger.setLevel(logging.INFO)
        self._logger.addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)


class MessageProgress(ProgressCallback):
    """A view that also shows the messages of the package's loggers while it is entered."""

    def __init__(self) -> None:
        self._handler = MessageHandler(self.on_message)

    def __enter__(self) -> Self:
        self._handler.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._handler.__exit__()

    def on_message(self, message: str) -> None:
        """Show a message."""
        raise NotImplementedError


class LogProgress(MessageProgress):
    """One line per interval, for logs and pipes, without cursor movement."""

    def __init__(self) -> None:
        super().__init__()
        self._next_time = time.monotonic() + FIRST_LOG_AFTER

    def on_step(self, progress: Callable[[], Progress]) -> None:
        if time.monotonic() < self._next_time:
            return
        current = progress()
        unit = current.loss_unit
        self._next_time = time.monotonic() + LOG_INTERVAL
        self._write(
            f"step={current.step} done={current.fraction:.0%} eta={format_duration(current.eta)} epochs={current.epochs:.2f} "
            f"tokens_per_second={current.tokens_per_second:.0f} "
            f"train_{loss_name(unit)}={format_loss(current.train_nats, unit)} "
            f"lr={current.lr:.2g} gradient_norm={-1 if current.gradient_norm is None else current.gradient_norm:.2g}"
        )

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        if val_nats is not None:
            unit = progress.loss_unit
            nats = "" if unit == "number" else f" val_nats={val_nats:.4f}"
            loss = f"val_{loss_name(unit)}={format_loss(val_nats, unit)}{nats}"
            self._write(f"step={progress.step} done={progress.fraction:.0%} {loss}")
        if sample is not None:
            short = sample if len(sample) <= MAX_SAMPLE_CHARS else sample[:MAX_SAMPLE_CHARS] + "..."
            self._write(f"step={progress.step} sample={json.dumps(printable(short), ensure_ascii=False)}")

    def on_message(self, message: str) -> None:
        self._write(message)

    def _write(self, line: str) -> None:
        print(printable(line), file=sys.stderr, flush=True)


class ResizableLive(Live):
    """A live display that also erases the rows which its last frame takes after the terminal became narrower.

    Terminals such as tmux break the lines of the last frame anew then, so that it has more rows than were drawn. Those that
    left the screen at its top stay.
    """

    _widths: Sequence[int] = ()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Return what is printed: controls that erase the last frame, `renderables`, and the new frame."""
        columns = max(1, self.console.width)
        added = sum((width - 1) // columns for width in self._widths if width)
        processed = super().process_renderables(renderables)
        if self.console.is_interactive:
            erase = ((ControlType.ERASE_IN_LINE, 2), (ControlType.CURSOR_UP, 1)) * added
            processed = [Control(ControlType.CARRIAGE_RETURN, *erase), *processed]
            lines = self.console.render_lines(self.renderable, pad=False)
            self._widths = [Segment.get_line_length(line) for line in lines]
        return processed


class BarProgress(MessageProgress):
    """A live bar on a terminal, with the numbers and the latest sample below it."""

    def __init__(self) -> None:
        super().__init__()
        self._console = Console(stderr=True, highlight=False)
        self._live = ResizableLive(console=self._console, auto_refresh=False, transient=False, vertical_overflow="crop")
        self._next_time = 0.0
        self._sample = ""
        self._val_nats: float | None = None
        self._started = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        super().__exit__(kind, error, traceback)
        if self._started:
            self._live.stop()

    def on_step(self, progress: Callable[[], Progress]) -> None:
        if time.monotonic() >= self._next_time:
            self._draw(progress())

    def on_evaluate(self, progress: Progress, val_nats: float | None, sample: str | None) -> None:
        self._val_nats, self._sample = val_nats, sample or ""
        self._draw(progress)

    def on_message(self, message: str) -> None:
        self._console.print(Text(printable(message), style="dim"))

    def _draw(self, status: Progress) -> None:
        if not self._started:
            self._live.start()
            self._started = True
        bar_row = Table.grid(padding=(0, 2), expand=True)
        bar_row.add_column(ratio=1)
        bar_row.add_column(justify="right")
        bar_row.add_row(
            ProgressBar(total=1.0, completed=status.fraction), f"{status.fraction:.0%}  {format_duration(status.eta)} left"
        )
        unit = status.loss_unit
        losses = f"train {format_loss(status.train_nats, unit)}  validation {format_loss(self._val_nats, unit)}"
        rate = f"{status.tokens_per_second:,.0f} {'tokens' if unit == 'character' else 'targets'}/s"
        numbers = f"{loss_name(unit)}: {losses}  {rate}  step {status.step:,}  epoch {status.epochs:.2f}"
        lines = Text(printable(self._sample)).wrap(self._console, max(1, self._console.width - 4))
        sample = Panel(
            Text("\n").join(lines[: max(3, self._console.height // 2 - 2)]),
            title="latest sample",
            title_align="left",
            border_style="dim",
            expand=False,
        )
        self._live.update(Group(bar_row, Text(numbers), *([sample] if self._sample else [])), refresh=True)
        self._next_time = time.monotonic() + BAR_INTERVAL


def make_progress() -> ProgressCallback:
    """Return a live bar if stderr is a terminal, else log lines."""
    console = Console(stderr=True)
    return BarProgress() if console.is_terminal and not console.is_dumb_terminal else LogProgress()
