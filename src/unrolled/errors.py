"""Errors that the user can fix, each with its exit code.

All of them derive from `UnrolledError`. The command line prints the message without a traceback and exits with
`exit_code`. Any other exception is a bug and keeps its traceback.

    UnrolledError        1   failed
    ├── UsageError       2   wrong flags, arguments or combinations of them
    ├── DataError        3   the text or table cannot be used
    ├── ModelError       4   the model or run is missing, damaged or incompatible
    ├── DivergedError    5   the loss is not finite any more
    ├── StorageError     6   no space, no permission, or a disk error
    └── Interrupted  130/143 stopped by a signal, after saving
"""

from __future__ import annotations

import difflib
import os
import sys
import traceback
from collections.abc import Iterable

from unrolled.display import printable
from unrolled.flag_names import in_terms_of_caller


class UnrolledError(Exception):
    """A failure that the user can fix. The message says what is wrong, what was expected and what to do.

    It is written with the flags of commands; `str` names the keyword arguments, unless a command runs.
    """

    exit_code = 1

    def __init__(self, *parts: object) -> None:
        super().__init__(*(_sentence(part) if isinstance(part, str) else part for part in parts))

    def __str__(self) -> str:
        return in_terms_of_caller(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the sentence alone, or with `unrolled.debug = True` the traceback too."""
        if getattr(sys.modules.get("unrolled"), "debug", False):
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


def _sentence(message: str) -> str:
    """Return a message without control characters, and with one full stop where it ends with another message."""
    has_two_stops = message.endswith("..") and not message.endswith("...")
    return printable(message[:-1] if has_two_stops else message)


class UsageError(UnrolledError):
    """A flag or argument has a value that cannot be used."""

    exit_code = 2


class DataError(UnrolledError):
    """The text or table cannot be used."""

    exit_code = 3


class ModelError(UnrolledError):
    """The model or run is missing, damaged, or in a format that this version cannot read."""

    exit_code = 4


class DivergedError(UnrolledError):
    """The loss or the gradient is not finite any more."""

    exit_code = 5


class StorageError(UnrolledError):
    """Reading or writing failed: no space, no permission, or a disk error."""

    exit_code = 6


class Interrupted(UnrolledError):
    """Stopped by a signal after saving. The exit code is 128 plus the number of the signal."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that there is not enough CPU or GPU memory."""
    message = str(error).lower()
    parts = ("allocate memory", "out of memory", "failed to map segment")  # the last one of a library that is loaded
    return isinstance(error, MemoryError) or any(part in message for part in parts)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; the name of its type if it has no message."""
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice closest to `word`, or an empty string if none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""


def did_you_mean_file(name: str, names: Iterable[str]) -> str:
    """Return `did_you_mean` among names of files whose part before the suffix is close, too: all texts end with `.txt`."""
    stem = os.path.splitext(name)[0]
    return did_you_mean(name, (other for other in names if did_you_mean(stem, [os.path.splitext(other)[0]])))
