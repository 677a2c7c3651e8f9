"""One contender in its own process: it builds its workload, then does a round for every line on standard input.

Peers run as their users run them, so they must not share a process with this package, which sets the allocator to keep memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from types import TracebackType
from typing import Any, Self

from unrolled.errors import UnrolledError


class Worker:
    """A process of Python that runs `code`, is asked by lines on its standard input, and answers each with a line."""

    def __init__(self, name: str, code: str, *arguments: str) -> None:
        self.name = name
        # In its own session it gets no Ctrl-C; it exits when its input ends, also if this process has died.
        pipe, command = subprocess.PIPE, [sys.executable, "-c", code, *arguments]
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def ask(self, line: str) -> str:
        """Return the answer to a line. Raises `UnrolledError` if the process has ended."""
        with contextlib.suppress(BrokenPipeError):  # it has died: there will be no answer
            if self._process.stdin is not None:
                self._process.stdin.write(f"{line}\n")
                self._process.stdin.flush()
        return self.read_answer()

    def read_answer(self) -> str:
        """Return the next line that it prints. Raises `UnrolledError` if the process has ended."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.communicate()
            raise UnrolledError(f"The benchmark's process for '{self.name}' ended with code {self._process.returncode}.")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


class BenchProcess(Worker):
    """A workload in its own process; `round` times one round of it."""

    def __init__(self, workload: str, **parameters: Any) -> None:
        super().__init__(workload, "from unrolled.bench.process import serve; serve()", workload, json.dumps(parameters))
        self.work = float(self.read_answer())

    def round(self, count: int = 1) -> float:
        """Do the work `count` times; return the seconds of one."""
        return float(self.ask(str(count)))


def serve() -> None:
    """Build the workload that the command line names, and time it for each line of standard input."""
    from unrolled.bench.workloads import WORKLOADS

    workload = WORKLOADS[sys.argv[1]](**json.loads(sys.argv[2]))
    workload()  # the first round prepares memory and code
    print(workload.work, flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        for _ in range(int(line)):
            workload()
        try:
            print((time.perf_counter() - started) / int(line), flush=True)
        except BrokenPipeError:
            os._exit(0)  # the parent process is gone
