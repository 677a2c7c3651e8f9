"""`unrolled explain` and `unrolled report`: what a model has learned, on a page."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from unrolled.errors import UsageError
from unrolled.flags import Parser
from unrolled.options import ExplainOptions, MachineOptions, ReportOptions, from_dict, split_by_class
from unrolled.usage import EXPLAIN, REPORT


def explain(arguments: list[str]) -> int:
    """Show what goes on inside a model."""
    parser = Parser("explain", EXPLAIN)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="?", default=None, help="A text, or '-'; default: what the run held out.")
    parser.options("explorer", ExplainOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, name, as_json = (typed.pop(key) for key in ("run", "input", "json"))
    settings, machine = split_by_class(typed, (ExplainOptions, MachineOptions), "the command line")
    options = from_dict(ExplainOptions, settings, "the command line")
    if options.unit is not None and not options.terminal:
        raise UsageError("--unit colours a text on the terminal: add --terminal. On the page, any unit can be chosen.")
    from unrolled.api import open_model

    model = open_model(Path(run), from_dict(MachineOptions, machine, "the command line"))
    explored = model.explain(name, note=_note, **settings)
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
    settings, machine = split_by_class(typed, (ReportOptions, MachineOptions), "the command line")
    from_dict(ReportOptions, settings, "the command line")
    from unrolled.api import open_model

    written = open_model(Path(run), from_dict(MachineOptions, machine, "the command line")).report(note=_note, **settings)
    print(json.dumps({"version": 1, **written.to_json()}) if as_json else written.summary())
    return 0


def _note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
