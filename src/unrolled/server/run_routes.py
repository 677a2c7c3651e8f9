"""Runs over HTTP: the list, their metrics and samples, and events while they train."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from unrolled.checkpoints.run_dir import JsonLinesLog
from unrolled.server.frames import EventStream, data_frame
from unrolled.server.http_errors import ApiError
from unrolled.server.services import Services

POLL_SECONDS = 0.4
LIST_SECONDS = 2.0
KEEP_ALIVE_SECONDS = 15.0
MAX_EVENT_STREAMS = 64
MAX_COLUMNS = 4000
MAX_SAMPLES = 100
MAX_NEW_BYTES = 1 << 20
"""Bytes of a log that are searched for events at once; of a longer addition, only the end is read."""


async def list_runs(request: Request) -> Response:
    """Answer `GET /api/runs`."""
    services: Services = request.app.state.services
    async with services.reading:
        return JSONResponse(await asyncio.to_thread(all_runs, services))


def all_runs(services: Services) -> list[dict[str, Any]]:
    """Return all runs, with those that were started here and have no folder yet, or failed before they had one."""
    runs = [services.trainings.add_process(run) for run in services.runs.to_json()]
    known = {run["id"] for run in runs}
    return [*(run for run in services.trainings.without_folder() if run["id"] not in known), *runs]


async def run_metrics(request: Request) -> Response:
    """Answer `GET /api/runs/ID/metrics`: the smallest and largest training loss of each pixel column."""
    services: Services = request.app.state.services
    facts = services.runs.facts(services.catalog.run_folder(request.path_params["id"]))
    columns = _number(request, "columns", 800, 1, MAX_COLUMNS)
    first_step = _number(request, "from", 0, 0, 2**53)
    unit, scale = facts.unit

    def read() -> dict[str, Any]:
        facts.log.update()
        reduced = facts.log.reduced(int(columns), first_step, scale)
        last = facts.log.last
        return {
            **reduced, "unit": unit, "tokens_per_second": last.get("tokens_per_second"),
            "last_step": int(last.get("step", 0)),
        }  # fmt: skip

    async with services.reading:
        return JSONResponse(await asyncio.to_thread(read))


async def run_samples(request: Request) -> Response:
    """Answer `GET /api/runs/ID/samples`: what the model wrote at its last validations."""
    services: Services = request.app.state.services
    path = services.catalog.run_folder(request.path_params["id"])
    count = int(_number(request, "last", 10, 1, MAX_SAMPLES))

    def read() -> list[dict[str, Any]]:
        records = list(JsonLinesLog(path / "samples.jsonl").read())[-count:]
        return [{name: record.get(name) for name in ("step", "text", "val_nats")} for record in records]

    async with services.reading:
        return JSONResponse({"samples": await asyncio.to_thread(read)})


def _number(request: Request, name: str, default: float, least: float, most: float) -> float:
    text = request.query_params.get(name)
    try:
        value = default if text is None else float(text[:40])
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise ApiError(400, f"{name} is a number from {least:g} to {most:g}.", name)
    return value


async def events(request: Request) -> ASGIApp:
    """Answer `GET /api/events`: what happens to runs, within a second; without `?run=`, to all of them."""
    services: Services = request.app.state.services
    names = request.query_params.getlist("run")
    for name in names:
        services.catalog.run_folder(name)
    if services.num_event_streams >= MAX_EVENT_STREAMS:
        raise ApiError(429, "Too many pages follow runs already: close one.", headers={"retry-after": "10"})
    services.num_event_streams += 1

    def close() -> None:
        services.num_event_streams -= 1

    return EventStream(_events(services, set(names)), close)


async def _events(services: Services, names: set[str]) -> AsyncIterator[bytes]:
    tails: dict[tuple[str, str], LogTail] = {}
    statuses: dict[str, str] = {}
    is_first, polls = True, 0
    yield b": connected\n\n"
    while not services.is_stopping:
        frames: list[bytes] = []
        folders = services.catalog.run_folders()
        watched = {name: path for name, path in folders.items() if not names or name in names}
        for run_id, path in watched.items():
            for event in ("metrics", "sample"):
                tail = tails.setdefault((run_id, event), LogTail(path / f"{event.rstrip('s')}s.jsonl", from_end=is_first))
                records = tail.new_records()
                if records:
                    frames.append(data_frame(_event(event, run_id, records), event))
        if polls % round(LIST_SECONDS / POLL_SECONDS) == 0:
            frames += await _status_frames(services, statuses, names, is_first)
        if polls % round(KEEP_ALIVE_SECONDS / POLL_SECONDS) == 0:
            frames.append(b": alive\n\n")
        if frames:
            yield b"".join(frames)
        is_first, polls = False, polls + 1
        await asyncio.sleep(POLL_SECONDS)


def _event(event: str, run_id: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    last = records[-1]
    if event == "sample":
        return {"run": run_id, **{name: last.get(name) for name in ("step", "text", "val_nats")}}
    return {"run": run_id, "step": last.get("step"), "records": records[-100:]}


async def _status_frames(services: Services, statuses: dict[str, str], names: set[str], is_first: bool) -> list[bytes]:
    """Return an event for each run whose status has changed, and one if the list of runs has."""
    async with services.reading:
        runs = await asyncio.to_thread(all_runs, services)
    runs = [run for run in runs if not names or run["id"] in names]
    now = {run["id"]: run["status"] for run in runs}
    frames = [
        data_frame({"run": run["id"], "status": run["status"], "steps": run["steps"]}, "status")
        for run in runs
        if statuses.get(run["id"]) != run["status"]
    ]
    if now.keys() != statuses.keys() and not is_first:
        frames.append(data_frame({"runs": list(now)}, "runs"))
    statuses.clear()
    statuses.update(now)
    return frames


class LogTail:
    """The records that are added to a JSON lines file.

    Args:
        path: The file; it need not exist yet.
        from_end: Whether what is in it already is passed over.
    """

    def __init__(self, path: Path, from_end: bool) -> None:
        self.path, self._rest = path, b""
        self._inode, self._offset = self._stat() if from_end else (0, 0)

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
            return stat.st_ino, stat.st_size
        except OSError:
            return 0, 0

    def new_records(self) -> list[dict[str, Any]]:
        """Return the records that were added since the last call; a file that was cut is followed from its new end."""
        inode, size = self._stat()
        if inode != self._inode or size < self._offset:
            self._offset = 0 if self._inode == 0 else size
            self._inode, self._rest = inode, b""
        if size == self._offset:
            return []
        start = max(self._offset, size - MAX_NEW_BYTES)
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_ino != inode:
                    return []
                file.seek(start)
                data = file.read(size - start)
        except OSError:
            return []
        lines = ((self._rest if start == self._offset else b"") + data).split(b"\n")
        self._offset, self._rest = start + len(data), lines.pop()[-MAX_NEW_BYTES:]
        return [record for line in lines if (record := _decode(line)) is not None]


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
