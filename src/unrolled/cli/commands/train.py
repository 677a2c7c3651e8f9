"""`unrolled train`."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled import __version__
from unrolled.cli.help import TRAIN
from unrolled.cli.parser import Parser
from unrolled.errors import Interrupted, UsageError
from unrolled.options import BUDGETS, GROUPS, PRESETS, TrainRequest

if TYPE_CHECKING:
    from unrolled.training.launch import Outcome


def train(arguments: list[str]) -> int:
    """Learn from texts."""
    parser = Parser("train", TRAIN)
    parser.add_argument("input", nargs="*", default=[], help="Files, folders, '-' for standard input, or builtin:python.")
    parser.value("--preset", "NAME", f"Settings of earlier work: {', '.join(PRESETS)}.")
    parser.value("--config", "FILE", "TOML file of settings, by the names of the flags.")
    parser.value("--resume", "RUN", "Run folder to go on with, exactly where it stopped.")
    parser.switch("--allow-change", "Go on though versions, machine or rates are others than before.")
    titles = ("data", "model", "training", "machine", "run", "tables: columns", "tables: network")
    for title, kind in zip(titles, GROUPS, strict=True):
        parser.options(title, kind)
    typed = parser.parse(arguments)
    inputs, as_json, preset, config, resume = (typed.pop(name) for name in ("input", "json", "preset", "config", "resume"))
    allow = typed.pop("allow_change")
    if allow and not resume:
        raise UsageError("--allow-change is for --resume: a new run has nothing that could have changed.")
    if resume and (inputs or preset or config):
        raise UsageError("--resume goes on with the run's own text and settings: leave INPUT, --preset and --config out.")
    values = _settings_file(config)
    preset = preset or values.pop("preset", None)
    if any(name in typed for name in BUDGETS):
        values = {name: value for name, value in values.items() if name not in BUDGETS}
    request = TrainRequest.build(inputs, values | typed, config or "the command line", preset)
    request.check()
    if os.environ.get("RANK", "0") == "0":
        print(f"unrolled {__version__}: {resume or ', '.join(inputs) or 'the built-in corpus'}", file=sys.stderr, flush=True)
    return _train(request, typed, resume, as_json, allow)


def _train(request: TrainRequest, typed: dict[str, Any], resume: str | None, as_json: bool, allow: bool) -> int:
    from unrolled.training import launch
    from unrolled.views.progress import clock, observer

    with observer() as watching:
        work = launch.resume(Path(resume), typed, watching, allow) if resume else launch.start(request, watching)
        outcome = work.train()
    if not work.process_group.is_main:
        return _left(outcome)
    if as_json:
        print(json.dumps({"version": 1, **dataclasses.asdict(outcome)}), flush=True)
    loss = ""
    if outcome.val_nats is not None:
        loss = f"\nbest validation: {outcome.val_bits:.3f} bits, {outcome.val_nats:.4f} nats a {outcome.unit}"
    print(
        f"{outcome.steps:,} steps, {outcome.epochs:.2f} epochs in {clock(outcome.train_seconds)}{loss}",
        file=sys.stderr,
    )
    if outcome.verdict:
        print(outcome.verdict, file=sys.stderr)
    run = shlex.quote(outcome.run)
    if outcome.stopped is None:
        verb = "sample" if outcome.unit == "character" else "eval"
        print(f"next: unrolled {verb} {run}", file=sys.stderr)
        return 0
    message = f"stopped and saved; go on with: unrolled train --resume {run}"
    if outcome.stopped:
        raise Interrupted(message, outcome.stopped)
    print(message, file=sys.stderr)
    return 0


def _left(outcome: Outcome) -> int:
    """Leave one of several processes in silence: the first one talks."""
    if outcome.stopped:
        raise Interrupted("stopped", outcome.stopped)
    return 0


def _settings_file(config: str | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        return tomllib.loads(Path(config).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--config {config} cannot be read: {reason}.") from error
