"""A program of the user that judges samples: it reads one on standard input, and keeps it by the exit code 0."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile

from unrolled.errors import UsageError

TIMEOUT_SECONDS = 10.0
"""Time that the program may take for one sample."""

CANNOT_RUN = (126, 127)
"""Exit codes of a shell or of `env` that could not start what it was asked to."""


class CheckingCommand:
    """A command line, run without a shell, once for each sample; `num_checked` and `num_kept` count.

    Raises:
        UsageError: The program is not found.

    Example:
        >>> check = CheckingCommand("grep -q a")
        >>> check.accepts("banana"), check.accepts("melon"), check.num_kept
        (True, False, 1)
    """

    def __init__(self, command: str) -> None:
        self.command, self.num_checked, self.num_kept, self.last_message = command, 0, 0, ""
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise UsageError(f"--keep-if {command:.200}: {error}; quote it as for a shell.") from error
        if not self._arguments or shutil.which(self._arguments[0]) is None:
            name = self._arguments[0] if self._arguments else ""
            raise UsageError(
                f"--keep-if {command:.200}: there is no program {name!r}. It is run without a shell; for pipes: sh -c '...'."
            )

    def accepts(self, text: str) -> bool:
        """Return whether the program ends with the exit code 0 after it was given a text on standard input.

        Raises:
            UsageError: It cannot be started, or takes more than `TIMEOUT_SECONDS`; then it is stopped, with what it started.
        """
        self.num_checked += 1
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    self._arguments, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
                )
            except (OSError, ValueError) as error:
                raise UsageError(f"--keep-if {self.command:.200} cannot be started: {error}.") from error
            with process:
                try:
                    process.communicate(text.encode("utf-8", "replace"), TIMEOUT_SECONDS)
                except subprocess.TimeoutExpired as error:
                    raise UsageError(
                        f"--keep-if {self.command:.200} did not end within {TIMEOUT_SECONDS:g} seconds for {text[:40]!r}: it "
                        "must read a sample on standard input, and end."
                    ) from error
                finally:
                    if process.poll() is None:
                        _kill_group(process)
            errors.seek(0)
            self.last_message = errors.read(4096).decode("utf-8", "replace").strip().rpartition("\n")[2] or self.last_message
        if process.returncode in CANNOT_RUN:
            raise UsageError(
                f"--keep-if {self.command:.200} cannot be run: {self.last_message or f'exit code {process.returncode}'}"
            )
        self.num_kept += process.returncode == 0
        return process.returncode == 0

    def summary(self) -> str:
        """Return what was counted, as a sentence."""
        return f"{self.num_kept:,} of {self.num_checked:,} samples were kept by {self.command:.200}"


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it started."""
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()
