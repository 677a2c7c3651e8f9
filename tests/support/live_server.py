"""A server with a text model and a model of a table, and its page in a browser."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.pages import open_address

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from support.servers import RunningServer


@dataclass(frozen=True)
class LiveServer:
    """A server that runs, and the folder of its runs."""

    running: RunningServer
    runs: Path

    @property
    def url(self) -> str:
        """Its address."""
        return self.running.url

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON that the server answers to a POST of JSON."""
        return self.running.client.post(path, json=body).raise_for_status().json()

    def completion(self, **body: Any) -> str:
        """Return the text of a completion by the run `text`."""
        return str(self.post("/v1/completions", {"model": "text", **body})["choices"][0]["text"])


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve a text run `text` and a run of a table `table`, for all tests of the page."""
    from support.runs import train, write_data  # these need torch and uvicorn, which few tests do
    from support.servers import running_server

    folder = tmp_path_factory.mktemp("served")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        write_data(folder)
        train("text", "runs/text", 40, save_every=1e9)
        train("table", "runs/table", 20, save_every=1e9)
    with running_server(folder / "runs") as running:
        yield LiveServer(running, folder / "runs")


def open_live(
    browser: Browser, server: LiveServer, at: str = "", size: tuple[int, int] = (1280, 900), dark: bool = False
) -> AbstractContextManager[Page]:
    """Open the page of a server as `open_address` does."""
    return open_address(browser, f"{server.url}/{at}", (server.url, "data:"), size, dark, "html[data-ready]")
