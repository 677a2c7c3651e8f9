"""HTTP/1.1 connections with deadlines: uvicorn alone waits forever for slow headers, and for clients that do not read."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from unrolled.server.limits import HEADER_SECONDS, STALLED_SECONDS


class DeadlineProtocol(H11Protocol):
    """uvicorn's protocol, which aborts a connection whose headers are late, or whose client stops reading a response."""

    header_seconds = HEADER_SECONDS
    stalled_seconds = STALLED_SECONDS
    _header_timer: asyncio.TimerHandle | None = None
    _stalled_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._watch_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_header_timer()
        self._cancel_stalled_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_headers()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel_stalled_timer()
        self._stalled_timer = self.loop.call_later(self.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel_stalled_timer()
        super().resume_writing()

    def _watch_headers(self) -> None:
        """Have a timer from the connection, or the first byte of a later request, to the end of the headers.

        A connection that waits for another request has uvicorn's own, longer deadline.
        """
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._cancel_header_timer()
        elif self._header_timer is None:
            self._header_timer = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _cancel_header_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _cancel_stalled_timer(self) -> None:
        if self._stalled_timer is not None:
            self._stalled_timer.cancel()
            self._stalled_timer = None
