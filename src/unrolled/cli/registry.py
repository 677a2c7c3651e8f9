"""The commands by name, the overview that `unrolled --help` prints, and their parsers."""

from __future__ import annotations

import importlib
import os

from unrolled.cli.parser import DESCRIBE, CommandParser, ParserFound
from unrolled.display import shell_argument
from unrolled.errors import UsageError, did_you_mean

MODEL_COMMANDS = ("train", "sample", "predict", "eval", "score", "explain", "report", "serve")
COMMANDS = {
    name: f"unrolled.cli.commands.{'import_model' if name == 'import' else name}"  # a module cannot be called `import`
    for name in (*MODEL_COMMANDS, "list", "info", "export", "import", "config", "bench", "doctor", "completion", "man")
}
"""The module of each command, in the order of the overview. It has a function `run(argv)` that returns the exit code; the
first line of its docstring is its line in the overview, and the whole docstring is its help text."""

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


def command_module(name: str) -> str:
    """Return the module of a command. Raises `UsageError` if there is no such command."""
    if name not in COMMANDS and os.path.exists(name):
        raise UsageError(
            f"A command comes first, as in: unrolled COMMAND {shell_argument(name)}. Commands: {', '.join(COMMANDS)}."
        )
    if name not in COMMANDS:
        raise UsageError(f"There is no command '{name}'{did_you_mean(name, COMMANDS) or '.'} Commands: {', '.join(COMMANDS)}.")
    return COMMANDS[name]


def command_parser(name: str) -> CommandParser:
    """Return the parser of a command, for completion and documentation; the command does not run."""
    try:
        importlib.import_module(command_module(name)).run(DESCRIBE)
    except ParserFound as found:
        return found.parser
    raise RuntimeError(f"{name} parses no arguments")


def overview() -> str:
    """Return the overview: the commands, each with the first line of its help text."""
    summaries = {name: (importlib.import_module(COMMANDS[name]).__doc__ or "").strip().split("\n")[0] for name in COMMANDS}
    return _USAGE + "".join(f"  {name:<10} {summary}\n" for name, summary in summaries.items()) + _NOTES
