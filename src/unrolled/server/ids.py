"""Ids of runs, models and uploads: names of files and folders, as people write them, that are no paths."""

from __future__ import annotations

import unicodedata

from unrolled.server.limits import MAX_NAME_CHARS

MAX_ID_BYTES = 240
"""Of the 255 that a file name has, some are for suffixes."""

ID_RULE = f"at most {MAX_NAME_CHARS} printable characters without / and \\, and begins with no dot"


def is_id(name: str) -> bool:
    """Return whether a name is an id: that of something in a folder, never a path to another place.

    Example:
        >>> [is_id(name) for name in ("my book", "Überraschung", "../book", ".hidden", "a\\nb")]
        [True, True, False, False, False]
    """
    has_form = 0 < len(name) <= MAX_NAME_CHARS and name == name.strip() and name[0] != "."
    return has_form and name.isprintable() and not set(name) & {"/", "\\"} and len(name.encode()) <= MAX_ID_BYTES


def to_id(text: str, default: str) -> str:
    """Return an id that is made of a text: letters, marks, digits, blanks and `._-` stay, and others become a `-`.

    Example:
        >>> to_id("Größe: <b>.txt", "text.txt"), to_id("...", "text.txt")
        ('Größe- -b-.txt', 'text.txt')
    """
    kept = (c if c in " ._-" or unicodedata.category(c)[0] in "LMN" else "-" for c in unicodedata.normalize("NFC", text))
    return "".join(kept)[-MAX_NAME_CHARS:].strip(" .-") or default
