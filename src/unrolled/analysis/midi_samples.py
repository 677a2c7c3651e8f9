"""Samples of a model of MIDI files, as files that can be played, and MIDI files as prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unrolled.atomic_io import write_atomic
from unrolled.display import Displayed, counted, plural
from unrolled.errors import DataError, UsageError
from unrolled.output_paths import check_new_file
from unrolled.text.midi_files import midi_bytes, read_songs
from unrolled.text.midi_text import parse_song, song_text
from unrolled.text.record_tokenizers import MidiTokenizer
from unrolled.text.tokenizer import Tokenizer

MAX_NAMED = 5


@dataclass(frozen=True, repr=False)
class SavedSong(Displayed):
    """A MIDI file that was written: its `path`, the number of `notes`, how many `seconds` it lasts, and what of the text is no
    event and was left out, with its counts."""

    path: Path
    notes: int
    seconds: float
    left_out: Mapping[str, int]

    @property
    def facts(self) -> Mapping[str, object]:
        return {"path": self.path, "notes": self.notes, "seconds": f"{self.seconds:.1f}", "left out": dict(self.left_out)}

    def summary(self) -> str:
        """Return it as one line."""
        left_out = ""
        if self.left_out:
            num_symbols = sum(self.left_out.values())
            names = ", ".join(f"{name!r:.40}" for name in list(self.left_out)[:MAX_NAMED])
            more = ", ..." if len(self.left_out) > MAX_NAMED else ""
            words = counted(num_symbols, "symbols that are no event left out")
            left_out = f"; {num_symbols:,} {words}: {names}{more}"
        return f"{self.path}: {plural(self.notes, 'note')}, {self.seconds:.1f} s{left_out}"


def require_midi(tokenizer: Tokenizer) -> MidiTokenizer:
    """Return the tokenizer of a model of MIDI files. Raises `UsageError` for any other."""
    if not isinstance(tokenizer, MidiTokenizer):
        raise UsageError(
            f"A MIDI file can be written by a model of --tokens midi, and this one reads {tokenizer.kind}: leave --midi out."
        )
    return tokenizer


def save_midi(
    tokenizer: Tokenizer, text: str, path: Path, model_path: Path, run: Path | None = None, force: bool = False
) -> SavedSong:
    """Write the song that a text of events is. Raises what `Model.save_midi` raises."""
    grid, left_out = require_midi(tokenizer).grid, Counter[str]()
    check_new_file("--midi", path, (model_path,), run, force, "midi")
    song = parse_song(text, grid, left_out)
    if not song.notes:
        raise DataError(f"The sample has no note, so {path} is not written: try another --seed, or a greater --length.")
    write_atomic(path, midi_bytes(song, grid))
    return SavedSong(path, len(song.notes), song.seconds(grid), left_out)


def song_paths(path: Path, seeds: range, force: bool, inputs: Sequence[object], run: Path | None) -> Callable[[int], Path]:
    """Return what names the file of the sample with a seed: `path`, or of several samples, `path` with the seed.

    Raises `UsageError`, before any work, if a file is not to be written; `inputs` are files that must not be replaced.
    """

    def path_of(seed: int) -> Path:
        named = path if len(seeds) == 1 else path.with_name(f"{path.stem}-{seed}{path.suffix}")
        check_new_file("--midi", named, inputs, run, force, "midi")
        return named

    for seed in seeds:
        path_of(seed)
    return path_of


def midi_prompt(tokenizer: Tokenizer, path: Path) -> str:
    """Return a MIDI file as the text that a model of such files continues. Raises `DataError` for a file without notes."""
    grid = require_midi(tokenizer).grid
    songs = read_songs(path, str(path), grid, Counter())
    if not songs:
        raise DataError(f"--prompt-file {path} has no notes: give another, or leave it out.")
    return song_text(songs[0], grid)
