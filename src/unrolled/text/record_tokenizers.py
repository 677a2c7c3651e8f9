"""Tokenizers for files of records: sequences in FASTA, tunes in ABC notation, songs in MIDI files."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import UsageError
from unrolled.text.encodings import is_text_head
from unrolled.text.file_signatures import is_midi_head
from unrolled.text.midi_files import describe_counts, read_songs
from unrolled.text.midi_text import EVENT_PATTERN, song_text
from unrolled.text.record_files import COMPLEMENT, abc_tunes, fasta_records
from unrolled.text.rule_tokenizer import RuleTokenizer, Split
from unrolled.text.text_files import read_lines
from unrolled.text.tokenizer import RECORD_SEPARATOR

FOLD_CASE, BOTH_STRANDS = "fold-case", "reverse-complement"

ABC_PATTERN = r"""
    "[^"]*" | ![^!\s]*! | \[[A-Za-z]:[^\]]*\]                      # chord symbols, decorations, fields in a line
    | [_^=]{0,2}[A-Ga-g][,']*(?:[0-9]+(?:/[0-9]+|/+)?|/[0-9]+|/+)?  # notes: accidentals, octave, length
    | [zZxX](?:[0-9]+(?:/[0-9]+|/+)?|/[0-9]+|/+)?                   # rests
    | :*\|[\]|:]*[0-9]? | \[\||\[[0-9] | ::                          # bars, repeats and their endings
    | \([0-9](?::[0-9]?){0,2} | <+ | >+                             # tuplets, broken rhythm
"""
"""Tokens of a line of music (ABC standard 2.1); a beam, a slur, a tie and others are single characters."""

_FIELD = re.compile(r"(?:[KLMPQVmr]:.*)|[A-Za-z+]:")
_WHOLE_FIELD_CHARS = 40


DEFAULT_GRID, MAX_GRID = 12, 96
"""Steps of a beat: 12 have sixteenths and triplets."""


class RecordTokenizer(RuleTokenizer):
    """Tokens of a file of records; without `--documents`, each record is a document."""

    noun: ClassVar[str] = "record"

    @classmethod
    def accepts_head(cls, head: bytes) -> bool:
        """Return whether a file of a folder or archive that begins with these bytes is read."""
        return is_text_head(head)

    @classmethod
    def read_file(cls, argument: str, path: Path, name: str, training: bool, counts: Counter[str]) -> Iterator[bytes]:
        """Yield the documents of the file at `path`, which is called `name`; `argument` is that of `--tokens`.

        What is said once about all files is counted in `counts`, and described by `describe`.
        """
        return cls.read_records(argument, name, read_lines(path, False), training)

    @classmethod
    def read_records(cls, argument: str, name: str, lines: Iterable[bytes], training: bool) -> Iterator[bytes]:
        """Yield the documents of a file of text."""
        raise NotImplementedError

    @classmethod
    def describe(cls, counts: Counter[str]) -> list[str]:
        """Return sentences about what was counted."""
        return []


class FastaTokenizer(RecordTokenizer):
    """The symbols of sequences; `fasta:fold-case` reads small letters as capitals, and `fasta:reverse-complement` both strands.

    Small letters mark repeats (soft masking); they are kept without `fold-case`.
    """

    kind, argument_name = "fasta", "SETTINGS"

    @classmethod
    def rule(cls, argument: str) -> tuple[Split, Callable[[str], bool]]:
        unknown = set(argument.split(",")) - {FOLD_CASE, BOTH_STRANDS} if argument else set()
        if unknown:
            raise UsageError(
                f"--tokens fasta:{argument:.99}: expected {FOLD_CASE}, {BOTH_STRANDS} or both with a comma between them."
            )
        fold = FOLD_CASE in argument.split(",")
        return (lambda line: list(line.translate(_CAPITALS))) if fold else list, lambda character: True

    @classmethod
    def read_records(cls, argument: str, name: str, lines: Iterable[bytes], training: bool) -> Iterator[bytes]:
        settings = argument.split(",")
        return fasta_records(name, lines, training and BOTH_STRANDS in settings, FOLD_CASE in settings)

    def complement_ids(self) -> npt.NDArray[Any] | None:
        if BOTH_STRANDS not in self.argument.split(","):
            return None
        pairs = [token.encode().translate(COMPLEMENT).decode() for token in self.tokens]
        ids = [self._token_to_id.get(pair, index) for index, pair in enumerate(pairs)]
        return np.array([*ids, *([self.eos_id] if self.eos_id is not None else [])])

    def other_strand(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None:
        if BOTH_STRANDS not in self.argument.split(","):
            return None
        places = np.arange(len(code_points))
        ends = np.append(np.flatnonzero(code_points == RECORD_SEPARATOR), len(code_points))
        for start, stop in zip([0, *(ends[:-1] + 1)], ends, strict=True):
            places[start:stop] = places[start:stop][::-1]
        table = np.arange(256, dtype=np.uint32)
        table[: len(COMPLEMENT)] = np.frombuffer(COMPLEMENT, dtype=np.uint8)
        strand = code_points[places].astype(np.uint32)
        is_letter = strand < len(table)
        strand[is_letter] = table[strand[is_letter]]
        return strand, places

    def first_strands(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        complement = self.complement_ids()
        if complement is None or self.eos_id is None:
            return ids
        starts = np.flatnonzero(ids == self.eos_id)
        documents = [ids[start:stop] for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True)]
        kept: list[npt.NDArray[Any]] = []
        is_other = False
        for index, document in enumerate(documents):
            before = documents[index - 1][1:] if index and not is_other else document[:0]
            is_other = len(before) == len(document) - 1 > 0 and np.array_equal(complement[before[::-1]], document[1:])
            kept += [] if is_other else [document]
        return np.concatenate([ids[: starts[0]], *kept]) if kept else ids


class AbcTokenizer(RecordTokenizer):
    """Notes, rests, bars and marks of tunes in ABC notation, and their fields: key, meter and others with their values."""

    kind, noun = "abc", "tune"

    @classmethod
    def rule(cls, argument: str) -> tuple[Split, Callable[[str], bool]]:
        if argument:
            return super().rule(argument)
        find_music = re.compile(rf"(?:{ABC_PATTERN})|.", re.DOTALL | re.VERBOSE).findall

        def split(line: str) -> list[str]:
            field = _FIELD.match(line)
            if field is None:
                return find_music(line)
            stop = field.end() if field.end() <= _WHOLE_FIELD_CHARS else 2
            return [line[:stop], *line[stop:]]

        return split, lambda character: True

    @classmethod
    def read_records(cls, argument: str, name: str, lines: Iterable[bytes], training: bool) -> Iterator[bytes]:
        return abc_tunes(name, lines)


class MidiTokenizer(RecordTokenizer):
    """Events of songs in MIDI files, on a grid of `STEPS` steps per beat: `midi:24`; see `midi_text.py`."""

    kind, argument_name, noun, pattern = "midi", "STEPS", "song", f" ?(?:{EVENT_PATTERN})"

    @classmethod
    def rule(cls, argument: str) -> tuple[Split, Callable[[str], bool]]:
        steps_of_beat(argument)
        return super().rule("")

    @property
    def grid(self) -> int:
        """Steps per beat."""
        return steps_of_beat(self.argument)

    @classmethod
    def accepts_head(cls, head: bytes) -> bool:
        return is_midi_head(head)

    @classmethod
    def read_file(cls, argument: str, path: Path, name: str, training: bool, counts: Counter[str]) -> Iterator[bytes]:
        grid = steps_of_beat(argument)
        for song in read_songs(path, name, grid, counts):
            yield song_text(song, grid).encode()

    @classmethod
    def describe(cls, counts: Counter[str]) -> list[str]:
        return describe_counts(counts)

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        return super().encode_prompt(re.sub(r"\n(?=\S)", "\n ", text))  # a bar begins with a space


def steps_of_beat(argument: str) -> int:
    """Return the grid that follows `midi:`. Raises `UsageError` for none."""
    if not argument:
        return DEFAULT_GRID
    if not re.fullmatch("[0-9]{1,3}", argument) or not 1 <= int(argument) <= MAX_GRID:
        raise UsageError(f"--tokens midi:{argument:.99}: expected the steps of a beat, from 1 to {MAX_GRID}, as in midi:24.")
    return int(argument)


_CAPITALS = {ord(letter): ord(letter) - 32 for letter in "abcdefghijklmnopqrstuvwxyz"}
