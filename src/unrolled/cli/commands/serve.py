"""Serve models over HTTP: a page to write with, and OpenAI's API.

RUN are run folders or model files; without any, all runs in --runs are served,
also those that begin later. The page shows trainings while they run, and
starts new ones.

Examples:
  unrolled serve
  unrolled serve runs/book --port 8080
  unrolled serve --host 0.0.0.0 --api-key-file key.txt
"""

from __future__ import annotations

from pathlib import Path

from unrolled.cli.parser import CommandParser, print_note
from unrolled.errors import UsageError
from unrolled.options import MachineOptions, ServeOptions, from_dict


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("serve", __doc__, has_json=False)
    parser.add_argument("run", metavar="RUN", nargs="*", default=[], help="Run folders and model files.")
    parser.add_options("server", ServeOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    paths = [Path(name) for name in cli_values.pop("run")]
    options, _, machine_settings = parser.split_options(cli_values, ServeOptions)
    try:
        from unrolled.server.run_server import serve
    except ImportError as error:
        raise UsageError(f"A server needs more packages ({error.name} is missing): pip install 'unrolled[serve]'") from error
    machine = from_dict(MachineOptions, machine_settings, "the command line")
    serve(paths, options, machine, print_note)
    return 0
