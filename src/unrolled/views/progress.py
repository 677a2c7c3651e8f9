"""What a person sees while it trains: a live bar on a terminal, one `key=value` line an interval elsewhere.

Everything here goes to stderr; results go to stdout and are printed by `cli`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from unrolled.training.callbacks import Status

INTERVAL = 5.0
"""Seconds between two plain lines; the first comes sooner."""

FIRST = 1.0
SHOWN = 120
"""Characters of a live sample in a plain line; all of it is in samples.jsonl."""

REFRESH = 0.25


def printable(text: str) -> str:
    """Return text without control characters, which could command a terminal; tabs and line ends stay."""
    return "".join(c if c in "\n\t" or (c.isprintable() or c == "\u00ad") else "\ufffd" for c in text)


def bits(nats: float | None) -> str:
    """Return a loss in bits, or a dash."""
    if nats is None:
        return "-"
    return f"{nats / math.log(2):.3f}" if nats < 100 else "exploding"


def clock(seconds: float) -> str:
    """Return `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Quiet:
    """Sees everything and says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def stepped(self, status: Callable[[], Status]) -> None:
        """Is called after every step."""

    def looked(self, status: Status, val_nats: float | None, sample: str | None) -> None:
        """Is called after every validation."""

    def note(self, message: str) -> None:
        """Is told what a user should know."""


class Plain(Quiet):
    """One line an interval, for logs and pipes: no bars, no cursor moves."""

    def __init__(self) -> None:
        self._due = time.monotonic() + FIRST

    def stepped(self, status: Callable[[], Status]) -> None:
        if time.monotonic() < self._due:
            return
        now = status()
        self._due = time.monotonic() + INTERVAL
        self._write(
            f"step={now.step} done={now.progress:.0%} eta={clock(now.eta)} epochs={now.epochs:.2f} "
            f"symbols_per_second={now.rate:.0f} train_bits={bits(now.train_nats)} lr={now.lr:.2g} "
            f"gradient_norm={-1 if now.gradient_norm is None else now.gradient_norm:.2g}"
        )

    def looked(self, status: Status, val_nats: float | None, sample: str | None) -> None:
        if val_nats is not None:
            self._write(f"step={status.step} done={status.progress:.0%} val_bits={bits(val_nats)} val_nats={val_nats:.4f}")
        if sample is not None:
            short = sample if len(sample) <= SHOWN else sample[:SHOWN] + "..."
            self._write(f"step={status.step} sample={json.dumps(printable(short), ensure_ascii=False)}")

    def note(self, message: str) -> None:
        self._write(message)

    def _write(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bar(Quiet):
    """A live bar with the numbers, and the latest sample below it, on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False, vertical_overflow="crop")
        self._due = 0.0
        self._sample = ""
        self._val: float | None = None
        self._started = False

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._started:
            self._live.stop()

    def stepped(self, status: Callable[[], Status]) -> None:
        if time.monotonic() >= self._due:
            self._draw(status())

    def looked(self, status: Status, val_nats: float | None, sample: str | None) -> None:
        self._val, self._sample = val_nats, sample or ""
        self._draw(status)

    def note(self, message: str) -> None:
        self._console.print(Text(printable(message), style="dim"))

    def _draw(self, now: Status) -> None:
        if not self._started:
            self._live.start()
            self._started = True
        head = Table.grid(padding=(0, 2), expand=True)
        head.add_column(ratio=1)
        head.add_column(justify="right")
        head.add_row(ProgressBar(total=1.0, completed=now.progress), f"{now.progress:.0%}  {clock(now.eta)} left")
        numbers = (
            f"bits: train {bits(now.train_nats)}  validation {bits(self._val)}  "
            f"{now.rate:,.0f} symbols/s  step {now.step:,}  epoch {now.epochs:.2f}"
        )
        room = max(3, self._console.height - 6)
        lines = printable(self._sample).splitlines()[:room]
        sample = Panel(Text("\n".join(lines)), title="a sample now", title_align="left", border_style="dim")
        self._live.update(Group(head, Text(numbers), *([sample] if self._sample else [])), refresh=True)
        self._due = time.monotonic() + REFRESH


def observer() -> Quiet:
    """Return the live bar where a person watches, plain lines elsewhere."""
    console = Console(stderr=True)
    return Bar() if console.is_terminal and not console.is_dumb_terminal else Plain()
