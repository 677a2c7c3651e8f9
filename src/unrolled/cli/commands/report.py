"""Write a report of a run, as a page.

The result is one HTML page that works offline: settings, loss curves, samples
during training, metrics and baselines, loss by character class, copied
passages, what units detect, how much context is used, and what to try next.

Examples:
  unrolled report runs/book
  unrolled report runs/questions --out report.html
"""

from __future__ import annotations

from pathlib import Path

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note
from unrolled.display import printable
from unrolled.options import MachineOptions, ReportOptions, from_dict


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("report", __doc__)
    parser.add_argument("run", metavar="RUN", help="Run folder.")
    parser.add_options("report", ReportOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, as_json = (cli_values.pop(key) for key in ("run", "json"))
    _, settings, machine_settings = parser.split_options(cli_values, ReportOptions)
    from unrolled.api import open_model
    from unrolled.views.progress import MessageHandler

    model = open_model(Path(run_path), from_dict(MachineOptions, machine_settings, "the command line"))
    with MessageHandler(print_note, "unrolled.analysis"):
        result = model.report(**settings)
    if as_json:
        print_json(result.to_json())
    else:
        print(printable(result.summary()))
    return 0
