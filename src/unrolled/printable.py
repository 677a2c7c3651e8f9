"""Text of strangers on a terminal and in logs: control characters are never passed on."""

from __future__ import annotations

import shlex
import sys
from pathlib import PurePath
from typing import IO, TextIO, cast

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
