"""Evaluate a model on a text or a table, with baselines.

The result is the loss on a text, in nats and bits per character, or the
metrics of the predictions on a table.

Examples:
  unrolled eval runs/book                    its own test split
  unrolled eval runs/book --split validation the one used for model selection
  unrolled eval runs/book other.txt          another text
  unrolled eval runs/book --window 256       to compare with windowed models
  unrolled eval runs/book --baselines        n-grams, compressors, uniform
  unrolled eval runs/book --adapt            and learning while it reads
  unrolled eval runs/questions test.csv      a table with both columns
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, accepted_options, print_note
from unrolled.display import plural, printable
from unrolled.errors import UsageError
from unrolled.option_rules import check_portable_machine, refuse_unused
from unrolled.options import EvaluateOptions, MachineOptions, flag_name, from_dict

if TYPE_CHECKING:
    from unrolled.analysis.baselines import Baselines
    from unrolled.evaluation.text_loss import Evaluation
    from unrolled.models.table import TableModel


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("eval", __doc__)
    parser.add_model()
    parser.add_argument("input", metavar="INPUT", nargs="*", default=[], help="Texts, or one table (default: the run's own).")
    parser.add_options("evaluation", EvaluateOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, inputs, as_json = (cli_values.pop(name) for name in ("run", "input", "json"))
    options, settings, machine_settings = parser.split_options(cli_values, EvaluateOptions)
    check_portable_machine(options.portable, machine_settings)
    from unrolled.api import open_model
    from unrolled.models.text import Model
    from unrolled.views.progress import MessageHandler

    model = open_model(Path(run_path), from_dict(MachineOptions, machine_settings, "the command line"))
    if not isinstance(model, Model):
        return _evaluate_table(model, inputs, settings, as_json)
    if not options.baselines:
        refuse_unused(options, settings, {"order": "is for --baselines"})
    with MessageHandler(print_note, "unrolled.models"), MessageHandler(print_note, "unrolled.analysis"):
        result = model.evaluate(*inputs, **accepted_options(model.evaluate, settings))
        adapted = result if options.adapt else None
        if adapted is not None:
            result = model.evaluate(*inputs, **accepted_options(model.evaluate, settings | {"adapt": False}))
        baselines = (
            model.baselines(*inputs, **accepted_options(model.baselines, settings)) if settings.get("baselines") else None
        )
    if result.num_unknown:
        print_note(f"left out: {plural(result.num_unknown, 'character')} of the text, never seen in training")
    if as_json:
        print_json(_result_to_json(result, adapted, baselines))
    else:
        _print_result(result, adapted, baselines, is_own_text=not inputs)
    return 0


def _print_result(result: Evaluation, adapted: Evaluation | None, baselines: Baselines | None, is_own_text: bool) -> None:
    loss_text = f"{result.nats:.4f} nats, {result.bits:.4f} bits per character"
    error = "" if result.standard_error is None else f" (standard error {result.standard_error / math.log(2):.4f} bits)"
    split = "the text" if result.split == "all" else f"the {result.split} split"
    print(f"{loss_text}{error} over {plural(result.num_chars, 'character')} of {split} ({result.context})")
    if result.num_tokens != result.num_chars:
        print(f"{result.bits_per_token:.4f} bits per token over {plural(result.num_tokens, 'token')}")
    if adapted is not None:
        print(f"{adapted.nats:.4f} nats, {adapted.bits:.4f} bits per character with --adapt, learning while it reads")
    if result.split == "validation" and is_own_text:
        print_note("the validation split was used to select the step and the temperature: its loss is a little too low")
    if baselines is not None:
        print(baselines.to_text(result.nats))


def _result_to_json(result: Evaluation, adapted: Evaluation | None, baselines: Baselines | None) -> dict[str, Any]:
    return {
        "nats_per_character": result.nats,
        "bits_per_character": result.bits,
        "standard_error": result.standard_error,
        "bits_per_token": result.bits_per_token,
        "characters": result.num_chars,
        "tokens": result.num_tokens,
        "split": result.split,
        "context": result.context,
        "baselines": {} if baselines is None else baselines.to_json(),
        "unknown": result.num_unknown,
        **({} if adapted is None else {"adapted_nats_per_character": adapted.nats, "adapted_bits_per_character": adapted.bits}),
    }


def _evaluate_table(model: TableModel, inputs: list[str], settings: dict[str, Any], as_json: bool) -> int:
    others = [flag_name(name) for name in settings if name not in ("split", "header", "encoding", "unknown")]
    if others or len(inputs) > 1:
        problem = f"{', '.join(others)} is for texts" if others else f"{len(inputs)} are given"
        raise UsageError(f"A table model is evaluated on one table (default: its held-out rows), and {problem}: remove it.")
    if set(settings) - {"split", "unknown"} and not inputs:
        raise UsageError("--header and --encoding are of another table, and none is given: name it, or leave them out.")
    from unrolled.views.progress import MessageHandler

    with MessageHandler(print_note):
        report = model.evaluate(*inputs, **settings)
    if not as_json:
        print(printable(report.to_text()))
        return 0
    metrics = dict(report.to_json()["metrics"])
    error_rate = metrics.get("character_error_rate", 1 - metrics["accuracy"] if "accuracy" in metrics else None)
    print_json({**metrics, "error_rate": error_rate, **report.to_json()})
    return 0
