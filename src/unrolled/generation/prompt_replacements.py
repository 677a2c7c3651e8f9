"""What the characters of a prompt become that a model does not know, as a table for programs that cannot ask its tokenizer."""

from __future__ import annotations

import functools
import unicodedata
from dataclasses import dataclass

from unrolled.text.tokenizer import Tokenizer

ALL_BELOW, END_OF_RELATED = 0x3000, 0x30000
"""Punctuation with a usual replacement is below the first; no character from the second on has a case, a decomposition or a
combining class."""


@dataclass(frozen=True)
class PromptReplacements:
    """What `Tokenizer.encode_prompt` puts in place of unknown characters.

    Attributes:
        characters: By the replacement, possibly empty, the characters that it replaces, in their order.
        other: The replacement of all other characters.
    """

    characters: dict[str, str]
    other: str


def prompt_replacements(tokenizer: Tokenizer) -> PromptReplacements:
    """Return the replacements of all characters, each by itself: sequences that a normal form composes are not in it.

    Example:
        >>> from unrolled.text.tokenizer import CharTokenizer
        >>> replacements = prompt_replacements(CharTokenizer(" ae"))
        >>> replacements.characters["e"][0], replacements.other
        ('E', ' ')
    """
    if tokenizer.reads_bytes:
        return PromptReplacements({}, "")
    tokens = tokenizer.token_strings()

    def read(character: str) -> str:
        return "".join(tokens[index] for index in tokenizer.encode_prompt(character)[0])

    other = read(next(character for code in range(0xFFFF, 0, -1) if (character := chr(code)) not in tokens))
    characters: dict[str, str] = {}
    for character in _related_characters():
        replacement = read(character)
        if replacement not in (character, other):
            characters[replacement] = characters.get(replacement, "") + character
    return PromptReplacements(characters, other)


@functools.cache
def _related_characters() -> str:
    """Return the characters that can have a replacement of their own: by their case, a decomposition or as punctuation."""

    def is_related(character: str) -> bool:
        is_mark = unicodedata.combining(character) != 0
        return is_mark or character.swapcase() != character or unicodedata.normalize("NFKD", character) != character

    related = filter(is_related, map(chr, range(ALL_BELOW, END_OF_RELATED)))
    return "".join([*map(chr, range(ALL_BELOW)), *related])
