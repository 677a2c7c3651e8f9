"""The command line: one function a command, one library call each. torch is imported only once arguments are parsed."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import shlex
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled import __version__
from unrolled.errors import Interrupted, StorageError, UnrolledError, UsageError, nearest
from unrolled.flags import Parser
from unrolled.options import (
    BUDGETS,
    GROUPS,
    PRESETS,
    BenchOptions,
    EvaluateOptions,
    MachineOptions,
    PredictOptions,
    SampleOptions,
    TrainRequest,
    from_dict,
    split_by_class,
)
from unrolled.usage import BENCH, DOCTOR, EVAL, HELP, PREDICT, SAMPLE, TRAIN

if TYPE_CHECKING:
    from unrolled.api import TableModel


def train(arguments: list[str]) -> int:
    """Learn from texts."""
    parser = Parser("train", TRAIN)
    parser.add_argument("input", nargs="*", default=[], help="Files, folders, '-' for standard input, or builtin:python.")
    parser.value("--preset", "NAME", f"Settings of earlier work: {', '.join(PRESETS)}.")
    parser.value("--config", "FILE", "TOML file of settings, by the names of the flags.")
    parser.value("--resume", "RUN", "Run folder to go on with, exactly where it stopped.")
    titles = ("data", "model", "training", "machine", "run", "tables: columns", "tables: network")
    for title, kind in zip(titles, GROUPS, strict=True):
        parser.options(title, kind)
    typed = parser.parse(arguments)
    inputs, as_json, preset, config, resume = (typed.pop(name) for name in ("input", "json", "preset", "config", "resume"))
    if resume and (inputs or preset or config):
        raise UsageError("--resume goes on with the run's own text and settings: leave INPUT, --preset and --config out.")
    values = _settings_file(config)
    preset = preset or values.pop("preset", None)
    if any(name in typed for name in BUDGETS):
        values = {name: value for name, value in values.items() if name not in BUDGETS}
    request = TrainRequest.build(inputs, values | typed, config or "the command line", preset)
    request.check()
    print(f"unrolled {__version__}: {resume or ', '.join(inputs) or 'the built-in corpus'}", file=sys.stderr, flush=True)
    return _train(request, typed, resume, as_json)


def _train(request: TrainRequest, typed: dict[str, Any], resume: str | None, as_json: bool) -> int:
    from unrolled import job
    from unrolled.views.console import clock, observer

    with observer() as watching:
        work = job.resume(Path(resume), typed, watching) if resume else job.start(request, watching)
        outcome = work.train()
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


def _settings_file(config: str | None) -> dict[str, Any]:
    if config is None:
        return {}
    try:
        return tomllib.loads(Path(config).read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--config {config} cannot be read: {reason}.") from error


def sample(arguments: list[str]) -> int:
    """Write with a trained model."""
    parser = Parser("sample", SAMPLE)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.options("sampling", SampleOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, as_json = typed.pop("run"), typed.pop("json")
    settings, machine = split_by_class(typed, (SampleOptions, MachineOptions), "the command line")
    options = from_dict(SampleOptions, settings, "the command line")
    from unrolled.api import load
    from unrolled.inference.generate import first_seed

    model = load(run, **machine)
    for unknown, known in model.replaced(options.prompt).items():
        print(f"the model never saw {unknown!r}: {f'read as {known!r}' if known else 'left out'}", file=sys.stderr)
    if options.seed < 0:
        settings["seed"] = first_seed(options)
        print(f"seed {settings['seed']}", file=sys.stderr)
    if as_json:
        print(json.dumps({"version": 1, "samples": [dataclasses.asdict(drawn) for drawn in model.samples(**settings)]}))
    elif options.count == 1:
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
    from unrolled.views.console import printable

    if sys.stdout.isatty():
        return printable
    return lambda text: text.encode("utf-8", "replace").decode("utf-8")


def evaluate(arguments: list[str]) -> int:
    """Measure a model on a text."""
    parser = Parser("eval", EVAL)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", nargs="*", default=[], help="Texts; default: the run's own.")
    parser.options("evaluation", EvaluateOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, inputs, as_json = (typed.pop(name) for name in ("run", "input", "json"))
    settings, machine = split_by_class(typed, (EvaluateOptions, MachineOptions), "the command line")
    from_dict(EvaluateOptions, settings, "the command line")
    from unrolled.api import TableModel, open_model

    model = open_model(Path(run), from_dict(MachineOptions, machine, "the command line"))
    if isinstance(model, TableModel):
        return _evaluate_table(model, inputs, settings, as_json)
    result = model.evaluate(*inputs, **settings)
    if result.unknown:
        print(f"{result.unknown:,} characters that the model never saw are left out", file=sys.stderr)
    if as_json:
        answer: dict[str, Any] = {
            "nats_per_character": result.nats,
            "bits_per_character": result.bits,
            "characters": result.characters,
        }
        answer |= {"context": result.context, "baselines": {}, "unknown": result.unknown}
        print(json.dumps({"version": 1, **answer}))
    else:
        loss = f"{result.nats:.4f} nats, {result.bits:.4f} bits a character"
        print(f"{loss} over {result.characters:,} characters ({result.context})")
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


def predict(arguments: list[str]) -> int:
    """Answer the rows of a table."""
    parser = Parser("predict", PREDICT)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_argument("input", metavar="INPUT", help="Table with the source column.")
    parser.options("answers", PredictOptions)
    parser.options("machine", MachineOptions)
    typed = parser.parse(arguments)
    run, name, as_json = (typed.pop(name) for name in ("run", "input", "json"))
    settings, machine = split_by_class(typed, (PredictOptions, MachineOptions), "the command line")
    options = from_dict(PredictOptions, settings, "the command line")
    from unrolled.api import load_table
    from unrolled.views.answers import as_csv, as_document

    model = load_table(run, **machine)
    table, rows = model.answer_table(name, **settings)
    write = as_document if as_json else as_csv
    write(sys.stdout, table, model.task, rows, options)
    return 0


def bench(arguments: list[str]) -> int:
    """Measure this package against what people write instead."""
    parser = Parser("bench", BENCH)
    parser.add_argument("part", nargs="*", default=[], help="training, sampling, encoding, learning.")
    parser.options("benchmark", BenchOptions)
    typed = parser.parse(arguments)
    parts, as_json = typed.pop("part"), typed.pop("json")
    options = from_dict(BenchOptions, typed, "the command line")
    from unrolled.bench import PARTS, run

    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise UsageError(f"bench has no part '{unknown[0]}'{nearest(unknown[0], PARTS) or '.'} Parts: {', '.join(PARTS)}.")
    results = run(parts, options, note=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))
    print(json.dumps({"version": 1, **results}))
    return 0


def doctor(arguments: list[str]) -> int:
    """Tell what there is, and try it."""
    typed = Parser("doctor", DOCTOR).parse(arguments)
    print(f"unrolled {__version__}: looking around", file=sys.stderr, flush=True)
    from unrolled.doctor import examine, show

    findings = examine()
    print(json.dumps({"version": 1, **findings}) if typed["json"] else show(findings))
    return 0 if findings["self_test"]["passed"] else 1


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sample": sample,
    "predict": predict,
    "eval": evaluate,
    "bench": bench,
    "doctor": doctor,
}


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code. A mistake of the user's is one sentence; a bug keeps its traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with _quiet_interrupt():
            try:
                return _dispatch(arguments)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except UnrolledError as error:
        if debug:
            raise
        print(f"unrolled: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError, RuntimeError) as error:
        if debug:
            raise
        return _fault(error)


def _fault(error: Exception) -> int:
    """Tell of a fault of the machine in one sentence and return its exit code; raise what is a bug again."""
    if isinstance(error, BrokenPipeError):
        _drop_output()
        return 128 + 13  # SIGPIPE, which Windows does not name
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT):
        _drop_output()
        print(f"unrolled: the result cannot be written: {error.strerror}", file=sys.stderr)
        return 6
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error).lower():
        print("unrolled: out of memory: try a smaller --batch, --bptt, --hidden or --layers", file=sys.stderr)
        return 1
    raise error


def _drop_output() -> None:
    """Let what is still in stdout's buffer go nowhere, so that leaving does not fail once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Make Ctrl-C leave at once with one line while there is nothing to save; training has signals of its own.

    An exception would not do: one that comes up inside the import of torch is lost there, or breaks it.
    """

    def leave(number: int, frame: object) -> None:
        os.write(2, b"\nunrolled: interrupted\n")
        os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _dispatch(arguments: list[str]) -> int:
    if sys.stdout is None:
        raise StorageError("There is no standard output to write a result to: it is closed.")
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"unrolled {__version__}")
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UsageError(f"There is no command '{name}'{nearest(name, COMMANDS) or '.'} Commands: {', '.join(COMMANDS)}.")
    return COMMANDS[name](rest)
