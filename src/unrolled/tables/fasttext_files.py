"""Texts with their labels before them, as fastText reads them: `__label__good a fine film`, one line each."""

from __future__ import annotations

import re

from unrolled.tables.table_format import NumberedRows, ReadErrors, Source

PREFIX = "__label__"
_LABEL = re.compile(rf"{PREFIX}([^\s,;|\"]+)(?:[ \t]+|$)")
"""A label and the blanks behind it; a comma, a semicolon or a pipe in its place would separate columns."""


def looks_like_fasttext(head: str) -> bool:
    """Return whether a text begins with a label of fastText.

    Example:
        >>> looks_like_fasttext("__label__good a fine film\\n"), looks_like_fasttext("__label__good,a fine film\\n")
        (True, False)
    """
    return _LABEL.match(head.lstrip("\ufeff \t\r\n")) is not None


def fasttext_rows(source: Source) -> NumberedRows:
    """Yield the rows of a file: `label`, a list if there are several, None if there is none, and `text`."""
    with ReadErrors(source.path, source.encoding) as errors:
        for line, raw in enumerate(source.lines(), 1):
            errors.line = line
            text = raw.strip("\ufeff \t\r\n")
            if not text:
                continue
            labels = list[str]()
            while found := _LABEL.match(text):
                labels.append(found[1])
                text = text[found.end() :]
            label = labels if len(labels) > 1 else next(iter(labels), None)
            yield line, {"label": label, "text": text}
