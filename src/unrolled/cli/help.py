"""The overview that `unrolled --help` prints."""

from __future__ import annotations

from collections.abc import Mapping

_USAGE = """\
usage: unrolled COMMAND ...      (see also: unrolled COMMAND --help)

Examples:
  unrolled train book.txt                  learn to write like a book
  unrolled train names.txt --documents line
                                           ... or to invent names
  unrolled train questions.csv --source question --target label
                                           ... or to predict, from a table
  unrolled sample runs/book --prompt "The "
  unrolled eval runs/book other.txt        how well it predicts another text
  unrolled predict runs/questions new.csv > out.csv
  unrolled explain runs/book               what its neurons detect, as a page
  unrolled score runs/log new.log          the most surprising lines first
  unrolled serve                           a page to write with all of them

Commands:
"""
_NOTES = """
RUN is a run folder or a model file. Results go to stdout, messages to stderr.
Exit codes: 0 ok, 1 failed, 2 usage, 3 bad data, 4 bad or damaged model,
5 diverged, 6 no space or I/O, 130/143 stopped but saved, 141 pipe closed.
Set NO_COLOR for no colors; --debug shows the traceback of an error.
"""


def overview(summaries: Mapping[str, str]) -> str:
    """Return the overview; `summaries` are the commands, each with one line about it."""
    return _USAGE + "".join(f"  {name:<10} {summary}\n" for name, summary in summaries.items()) + _NOTES
