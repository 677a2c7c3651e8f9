"""Names of columns in a comment above the rows: `#Fields: date time cs-method` (IIS), `#fields` (Zeek), `#columns:` (Anki)."""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_NAMES = re.compile(r"#\s*(?:fields|columns)\s*[:\t]\s*(\S.*)", re.IGNORECASE)
_SEPARATOR = re.compile(r"#\s*separator\s*[: ]\s*(\S+)", re.IGNORECASE)
_SEPARATORS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "colon": ":", "space": " ", "\\x09": "\t"}


@dataclass(frozen=True)
class CommentedNames:
    """The names of columns, the number of the line that has them, from 0, and what separates them and the cells."""

    names: tuple[str, ...]
    line: int
    delimiter: str

    def rewrite(self, lines: Iterator[str]) -> Iterator[str]:
        """Yield lines with the names in the place of their comment, empty ones for other comments, and tabs for blanks."""
        for number, line in enumerate(lines):
            if number == self.line:
                yield self._joined(self.names)
            elif line.startswith("#") and (number < self.line or len(self._cells(line)) != len(self.names)):
                yield "\n"
            else:
                yield self._joined(self._cells(line)) if self.delimiter == " " and line.strip() else line

    def _cells(self, line: str) -> list[str]:
        return next(csv.reader([line], delimiter=self.delimiter), [])

    def _joined(self, cells: Sequence[str]) -> str:
        return ("\t" if self.delimiter == " " else self.delimiter).join(cell.replace("\t", " ") for cell in cells) + "\n"


def find_commented_names(lines: Sequence[str]) -> CommentedNames | None:
    """Return the names in a comment among the first lines, if the row after the comments has as many cells.

    Example:
        >>> find_commented_names(["#Software: x", "#Fields: date time c-ip", "2024-03-01 05:14:07 10.0.0.1"]).names
        ('date', 'time', 'c-ip')
    """
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), lines))
    found = next(((number, match[1]) for number, line in enumerate(comments) if (match := _NAMES.match(line))), None)
    row = next((line for line in lines[len(comments) :] if line.strip()), "")
    if found is None or not row:
        return None
    said = next((match[1].lower() for line in comments if (match := _SEPARATOR.match(line))), "")
    number, text = found
    delimiter = _SEPARATORS.get(said, said) if said else next((sign for sign in "\t;,|" if sign in text), " ")
    if len(delimiter) != 1:
        return None
    names = CommentedNames(tuple(name.strip() for name in text.strip().split(delimiter)), number, delimiter)
    return names if len(names.names) > 1 and len(names._cells(row.rstrip("\r\n"))) == len(names.names) else None
