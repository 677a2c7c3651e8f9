"""How results are displayed, as one line by `repr` and as a table in a notebook, without control characters of strangers."""

from __future__ import annotations

import html
import math
import re
import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import IO, TextIO, cast

LN_2 = math.log(2)
MAX_LINE_CHARS = 160
MAX_VALUE_CHARS = 60
VERBS_OF_ONE = {"are": "is", "were": "was", "have": "has"}

REPLACEMENT = "\ufffd"
KEPT = frozenset("\n\t\u00ad\u200c\u200d")
"""Line ends, tabs, soft hyphens, and the joiners of Persian and of emoji."""


def printable(text: str) -> str:
    """Replace what a terminal would execute or display reordered: control characters, marks of direction, lone surrogates."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in KEPT or c.isprintable() else REPLACEMENT for c in text)


def shell_argument(name: str | PurePath) -> str:
    """Return the name of a file as it is typed in a command: quoted where a shell would split it, and never a flag.

    Control characters are written as escapes in `$'...'`, which bash and zsh read.

    Example:
        >>> shell_argument("my book.txt"), shell_argument("-x.txt"), shell_argument("runs/a")
        ("'my book.txt'", './-x.txt', 'runs/a')
    """
    text = str(name)
    if text != printable(text) or "\n" in text:
        escaped = "".join(c if c.isprintable() and c not in "'\\" else _escape(c) for c in text)
        return f"$'{'./' if text.startswith('-') else ''}{escaped}'"
    return shlex.quote(f"./{text}" if text.startswith("-") and text != "-" else text)


def _escape(character: str) -> str:
    """Return a character as the escapes of its bytes, in octal digits."""
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


class PrintableStream:
    """A stream that replaces the control characters of all that is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without control characters."""
        return self._stream.write(printable(text))

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


def result_stream() -> IO[str]:
    """Return standard output; if it is a terminal, without control characters. A file gets what there is, unchanged."""
    return cast(IO[str], PrintableStream(sys.stdout)) if sys.stdout.isatty() else sys.stdout


class Displayed(ABC):
    """A base class of results: `facts` is all that a subclass defines. A dataclass needs `repr=False`."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """What is displayed, by name."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {one_line(value)}" for name, value in self.facts.items())
        return one_line(f"<unrolled.{type(self).__name__.removeprefix('Notebook')}: {shown}", MAX_LINE_CHARS) + ">"

    def _repr_html_(self) -> str:
        return html_table([(name, str(value)) for name, value in self.facts.items()])


def one_line(value: object, max_chars: int = MAX_VALUE_CHARS) -> str:
    """Return a value as one line of at most `max_chars` characters."""
    text = " ".join(printable(str(value)).split())
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def loss_text(nats: float, unit: str) -> str:
    """Return a loss with its unit: in bits and nats per `unit`; the loss of scaled numbers, of the unit `number`, has none.

    Example:
        >>> loss_text(1.0, "character")
        '1.443 bits, 1.0000 nats per character'
    """
    return f"{nats:.4f}, of scaled numbers" if unit == "number" else f"{nats / LN_2:.3f} bits, {nats:.4f} nats per {unit}"


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, such as "1 row" or "1,200 rows"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def agree(count: int, words: str) -> str:
    """Return words about `count` things: the first verb in its form for one, if it is one.

    Example:
        >>> f"1 of 9 rows {agree(1, 'are left out')}"
        '1 of 9 rows is left out'
    """
    return re.sub(r"\b(are|were|have)\b", lambda verb: VERBS_OF_ONE[verb[0]], words, count=1) if count == 1 else words


def counted(count: int, words: str) -> str:
    """Return words that begin with a plural noun, as they are said of `count` things.

    Example:
        >>> counted(1, "words are not known"), counted(2, "files are read")
        ('word is not known', 'files are read')
    """
    return re.sub(r"\b(\w+)s\b", r"\1", agree(count, words), count=1) if count == 1 else words


def html_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> str:
    """Return rows as an HTML table; the first cell of a row is its heading."""
    left = ' style="text-align:left"'
    head = "".join(f"<th{left}>{escape(name)}</th>" for name in headings)
    body = "".join(
        f"<tr><th{left}>{escape(name)}</th>{''.join(f'<td{left}>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def page_frame(path: object, page: str) -> str:
    """Return a whole HTML page in a frame below its path, for a notebook. Its scripts cannot reach the notebook."""
    return (
        f'<div>{escape(str(path))}</div><iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
        'style="width:100%;height:640px;border:1px solid #8886"></iframe>'
    )


def escape(text: str) -> str:
    """Return a text as HTML, without control characters."""
    return html.escape(printable(text))
