"""`unrolled eval` and `unrolled score`: how good a model is on a text, as a whole and line by line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled import JSON_VERSION
from unrolled.cli.help import EVAL_HELP, SCORE_HELP
from unrolled.cli.parser import CommandParser, print_note
from unrolled.errors import UsageError
from unrolled.options import EvaluateOptions, MachineOptions, ScoreOptions, from_dict

if TYPE_CHECKING:
    from unrolled.api import TableModel
    from unrolled.evaluation.line_surprisal import ScoredLine, ScoringStream

MAX_PAGE_LINES = 1000
"""Lines of the beginning that a heat map shows."""


def evaluate(argv: list[str]) -> int:
    """Measure a model on a text."""
    parser = CommandParser("eval", EVAL_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="*", default=[], help="Texts; default: the run's own.")
    parser.add_options("evaluation", EvaluateOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, inputs, as_json = (cli_values.pop(name) for name in ("run", "input", "json"))
    _, settings, machine_settings = parser.split_options(cli_values, EvaluateOptions)
    from unrolled.api import TableModel, open_model

    model = open_model(Path(run), from_dict(MachineOptions, machine_settings, "the command line"))
    if isinstance(model, TableModel):
        return _evaluate_table(model, inputs, settings, as_json)
    result = model.evaluate(*inputs, **settings)
    baselines = model.baselines(*inputs, note=print_note, **settings) if settings.get("baselines") else None
    if result.num_unknown:
        print(f"{result.num_unknown:,} characters that the model never saw are left out", file=sys.stderr)
    if as_json:
        document: dict[str, Any] = {
            "nats_per_character": result.nats,
            "bits_per_character": result.bits,
            "characters": result.num_chars,
        }
        baseline_nats = {} if baselines is None else baselines.to_json()
        document |= {"context": result.context, "baselines": baseline_nats, "unknown": result.num_unknown}
        print(json.dumps({"version": JSON_VERSION, **document}))
    else:
        loss_text = f"{result.nats:.4f} nats, {result.bits:.4f} bits per character"
        print(f"{loss_text} over {result.num_chars:,} characters ({result.context})")
        if baselines is not None:
            print(baselines.to_text(result.nats))
    return 0


def _evaluate_table(model: TableModel, inputs: list[str], settings: dict[str, Any], as_json: bool) -> int:
    if settings or len(inputs) > 1:
        raise UsageError("A model of a table is evaluated on one table, or on the rows it held out: leave the rest out.")
    report = model.evaluate(*inputs)
    if not as_json:
        print(report.to_text())
        return 0
    metrics = dict(report.to_json()["metrics"])
    error_rate = metrics.get("character_error_rate", 1 - metrics["accuracy"] if "accuracy" in metrics else None)
    print(json.dumps({"version": JSON_VERSION, **metrics, "error_rate": error_rate, **report.to_json()}))
    return 0


def score(argv: list[str]) -> int:
    """Tell how surprising the lines of a text are."""
    parser = CommandParser("score", SCORE_HELP)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="?", default=None, help="A text, a folder, or '-'; default: what the run held out.")
    parser.add_options("scores", ScoreOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run, input_name, as_json = (cli_values.pop(key) for key in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, ScoreOptions)
    if options.html is not None and as_json:
        raise UsageError("--html writes a page and --json a document: choose one.")
    from unrolled.api import load

    scoring = load(run, **machine_settings).scoring(input_name, compare=options.compare, clamp=options.clamp)
    if options.html is not None:
        _write_page(scoring, options, input_name)
    elif as_json:
        _print_json(scoring, options, all_lines="top" not in settings)
    elif options.per == "character":
        _print_characters(scoring)
    else:
        _print_lines(scoring, options.top)
    return 0


def _print_json(scoring: ScoringStream, options: ScoreOptions, all_lines: bool) -> None:
    """Write one document, item by item as the text goes by; the sums come last, since they are known last."""
    out, has_several_models = sys.stdout, len(scoring.model_names) > 1
    items: Iterable[dict[str, Any]]
    if options.per == "character":
        items = (
            {
                "text": text,
                "bits": None if math.isnan(bits[0]) else bits[0],
                **(
                    {"all_bits": [None if math.isnan(model_bits) else model_bits for model_bits in bits]}
                    if has_several_models
                    else {}
                ),
            }
            for text, bits in scoring.tokens()
        )
    else:
        items = (
            _line_dict(line, has_several_models) for line in (scoring.lines() if all_lines else scoring.top_lines(options.top))
        )
    out.write(f'{{"version": {JSON_VERSION}, "{"tokens" if options.per == "character" else "lines"}": [')
    for index, item in enumerate(items):
        out.write((",\n" if index else "\n") + json.dumps(item))
    totals = scoring.totals
    models = [
        {
            "name": name,
            "bits": totals.bits[i],
            "bits_per_character": totals.bits_per_character(i),
            "best_lines": totals.best_lines[i],
        }
        for i, name in enumerate(scoring.model_names)
    ]
    summary = {"characters": totals.num_chars, "bits": totals.bits[0], "bits_per_character": totals.bits_per_character()}
    out.write("],\n" + json.dumps({**summary, "unknown": totals.num_unknown, "models": models})[1:] + "\n")


def _line_dict(line: ScoredLine, has_several_models: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "line": line.number,
        "bits": line.bits[0],
        "characters": line.num_chars,
        "excess_surprisal": line.excess_surprisal,
    }
    if line.num_unknown:
        item["unknown"] = line.num_unknown
    if has_several_models:
        item["all_bits"] = line.bits
    return {**item, "text": line.text}


def _print_characters(scoring: ScoringStream) -> None:
    import numpy as np
    from rich.console import Console

    from unrolled.views.colored_text import color_text, surprisal_color

    if not sys.stdout.isatty():
        for text, bits in scoring.tokens():
            print("\t".join([json.dumps(text, ensure_ascii=False), *(f"{model_bits:.3f}" for model_bits in bits)]))
        return
    console = Console(highlight=False)
    line: list[tuple[str, float]] = []
    for text, bits in scoring.tokens():
        line.append((text, bits[0]))
        if text == "\n":
            console.print(
                color_text(
                    [token_text for token_text, _ in line], np.array([token_bits for _, token_bits in line]), surprisal_color
                ),
                end="",
            )
            line = []
    console.print(
        color_text([token_text for token_text, _ in line], np.array([token_bits for _, token_bits in line]), surprisal_color)
    )
    print(_summary(scoring), file=sys.stderr)


def _print_lines(scoring: ScoringStream, num_lines: int) -> None:
    from unrolled.views.colored_text import print_lines

    lines = scoring.top_lines(num_lines)
    print(_summary(scoring))
    if lines:
        print_lines(scoring.model_names, lines, sys.stdout.isatty())


def _write_page(scoring: ScoringStream, options: ScoreOptions, input_name: str | None) -> None:
    from unrolled.atomic_io import write_atomic
    from unrolled.views.surprisal_page import surprisal_page

    first_lines, top_lines = scoring.first_and_top_lines(MAX_PAGE_LINES, options.top)
    title = input_name if input_name is not None else "what the run held out"
    write_atomic(
        Path(options.html or ""), surprisal_page(title, scoring.model_names, scoring.totals, first_lines, top_lines).encode()
    )
    print(_summary(scoring))
    print(f"page: {options.html}")


def _summary(scoring: ScoringStream) -> str:
    """Return what a text costs each model, in words."""
    totals = scoring.totals
    unknown_note = f", {totals.num_unknown:,} of them unknown" if totals.num_unknown else ""
    lines = [f"{totals.num_chars:,} characters{unknown_note} in {totals.num_lines:,} lines"]
    for i, name in enumerate(scoring.model_names):
        model_bits = totals.bits_per_character(i)
        comparison = f" ({model_bits - totals.bits_per_character():+.4f}; best of {totals.best_lines[i]:,} lines)" if i else ""
        lines.append(f"{model_bits:.4f} bits per character: {name}{comparison}")
    if len(scoring.model_names) > 1 + scoring.num_clamped and totals.num_chars:
        best_bits, second_bits = sorted(totals.bits)[:2]
        lines.append(
            f"closest: {scoring.model_names[totals.bits.index(best_bits)]}, by {second_bits - best_bits:,.0f} bits in all"
        )
    return "\n".join(lines)
