"""The entry point of the command line: it runs a command, and turns each error into one sentence and an exit code."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from pathlib import Path

from unrolled import __version__
from unrolled.atomic_io import storage_error
from unrolled.cli.registry import command_module, overview
from unrolled.errors import StorageError, UnrolledError, is_out_of_memory
from unrolled.flag_names import naming_flags

MEMORY_ADVICE = {
    "train": "a smaller --batch, --bptt, --hidden or --layers",
    "sample": "a smaller --count",
    "predict": "a smaller --beam, or --device cpu",
    "eval": "a smaller --window, or a smaller --order with --baselines",
    "score": "fewer models in --compare, or --device cpu",
    "explain": "a smaller --length or --probe-length",
    "report": "a smaller --order",
    "serve": "fewer models, or --precision bfloat16",
}
"""What takes less memory, by command."""


@naming_flags()
def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code. An error that the user can fix is one sentence; a bug keeps its traceback."""
    _open_closed_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv
    argv = [argument for argument in argv if argument != "--debug"]
    try:
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
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        if debug:
            raise
        return _report_error(error, argv[0] if argv else "")


def _open_closed_streams() -> None:
    """Give standard input and error that were closed (`2>&-`) the null device: messages would go to the next file opened."""
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")
    if sys.stderr is None and sys.stdout is not None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")


def _report_error(error: Exception, command: str) -> int:
    """Print a system error as one sentence and return its exit code; raise the error again if it is a bug."""
    if isinstance(error, BrokenPipeError):
        _discard_stdout()
        return 128 + 13  # SIGPIPE; Windows has no such constant
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT):
        _discard_stdout()
        print(f"unrolled: the result cannot be written: {error.strerror}", file=sys.stderr)
        return 6
    if is_out_of_memory(error):
        print(f"unrolled: out of memory: try {MEMORY_ADVICE.get(command, 'a smaller input')}", file=sys.stderr)
        return 1
    if isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        print(f"unrolled: {storage_error(error, Path(os.fsdecode(error.filename)), 'use')}", file=sys.stderr)
        return 6
    raise error


def _discard_stdout() -> None:
    """Redirect stdout to the null device, so that flushing its buffer at exit does not fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run_command(argv: list[str]) -> int:
    if sys.stdout is None:
        raise StorageError("The result cannot be written: standard output is closed.")
    if argv[0:1] == ["help"] and len(argv) > 1:
        argv = [argv[1], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview(), end="")
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"unrolled {__version__}")
        return 0
    name, *command_argv = argv
    return int(importlib.import_module(command_module(name)).run(command_argv))
