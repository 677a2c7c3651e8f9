"""Show the hidden units of a model while it reads a text, as a page.

The result is one HTML page that works offline: the text colored by any unit,
the five most likely next characters, what each unit detects, and the effect
of setting a unit to a constant. With no INPUT, the text is the validation
split of the run. Of a model of a table, the page shows its answers to the
rows, errors first, and which words, steps or pixels moved each answer. Of a
model of series, it draws the series, the predictions and their errors.

Examples:
  unrolled explain runs/book
  unrolled explain runs/book page.txt --out page.html --length 2000
  unrolled explain runs/book --clamp 1.22=-1
  unrolled explain runs/questions new.csv
  unrolled explain runs/book --terminal --neuron 0.117
  unrolled explain runs/book --save-activations states.npz
"""

from __future__ import annotations

from pathlib import Path

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note
from unrolled.display import printable
from unrolled.errors import UsageError
from unrolled.option_rules import refuse_unused
from unrolled.options import ExplainOptions, MachineOptions, from_dict


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("explain", __doc__)
    parser.add_model()
    parser.add_argument("input", metavar="INPUT", nargs="?", default=None, help="A text, or '-' (default: validation split).")
    parser.add_options("explorer", ExplainOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, input_name, as_json = (cli_values.pop(key) for key in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, ExplainOptions)
    if options.neuron is not None and not options.terminal:
        raise UsageError(
            "--neuron is for --terminal, which is not given: add it, or leave --neuron out (the page shows every unit)."
        )
    if options.terminal:
        refuse_unused(options, settings, {"out": "names the page, and --terminal writes none"})
    from unrolled.api import open_model
    from unrolled.views.progress import MessageHandler

    model = open_model(Path(run_path), from_dict(MachineOptions, machine_settings, "the command line"))
    with MessageHandler(print_note, "unrolled.analysis"):
        result = model.explain(input_name, **settings)
    if as_json:
        print_json(result.to_json())
    elif options.terminal:
        result.print_colored(options.neuron)
    else:
        print(printable(result.summary()))
    return 0
