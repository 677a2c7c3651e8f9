"""`unrolled explain` and `unrolled report`: what a model has learned, on a page."""

from __future__ import annotations

import json
from pathlib import Path

from unrolled.cli.help import EXPLAIN, REPORT
from unrolled.cli.parser import Parser, note
from unrolled.errors import UsageError
from unrolled.options import ExplainOptions, MachineOptions, ReportOptions, from_dict


def explain(arguments: list[str]) -> int:
    """Show what goes on inside a model."""
    parser = Parser("explain", EXPLAIN)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="?", default=None, help="A text, or '-'; default: what the run held out.")
    parser.options("explorer", ExplainOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, name, as_json = (typed.pop(key) for key in ("run", "input", "json"))
    options, settings, machine = parser.dealt(typed, ExplainOptions)
    if options.unit is not None and not options.terminal:
        raise UsageError("--unit colours a text on the terminal: add --terminal. On the page, any unit can be chosen.")
    from unrolled.api import open_model

    model = open_model(Path(run), from_dict(MachineOptions, machine, "the command line"))
    explored = model.explain(name, note=note, **settings)
    if as_json:
        print(json.dumps({"version": 1, **explored.to_json()}))
    elif options.terminal:
        explored.print(options.unit)
    else:
        print(explored.summary())
    return 0


def report(arguments: list[str]) -> int:
    """Put a run on one page."""
    parser = Parser("report", REPORT)
    parser.add_argument("run", metavar="RUN", help="Run folder.")
    parser.options("report", ReportOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, as_json = (typed.pop(key) for key in ("run", "json"))
    _, settings, machine = parser.dealt(typed, ReportOptions)
    from unrolled.api import open_model

    written = open_model(Path(run), from_dict(MachineOptions, machine, "the command line")).report(note=note, **settings)
    print(json.dumps({"version": 1, **written.to_json()}) if as_json else written.summary())
    return 0
