"""Generate text with a trained model.

Examples:
  unrolled sample runs/book
  unrolled sample runs/book --prompt "Once upon" --temperature 0.7
  unrolled sample runs/names --count 20 --seed 3 --novel-only
  unrolled sample runs/book --clamp 1.22=-1
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, print_note
from unrolled.options import MachineOptions, SampleOptions

if TYPE_CHECKING:
    from unrolled.generation.sampling import Sample


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("sample", __doc__)
    parser.add_argument("run", metavar="RUN", help="Run folder, or model file.")
    parser.add_options("sampling", SampleOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, as_json = cli_values.pop("run"), cli_values.pop("json")
    options, settings, machine_settings = parser.split_options(cli_values, SampleOptions)
    from unrolled.api import load
    from unrolled.generation.sampling import resolve_seed
    from unrolled.text.normalization import change_note, count_changes

    model = load(run_path, **machine_settings)
    for char, replacement in model.replaced_characters(options.prompt).items():
        print_note(f"unknown character {char!r}: {f'replaced by {replacement!r}' if replacement else 'removed'}")
    if num_changed := count_changes(options.prompt, model.tokenizer.normalization):
        print_note(f"{num_changed:,} {change_note(model.tokenizer.normalization)} in the prompt")
    if options.seed < 0:  # the API would draw one too, but would not print it
        settings["seed"] = resolve_seed(options)
        print_note(f"seed {settings['seed']}")
    if as_json:
        samples = [sample_result.to_json() for sample_result in model.samples(**settings)]
        print_json({"samples": samples, **model.sampling_backend(**settings)})
    elif options.count == 1:
        if options.novel_only:
            _print_stream(next(model.samples(**settings)).text, iter(()))
        else:
            _print_stream(options.prompt, model.stream(**settings))
    else:
        _print_samples(model.samples(**settings), one_per_line=model.text_model.documents == "line")
    return 0


def _print_stream(prompt: str, pieces: Iterator[str]) -> None:
    to_printable = _output_filter()
    sys.stdout.write(to_printable(prompt))
    for piece in pieces:
        sys.stdout.write(to_printable(piece))
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_samples(samples: Iterator[Sample], one_per_line: bool) -> None:
    to_printable = _output_filter()
    for sample_result in samples:
        print(
            to_printable(sample_result.text)
            if one_per_line
            else f"=== seed {sample_result.seed} ===\n{to_printable(sample_result.text)}\n",
            flush=True,
        )


def _output_filter() -> Callable[[str], str]:
    """Return a function that makes text printable: on a terminal without control characters, otherwise unchanged."""
    if sys.stdout.isatty():
        from unrolled.views.colored_text import strip_control_chars

        return strip_control_chars
    return lambda text: text.encode("utf-8", "replace").decode("utf-8")
