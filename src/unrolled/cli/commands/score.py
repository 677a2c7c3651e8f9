"""Report how surprising each line or character of a text is.

Lines are scored in bits; the most surprising ones come first: those with the
highest excess, their bits above the mean of the text so far, divided by the
square root of their number of tokens. With no INPUT,
the validation split of the run is scored. A text of any length is read as a
stream. --compare adds other models: who wrote this text?

Examples:
  unrolled score runs/log new.log --top 50
  cat new.log | unrolled score runs/log - --json > scores.json
  unrolled score runs/austen letter.txt --compare runs/bronte
  unrolled score runs/book --clamp 1.22=0        what a unit is worth, in bits
  unrolled score runs/book page.txt --html heat.html
  unrolled score builtin:english letter.txt --adapt
  unrolled score runs/log new.log --alert-rate 0.001
  unrolled score runs/log labeled.csv --label label --alert-rate 0.001
  unrolled score runs/log --follow /var/log/app.log --alert-rate 0.0001 --json
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.cli import alerts
from unrolled.cli.json_output import write_json_list
from unrolled.cli.parser import CommandParser, accepted_options, print_note
from unrolled.display import plural, printable
from unrolled.errors import UsageError
from unrolled.option_rules import check_portable_machine, refuse_unused
from unrolled.options import AlertOptions, MachineOptions, ScoreOptions, from_dict, split_by_class
from unrolled.output_paths import check_outputs

if TYPE_CHECKING:
    from unrolled.evaluation.line_surprisal import ScoredLine, ScoringStream

MAX_PAGE_LINES = 1000
"""Number of lines at the beginning of a text that the heat map shows."""


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("score", __doc__)
    parser.add_model()
    parser.add_argument(
        "input", metavar="INPUT", nargs="?", default=None, help="A text, a folder, or '-' (default: validation split)."
    )
    parser.add_options("scores", ScoreOptions)
    parser.add_options("alerts", AlertOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, input_name, as_json = (cli_values.pop(key) for key in ("run", "input", "json"))
    alert_settings, settings, machine_settings = split_by_class(
        cli_values, (AlertOptions, ScoreOptions, MachineOptions), "the command line"
    )
    options = from_dict(ScoreOptions, settings, "the command line")
    alert_options = from_dict(AlertOptions, alert_settings, "the command line")
    check_portable_machine(options.portable, machine_settings)
    _check_settings(options, settings, as_json)
    if alert_settings:
        alerts.check_settings(alert_options, options, settings, input_name)
    from unrolled.api import load
    from unrolled.views.progress import MessageHandler

    model = load(run_path, **machine_settings)
    check_outputs(options, (run_path, model.path, input_name, *options.compare), model.session.run_path)
    with MessageHandler(print_note, "unrolled"):
        if alert_settings:
            alerts.print_alerts(model, input_name, alert_options, options, as_json)
        else:
            scoring = model.scoring(input_name, **accepted_options(model.scoring, settings))
            _print_scores(scoring, options, input_name, as_json, all_lines="top" not in settings)
    return 0


def _check_settings(options: ScoreOptions, settings: Mapping[str, Any], as_json: bool) -> None:
    """Raise `UsageError` for settings that do not fit together."""
    if options.html is not None and as_json:
        raise UsageError("--html and --json are given, and one output format is expected: choose one.")
    if options.html is not None:
        refuse_unused(options, settings, {"per": "is for the terminal and --json, and --html shows lines and characters"})
    elif options.per == "character":
        refuse_unused(options, settings, {"top": "is for --per line"})


def _print_scores(
    scoring: ScoringStream, options: ScoreOptions, input_name: str | None, as_json: bool, all_lines: bool
) -> None:
    if options.html is not None:
        _write_page(scoring, options, input_name)
    elif as_json:
        _print_json(scoring, options, all_lines)
    elif options.per == "character":
        _print_characters(scoring)
    else:
        _print_lines(scoring, options.top)


def _print_json(scoring: ScoringStream, options: ScoreOptions, all_lines: bool) -> None:
    """Write one document, item by item while the text is read; the totals come last."""
    has_several_models = len(scoring.model_names) > 1
    items: Iterable[dict[str, Any]]
    if options.per == "character":
        items = (
            {
                "text": text,
                "bits": _known(bits[0]),
                **({"all_bits": [_known(model_bits) for model_bits in bits]} if has_several_models else {}),
            }
            for text, bits in scoring.tokens()
        )
    else:
        items = (
            _line_dict(line, has_several_models) for line in (scoring.lines() if all_lines else scoring.top_lines(options.top))
        )
    write_json_list("tokens" if options.per == "character" else "lines", items, lambda: _totals_dict(scoring))


def _totals_dict(scoring: ScoringStream) -> dict[str, Any]:
    totals = scoring.totals
    models = [
        {
            "name": name,
            "bits": totals.bits[i],
            "bits_per_character": _known(totals.bits_per_character(i)),
            "bits_per_token": _known(totals.bits_per_token(i)),
            "best_lines": totals.best_lines[i],
        }
        for i, name in enumerate(scoring.model_names)
    ]
    summary = {"characters": totals.num_chars, "bits": totals.bits[0], "bits_per_character": models[0]["bits_per_character"]}
    return {**summary, "unknown": totals.num_unknown, "models": models}


def _known(bits: float) -> float | None:
    """Return bits as JSON has them: null where nothing was predicted."""
    return None if math.isnan(bits) else bits


def _line_dict(line: ScoredLine, has_several_models: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        **({} if line.file is None else {"file": line.file}),
        "line": line.number_in_file,
        "bits": line.bits[0],
        "characters": line.num_chars,
        "excess_surprisal": line.excess_surprisal,
    }
    if line.num_unknown:
        item["unknown"] = line.num_unknown
    if has_several_models:
        item["all_bits"] = line.bits
    if line.key is not None:
        item["session"] = line.key
    return {**item, "text": line.text} if line.source is None else {**item, "text": line.source, "masked": line.text}


def _print_characters(scoring: ScoringStream) -> None:
    import numpy as np

    from unrolled.views.colored_text import ResultConsole, color_text, surprisal_color

    if not sys.stdout.isatty():
        for text, bits in scoring.tokens():
            print("\t".join([json.dumps(text, ensure_ascii=False), *(f"{model_bits:.3f}" for model_bits in bits)]))
        return
    console = ResultConsole(highlight=False)
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
    print_note(_summary(scoring))


def _print_lines(scoring: ScoringStream, num_lines: int) -> None:
    from unrolled.views.colored_text import print_lines

    lines = scoring.top_lines(num_lines)
    print(printable(_summary(scoring)))
    if lines:
        print_lines(scoring.model_names, lines, sys.stdout.isatty())


def _write_page(scoring: ScoringStream, options: ScoreOptions, input_name: str | None) -> None:
    from unrolled.atomic_io import write_atomic
    from unrolled.views.surprisal_page import surprisal_page

    first_lines, top_lines = scoring.first_and_top_lines(MAX_PAGE_LINES, options.top)
    title = input_name if input_name is not None else "validation split"
    write_atomic(
        Path(options.html or ""), surprisal_page(title, scoring.model_names, scoring.totals, first_lines, top_lines).encode()
    )
    print(printable(_summary(scoring)))
    print(printable(f"page: {options.html}"))


def _summary(scoring: ScoringStream) -> str:
    """Return the totals of each model as lines of text."""
    totals = scoring.totals
    unknown_note = f", {totals.num_unknown:,} of them unknown" if totals.num_unknown else ""
    lines = [f"{plural(totals.num_chars, 'character')}{unknown_note} in {plural(totals.num_lines, 'line')}"]
    for i, name in enumerate(scoring.model_names):
        model_bits = totals.bits_per_character(i)
        comparison = (
            f" ({model_bits - totals.bits_per_character():+.4f}; best of {plural(totals.best_lines[i], 'line')})" if i else ""
        )
        per_token = f", {totals.bits_per_token(i):.4f} per token" if totals.num_tokens != totals.num_chars else ""
        found = (
            f"{model_bits:.4f} bits per character{per_token}"
            if totals.num_chars
            else "nothing to predict: at least 2 characters are needed"
        )
        lines.append(f"{found}: {name}{comparison}")
    if len(scoring.model_names) > 1 + scoring.num_clamped and totals.num_chars:
        best_bits, second_bits = sorted(totals.bits)[:2]
        lines.append(
            f"closest: {scoring.model_names[totals.bits.index(best_bits)]}, by {second_bits - best_bits:,.0f} bits in total"
        )
    return "\n".join(lines)
