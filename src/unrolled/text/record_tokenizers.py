"""Tokenizers for files of records: the symbols of sequences in FASTA, the notes and bars of tunes in ABC notation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import UsageError
from unrolled.text.record_files import COMPLEMENT, abc_tunes, fasta_records
from unrolled.text.rule_tokenizer import RuleTokenizer, Split

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


class RecordTokenizer(RuleTokenizer):
    """Tokens of a file of records; without `--documents`, each record is a document."""

    noun: ClassVar[str] = "record"

    @classmethod
    def read_records(cls, argument: str, name: str, lines: Iterable[bytes], training: bool) -> Iterator[bytes]:
        """Yield the documents of a file that is called `name`; `argument` is that of `--tokens`."""
        raise NotImplementedError


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
        """Return the id of the base that pairs with each, `(V,)`, if both strands are read."""
        if BOTH_STRANDS not in self.argument.split(","):
            return None
        pairs = [token.encode().translate(COMPLEMENT).decode() for token in self.tokens]
        ids = [self._token_to_id.get(pair, index) for index, pair in enumerate(pairs)]
        return np.array([*ids, *([self.eos_id] if self.eos_id is not None else [])])


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


_CAPITALS = {ord(letter): ord(letter) - 32 for letter in "abcdefghijklmnopqrstuvwxyz"}
