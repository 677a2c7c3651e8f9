"""The text of PDF documents, by way of PDFium: lines as they are printed, without running heads, feet and page numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from unrolled.errors import DataError, first_line

MIN_PAGES = 3
"""Pages on which a line must be the first or the last one, up to its digits, to be no part of the text."""

MAX_RUNNING = 2
"""Lines at the top, and at the bottom, that may be of that kind."""

HYPHEN = "\ufffe"
"""What PDFium writes where a word is divided at the end of a line, in place of the hyphen and the line end."""

_DIVIDED = re.compile(rf"(\w+){HYPHEN}(\w+)")
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")


def pdf_lines(file: Path | IO[bytes], name: str) -> list[str]:
    """Return the lines of a document.

    A word that is divided at the end of a line is joined; its hyphen stays if the document has it in the middle of a line too.

    Raises:
        DataError: It is damaged or encrypted, or a package is missing.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise DataError(f"{name} needs a package that reads PDF: pip install 'unrolled[data]'") from error
    try:
        document = pypdfium2.PdfDocument(file if isinstance(file, Path) else file.read())
    except pypdfium2.PdfiumError as error:
        if "assword" in str(error):
            raise DataError(f"{name} is protected by a password: save it without.") from error
        raise DataError(f"{name} is damaged, or no PDF document: {first_line(error)}.") from error
    try:
        pages = [document[number].get_textpage().get_text_range().splitlines() for number in range(len(document))]
    except pypdfium2.PdfiumError as error:
        raise DataError(f"{name} is damaged: {first_line(error)}.") from error
    finally:
        document.close()
    text = "\n".join(line.rstrip() for page in without_running_lines(pages) for line in page)
    return _DIVIDED.sub(lambda parts: _joined(parts[1], parts[2], text), text).replace(HYPHEN, "-").split("\n")


def without_running_lines(pages: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return pages without lines at their top and bottom that most of them have there, and none elsewhere, up to their numbers.

    Example:
        >>> without_running_lines([["A book", "one", "- 1 -"], ["A book", "two", "- 2 -"], ["A book", "three", "- 3 -"]])
        [['one'], ['two'], ['three']]
    """
    rest = [[line for line in page if line.strip()] for page in pages]
    inner = {_without_number(line) for page in rest for line in page[MAX_RUNNING:-MAX_RUNNING]}
    for position in (0, -1) * MAX_RUNNING:
        ends = Counter(_without_number(page[position]) for page in rest if page)
        running, count = next(iter(ends.most_common(1)), ("", 0))
        if count >= max(MIN_PAGES, len(pages) // 2 + 1) and running not in inner:
            rest = [_without_end(page, position, running) for page in rest]
    return rest


def _without_end(page: list[str], position: int, running: str) -> list[str]:
    if not page or _without_number(page[position]) != running:
        return page
    return page[1:] if position == 0 else page[:-1]


def _without_number(line: str) -> str:
    return _NUMBER.sub("", line.lower()).strip()


def _joined(first: str, second: str, text: str) -> str:
    """Return a divided word: with a hyphen if the text has it so."""
    return f"{first}-{second}" if re.search(rf"\b{re.escape(first)}-{re.escape(second)}\b", text) else first + second
