"""Faults of the disk, and the end of a process, at one chosen call to the system."""

import builtins
import contextlib
import gc
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from unrolled.errors import StorageError
from unrolled.nn import device


@contextlib.contextmanager
def quick_trainings() -> Iterator[None]:
    """Spare the small trainings of tests two things that take longer than their steps.

    They do not wait for the disk: the system keeps what a killed process wrote, and checkpoints/test_run_dir.py tests what
    survives a loss of power. And they do not collect garbage first, among all objects of torch and pytest.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        patch.setattr(device, "gc", SimpleNamespace(collect=int, freeze=gc.freeze, unfreeze=gc.unfreeze))
        yield


Fault = Callable[[str], None]


class Calls:
    """Counts the calls that writing makes to the system; `strike` is called in place of the one with number `at`.

    With `only`, faults of these calls alone are counted.
    """

    OS = ("open", "mkdir", "fsync", "chmod", "replace", "rename", "unlink", "remove", "rmdir", "scandir", "close", "listdir")

    def __init__(self, at: int, strike: Fault, under: Path) -> None:
        self.at, self.strike, self.under = at, strike, str(under)
        self.count = 0
        self.struck = ""

    def hit(self, name: str) -> None:
        """Count a call, and strike if it is the one."""
        self.count += 1
        if self.count == self.at:
            self.struck = name
            self.strike(name)

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Count while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in self.OS:
                patch.setattr(os, name, self._counting(name, getattr(os, name)))
            patch.setattr(os, "fdopen", self._opening("fdopen", os.fdopen))
            patch.setattr(builtins, "open", self._opening("open file", builtins.open))
            patch.setattr(io, "open", self._opening("open file", io.open))
            yield

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.hit(name)
            return real(*arguments, **named)

        return call

    def _opening(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            place = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else self.under
            file = real(*arguments, **named)
            return _File(file, self) if place.startswith(self.under) and self._hit_opened(name, file) else file

        return call

    def _hit_opened(self, name: str, file: Any) -> bool:
        try:
            self.hit(name)
        except BaseException:
            file.close()
            raise
        return True


class _File:
    """A file whose reads, writes, flushes and closing count."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, content: Any) -> Any:
        self._calls.hit("write")
        return self._file.write(content)

    def flush(self) -> None:
        self._calls.hit("flush")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._calls.hit("close file")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def act_on_a_bad_disk(act: Callable[[], object], at: int, number: int, under: Path) -> tuple[str, str | None]:
    """Call `act`, in which the call number `at` to the system fails; return that call, and what was told of it."""

    def fail(name: str) -> None:
        raise OSError(number, os.strerror(number))

    calls = Calls(at, fail, under)
    try:
        with calls.patched():
            act()
    except StorageError as error:
        return calls.struck, str(error)
    return calls.struck, None
