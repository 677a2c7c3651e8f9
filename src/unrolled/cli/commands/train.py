"""Train a model on texts or a table (no INPUT: a built-in corpus).

With --source and --target, the model learns to predict one column of a table
(CSV, TSV, JSON lines, Parquet) from one or several others. The kind of each
column is inferred, or given as COLUMN:KIND.

Examples:
  unrolled train book.txt
  unrolled train questions.csv --source question --target label
  unrolled train pairs.tsv --source de --target en --minutes 20
  unrolled train people.csv --source age,income,review --target rating
  unrolled train images.csv --source file:image --target caption
  unrolled train builtin:dates
  unrolled train book.txt --minutes 10 --hidden 512
  unrolled train poems.txt --from builtin:english
  unrolled train names.txt --documents line
  cat *.log | unrolled train - --tokens bytes
  unrolled train book.txt --preset char-rnn
  unrolled train --resume runs/book --minutes 20
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, program_name
from unrolled.display import one_line, plural, shell_argument
from unrolled.errors import Interrupted, UsageError
from unrolled.options import BUDGET_OPTIONS, GROUP_TITLES, OPTION_CLASSES, PRESETS, TrainRequest, present_names

MAX_SHOWN_INPUTS = 400
"""Characters of the names of inputs in the first line."""


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("train", __doc__)
    add_training_flags(parser)
    parser.add_value("--resume", "RUN", "Run folder of a training to continue where it stopped.")
    parser.add_switch("--allow-change", "With --resume: accept other versions, another machine, or other learning rates.")
    cli_values = parser.parse_cli_values(argv)
    inputs, as_json, resume = (cli_values.pop(name) for name in ("input", "json", "resume"))
    allow_change = cli_values.pop("allow_change")
    if allow_change and not resume:
        raise UsageError("--allow-change is for --resume, which is not given: leave it out.")
    if resume and (inputs or cli_values["preset"] or cli_values["config"]):
        raise UsageError("--resume continues with the run's own text and settings: leave INPUT, --preset and --config out.")
    request = read_request(inputs, cli_values)
    if os.environ.get("RANK", "0") == "0":
        trained_on = one_line(resume or ", ".join(inputs) or "the built-in corpus", MAX_SHOWN_INPUTS)
        print(f"unrolled {__version__}: {trained_on}", file=sys.stderr, flush=True)
    return _run_training(request, cli_values, resume, as_json, allow_change)


def add_training_flags(parser: CommandParser) -> None:
    """Add INPUT and all settings of a training."""
    parser.add_argument(
        "input", metavar="INPUT", nargs="*", default=[], help="Files, folders, '-' for standard input, or builtin:python."
    )
    parser.add_value("--preset", "NAME", f"Settings of earlier work: {', '.join(PRESETS)}.")
    parser.add_value("--config", "FILE", "TOML file with settings; its keys are the names of the flags.")
    for title, kind in zip(GROUP_TITLES, OPTION_CLASSES, strict=True):
        parser.add_options(title, kind)


def read_request(inputs: list[str], cli_values: dict[str, Any]) -> TrainRequest:
    """Return the checked request of inputs, preset, configuration file and flags; takes the first two out of `cli_values`."""
    preset, config = cli_values.pop("preset"), cli_values.pop("config")
    file_settings = _read_config(config)
    preset = preset or file_settings.pop("preset", None)
    if any(name in cli_values for name in BUDGET_OPTIONS):
        file_settings = {name: value for name, value in file_settings.items() if name not in BUDGET_OPTIONS}
    request = TrainRequest.build(tuple(inputs), file_settings | cli_values, config or "the command line", preset)
    request.check()
    return request


def _run_training(
    request: TrainRequest, cli_values: dict[str, Any], resume: str | None, as_json: bool, allow_change: bool
) -> int:
    from unrolled.training import launch
    from unrolled.views.progress import format_duration, make_progress

    with make_progress() as progress:
        training_run = (
            launch.resume_run(Path(resume), cli_values, progress, allow_change)
            if resume
            else launch.start_run(request, progress)
        )
        result = training_run.train()
    if not training_run.process_group.is_main:  # only the main process prints
        if result.stop_signal:
            raise Interrupted("stopped", result.stop_signal)
        return 0
    if as_json:
        print_json(dataclasses.asdict(result))
    loss_text = "" if result.val_nats is None else f"\nbest validation: {result.val_loss_text}"
    print(
        f"{plural(result.steps, 'step')}, {result.epochs:.2f} epochs in {format_duration(result.train_seconds)}{loss_text}",
        file=sys.stderr,
    )
    for message in filter(None, (result.test_summary, result.diagnosis)):
        print(message, file=sys.stderr)
    run = shell_argument(result.run)
    if result.stop_signal is None:
        is_log = training_run.request.data.mask is not None
        verb = "eval" if result.loss_unit != "character" else "score" if is_log else "sample"
        song = " --midi new.mid" if training_run.request.data.tokens.startswith("midi") else ""
        print(f"next: {program_name()} {verb} {run}{song}", file=sys.stderr)
        return 0
    message = f"stopped and saved; continue with: {program_name()} train --resume {run}"
    if result.stop_signal:
        raise Interrupted(message, result.stop_signal)
    print(message, file=sys.stderr)
    return 0


def _read_config(config: str | None) -> dict[str, Any]:
    if config is None:
        return {}
    import tomllib  # here, since it takes a tenth of the time of --help

    try:
        return present_names(tomllib.loads(Path(config).read_text("utf-8")), OPTION_CLASSES)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--config {config} cannot be read: {reason}.") from error
