"""Print a completion script for a shell: bash, zsh or fish.

Examples:
  source <(unrolled completion bash)               in ~/.bashrc
  source <(unrolled completion zsh)                in ~/.zshrc
  unrolled completion fish | source                in config.fish
"""

from __future__ import annotations

from unrolled.cli.completion import SHELLS
from unrolled.cli.parser import CommandParser
from unrolled.errors import UsageError, did_you_mean


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("completion", __doc__, has_json=False)
    parser.add_argument("shell", metavar="SHELL", help=f"{', '.join(SHELLS)}.")
    shell = parser.parse_cli_values(argv)["shell"]
    if shell not in SHELLS:
        hint = did_you_mean(shell, SHELLS) or "."
        raise UsageError(f"There is no completion for '{shell}'{hint} Shells: {', '.join(SHELLS)}.")
    from unrolled.cli.registry import COMMANDS, command_parser

    print(SHELLS[shell]({name: command_parser(name) for name in COMMANDS}), end="")
    return 0
