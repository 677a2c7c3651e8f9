"""The command line, called in the process of the test."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TINY_RUN = ("--hidden", 16, "--batch", 4, "--bptt", 8, "--sample-length", 20, "--eval-tokens", 100)
"""Arguments of a training that takes part of a second: half of it would be evaluations, if they read more."""


class CommandResult(NamedTuple):
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


Cli = Callable[..., CommandResult]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Call the command line."""
    from unrolled.cli.main import main

    def call(*arguments: object) -> CommandResult:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        captured = capsys.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return call


class StandardInput:
    """A file in the place of standard input, as a shell would put it there."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.before, self.stdin = os.dup(0), sys.stdin
        with open(self.path, "rb") as file:
            os.dup2(file.fileno(), 0)
        sys.stdin = open(0, encoding="utf-8", closefd=False)

    def __exit__(self, *error: object) -> None:
        sys.stdin.close()
        sys.stdin = self.stdin
        os.dup2(self.before, 0)
        os.close(self.before)
