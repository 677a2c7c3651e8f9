"""`unrolled sample` and `unrolled predict`: what a model writes, and what it answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

from unrolled.cli.help import PREDICT, SAMPLE
from unrolled.cli.parser import Parser
from unrolled.options import MachineOptions, PredictOptions, SampleOptions


def sample(arguments: list[str]) -> int:
    """Write with a trained model."""
    parser = Parser("sample", SAMPLE)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.options("sampling", SampleOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, as_json = typed.pop("run"), typed.pop("json")
    options, settings, machine = parser.dealt(typed, SampleOptions)
    from unrolled.api import load
    from unrolled.generation.sampling import first_seed

    model = load(run, **machine)
    for unknown, known in model.replaced(options.prompt).items():
        print(f"the model never saw {unknown!r}: {f'read as {known!r}' if known else 'left out'}", file=sys.stderr)
    if options.seed < 0:
        settings["seed"] = first_seed(options)
        print(f"seed {settings['seed']}", file=sys.stderr)
    if as_json:
        samples = [drawn.to_json() for drawn in model.samples(**settings)]
        print(json.dumps({"version": 1, "samples": samples, **model.sampling(**settings)}))
    elif options.count == 1:
        if options.novel_only:
            _print_pieces(next(model.samples(**settings)).text, iter(()))
        else:
            _print_pieces(options.prompt, model.stream(**settings))
    else:
        _print_samples(model.samples(**settings), one_a_line=model.saved.unit == "line")
    return 0


def _print_pieces(prompt: str, pieces: Iterator[str]) -> None:
    show = _shown()
    sys.stdout.write(show(prompt))
    for piece in pieces:
        sys.stdout.write(show(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_samples(samples: Iterator[Any], one_a_line: bool) -> None:
    show = _shown()
    for drawn in samples:
        print(show(drawn.text) if one_a_line else f"=== seed {drawn.seed} ===\n{show(drawn.text)}\n", flush=True)


def _shown() -> Callable[[str], str]:
    """Return how text is printed: as it is into a pipe or file, without control characters on a terminal."""
    from unrolled.views.progress import printable

    if sys.stdout.isatty():
        return printable
    return lambda text: text.encode("utf-8", "replace").decode("utf-8")


def predict(arguments: list[str]) -> int:
    """Answer the rows of a table."""
    parser = Parser("predict", PREDICT)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", metavar="INPUT", help="Table with the source column.")
    parser.options("answers", PredictOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, name, as_json = (typed.pop(name) for name in ("run", "input", "json"))
    options, settings, machine = parser.dealt(typed, PredictOptions)
    from unrolled.api import load_table
    from unrolled.views.prediction_writer import as_csv, as_document

    model = load_table(run, **machine)
    table, rows = model.answer_table(name, **settings)
    write = as_document if as_json else as_csv
    write(sys.stdout, table, model.task, rows, options)
    return 0
