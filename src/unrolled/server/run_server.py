"""Starting and stopping the server."""

from __future__ import annotations

import ipaddress
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from unrolled.atomic_io import storage_error
from unrolled.errors import UnrolledError, UsageError
from unrolled.options import MachineOptions, ServeOptions
from unrolled.server.app import make_app
from unrolled.server.catalog import Catalog
from unrolled.server.http_protocol import DeadlineProtocol
from unrolled.server.limits import SHUTDOWN_SECONDS
from unrolled.server.services import Services, make_services

MAX_CONNECTIONS = 1000
KEEP_ALIVE_SECONDS = 30
"""Time in which a connection may wait for another request. With uvicorn's 5, clients often send one as it is being closed."""

SWITCH_SECONDS = 0.0005
"""After this time the engine's thread lets another one go on: Python's own 5 ms are long compared with a first character."""


class Server(uvicorn.Server):
    """uvicorn's server, whose running samples are ended some seconds after a signal to stop, so that it stops in time."""

    def __init__(self, app: Starlette, services: Services) -> None:
        super().__init__(
            uvicorn.Config(
                app, http=DeadlineProtocol, ws="none", lifespan="on", log_level="warning", access_log=False,
                server_header=False, date_header=False, limit_concurrency=MAX_CONNECTIONS, h11_max_incomplete_event_size=32768,
                timeout_graceful_shutdown=round(2 * SHUTDOWN_SECONDS), proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
            )
        )  # fmt: skip
        self.services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting connections; samples that are drawn may go on for a while."""
        timer = threading.Timer(SHUTDOWN_SECONDS, self.services.engine.cancel_all, ("stopped",))
        timer.daemon = True
        timer.start()
        self.services.stop_streams()
        super().handle_exit(sig, frame)

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal comes."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_SECONDS)
        try:
            super().run(sockets)
        finally:
            sys.setswitchinterval(interval)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises `UnrolledError` if the port is in use or the address is not of this machine."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # With the protocol 0, asyncio would not set TCP_NODELAY on connections, and a frame would wait 40 ms for an ACK.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
        return listener
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnrolledError(f"The server cannot listen on {host} port {port}: {reason}. Choose another --port.") from error


def serve(paths: Sequence[Path], options: ServeOptions, machine: MachineOptions, report: Callable[[str], None]) -> None:
    """Serve models until a signal stops the process.

    Args:
        paths: Run folders and model files; none: all runs in `options.runs`.
        options: Where to listen, and who may ask.
        machine: Number format, threads and kernels of the samples. The device must be the CPU.
        report: Receives the address, once the server listens.

    Raises:
        UsageError: The device is no CPU, or other machines could reach the server without a key.
        ModelError: A path names no model.
        UnrolledError: The port is in use.
    """
    if machine.device not in ("auto", "cpu"):
        raise UsageError(f"--device is {machine.device}, and the server draws samples on the CPU: leave it out.")
    if machine.kernels == "torch":
        raise UsageError("--kernels is torch, and the server draws samples without torch: choose native or reference.")
    api_key = None if options.api_key_file is None else read_key(Path(options.api_key_file))
    if api_key is None and not _is_private(options.host):
        raise UsageError(f"--host {options.host} lets other machines in, and there is no key: give one, --api-key-file FILE.")
    folder = None if paths else Path(options.runs)
    catalog = Catalog(folder, list(paths), machine)
    catalog.check_named()
    listener = bind(options.host, options.port)
    services = make_services(catalog, Path(options.runs), options.max_upload << 20)
    app = make_app(services, [*options.allow_host, options.host], api_key)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    report(f"http://{shown}:{port}  (Ctrl-C stops the server)")
    Server(app, services).run(sockets=[listener])


def read_key(path: Path) -> str:
    """Return the key in a file. Raises `UsageError` if there is no usable one, `StorageError` if it is not read."""
    try:
        key = path.read_text("utf-8", "replace").strip()
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if not 8 <= len(key) <= 1024 or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(
            f"--api-key-file {path} has no key: one line of 8 to 1,024 ASCII characters without spaces is expected."
        )
    return key


def _is_private(host: str) -> bool:
    """Return whether an address can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
