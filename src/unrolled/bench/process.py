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


class BenchProcess:
    """A workload in its own process; `round` times one round of it."""

    def __init__(self, workload: str, **parameters: Any) -> None:
        self.name = workload
        code = "from unrolled.bench.process import serve; serve()"
        command = [sys.executable, "-c", code, workload, json.dumps(parameters)]
        # In its own session it gets no Ctrl-C; it exits when its input ends, also if this process has died.
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        self.work = self._read_result()

    def round(self, count: int = 1) -> float:
        """Do the work `count` times; return the seconds of one."""
        with contextlib.suppress(BrokenPipeError):  # it has died: there will be no answer
            if self._process.stdin is not None:
                self._process.stdin.write(f"{count}\n")
                self._process.stdin.flush()
        return self._read_result()

    def _read_result(self) -> float:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self._process.communicate()
            raise UnrolledError(f"The benchmark's process for '{self.name}' ended with code {self._process.returncode}.")
        return float(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.communicate()


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
