"""`unrolled serve` in a process of its own, with a text model and a model of a table; and its page in a browser."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
START_SECONDS = 60


@dataclass(frozen=True)
class LiveServer:
    """A server that runs: its address, and the folder of its runs."""

    url: str
    runs: Path

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Return the JSON that the server answers to a POST of JSON."""
        request = Request(self.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
        with urlopen(request, timeout=30) as response:
            return json.load(response)

    def completion(self, **body: Any) -> str:
        """Return the text of a completion by the run `text`."""
        return str(self.post("/v1/completions", {"model": "text", **body})["choices"][0]["text"])


def _address(process: subprocess.Popen[str]) -> str:
    """Return the address that a server prints when it listens."""
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    told = []
    for line in process.stderr or ():
        told.append(line)
        if found := ADDRESS.search(line):
            timer.cancel()
            return found.group()
    raise AssertionError(f"the server did not start: {''.join(told)}")


@contextmanager
def live_server(runs: Path, *arguments: str) -> Iterator[LiveServer]:
    """Serve a folder of runs."""
    command = [sys.executable, "-m", "unrolled", "serve", "--port", "0", "--runs", str(runs), "--threads", "1", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "UNROLLED_CACHE": str(runs / "cache")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            yield LiveServer(_address(process), runs)
        finally:
            process.terminate()
            process.communicate(timeout=30)


@pytest.fixture(scope="session")
def page_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Serve a text run `text` and a run of a table `table`, for all tests of the page."""
    from support.runs import train, write_data  # needs torch

    folder = tmp_path_factory.mktemp("served")
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNROLLED_CACHE", str(folder / "cache"))
        write_data(folder)
        train("text", "runs/text", 40, save_every=1e9)
        train("table", "runs/table", 20, save_every=1e9)
    with live_server(folder / "runs") as running:
        yield running


@contextmanager
def open_live(
    browser: Browser, server: LiveServer, at: str = "", size: tuple[int, int] = (1280, 900), dark: bool = False
) -> Iterator[Page]:
    """Open the page of a server; when done, refuse errors of its scripts, and requests to any other place."""
    problems: list[str] = []
    viewport: ViewportSize = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme="dark" if dark else "light")
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("request", lambda request: None if request.url.startswith((server.url, "data:")) else problems.append(request.url))
    page.goto(f"{server.url}/{at}")
    page.wait_for_selector("html[data-ready]", timeout=20_000)
    yield page
    context.close()
    assert not problems, problems
