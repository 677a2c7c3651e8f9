"""Streams of server-sent events: frames at a limited rate, and an end when the client is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

encode_json = msgspec.json.Encoder().encode


def data_frame(value: Any, event: str | None = None) -> bytes:
    """Return one server-sent event with a JSON value; JSON has no line ends that could break it."""
    name = b"" if event is None else b"event: " + event.encode() + b"\n"
    return name + b"data: " + encode_json(value) + b"\n\n"


class EventStream:
    """An ASGI response of server-sent events. Its iterator is closed as soon as the client has left.

    Args:
        frames: The events, as bytes.
        on_close: Called when it is over, for whatever reason.
    """

    def __init__(self, frames: AsyncIterator[bytes], on_close: Callable[[], None] = lambda: None) -> None:
        self.frames, self.on_close = frames, on_close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sender = asyncio.create_task(self._send(send))
        watcher = asyncio.create_task(_wait_for_disconnect(receive))
        try:
            await asyncio.wait((sender, watcher), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.on_close()
            watcher.cancel()
            if not sender.done():
                sender.cancel()
            await asyncio.gather(sender, watcher, return_exceptions=True)
        if (
            not sender.cancelled()
            and (error := sender.exception()) is not None
            and not isinstance(error, (OSError, ClientDisconnect))
        ):
            raise error

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        async for frame in self.frames:
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
