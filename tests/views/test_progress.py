"""The live bar of a training on a terminal whose window changes."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from unrolled.training.callbacks import Progress
from unrolled.views.progress import BarProgress, ResizableLive, format_loss


class Terminal(io.StringIO):
    """Lines as a terminal that breaks them anew has them: a row that is full goes on in the next one, without a line end."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.columns, self.lines, self.row = columns, [""], 0

    def rows(self) -> list[str]:
        """Return what is seen: each line in rows of at most `columns`."""
        width = self.columns
        return [line[i : i + width] for line in self.lines for i in range(0, max(1, len(line)), width)]

    def write(self, text: str) -> int:
        for part in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            self._write_part(part)
        return len(text)

    def _write_part(self, part: str) -> None:
        at_end = self.row == len(self.rows()) - 1
        if part == "\x1b[1A":
            self.row -= 1
        elif part == "\x1b[2K":
            self._replace_row("")
        elif part == "\n" and at_end:
            self.lines.append("")
            self.row = len(self.rows()) - 1
        elif part == "\n":
            self.row += 1
        elif not part.startswith(("\x1b", "\r")):
            self._replace_row(part if self.rows()[self.row] == "" else self.rows()[self.row] + part)

    def _replace_row(self, text: str) -> None:
        rows = self.rows()
        rows[self.row] = text
        self.lines = rows

    def resize(self, columns: int) -> None:
        """Break the lines anew; the cursor, which is at the end of a line, stays there."""
        above = self.rows()[: self.row + 1]
        self.columns = columns
        self.row = sum(max(1, -(-len(row) // columns)) for row in above) - 1


def progress_at(step: int) -> Progress:
    return Progress(
        step=step, fraction=step / 100, epochs=0.5, seconds=9.0, eta=60.0, tokens_per_second=1000.0, lr=0.1, train_nats=1.5,
        gradient_norm=1.0, best_nats=None,
    )  # fmt: skip


@pytest.mark.parametrize("widths", [(100, 60, 110), (120, 33, 70, 41), (80, 79)])
def test_no_part_of_a_frame_is_left_when_the_window_changes(widths: tuple[int, ...]) -> None:
    terminal = Terminal(widths[0])
    bar = BarProgress()
    bar._console = Console(file=terminal, force_terminal=True, width=widths[0], height=50, highlight=False, color_system=None)
    bar._live = ResizableLive(console=bar._console, auto_refresh=False)
    bar.on_message("a message above the bar")
    bar.on_evaluate(progress_at(1), 2.0, "the first sample, " * 12)
    for step, width in enumerate(widths[1:], 2):
        terminal.resize(width)
        bar._console.width = width
        bar.on_evaluate(progress_at(step), 2.0, f"sample number {step}, with\nseveral lines of text")
    bar._live.stop()
    text = "\n".join(terminal.rows())
    assert text.startswith("a message above the bar")
    assert [text.count(part) for part in ("latest sample", "left", "first", f"sample number {len(widths)}")] == [1, 1, 0, 1]


@pytest.mark.parametrize(
    ("nats", "unit", "shown"),
    [
        (None, "character", "-"), (1.0, "character", "1.443"), (120.0, "character", "exploding"),
        (-0.4884, "number", "-0.488"), (361.8916, "number", "361.892"), (1.5e9, "number", "1.5e+09"),
    ],
)  # fmt: skip
def test_a_loss_is_shown_in_its_unit(nats: float | None, unit: str, shown: str) -> None:
    """That of numbers is a likelihood, which can be large where the predictions are good."""
    assert format_loss(nats, unit) == shown
