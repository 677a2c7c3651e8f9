"""A server on a free port of this machine, in a thread of the test, with tiny models of random weights."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from support.text_networks import CHARACTERS, LAYERS, noisy_model
from unrolled.checkpoints.model_file import save_model
from unrolled.options import MachineOptions
from unrolled.server.app import make_app
from unrolled.server.catalog import Catalog
from unrolled.server.run_server import Server, bind
from unrolled.server.services import Services, make_services
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer

MACHINE = MachineOptions(device="cpu", precision="float32", threads=1)


@dataclass
class RunningServer:
    """A server that runs, and what is in it."""

    port: int
    services: Services
    client: httpx.Client

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def socket(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def save_models(folder: Path) -> None:
    """Save models of characters, of bytes, and of lines, each in a folder that looks like a run; `slow` has defaults."""
    kinds = {
        "letters": (CharTokenizer(CHARACTERS), "lstm", "residual"),
        "bytes": (ByteTokenizer(), "gru", "plain"),
        "lines": (CharTokenizer(CHARACTERS, has_eos=True), "rnn", "one-hot"),
        "slow": (CharTokenizer(CHARACTERS), "gru-reset-before", "residual"),
    }
    for name, (tokenizer, cell, layers) in kinds.items():
        path = folder / name
        path.mkdir(parents=True)
        model_file = noisy_model(tokenizer, cell=cell, **LAYERS[layers])
        generation = {"temperature": 0.5, "min_p": 0.01} if name == "slow" else {}
        save_model(path / "model.safetensors", dataclasses.replace(model_file, generation=generation))
        (path / "config.json").write_text('{"inputs": ["t.txt"], "options": {"steps": 20, "hidden": 21}}', "utf-8")


@contextlib.contextmanager
def running_server(
    folder: Path, api_key: str | None = None, paths: tuple[Path, ...] = (), max_upload: int = 1 << 20
) -> Iterator[RunningServer]:
    """Run a server of the runs in a folder."""
    catalog = Catalog(None if paths else folder, list(paths), MACHINE)
    services = make_services(catalog, folder, max_upload)
    listener = bind("127.0.0.1", 0)
    server = Server(make_app(services, (), api_key), services)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    port = listener.getsockname()[1]
    try:
        while not server.started:
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
            yield RunningServer(port, services, client)
    finally:
        services.stop_streams()
        server.should_exit = True
        thread.join()
        listener.close()
