"""Print a manual page in the format of man.

Without COMMAND, it is the page of the whole program.

Examples:
  unrolled man train | man -l -
  unrolled man > ~/.local/share/man/man1/unrolled.1
"""

from __future__ import annotations

from unrolled import __version__
from unrolled.cli.parser import CommandParser


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("man", __doc__, has_json=False)
    parser.add_argument("command", metavar="COMMAND", nargs="?", default=None, help="A command of unrolled.")
    name = parser.parse_cli_values(argv)["command"]
    from unrolled.cli.completion import command_page, overview_page
    from unrolled.cli.registry import COMMANDS, command_parser

    if name is None:
        print(overview_page({name: command_parser(name) for name in COMMANDS}, __version__), end="")
        return 0
    print(command_page(name, command_parser(name), __version__), end="")
    return 0
