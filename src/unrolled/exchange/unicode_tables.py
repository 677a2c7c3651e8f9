"""What a C file knows of Unicode: classes of characters and their lower case, as Python has them."""

from __future__ import annotations

import functools
import re
import sys

import numpy as np
from numpy.typing import NDArray

WORD, DECIMAL, DIGIT, UPPER, LOWER, BLANK = 1, 2, 4, 8, 16, 32
"""Bits of a class, as in `text_reader.c`; titlecase letters are `LOWER`, too, as a word with one is not in capitals."""


@functools.cache
def character_classes() -> NDArray[np.uint32]:
    """Return the characters at which the class changes, each times 256 plus the class from there on, sorted.

    Example:
        >>> [hex(number) for number in character_classes()[:3]]
        ['0x0', '0x920', '0xe00']
    """
    found, last = [0], 0
    for code in range(sys.maxunicode + 1):
        kind = _class_of(chr(code))
        if kind != last:
            found.append(code << 8 | kind)
            last = kind
    return np.array(found, np.uint32)


def _class_of(character: str) -> int:
    bits = {
        WORD: character.isalnum() or character == "_",
        DECIMAL: character.isdecimal(),
        DIGIT: character.isdigit(),
        UPPER: character.isupper(),
        LOWER: character.islower() or character.istitle() and not character.isupper(),
        BLANK: character.isspace(),
    }
    return sum(bit for bit, is_set in bits.items() if is_set)


@functools.cache
def lower_cases() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return characters that have one character as their lower case, sorted, and these.

    Example:
        >>> [chr(column[0]) for column in lower_cases()]
        ['A', 'a']
    """
    pairs = [(code, chr(code).lower()) for code in range(sys.maxunicode + 1)]
    changed = np.array([(code, ord(lower)) for code, lower in pairs if len(lower) == 1 and ord(lower) != code], np.uint32)
    return np.ascontiguousarray(changed[:, 0]), np.ascontiguousarray(changed[:, 1])


def c_string(text: str) -> str:
    r"""Return a text as a C string literal of ASCII; bytes are octal, so that no digit after one becomes part of it.

    Example:
        >>> c_string('a "b" é')
        '"a \\"b\\" \\303\\251"'
    """
    escaped = "".join(
        chr(byte) if re.match(r"[A-Za-z0-9 .,;:!_()+*/=<>-]", chr(byte)) else '\\"' if byte == 0x22 else f"\\{byte:03o}"
        for byte in text.encode("utf-8", "replace")
    )
    return f'"{escaped}"'
