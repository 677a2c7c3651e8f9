"""What a user can mend: one sentence each, with its exit code.

Every error that is the user's to mend derives from `UnrolledError`; the command line prints its message, without a
traceback, and leaves with its `exit_code`. Anything else is a bug of ours and keeps its traceback.

    UnrolledError        1   failed
    ├── UsageError       2   a flag, an argument or a combination of them
    ├── DataError        3   the text or table cannot be used
    ├── ModelError       4   the model or run is missing, damaged or incompatible
    ├── DivergedError    5   the loss stopped being a number
    ├── StorageError     6   no space, no permission, a disk that fails
    └── Interrupted  130/143 stopped by a signal, after saving
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnrolledError(Exception):
    """A failure that the user can mend. The message says what is wrong, what was expected and what to do."""

    exit_code = 1


class UsageError(UnrolledError):
    """A flag or argument has a value that cannot be used."""

    exit_code = 2


class DataError(UnrolledError):
    """The text or table that was given cannot be used."""

    exit_code = 3


class ModelError(UnrolledError):
    """The model or run is missing, damaged, or of a kind this version cannot read."""

    exit_code = 4


class DivergedError(UnrolledError):
    """The loss or the gradient stopped being a finite number."""

    exit_code = 5


class StorageError(UnrolledError):
    """Writing or reading failed: no space, no permission, or a fault of the disk."""

    exit_code = 6


class Interrupted(UnrolledError):
    """Stopped by a signal, after everything was saved. The exit code is 128 plus the signal's number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a fault is that there was not enough memory, of the machine or of a GPU."""
    message = str(error).lower()
    return isinstance(error, MemoryError) or "allocate memory" in message or "out of memory" in message


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the choice closest to `word`, or an empty string if none is close."""
    matches = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{matches[0]}'?" if matches else ""
