"""The command line, called in the process of the test."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

TINY_RUN = ("--hidden", 16, "--batch", 4, "--bptt", 8, "--sample-length", 20)
"""Arguments of a training that takes part of a second."""


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
        self.before = os.dup(0)
        with open(self.path, "rb") as file:
            os.dup2(file.fileno(), 0)

    def __exit__(self, *error: object) -> None:
        os.dup2(self.before, 0)
        os.close(self.before)
