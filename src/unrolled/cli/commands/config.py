"""Show the settings that a training would have, as a TOML file.

It takes the flags of `unrolled train`, or a run folder, whose settings it
shows. What is printed can be given to
--config; settings that the recipe chooses from the data are comments.

Examples:
  unrolled config show
  unrolled config show --preset char-rnn --hidden 256
  unrolled config show --config mine.toml > all.toml
  unrolled config show runs/book
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from unrolled.checkpoints.run_dir import is_run_dir
from unrolled.cli.commands.train import add_training_flags, read_request
from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser
from unrolled.errors import UsageError, did_you_mean
from unrolled.options import BUDGET_OPTIONS, GROUP_TITLES, TrainRequest


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("config", __doc__)
    parser.add_argument("action", metavar="show", help="What to do: show.")
    add_training_flags(parser)
    cli_values = parser.parse_cli_values(argv)
    action, as_json, inputs = cli_values.pop("action"), cli_values.pop("json"), cli_values.pop("input")
    if action != "show":
        raise UsageError(f"config has no '{action}'{did_you_mean(action, ['show']) or '.'} It has: show.")
    runs = [name for name in inputs if is_run_dir(Path(name))]
    if runs and (len(inputs) > 1 or any(value is not None for value in cli_values.values())):
        raise UsageError(f"The settings of {runs[0]} are those that it was trained with: name it alone, without flags.")
    request = _saved_request(runs[0]) if runs else read_request(inputs, cli_values)
    if as_json:
        print_json({"inputs": list(request.inputs), "settings": request.to_dict(), "given": sorted(request.explicit)})
    else:
        print(as_toml(request, is_chosen=bool(runs)))
    return 0


def _saved_request(folder: str) -> TrainRequest:
    from unrolled.checkpoints.run_data import load_request
    from unrolled.checkpoints.run_dir import Run

    return load_request(Run.open(Path(folder)))[0]


def as_toml(request: TrainRequest, is_chosen: bool = False) -> str:
    """Return the settings of a request as TOML, those that the recipe chooses as comments, unless it did so already."""
    blocks = []
    for title, part in zip(GROUP_TITLES, request.groups(), strict=True):
        lines = [f"# {title}"]
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if field.metadata["by_recipe"] and field.name not in request.explicit and not is_chosen:
                lines.append(f"# {field.name}: the recipe chooses")
            elif value is None:
                lines.append(f"# {field.name}: not set")
            else:
                given = "  # given" if field.name in request.explicit and field.name not in BUDGET_OPTIONS else ""
                lines.append(f"{field.name} = {_toml_value(value)}{given}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _toml_value(value: Any) -> str:
    """Return a setting as TOML, which writes booleans, numbers, strings and lists of these as JSON does."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=True)
