"""Tokenizers whose tokens are found by a rule: words, the matches of a regular expression, the symbols of SMILES.

Every part of the text that code points pass through (encoding, documents, surprisal of lines) sees a text of such tokens as one
of characters: a token of several characters has a code point of the private use planes of Unicode, which stands for it while a
model reads. A token that the vocabulary lacks is spelled: it becomes its characters, and all characters of the text are tokens
too. So decoding inverts encoding, whatever the rule.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import DataError, ModelError, UsageError
from unrolled.text.decode_stream import DecodeStream
from unrolled.text.token_pattern import TokenPattern
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS, CharTokenizer, Tokenizer

MAX_TOKENS = 30_000
"""Tokens of several characters in a vocabulary: the most frequent ones."""

MIN_COUNT = 2
"""Occurrences of a token of several characters, at least, to be in the vocabulary; so it is learned how others are spelled."""

MAX_SEGMENT_CHARS = 1 << 16
"""A line is cut after so many characters; no token crosses such a place."""

MAX_COUNTED = 1 << 20
"""Different tokens that are counted at the same time; with more, those with a count of one are forgotten."""

MAX_NAMED = 5
"""Tokens that are named in a message."""

PRIVATE_USE = 0xF0000
"""The first code point that stands for a token; a character of these planes that a text really has is treated as a token."""

NO_CHARACTER = 0x10FFFF
"""Stands for a character of these planes that is not in the vocabulary."""

WORD_PATTERN = r" ?[^\W\d]+(?:['\u2019][^\W\d]+)*| ?\d+| ?[^\w\s]|\s"
"""Letters, a number, or a punctuation mark, each with the space before it; or other white space.

