"""List the runs in a folder, the newest first.

Examples:
  unrolled list
  unrolled list experiments --json
"""

from __future__ import annotations

from pathlib import Path

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note
from unrolled.display import plural, printable
from unrolled.errors import DataError


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("list", __doc__)
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default="runs", help="Folder of the runs (default: runs).")
    cli_values = parser.parse_cli_values(argv)
    from unrolled.checkpoints.run_summary import summarize_runs, table_of_runs

    folder = Path(cli_values["folder"])
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; a training makes one: unrolled train FILE, or name another folder.")
    summaries = summarize_runs(folder)
    if cli_values["json"]:
        print_json({"runs": [summary.to_json() for summary in summaries]})
    elif summaries:
        print(printable(table_of_runs(summaries)))
    else:
        print_note(f"{folder} has {plural(0, 'run')}")
    return 0
