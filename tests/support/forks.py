"""A fork server, for tests that kill processes or limit what they may do.

Starting Python with torch takes longer than what is tested, so one process imports everything and forks a child for each
call. It starts no thread of torch itself.
"""

import atexit
import functools
import importlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch

from support.faults import quick_trainings
from support.modules import load_file

TESTS = Path(__file__).resolve().parents[1]
HUNG = 60.0
"""A child that runs for more seconds than this is taken to hang."""


class ChildResult(NamedTuple):
    """How a child process ended.

    Attributes:
        code: Its exit code, or minus the number of the signal that ended it.
        err: What it wrote to standard error.
        seconds: How long it ran after its signal was sent; the whole time if none was sent.
        grown: By how many megabytes its memory grew.
        value: What the function returned, if that was not a number.
    """

    code: int
    err: str
    seconds: float
    grown: float
    value: Any


class Forks:
    """A fork server: `call` runs a function of a test or support module in a child process, and may send it a signal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "MALLOC_ARENA_MAX": "1",
            "UNROLLED_CACHE": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH")))),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.forks"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        after: float | None = None,
        number: int = signal.SIGKILL,
        most: float = HUNG,
    ) -> ChildResult:
        """Call `function(*arguments)` in a child, in `folder`; send it the signal `number` after some seconds, if asked to.

        One that lives on for more than `most` seconds hangs, and is killed.
        """
        self._count += 1
        err, value = self.folder / f"{self._count}.err", self.folder / f"{self._count}.json"
        wanted = {
            "file": sys.modules[function.__module__].__file__, "function": function.__name__,
            "arguments": [str(argument) if isinstance(argument, Path) else argument for argument in arguments],
            "err": str(err), "value": str(value), "folder": str(self.folder), "after": after, "number": int(number),
            "most": most,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        told = err.read_text("utf-8", "replace") if err.exists() else ""
        result = json.loads(value.read_text()) if value.exists() else None
        for path in (err, value):
            path.unlink(missing_ok=True)
        return ChildResult(answer["code"], told, answer["seconds"], answer["grown"], result)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=HUNG)
        self._process.stdout.close()


@functools.cache
def running_forks() -> Forks:
    """Start the fork server, once for all tests of this process. A child without rights can read its folder too."""
    folder = Path(tempfile.mkdtemp(prefix="unrolled-faults-"))
    folder.chmod(0o755)
    running = Forks(folder)

    def end() -> None:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return running


@pytest.fixture
def forks() -> Forks:
    """The fork server."""
    return running_forks()


@functools.cache
def load_module(path: Path) -> ModuleType:
    """Return the module of a file. pytest gives test modules names of its own, so that they cannot be imported by name."""
    if path.parent == Path(__file__).parent:
        return importlib.import_module(f"support.{path.stem}")
    return load_file("_".join(path.relative_to(TESTS).with_suffix("").parts), path)


def serve() -> None:
    """Read what to call from standard input, one line of JSON for each child."""
    import unrolled.api
    import unrolled.cli.main

    _ = unrolled.api, unrolled.cli.main
    torch.set_num_threads(1)
    for line in sys.stdin:
        wanted = json.loads(line)
        function = getattr(load_module(Path(wanted["file"])), wanted["function"])
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
        child = os.fork()
        if child == 0:
            _be_a_child(function, wanted)
        started = time.monotonic()
        if wanted["after"] is not None:
            ended = _wait(child, started + wanted["after"])
            started = time.monotonic()
            if ended is None:
                os.kill(child, wanted["number"])
        else:
            ended = None
        ended = ended or _wait(child, started + wanted["most"])
        if ended is None:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            answer = {"code": 999, "seconds": HUNG, "grown": 0.0}
        else:
            code, usage = ended
            grown = usage.ru_maxrss / 1024 - before
            answer = {"code": code, "seconds": time.monotonic() - started, "grown": grown}
        print(json.dumps(answer), flush=True)


def _wait(child: int, until: float) -> tuple[int, resource.struct_rusage] | None:
    """Wait for a child to end; return its code and what it used, or None if it had not at `until`."""
    descriptor = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
    finally:
        os.close(descriptor)
    if not ready:
        return None
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage


def _be_a_child(function: Callable[..., Any], wanted: dict[str, Any]) -> None:
    code = 98
    try:
        os.chdir(wanted["folder"])
        target = os.open(wanted["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        result = function(*wanted["arguments"])
        code = result if isinstance(result, int) else 0
        if result is not None and not isinstance(result, int):
            Path(wanted["value"]).write_text(json.dumps(result))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with quick_trainings():
        serve()
