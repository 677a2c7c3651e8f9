"""The commands by name, and their parsers."""

from __future__ import annotations

import importlib

from unrolled.cli.parser import DESCRIBE, CommandParser, ParserFound
from unrolled.errors import UsageError, did_you_mean

MODEL_COMMANDS = ("train", "sample", "predict", "eval", "score", "explain", "report", "serve")
COMMANDS = {
    name: f"unrolled.cli.commands.{'import_model' if name == 'import' else name}"  # a module cannot be called `import`
    for name in (*MODEL_COMMANDS, "list", "info", "export", "import", "config", "bench", "doctor", "completion", "man")
}
"""The module of each command, in the order of the overview. It has a function `run(argv)` that returns the exit code; the
first line of its docstring is its line in the overview, and the whole docstring is its help text."""


def command_module(name: str) -> str:
    """Return the module of a command. Raises `UsageError` if there is no such command."""
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
