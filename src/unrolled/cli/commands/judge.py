"""`unrolled eval` and `unrolled score`: how good a model is on a text, as a whole and line by line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.cli.help import EVAL, SCORE
from unrolled.cli.parser import Parser, note
from unrolled.errors import UsageError
from unrolled.options import EvaluateOptions, MachineOptions, ScoreOptions, from_dict

if TYPE_CHECKING:
    from unrolled.api import TableModel
    from unrolled.evaluation.line_surprisal import Line, Scoring

SHOWN_LINES = 1000
"""Lines of the beginning that a heat map shows."""


def evaluate(arguments: list[str]) -> int:
    """Measure a model on a text."""
    parser = Parser("eval", EVAL)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="*", default=[], help="Texts; default: the run's own.")
    parser.options("evaluation", EvaluateOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, inputs, as_json = (typed.pop(name) for name in ("run", "input", "json"))
    _, settings, machine = parser.dealt(typed, EvaluateOptions)
    from unrolled.api import TableModel, open_model

    model = open_model(Path(run), from_dict(MachineOptions, machine, "the command line"))
    if isinstance(model, TableModel):
        return _evaluate_table(model, inputs, settings, as_json)
    result = model.evaluate(*inputs, **settings)
    beside = model.baselines(*inputs, note=note, **settings) if settings.get("baselines") else None
    if result.unknown:
        print(f"{result.unknown:,} characters that the model never saw are left out", file=sys.stderr)
    if as_json:
        answer: dict[str, Any] = {
            "nats_per_character": result.nats,
            "bits_per_character": result.bits,
            "characters": result.characters,
        }
        found = {} if beside is None else beside.to_json()
        answer |= {"context": result.context, "baselines": found, "unknown": result.unknown}
        print(json.dumps({"version": 1, **answer}))
    else:
        loss = f"{result.nats:.4f} nats, {result.bits:.4f} bits a character"
        print(f"{loss} over {result.characters:,} characters ({result.context})")
        if beside is not None:
            print(beside.table(result.nats))
    return 0


def _evaluate_table(model: TableModel, inputs: list[str], settings: dict[str, Any], as_json: bool) -> int:
    if settings or len(inputs) > 1:
        raise UsageError("A model of a table is evaluated on one table, or on the rows it held out: leave the rest out.")
    report = model.evaluate(*inputs)
    if not as_json:
        print(report.table())
        return 0
    metrics = dict(report.to_json()["metrics"])
    wrong = metrics.get("character_error_rate", 1 - metrics["accuracy"] if "accuracy" in metrics else None)
    print(json.dumps({"version": 1, **metrics, "error_rate": wrong, **report.to_json()}))
    return 0


def score(arguments: list[str]) -> int:
    """Tell how surprising the lines of a text are."""
    parser = Parser("score", SCORE)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="?", default=None, help="A text, a folder, or '-'; default: what the run held out.")
    parser.options("scores", ScoreOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, name, as_json = (typed.pop(key) for key in ("run", "input", "json"))
    options, settings, machine = parser.dealt(typed, ScoreOptions)
    if options.html is not None and as_json:
        raise UsageError("--html writes a page and --json a document: choose one.")
    from unrolled.api import load

    scoring = load(run, **machine).scoring(name, against=options.against, clamp=options.clamp)
    if options.html is not None:
        _score_page(scoring, options, name)
    elif as_json:
        _score_json(scoring, options, all_lines="top" not in settings)
    elif options.by == "character":
        _score_characters(scoring)
    else:
        _score_lines(scoring, options.top)
    return 0


def _score_json(scoring: Scoring, options: ScoreOptions, all_lines: bool) -> None:
    """Write one document, item by item as the text goes by; the sums come last, since they are known last."""
    out, many = sys.stdout, len(scoring.names) > 1
    items: Iterable[dict[str, Any]]
    if options.by == "character":
        items = (
            {
                "text": text,
                "bits": None if math.isnan(bits[0]) else bits[0],
                **({"all_bits": [None if math.isnan(own) else own for own in bits]} if many else {}),
            }
            for text, bits in scoring.symbols()
        )
    else:
        items = (_as_dict(line, many) for line in (scoring.lines() if all_lines else scoring.top(options.top)))
    out.write(f'{{"version": 1, "{"symbols" if options.by == "character" else "lines"}": [')
    for index, item in enumerate(items):
        out.write((",\n" if index else "\n") + json.dumps(item))
    totals = scoring.totals
    models = [
        {"name": name, "bits": totals.bits[i], "bits_per_character": totals.bits_per_character(i), "best_lines": totals.best[i]}
        for i, name in enumerate(scoring.names)
    ]
    rest = {"characters": totals.characters, "bits": totals.bits[0], "bits_per_character": totals.bits_per_character()}
    out.write("],\n" + json.dumps({**rest, "unknown": totals.unknown, "models": models})[1:] + "\n")


def _as_dict(line: Line, many: bool) -> dict[str, Any]:
    item: dict[str, Any] = {"line": line.number, "bits": line.bits[0], "characters": line.characters, "surprise": line.surprise}
    if line.unknown:
        item["unknown"] = line.unknown
    if many:
        item["all_bits"] = line.bits
    return {**item, "text": line.text}


def _score_characters(scoring: Scoring) -> None:
    import numpy as np
    from rich.console import Console

    from unrolled.views.colored_text import by_surprise, coloured

    if not sys.stdout.isatty():
        for text, bits in scoring.symbols():
            print("\t".join([json.dumps(text, ensure_ascii=False), *(f"{own:.3f}" for own in bits)]))
        return
    console = Console(highlight=False)
    waiting: list[tuple[str, float]] = []
    for text, bits in scoring.symbols():
        waiting.append((text, bits[0]))
        if text == "\n":
            console.print(coloured([t for t, _ in waiting], np.array([b for _, b in waiting]), by_surprise), end="")
            waiting = []
    console.print(coloured([t for t, _ in waiting], np.array([b for _, b in waiting]), by_surprise))
    print(_sums(scoring), file=sys.stderr)


def _score_lines(scoring: Scoring, top: int) -> None:
    from unrolled.views.colored_text import lines_table

    found = scoring.top(top)
    print(_sums(scoring))
    if found:
        lines_table(scoring.names, found, sys.stdout.isatty())


def _score_page(scoring: Scoring, options: ScoreOptions, name: str | None) -> None:
    from unrolled.atomic_io import write_bytes
    from unrolled.views.surprisal_page import heat_page

    beginning, top = scoring.beginning_and_top(SHOWN_LINES, options.top)
    title = name if name is not None else "what the run held out"
    write_bytes(Path(options.html or ""), heat_page(title, scoring.names, scoring.totals, beginning, top).encode())
    print(_sums(scoring))
    print(f"page: {options.html}")


def _sums(scoring: Scoring) -> str:
    """Return what a text costs each model, in words."""
    totals = scoring.totals
    unknown = f", {totals.unknown:,} of them unknown" if totals.unknown else ""
    said = [f"{totals.characters:,} characters{unknown} in {totals.lines:,} lines"]
    for i, name in enumerate(scoring.names):
        own = totals.bits_per_character(i)
        beside = f" ({own - totals.bits_per_character():+.4f}; best of {totals.best[i]:,} lines)" if i else ""
        said.append(f"{own:.4f} bits a character: {name}{beside}")
    if len(scoring.names) > 1 + scoring.held and totals.characters:
        ahead, behind = sorted(totals.bits)[:2]
        said.append(f"closest: {scoring.names[totals.bits.index(ahead)]}, by {behind - ahead:,.0f} bits in all")
    return "\n".join(said)
