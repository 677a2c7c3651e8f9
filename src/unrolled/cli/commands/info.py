"""Show what a model is: network, tokens or columns, verdict.

Examples:
  unrolled info runs/book
  unrolled info model.safetensors --json
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser
from unrolled.display import printable

LABELS = {"training": "saved at"}
"""What facts are called on a terminal: the saved model is the best one, and the steps are those after which it was saved."""


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("info", __doc__)
    parser.add_model()
    cli_values = parser.parse_cli_values(argv)
    from unrolled.api import open_model
    from unrolled.options import MachineOptions

    facts = open_model(Path(cli_values["run"]), MachineOptions(device="cpu", threads=1)).info()
    if cli_values["json"]:
        print_json(facts)
        return 0
    width = max(len(LABELS.get(name, name)) for name in facts)
    for name, value in facts.items():
        nested = {part: item for part, item in value.items() if isinstance(item, dict)} if isinstance(value, dict) else {}
        flat = {part: item for part, item in value.items() if part not in nested} if nested else value
        print(printable(f"{LABELS.get(name, name):{width}}  {_shown(flat)}"))
        for line in _nested_lines(nested, "  "):
            print(printable(line))
    return 0


def _nested_lines(facts: dict[str, Any], indent: str) -> Iterator[str]:
    """Yield a line for each fact that is known, those of a nested group below its name."""
    for name, value in facts.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _nested_lines(value, indent + "  ")
        elif value not in (None, []):
            yield f"{indent}{name}: {_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_shown, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else f"{value:,}" if type(value) is int else str(value)