Numbers are separate words even without a space next to them: otherwise a Japanese date would be one word, and almost unique.
"""

SMILES_PATTERN = r"\[[^\]\n]+\]|Br|Cl|%\d{2}|%\(\d+\)|[BCNOPSFIbcnops]|[0-9]|[-=#$:/\\~.()*@?>+]"
"""Bracket atoms, organic atoms, ring closures, bonds, branches and the marks of reactions (OpenSMILES, Daylight SMARTS)."""

_SEGMENTS = re.compile(rf"[^\n\x1e]{{1,{MAX_SEGMENT_CHARS}}}|[\n\x1e]")

Split = Callable[[str], list[str]]


class RuleTokenizer(CharTokenizer):
    """Tokens that `pattern` finds, and single characters for the rest. A subclass needs a `kind` and a pattern."""

    splits_text = True
    pattern: ClassVar[str] = ""
    """An expression of Python's `re` that describes a token. No token has a line end inside."""

    def __init__(self, tokens: Sequence[str], has_eos: bool = False, argument: str = "") -> None:
        self.argument = argument
        self.split_line, _ = self.rule(argument)
        super().__init__(tokens, has_eos)
        self._code_point_of = dict(zip(self.tokens, self._code_points.tolist(), strict=True))

    @classmethod
    def rule(cls, argument: str) -> tuple[Split, Callable[[str], bool]]:
        """Return what splits a line into pieces, and whether the rule covers a single character.

        `argument` is what follows the kind and a colon in `--tokens`. Raises `UsageError` for one that it does not have.
        """
        if argument:
            raise UsageError(f"--tokens {cls.kind}:{argument:.99}: {cls.kind} has no setting, leave out what follows it.")
        compiled, or_character = re.compile(cls.pattern), re.compile(f"(?:{cls.pattern})|.", re.DOTALL)
        if compiled.match(""):
            raise UsageError(f"The pattern of {cls.kind} matches the empty text, and a token has at least one character.")

        def split(line: str) -> list[str]:
            return [match.group() for match in or_character.finditer(line)]

        return split if compiled.groups else or_character.findall, lambda character: compiled.fullmatch(character) is not None

    @classmethod
    def uncovered_note(cls, uncovered: Collection[str]) -> str:
        """Return what to say about characters that the rule does not cover, beyond their number."""
        return ""

    @classmethod
    def fit_texts(cls, argument: str, texts: Iterable[str], documents: str, notes: dict[str, int]) -> RuleTokenizer:
        """Return the tokenizer of texts with this kind of documents.

        What the rule does not cover, and tokens that are spelled, are counted in `notes`. Raises `DataError` if the rule covers
        nothing of the texts.
        """
        split, is_covered = cls.rule(argument)
        counts, characters = count_pieces(texts, split)
        setting = cls.kind + (argument and f":{argument}")
        uncovered = {
            piece: count
            for piece, count in counts.items()
            if len(piece) == 1 and piece not in "\n\x1e" and not is_covered(piece)
        }
        num_pieces = sum(counts.values()) - counts["\n"] - counts["\x1e"]
        if 0 < num_pieces == sum(uncovered.values()):
            raise DataError(f"--tokens {setting:.200} finds nothing in this text: all of it would be single characters.")
        long_pieces = [(piece, count) for piece, count in counts.most_common() if len(piece) > 1]
        kept = [piece for piece, count in long_pieces[:MAX_TOKENS] if count >= MIN_COUNT]
        spelled = dict(long_pieces[len(kept) :])
        for piece in counts:
            characters.update(piece)
        if documents in DOCUMENT_SEPARATORS:
            characters.discard(chr(DOCUMENT_SEPARATORS[documents]))
        _note(notes, f"characters are not covered by the rule (tokens by themselves{cls.uncovered_note(uncovered)})", uncovered)
        _note(notes, "tokens are too rare for the vocabulary (spelled in characters)", spelled)
        return cls(sorted(characters) + sorted(kept), documents != "none", argument)

    def with_tokens(self, tokens: Sequence[str]) -> CharTokenizer:
        return type(self)(tokens, self.eos_id is not None, self.argument)

    @functools.cached_property
    def _lengths(self) -> npt.NDArray[np.int64]:
        return np.array([len(token) for token in self.tokens] + [1] * (self.eos_id is not None), dtype=np.int64)

    @property
    def setting(self) -> str:
        return f"{self.kind}:{self.argument}" if self.argument else self.kind

    def pieces(self, text: str) -> list[str]:
        """Return the tokens of a text, known or not; together they are the text."""
        return list(itertools.chain.from_iterable(map(self.split_line, _SEGMENTS.findall(text))))

    def unknown_tokens(self, text: str) -> list[str]:
        return [piece for piece in self.pieces(text) if piece not in self._token_to_id]

    def code_points(self, text: str) -> npt.NDArray[Any]:
        return self._translate(text, Counter())

    def translate(self, chunks: Iterable[npt.NDArray[Any]], spelled: Counter[str]) -> Iterator[npt.NDArray[Any]]:
        for text in whole_lines(chunks):
            yield self._translate(text, spelled)

    def _translate(self, text: str, spelled: Counter[str]) -> npt.NDArray[Any]:
        known = self._code_point_of
        code_points: list[int] = []
        for piece in self.pieces(text):
            code_point = known.get(piece)
            if code_point is not None:
                code_points.append(code_point)
            else:
                if len(piece) > 1:
                    spelled[piece] += 1
                code_points.extend(known.get(char, ord(char) if ord(char) < PRIVATE_USE else NO_CHARACTER) for char in piece)
        return np.array(code_points, dtype=np.uint32)

    def note_spelled(self, spelled: Counter[str], notes: dict[str, int]) -> None:
        _note(notes, "tokens are not in the vocabulary of the model (spelled in characters)", spelled)

    def texts_of(self, code_points: npt.NDArray[Any]) -> list[str]:
        of_code_point = dict(zip(self._code_points.tolist(), self.tokens, strict=True))
        return [of_code_point.get(code_point) or chr(code_point) for code_point in code_points.tolist()]

    def char_counts_of(self, code_points: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        ids = self.id_of_code_point[code_points]
        return np.where(ids >= 0, self._lengths[ids], 1)

    def char_counts(self) -> npt.NDArray[np.int64]:
        return self._lengths

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        ids: list[int] = []
        replaced: dict[str, str] = {}
        for piece in self.pieces(self.normalize(text)):
            token_id = self._token_to_id.get(piece)
            if token_id is not None:
                ids.append(token_id)
                continue
            more, others = super().encode_prompt(piece)
            ids += more
            replaced |= others
        return ids, replaced

    def decode_stream(self) -> DecodeStream:
        return _PieceDecodeStream(self.tokens)

    def to_json(self) -> dict[str, Any]:
        argument = {"argument": self.argument} if self.argument else {}
        return super().to_json() | {"tokens": self.tokens} | argument

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tokenizer:
        tokens, has_eos, argument = value.get("tokens"), value.get("has_eos"), value.get("argument", "")
        is_valid = (
            isinstance(tokens, list)
            and 0 < len(tokens) <= MAX_TOKENS + PRIVATE_USE
            and all(isinstance(token, str) and token for token in tokens)
            and len(set(tokens)) == len(tokens)
            and sum(map(_needs_code_point, tokens)) <= NO_CHARACTER - PRIVATE_USE
        )
        if not isinstance(tokens, list) or not is_valid or not isinstance(has_eos, bool) or not isinstance(argument, str):
            raise ModelError("The model's tokenizer cannot be read: a list of distinct tokens is expected.")
        try:
            return cls(tokens, has_eos, argument)
        except UsageError as error:
            raise ModelError(f"The model's tokenizer cannot be read: {error}") from error

    def _own_code_points(self) -> npt.NDArray[Any]:
        private = itertools.count(PRIVATE_USE)
        return np.array([next(private) if _needs_code_point(token) else ord(token) for token in self.tokens], dtype=np.uint32)


def _needs_code_point(token: str) -> bool:
    return len(token) > 1 or ord(token) >= PRIVATE_USE


class _PieceDecodeStream(DecodeStream):
    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tokens

    def decode_step(self, token_id: int) -> str:
        return self._tokens[token_id] if token_id < len(self._tokens) else ""

    def finish(self) -> str:
        return ""


class RegexTokenizer(RuleTokenizer):
    """The matches of a regular expression that the user gives: `--tokens regex:PATTERN`."""

    kind = "regex"
    argument_name = "PATTERN"

    @classmethod
    def rule(cls, argument: str) -> tuple[Split, Callable[[str], bool]]:
        if not argument:
            raise UsageError("--tokens regex needs an expression that describes a token: --tokens 'regex:[A-Z][a-z]?|[0-9]+'.")
        pattern = TokenPattern(argument)
        return pattern.pieces, pattern.matches


class WordRuleTokenizer(RuleTokenizer):
    """Words, each with the space before it, of texts."""

    kind, pattern = "words", WORD_PATTERN


class SmilesTokenizer(RuleTokenizer):
    """The symbols of SMILES: atoms, bonds, branches, ring closures."""

    kind, pattern = "smiles", SMILES_PATTERN

    @classmethod
    def uncovered_note(cls, uncovered: Collection[str]) -> str:
        for blank, flag in (("\t", ""), (" ", "-d ' ' ")):
            if blank in uncovered:
                return f"; what follows a molecule on its line is learned too, and left out by cut {flag}-f 1"
        return ""


def whole_lines(chunks: Iterable[npt.NDArray[Any]]) -> Iterator[str]:
    """Yield chunks of code points as texts of whole lines; of a long line, whole segments of `MAX_SEGMENT_CHARS`."""
    rest = ""
    for chunk in chunks:
        data = chunk.tobytes()
        rest += data.decode("ascii") if chunk.dtype == np.uint8 else data.decode("utf-32-le", "surrogatepass")
        stop = max(rest.rfind("\n"), rest.rfind("\x1e")) + 1
        stop += (len(rest) - stop) // MAX_SEGMENT_CHARS * MAX_SEGMENT_CHARS
        if stop:
            yield rest[:stop]
            rest = rest[stop:]
    if rest:
        yield rest


def count_pieces(texts: Iterable[str], split: Split) -> tuple[Counter[str], set[str]]:
    """Return the pieces of texts with their counts, and the characters of those that were forgotten."""
    counts: Counter[str] = Counter()
    characters: set[str] = set()
    for text in texts:
        for segment in _SEGMENTS.findall(text):
            counts.update(split(segment))
        if len(counts) > MAX_COUNTED:
            for piece in [piece for piece, count in counts.items() if count == 1]:
                characters.update(piece)
                del counts[piece]
    return counts, characters


def _note(notes: dict[str, int], sentence: str, counts: dict[str, int]) -> None:
    """Add to `notes` how often something happened to pieces, and the most frequent of them."""
    if counts:
        names = [repr(piece)[:40] for piece, _ in Counter(counts).most_common(MAX_NAMED)]
        more = f" and {len(counts) - MAX_NAMED:,} others" if len(counts) > MAX_NAMED else ""
        notes[f"{sentence}: {', '.join(names)}{more}"] = sum(counts.values())
