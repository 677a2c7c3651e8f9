"""Generate text with a trained model.

In --prompt and --stop, \\n, \\t and \\\\ are line end, tab and backslash, unless
the model knows the backslash itself. A model of bytes writes its bytes as they
are into a file or a pipe.

Examples:
  unrolled sample runs/book
  unrolled sample runs/book --prompt "Once upon" --temperature 0.7
  unrolled sample runs/names --count 20 --seed 3 --novel-only
  unrolled sample runs/molecules --count 10 --keep-if 'python check.py'
  unrolled sample runs/book --clamp 1.22=-1
  unrolled sample runs/book --prompt-file begin.txt
  unrolled sample runs/songs --midi new.mid
  unrolled sample runs/songs --midi new.mid --prompt-file begin.mid
  unrolled sample builtin:english --prompt-file mine.txt --adapt
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unrolled.atomic_io import storage_error
from unrolled.cli.json_output import print_json
from unrolled.cli.parser import CommandParser, accepted_options, print_note
from unrolled.display import printable
from unrolled.errors import DataError, UsageError
from unrolled.option_rules import check_portable_machine
from unrolled.options import MachineOptions, SampleOptions, flag_name

if TYPE_CHECKING:
    from unrolled.generation.sampling import Sample
    from unrolled.models.text import Model

_ESCAPE = re.compile(r"\\([nt\\])")
_MIDI_MARK = "MThd"


def run(argv: list[str]) -> int:
    """Run the command and return its exit code."""
    parser = CommandParser("sample", __doc__)
    parser.add_model()
    parser.add_value(
        "--prompt-file",
        "FILE",
        "File with the text to continue, as it is, or MIDI file for a model of such; '-': standard input.",
    )
    parser.add_value(
        "--midi",
        "FILE",
        "Write the sample of a model of --tokens midi as a MIDI file; of several, FILE-SEED (default: print it).",
    )
    parser.add_switch("--force", "With --midi: replace a file that is no MIDI file.")
    parser.add_options("sampling", SampleOptions)
    parser.add_options("machine", MachineOptions)
    cli_values = parser.parse_cli_values(argv)
    run_path, as_json, midi, force = (cli_values.pop(name) for name in ("run", "json", "midi", "force"))
    if force and midi is None:
        raise UsageError("--force is for --midi, which is not given: leave it out.")
    prompt_path = cli_values["prompt_file"]
    is_prompt_typed = not _read_prompt(cli_values)
    options, settings, machine_settings = parser.split_options(cli_values, SampleOptions)
    check_portable_machine(options.portable, machine_settings)
    from unrolled.api import load
    from unrolled.generation.sampling import resolve_seed

    model = load(run_path, **machine_settings)
    if prompt_path is not None and options.prompt.startswith(_MIDI_MARK):
        options = dataclasses.replace(options, prompt=_song_prompt(model, prompt_path))
        settings["prompt"] = options.prompt
    settings |= _unescape(model, options, is_prompt_typed)
    prompt = settings.get("prompt", "")
    _print_notes(model, prompt, settings.get("stop", ()))
    _print_defaults(model, settings)
    if options.seed < 0:  # the API would draw one too, but would not print it
        settings["seed"] = resolve_seed(options)
        print_note(f"seed {settings['seed']}")
    songs = None if midi is None else _song_paths(model, Path(midi), options, settings, force, prompt_path)
    _draw(model, options, settings, as_json, songs, force)
    return 0


def _draw(
    model: Model,
    options: SampleOptions,
    settings: dict[str, Any],
    as_json: bool,
    songs: Callable[[int], Path] | None,
    force: bool,
) -> None:
    """Draw the samples, and print them or write them to the files that `songs` names by their seeds."""
    from unrolled.text.tokenizer import to_utf8
    from unrolled.views.progress import MessageHandler

    prompt = settings.get("prompt", "")
    with MessageHandler(print_note, "unrolled.analysis"):
        if songs is not None:
            _write_songs(model, songs, force, settings, as_json)
        elif as_json:
            samples = [sample_result.to_json() for sample_result in model.samples(**settings)]
            print_json({"samples": samples, **model.sampling_backend(**settings)})
        elif options.count == 1:
            if options.novel_only or options.keep_if is not None:
                sample_result = list(model.samples(**settings))[0]
                _print_stream(sample_result.data or sample_result.text.encode("utf-8", "replace"), iter(()), "\n")
            else:
                pieces = model.stream_bytes(**accepted_options(model.stream_bytes, settings))
                _print_stream(to_utf8(prompt), pieces, "" if model.tokenizer.reads_bytes else "\n")
        else:
            _print_samples(model.samples(**settings), one_per_line=model.text_model.documents == "line")


def _print_notes(model: Model, prompt: str, stops: Sequence[str]) -> None:
    """Print what of the prompt and of the stop strings the model does not know."""
    from unrolled.text.normalization import change_note, count_changes

    for char, replacement in model.replaced_characters(prompt).items():
        print_note(f"unknown character {char!r}: {f'replaced by {replacement!r}' if replacement else 'removed'}")
    if num_changed := count_changes(prompt, model.tokenizer.normalization):
        print_note(f"{num_changed:,} {change_note(model.tokenizer.normalization)} in the prompt")
    for stop in stops:
        if unknown := "".join(model.replaced_characters(stop)):
            print_note(f"--stop {stop!r}: the model never writes {unknown!r}, so it does not stop there")


def _print_defaults(model: Model, settings: dict[str, Any]) -> None:
    """Print the defaults of the model itself that are not overridden, and what draws from the probabilities as learned."""
    own = {name: value for name, value in model.generation_defaults.items() if name not in settings}
    if own and settings.get("temperature") != 0:
        usual = {field.name: field.default for field in dataclasses.fields(SampleOptions)}
        used, unchanged = (" ".join(f"{flag_name(name)} {values[name]:g}" for name in own) for values in (own, usual))
        print_note(f"{used}: the default of this model ({unchanged}: as it has learned)")


def _read_prompt(cli_values: dict[str, Any]) -> bool:
    """Replace `prompt_file` by the `prompt` that is in it; return whether it was given."""
    name = cli_values.pop("prompt_file")
    if name is None:
        return False
    if "prompt" in cli_values:
        raise UsageError("--prompt and --prompt-file are given, and one prompt is expected: choose one.")
    try:
        content = sys.stdin.buffer.read() if name == "-" else _prompt_path(name).read_bytes()
        if content.startswith(_MIDI_MARK.encode()):
            content = content[: len(_MIDI_MARK)]  # read again as a song, when the grid of the model is known
        cli_values["prompt"] = content.decode("utf-8").removeprefix("\ufeff")
        return True
    except UnicodeDecodeError as error:
        raise DataError(f"--prompt-file {name} is not UTF-8 at byte {error.start:,}: convert it to UTF-8.") from error
    except OSError as error:
        raise storage_error(error, Path(name), "read") from error


def _song_prompt(model: Model, name: str) -> str:
    """Return the MIDI file of a prompt as text."""
    from unrolled.analysis.midi_samples import midi_prompt

    if name == "-":
        raise UsageError("--prompt-file - is a MIDI file, and one is read by its name: name the file.")
    return midi_prompt(model.tokenizer, Path(name))


def _song_paths(
    model: Model, path: Path, options: SampleOptions, settings: dict[str, Any], force: bool, prompt_path: str | None
) -> Callable[[int], Path]:
    from unrolled.analysis.midi_samples import require_midi, song_paths

    require_midi(model.tokenizer)
    first_seed = settings.get("seed", options.seed)
    seeds = range(first_seed, first_seed + options.count)
    return song_paths(path, seeds, force, (model.path, prompt_path), model.session.run_path)


def _write_songs(model: Model, songs: Callable[[int], Path], force: bool, settings: dict[str, Any], as_json: bool) -> None:
    """Write samples as MIDI files, and print what each holds."""
    results = []
    for sample_result in model.samples(**settings):
        song = model.save_midi(sample_result.text, songs(sample_result.seed), force)
        print_note(song.summary())
        results.append({**sample_result.to_json(), "midi": str(song.path), "notes": song.notes, "seconds": song.seconds})
    if as_json:
        print_json({"samples": results, **model.sampling_backend(**settings)})


def _prompt_path(name: str) -> Path:
    """Return the path of the file of a prompt, which may be a pipe: it is read once."""
    from unrolled.text.text_files import existing_file

    return Path(name) if os.path.exists(name) and Path(name).is_fifo() else existing_file(name)


def _unescape(model: Model, options: SampleOptions, is_prompt_typed: bool) -> dict[str, Any]:
    r"""Return prompt and stop strings with `\n`, `\t` and `\\` as escapes, unless the model itself writes backslashes."""
    typed_prompt = options.prompt if is_prompt_typed else ""
    texts = {"prompt": typed_prompt, "stop": options.stop}
    typed = [text for text in (typed_prompt, *options.stop) if _ESCAPE.search(text)]
    if not typed:
        return {}
    if not model.replaced_characters("\\"):
        print_note(f"{typed[0]!r} is read as it is, since the model knows the backslash; a line end, for a shell: $'\\n'")
        return {}
    return {
        name: _replace_escapes(text) if isinstance(text, str) else tuple(map(_replace_escapes, text))
        for name, text in texts.items()
        if text
    }


def _replace_escapes(text: str) -> str:
    return _ESCAPE.sub(lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], text)


def _print_stream(prompt: bytes, pieces: Iterator[bytes], end: str) -> None:
    """Print a sample, and `end` after it; on a terminal always a line end."""
    for piece in itertools.chain([prompt], pieces, [b"\n" if sys.stdout.isatty() else end.encode()]):
        _write(piece)


def _print_samples(samples: Iterator[Sample], one_per_line: bool) -> None:
    for sample_result in samples:
        data = sample_result.text.encode("utf-8", "replace") if sample_result.data is None else sample_result.data
        _write(data + b"\n" if one_per_line else f"=== seed {sample_result.seed} ===\n".encode() + data + b"\n\n")


def _write(data: bytes) -> None:
    """Write bytes as they are into a file or a pipe, and as text without control characters on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(printable(data.decode("utf-8", "replace")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    sys.stdout.flush()
