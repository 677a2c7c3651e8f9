"""The built-in tables: made from installed packages, without a download.

    digits          the handwritten digits of scikit-learn: an image -> a digit
    glyphs          characters drawn with the fonts of this machine: an image -> the character's name
    languages       the names in Babel (the Unicode Consortium's CLDR): a name -> its language
    dates           dates that Babel writes in the formats of hundreds of locales -> ISO 8601
    python-tokens   Python's standard library: code -> the class of every character
    parity, ...     the formal languages of `formal_languages`: a string -> the label of every symbol

Rows are made on demand, always the same in the same order for the same packages (and fonts, and Python). No row is in both
parts (`train`, `test`) of a table.
"""

from __future__ import annotations

import functools
import importlib
import io
import itertools
import keyword
import random
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.datasets.cldr import dates, languages
from unrolled.datasets.formal_languages import LANGUAGES, language_rows
from unrolled.datasets.glyphs import glyphs
from unrolled.datasets.stdlib import PREFIX, python_sources
from unrolled.errors import DataError

Row = dict[str, Any]
"""Cells by column: a text is `str`, labels for its characters are `list[str]`, an image is `(H, W)` uint8."""

_SNIPPET_CHARS = (200, 400)  # least and most characters of a piece of code
_NUM_SNIPPETS = {"train": 4_000, "test": 500}
_MAX_PER_FILE = 16  # so that large modules do not dominate


@dataclass(frozen=True)
class BuiltinTable:
    """A built-in table: its columns, default source and target, and its rows by part.

    `source` and `target` are `column:kind`. `needs` is the package to install, or empty. `rows` takes `train` or `test`,
    and raises `DataError` if that package, or something it needs, is missing.
    """

    columns: tuple[str, ...]
    source: str
    target: str
    needs: str
    rows: Callable[[str], Iterator[Row]]


def _requires(module: str, package: str, rows: Callable[[str], Iterator[Row]]) -> Callable[[str], Iterator[Row]]:
    """Return `rows` with a check, at each call, that the package it needs is installed."""

    def checked_rows(split: str) -> Iterator[Row]:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise DataError(
                f"This built-in table needs the package {package}, which is not installed: pip install 'unrolled[data]'"
            ) from error
        return rows(split)

    return checked_rows


def _digits(split: str) -> Iterator[Row]:
    """Yield `{"picture": (8, 8) uint8, 255 is ink, "digit": "7"}`; a fifth of the rows of every digit is the test part."""
    data: Any = importlib.import_module("sklearn.datasets").load_digits()
    rng, test_rows = random.Random(0), set()
    for digit in range(10):
        digit_rows = [row for row, value in enumerate(data.target) if value == digit]
        test_rows |= set(rng.sample(digit_rows, len(digit_rows) // 5))
    for row, (pixels, digit) in enumerate(zip(data.images, data.target, strict=True)):
        if (row in test_rows) == (split == "test"):
            yield {"picture": (pixels * (255 / 16)).round().astype("uint8"), "digit": str(digit)}


def _python_tokens(split: str) -> Iterator[Row]:
    """Yield `{"code": "x = 1", "classes": ["name", "space", "operator", ...]}`; a file is in one part only."""
    for code, classes in _token_snippets(split).items():
        yield {"code": code, "classes": list(classes)}


@functools.cache
def _token_snippets(split: str) -> dict[str, list[str]]:
    """Return the classes of the characters of each piece of code in a part, by the code."""
    files = [path for path in python_sources() if path.parent.name != "encodings"]  # those differ in their tables only
    rng, num_test, test_snippets = random.Random(0), len(files) // 8, _token_snippets("test") if split == "train" else {}
    rng.shuffle(files)
    snippets: dict[str, list[str]] = {}
    for path in files[:num_test] if split == "test" else files[num_test:]:
        candidates = [(code, classes) for code, classes in _snippets(path) if code not in test_snippets]
        snippets |= [candidates[i] for i in sorted(rng.sample(range(len(candidates)), min(len(candidates), _MAX_PER_FILE)))]
        if len(snippets) >= _NUM_SNIPPETS[split]:
            break
    return dict(itertools.islice(snippets.items(), _NUM_SNIPPETS[split]))


def _snippets(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Split a file into pieces of full statements, so that none begins inside a string; long statements are left out."""
    text = path.read_text("ascii")
    try:
        classes, statement_ends = token_classes(text)
    except (tokenize.TokenError, SyntaxError):
        return  # a template, or Python 2
    start = last = 0
    for end in [*statement_ends, len(text) + _SNIPPET_CHARS[1]]:  # the last one ends the last piece
        if end - start > _SNIPPET_CHARS[1]:
            leading = last - start - len(text[start:last].lstrip("\n"))
            code = text[start + leading : last].rstrip()
            if len(code) >= _SNIPPET_CHARS[0]:
                yield code, classes[start + leading : start + leading + len(code)]
            start = last if end - last <= _SNIPPET_CHARS[1] else end
        last = end


def token_classes(code: str) -> tuple[list[str], list[int]]:
    """Return the class of every character of Python code, and the positions where its statements end.

    The classes are keyword, name, number, string, comment, operator, space and newline. All of an f-string is string, as
    in Python before 3.12. Raises `tokenize.TokenError` or `SyntaxError`, like `tokenize`.
    """
    line_starts = [0]
    for line in code.split("\n"):
        line_starts.append(line_starts[-1] + len(line) + 1)
    classes = [{"\n": "newline", "\\": "operator"}.get(character, "space") for character in code]
    ends, open_strings = [], []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        start, end = (line_starts[line - 1] + column for line, column in (token.start, token.end))
        kind = tokenize.tok_name[token.type]
        if kind == "NEWLINE":
            ends.append(min(end, len(code)))
        elif kind.endswith("STRING_START"):
            open_strings.append(start)
        elif kind.endswith("STRING_END"):
            start, kind = open_strings.pop(), "STRING"
        if kind == "NAME":
            kind = "KEYWORD" if keyword.iskeyword(token.string) else kind
        if kind in _TOKEN_CLASSES:
            classes[start:end] = [_TOKEN_CLASSES[kind]] * (end - start)
    return classes, ends


_TOKEN_CLASSES = {
    "KEYWORD": "keyword", "NAME": "name", "NUMBER": "number", "STRING": "string", "COMMENT": "comment", "OP": "operator",
}  # fmt: skip

TABLES: dict[str, BuiltinTable] = {
    "digits": BuiltinTable(
        ("picture", "digit"),
        "picture:image",
        "digit:label",
        "scikit-learn",
        _requires("sklearn.datasets", "scikit-learn", _digits),
    ),
    "glyphs": BuiltinTable(("picture", "name"), "picture:image", "name:text", "pillow", _requires("PIL", "pillow", glyphs)),
    "languages": BuiltinTable(
        ("name", "language"), "name:text", "language:label", "babel", _requires("babel", "babel", languages)
    ),
    "dates": BuiltinTable(
        ("written", "iso", "locale"), "written:text", "iso:text", "babel", _requires("babel", "babel", dates)
    ),
    "python-tokens": BuiltinTable(("code", "classes"), "code:text", "classes:labels", "", _python_tokens),
    **{name: BuiltinTable(("string", "labels"), "string:text", "labels:labels", "", language_rows(name)) for name in LANGUAGES},
}


def is_builtin_table(name: str) -> bool:
    """Return whether `name` is a built-in table, with or without its split, and not a built-in text."""
    return name.startswith(PREFIX) and name.removeprefix(PREFIX).partition(":")[0] in TABLES
