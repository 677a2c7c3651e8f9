"""Ctrl-C and SIGTERM: the first asks the loop to save and leave, the second leaves at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, Self


class StopSignals:
    """While the block runs, `number` is the first stop signal that came, or None. A second one ends the process.

    Files are replaced atomically, so leaving at once tears nothing. Outside the main thread signals are not ours to take.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            os._exit(128 + number)
        self.number = number
