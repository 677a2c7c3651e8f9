"""`unrolled explain` and `unrolled report`: what a model has learned, on a page."""

from __future__ import annotations

import json
from pathlib import Path

from unrolled import JSON_VERSION
from unrolled.cli.help import EXPLAIN_HELP, REPORT_HELP
from unrolled.cli.parser import CommandParser, print_note
from unrolled.errors import UsageError
from unrolled.options import ExplainOptions, MachineOptions, ReportOptions, from_dict


def explain(argv: list[str]) -> int:
    """Show what goes on inside a model."""
    parser = CommandParser("explain", EXPLAIN_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="?", default=None, help="A text, or '-'; default: what the run held out.")
    parser.add_options("explorer", ExplainOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, input_name, as_json = (cli_values.pop(key) for key in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, ExplainOptions)
    if options.neuron is not None and not options.terminal:
        raise UsageError("--neuron colors a text on the terminal: add --terminal. On the page, any unit can be chosen.")
    from unrolled.api import open_model
    from unrolled.views.progress import MessageHandler

    model = open_model(Path(run), from_dict(MachineOptions, machine_settings, "the command line"))
    with MessageHandler(print_note, "unrolled.analysis"):
        result = model.explain(input_name, **settings)
    if as_json:
        print(json.dumps({"version": JSON_VERSION, **result.to_json()}))
    elif options.terminal:
        result.print_colored(options.neuron)
    else:
        print(result.summary())
    return 0


def report(argv: list[str]) -> int:
    """Put a run on one page."""
    parser = CommandParser("report", REPORT_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder.")
    parser.add_options("report", ReportOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, as_json = (cli_values.pop(key) for key in ("run", "json"))
    _, settings, machine_settings = parser.split_options(cli_values, ReportOptions)
    from unrolled.api import open_model
    from unrolled.views.progress import MessageHandler

    model = open_model(Path(run), from_dict(MachineOptions, machine_settings, "the command line"))
    with MessageHandler(print_note, "unrolled.analysis"):
        result = model.report(**settings)
    print(json.dumps({"version": JSON_VERSION, **result.to_json()}) if as_json else result.summary())
    return 0
