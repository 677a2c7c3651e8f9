"""`unrolled sample` and `unrolled predict`: what a model writes, and what it answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from unrolled import JSON_VERSION
from unrolled.cli.help import PREDICT_HELP, SAMPLE_HELP
from unrolled.cli.parser import CommandParser
from unrolled.options import MachineOptions, PredictOptions, SampleOptions


def sample(argv: list[str]) -> int:
    """Write with a trained model."""
    parser = CommandParser("sample", SAMPLE_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_options("sampling", SampleOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, as_json = cli_values.pop("run"), cli_values.pop("json")
    options, settings, machine_settings = parser.split_options(cli_values, SampleOptions)
    from unrolled.api import load
    from unrolled.generation.sampling import resolve_seed

    model = load(run, **machine_settings)
    for char, replacement in model.replaced_characters(options.prompt).items():
        print(f"the model never saw {char!r}: {f'read as {replacement!r}' if replacement else 'left out'}", file=sys.stderr)
    if options.seed < 0:
        settings["seed"] = resolve_seed(options)
        print(f"seed {settings['seed']}", file=sys.stderr)
    if as_json:
        samples = [sample_result.to_json() for sample_result in model.samples(**settings)]
        print(json.dumps({"version": JSON_VERSION, "samples": samples, **model.sampling_backend(**settings)}))
    elif options.count == 1:
        if options.novel_only:
            _print_stream(next(model.samples(**settings)).text, iter(()))
        else:
            _print_stream(options.prompt, model.stream(**settings))
    else:
        _print_samples(model.samples(**settings), one_per_line=model.model_file.documents == "line")
    return 0


def _print_stream(prompt: str, pieces: Iterator[str]) -> None:
    to_printable = _output_filter()
    sys.stdout.write(to_printable(prompt))
    for piece in pieces:
        sys.stdout.write(to_printable(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_samples(samples: Iterator[Any], one_per_line: bool) -> None:
    to_printable = _output_filter()
    for sample_result in samples:
        print(
            to_printable(sample_result.text)
            if one_per_line
            else f"=== seed {sample_result.seed} ===\n{to_printable(sample_result.text)}\n",
            flush=True,
        )


def _output_filter() -> Callable[[str], str]:
    """Return how text is printed: as it is into a pipe or file, without control characters on a terminal."""
    from unrolled.views.progress import strip_control_chars

    if sys.stdout.isatty():
        return strip_control_chars
    return lambda text: text.encode("utf-8", "replace").decode("utf-8")


def predict(argv: list[str]) -> int:
    """Answer the rows of a table."""
    parser = CommandParser("predict", PREDICT_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", metavar="INPUT", help="Table with the source column.")
    parser.add_options("answers", PredictOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, table_name, as_json = (cli_values.pop(table_name) for table_name in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, PredictOptions)
    from unrolled.api import load_table
    from unrolled.views.prediction_writer import write_csv, write_json

    model = load_table(run, **machine_settings)
    table, rows = model.predict_table(table_name, **settings)
    write = write_json if as_json else write_csv
    write(sys.stdout, table, model.spec, rows, options)
    return 0
