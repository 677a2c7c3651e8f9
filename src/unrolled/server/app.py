"""The application: its routes, in one table."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from unrolled.server import completions, states
from unrolled.server.http_errors import ApiError, handle_error
from unrolled.server.security import Security
from unrolled.server.services import Services
from unrolled.server.static_files import INDEX, static_file


async def page(request: Request) -> Response:
    """Answer `GET /` with the page."""
    return static_file(INDEX)


async def static(request: Request) -> Response:
    """Answer `GET /static/NAME`."""
    return static_file(request.path_params["name"])


async def list_models(request: Request) -> Response:
    """Answer `GET /v1/models`."""
    entries = request.app.state.services.catalog.entries().values()
    return JSONResponse({"object": "list", "data": [entry.to_json() for entry in entries]})


async def health(request: Request) -> Response:
    """Answer `GET /health`."""
    return JSONResponse({"status": "ok"})


async def cancel(request: Request) -> Response:
    """Answer `POST /api/cancel/ID`, for all samples of a request or, with `?index=N`, for one."""
    services: Services = request.app.state.services
    completion = services.completions.get(request.path_params["id"])
    if completion is None:
        raise ApiError(404, "There is no running request with this id.", "request_id", "request_not_found")
    index = request.query_params.get("index")
    if index is not None and not (index.isdecimal() and len(index) < 5):
        raise ApiError(400, "index is the number of a sample.", "index")
    lanes = completions.cancelled_lanes(completion, None if index is None else [int(index)])
    services.engine.cancel(lanes)
    return JSONResponse({"cancelled": len(lanes)})


ROUTES = [
    Route("/", page),
    Route("/static/{name:path}", static),
    Route("/health", health),
    Route("/v1/models", list_models),
    Route("/v1/completions", completions.complete, methods=["POST"]),
    Route("/api/cancel/{id}", cancel, methods=["POST"]),
    Route("/api/state", states.create_state, methods=["POST"]),
    Route("/api/state", states.take_in_state, methods=["PUT"]),
    Route("/api/state/{id}", states.hand_out_state),
    Route("/api/state/{id}", states.delete_state, methods=["DELETE"]),
]


def make_app(services: Services, allowed_hosts: Collection[str] = (), api_key: str | None = None) -> Starlette:
    """Return the application.

    Args:
        services: What its routes use; the application closes them when it stops.
        allowed_hosts: As of `Security`.
        api_key: As of `Security`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        services.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(Security, allowed_hosts=allowed_hosts, api_key=api_key)],
        exception_handlers={ApiError: handle_error, HTTPException: handle_error, Exception: handle_error},
        lifespan=lifespan,
    )
    app.state.services = services
    return app
