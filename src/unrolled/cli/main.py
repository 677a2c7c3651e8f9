"""The command line: a name to its command, and every fault to one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from unrolled import __version__
from unrolled.cli.commands.inside import explain, report
from unrolled.cli.commands.judge import evaluate, score
from unrolled.cli.commands.machine import bench, doctor
from unrolled.cli.commands.train import train
from unrolled.cli.commands.write import predict, sample
from unrolled.cli.help import MAIN_HELP
from unrolled.errors import StorageError, UnrolledError, UsageError, did_you_mean, is_out_of_memory

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train,
    "sample": sample,
    "predict": predict,
    "eval": evaluate,
    "score": score,
    "explain": explain,
    "report": report,
    "bench": bench,
    "doctor": doctor,
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code. A mistake of the user's is one sentence; a bug keeps its traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    try:
        with _exit_on_interrupt():
            try:
                return _run_command(argv)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except UnrolledError as error:
        if debug:
            raise
        print(f"unrolled: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError, RuntimeError) as error:
        if debug:
            raise
        return _report_error(error)


def _report_error(error: Exception) -> int:
    """Tell of a fault of the machine in one sentence and return its exit code; raise what is a bug again."""
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return 128 + 13  # SIGPIPE, which Windows does not name
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT):
        _discard_stdout()
        print(f"unrolled: the result cannot be written: {error.strerror}", file=sys.stderr)
        return 6
    if is_out_of_memory(error):
        print("unrolled: out of memory: try a smaller --batch, --bptt, --hidden or --layers", file=sys.stderr)
        return 1
    raise error


def _discard_stdout() -> None:
    """Let what is still in stdout's buffer go nowhere, so that leaving does not fail once more."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _exit_on_interrupt() -> Iterator[None]:
    """Make Ctrl-C leave at once with one line while there is nothing to save; training has signals of its own.

    An exception would not do: one that comes up inside the import of torch is lost there, or breaks it.
    """

    def exit_now(signal_number: int, frame: object) -> None:
        os.write(2, b"\nunrolled: interrupted\n")
        os._exit(128 + signal_number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_handler = signal.signal(signal.SIGINT, exit_now)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous_handler)


def _run_command(argv: list[str]) -> int:
    if sys.stdout is None:
        raise StorageError("There is no standard output to write a result to: it is closed.")
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(MAIN_HELP, end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"unrolled {__version__}")
        return 0
    name, *command_argv = argv
    if name not in COMMANDS:
        raise UsageError(f"There is no command '{name}'{did_you_mean(name, COMMANDS) or '.'} Commands: {', '.join(COMMANDS)}.")
    return COMMANDS[name](command_argv)
