"""One server for the tests of a file that change nothing in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.servers import RunningServer, running_server, save_models


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models."""
    folder = tmp_path_factory.mktemp("server") / "runs"
    save_models(folder)
    return folder


@pytest.fixture(scope="module")
def server(runs_folder: Path) -> Iterator[RunningServer]:
    """A server of these models."""
    with running_server(runs_folder) as running:
        yield running
