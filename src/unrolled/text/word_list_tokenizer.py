"""Words of a given list, of imported models: what is no word of the list is not read, as in Keras's `Tokenizer`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.errors import UsageError
from unrolled.text.rule_tokenizer import RuleTokenizer, WordRuleTokenizer

ATTACHED = frozenset("!%),.:;?]}")
"""Marks that are written without the space before them."""

UNKNOWN = "\ufffd"
"""The token that other words become, if the list has it."""

ALWAYS_APART = "marks-apart"


def written(word: str) -> str:
    """Return the text of a word: a space and the word; marks such as commas and line ends have no space before them."""
    return word if word in ATTACHED or not word.isprintable() or word == UNKNOWN else f" {word}"


class WordListTokenizer(RuleTokenizer):
    """Words between spaces. How they are found follows from the list, so that it is right for many programs.

    Without capitals in the list, a text is read in lower case. A mark (no letter, digit or apostrophe) that no word has is a
    space; one that is a word by itself is cut off words that are not in the list, with the argument `marks-apart` off all. A
    word that is not in the list is `UNKNOWN`, or else left out.
    """

    kind, pattern = "word-list", r"\S+"

    def __init__(self, tokens: Sequence[str], has_eos: bool = False, argument: str = "") -> None:
        if argument not in ("", ALWAYS_APART):
            raise UsageError(f"word-list:{argument:.99}: word-list has the setting {ALWAYS_APART} only.")
        super().__init__(tokens, has_eos)
        self.argument = argument
        words = [token.removeprefix(" ") for token in self.tokens]
        self._words = frozenset(words)
        self._is_lower = not any(word != word.lower() for word in words)
        self._characters = frozenset("".join(words))
        marks = "".join(word for word in words if len(word) == 1 and not word.isalnum())
        self._parts = re.compile(f"[{re.escape(marks)}]|[^{re.escape(marks)}]+" if marks else ".+", re.DOTALL)
        self.split_line = self._split

    @property
    def setting(self) -> str:
        """The value of `--tokens` that is most like it: a text of its own is not read with a list."""
        return WordRuleTokenizer.kind

    def _split(self, line: str) -> list[str]:
        line = line.lower() if self._is_lower else line
        spaced = "".join(char if char.isalnum() or char in self._characters or char == "'" else " " for char in line)
        pieces: list[str] = []
        for word in spaced.split(" "):
            is_whole = word in self._words and not self.argument
            pieces += [written(part) for part in ([word] if is_whole else self._parts.findall(word))]
        return pieces

    def _translate(self, text: str, spelled: Counter[str]) -> npt.NDArray[Any]:
        other, code_points = self._code_point_of.get(UNKNOWN), []
        for piece in self.pieces(text):
            if piece not in self._code_point_of:
                spelled[piece] += 1
            code_points.append(self._code_point_of.get(piece, other))
        return np.array([code_point for code_point in code_points if code_point is not None], dtype=np.uint32)

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        other = self._token_to_id.get(UNKNOWN)
        pieces = self.pieces(self.normalize(text))
        ids = [self._token_to_id.get(piece, other) for piece in pieces]
        replaced = {piece: "" if other is None else UNKNOWN for piece in pieces if piece not in self._token_to_id}
        return [token_id for token_id in ids if token_id is not None], replaced
