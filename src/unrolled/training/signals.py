"""Ctrl-C and SIGTERM: the first asks a loop to end, the second exits at once."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from typing import Any, Self

from unrolled.errors import Interrupted

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While the block runs, `number` is the first stop signal that came, or None; `message` is then logged, if there is one.

    A second signal ends the process. Python runs signal handlers between its own instructions, and one of
    torch's may take seconds; so signals are read from a pipe by a thread, which sees each of them at once. Files are replaced
    atomically, so exiting at once leaves them whole. Python installs signal handlers in the main thread only; in others,
    nothing is caught.
    """

    def __init__(self, message: str = "") -> None:
        self.message = message
        self.number: int | None = None
        self._old_handlers: dict[int, Any] = {}
        self._old_wakeup_fd = -1

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._read_socket, self._write_socket = socket.socketpair()
            self._write_socket.setblocking(False)
            self._old_wakeup_fd = signal.set_wakeup_fd(self._write_socket.fileno(), warn_on_full_buffer=False)
            for number in STOP_SIGNALS:
                self._old_handlers[number] = signal.signal(number, lambda number, frame: None)
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._old_handlers:
            for number, handler in self._old_handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._old_wakeup_fd)
            self._write_socket.close()
            self._watcher.join()
            self._read_socket.close()

    def check(self) -> None:
        """Raise `Interrupted` if a stop was asked for: work that can be done again later is given up."""
        if self.number is not None:
            raise Interrupted("Stopped.", self.number)

    def _watch(self) -> None:
        while numbers := self._read_socket.recv(16):
            for number in numbers:
                if number not in STOP_SIGNALS:
                    continue
                if self.number is not None:
                    os._exit(128 + number)
                self.number = number
                if self.message:
                    logger.info(self.message)
