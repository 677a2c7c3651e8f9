"""Uploads and trainings over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from unrolled.atomic_io import storage_error
from unrolled.server.http_errors import NOTHING_THERE, ApiError
from unrolled.server.limits import BODY_SECONDS, MAX_NAME_CHARS
from unrolled.server.requests import TrainRequestBody, read_json
from unrolled.server.services import Services

MIN_FREE_BYTES = 256 << 20
"""Uploads leave so much of the disk free."""


async def upload(request: Request) -> Response:
    """Answer `POST /api/uploads?name=NAME`: the body is written to a file as it comes. With `&columns=1` it is a table, and the
    answer has the names of its columns, and which may be source and target."""
    services: Services = request.app.state.services
    name = request.query_params.get("name", "text.txt")
    length = request.headers.get("content-length", "")
    if len(name) > MAX_NAME_CHARS:
        raise ApiError(400, f"name has more than {MAX_NAME_CHARS} characters.", "name")
    if length.isdecimal() and int(length[:20]) > services.max_upload:
        raise _too_large(services.max_upload)
    with services.trainings.uploads.receive(name) as path:
        try:
            upload_id, size = await _receive(request, services, path, int(length[:20] if length.isdecimal() else 0))
        except TimeoutError as error:
            raise ApiError(408, f"No byte came for {BODY_SECONDS:g} seconds.", code="body_too_slow") from error
        except OSError as error:
            raise storage_error(error, path, "write") from error
    columns = {}
    if request.query_params.get("columns") == "1":
        columns = await asyncio.to_thread(services.trainings.columns, upload_id)
    return JSONResponse({"upload": upload_id, "bytes": size, "name": path.name, **columns})


async def _receive(request: Request, services: Services, path: Path, length: int) -> tuple[str, int]:
    """Write the body of an upload, of which the client says that it has `length` bytes; return its id and its size."""
    if shutil.disk_usage(path.parent).free < MIN_FREE_BYTES + length:
        raise ApiError(507, "There is not enough space on the disk of the server.", code="no_space")
    size, chunks = 0, request.stream().__aiter__()
    with open(path, "xb") as file:
        while True:
            async with asyncio.timeout(BODY_SECONDS):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            size += len(chunk)
            if size > services.max_upload:
                raise _too_large(services.max_upload)
            await asyncio.to_thread(file.write, chunk)
    if not size:
        raise ApiError(400, "The file is empty.")
    return await asyncio.to_thread(services.trainings.uploads.keep, path), size


def _too_large(limit: int) -> ApiError:
    return ApiError(413, f"The file has more than {limit:,} bytes: start the server with --max-upload.", code="body_too_large")


async def train(request: Request) -> Response:
    """Answer `POST /api/train`."""
    services: Services = request.app.state.services
    body = await read_json(request, TrainRequestBody)
    return JSONResponse({"run": await asyncio.to_thread(services.trainings.start, body)})


async def control(request: Request) -> Response:
    """Answer `POST /api/runs/ID/pause`, `resume` and `stop`."""
    services: Services = request.app.state.services
    actions = {"pause": services.trainings.pause, "resume": services.trainings.resume, "stop": services.trainings.stop}
    action = request.path_params["action"]
    if action not in actions:
        raise ApiError(404, NOTHING_THERE, code="unknown_url")
    with contextlib.suppress(ClientDisconnect):
        async for _ in request.stream():
            pass
    status = await asyncio.to_thread(actions[action], request.path_params["id"])
    return JSONResponse({"run": request.path_params["id"], "status": status})
