"""Write docs/cli.md, the reference of the command line, from the argument parsers themselves.

    python docs/generate_cli.py

A test compares the file with what `reference` returns, so it is never stale.
"""

import argparse
from pathlib import Path

from unrolled.cli.registry import COMMANDS, command_parser

PAGE = Path(__file__).parent / "cli.md"
INTRODUCTION = """\
# Command line

<!-- Written by docs/generate_cli.py from the parsers. Do not edit. -->

Results go to standard output, everything else to standard error. `--json` prints one JSON document.
`RUN` is a run folder or a model file. Exit codes are listed in [control training](howto/training.md).
`--debug` shows the traceback of an error. Flags may be written with underscores, and as `--seed 1` or `--seed=1`.
"""


def reference() -> str:
    """Return the whole page."""
    return "\n".join([INTRODUCTION, *(_section(name, command_parser(name)) for name in COMMANDS)])


def _section(name: str, parser: argparse.ArgumentParser) -> str:
    lines = [f"## unrolled {name}", "", "```text", (parser.description or "").strip(), "```", ""]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if actions:
            what = "flag" if actions[0].option_strings else "argument"
            lines += [f"### {name}: {'arguments' if group.title == 'positional arguments' else group.title}", ""]
            lines += [" ".join((group.description or "").split()), ""] if group.description else []
            lines += [f"| {what} | |", "|---|---|", *map(_row, actions), ""]
    return "\n".join(lines)


def _row(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%")
    choices = "" if action.choices is None else " One of " + ", ".join(f"`{choice}`" for choice in action.choices) + "."
    return f"| `{_invocation(action)}` | {_escaped(text)}{choices} |"


def _invocation(action: argparse.Action) -> str:
    if isinstance(action, argparse.BooleanOptionalAction):
        return f"--[no-]{action.option_strings[0][2:]}"
    if not action.option_strings:
        return f"{action.metavar or action.dest.upper()}"
    name = ", ".join(action.option_strings)
    if action.nargs == 0:
        return name
    return f"{name} {action.metavar or ('NAME' if action.choices else action.dest.upper())}"


def _escaped(text: str) -> str:
    for mark in "\\|<*_":
        text = text.replace(mark, "\\" + mark)
    return text


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
