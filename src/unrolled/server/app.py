"""The application: its routes, in one table."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Collection
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import unrolled
from unrolled.errors import UnrolledError
from unrolled.server import (
    completions,
    predict_routes,
    prometheus,
    run_routes,
    state_routes,
    text_routes,
    token_routes,
    training_routes,
)
from unrolled.server.http_errors import ApiError, handle_error
from unrolled.server.openapi import describe_routes
from unrolled.server.requests import (
    CompletionRequest,
    DetokenizeRequest,
    PredictRequest,
    ScoreRequest,
    StateRequest,
    TokenizeRequest,
    TraceRequest,
    TrainRequestBody,
)
from unrolled.server.security import Security
from unrolled.server.services import Services

STATIC_FOLDERS = (Path(__file__).parent / "static", Path(unrolled.__file__).parent / "views" / "static")
"""The files of the page, and the modules that it shares with the pages of `views`."""

STATIC_TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html"}


@functools.cache
def static_files() -> dict[str, Path]:
    """Return all files that are served, by their path below /static/: nothing else can be asked for."""
    files: dict[str, Path] = {}
    for folder in STATIC_FOLDERS:
        for path in sorted(folder.rglob("*")):
            if path.suffix in STATIC_TYPES and path.is_file():
                files.setdefault(path.relative_to(folder).as_posix(), path)
    return files


async def page(request: Request) -> Response:
    """Answer `GET /` with the page."""
    return static_response("index.html")


async def static(request: Request) -> Response:
    """Answer `GET /static/PATH`."""
    return static_response(request.path_params["path"])


def static_response(name: str) -> Response:
    """Return a file of the page. Raises `ApiError` 404 if there is none."""
    path = static_files().get(name)
    if path is None:
        raise ApiError(404, "There is no such file.")
    return Response(path.read_bytes(), media_type=STATIC_TYPES[path.suffix], headers={"cache-control": "no-cache"})


async def list_models(request: Request) -> Response:
    """Answer `GET /v1/models`."""
    entries = request.app.state.services.catalog.entries().values()
    return JSONResponse({"object": "list", "data": [entry.to_json() for entry in entries]})


async def retrieve_model(request: Request) -> Response:
    """Answer `GET /v1/models/ID`."""
    return JSONResponse(request.app.state.services.catalog.entry(request.path_params["id"]).to_json())


async def health(request: Request) -> Response:
    """Answer `GET /health`."""
    return JSONResponse({"status": "ok"})


async def cancel(request: Request) -> Response:
    """Answer `POST /api/cancel/ID`, for all samples of a request or, with `?index=N`, for one."""
    services: Services = request.app.state.services
    lanes = services.completions.get(request.path_params["id"])
    if lanes is None:
        raise ApiError(404, "There is no running request with this id.", "request_id", "request_not_found")
    index = request.query_params.get("index")
    if index is not None and not (index.isdecimal() and len(index) < 5):
        raise ApiError(400, "index is the number of a sample.", "index")
    if index is not None:
        lanes = lanes[int(index) : int(index) + 1]
    services.engine.cancel(lanes)
    return JSONResponse({"cancelled": len(lanes)})


async def openapi(request: Request) -> Response:
    """Answer `GET /openapi.json` with this description."""
    return JSONResponse(describe_routes(ROUTES, BODIES))


BODIES: dict[Callable[..., Any], type] = {
    completions.complete: CompletionRequest,
    text_routes.score: ScoreRequest,
    text_routes.trace: TraceRequest,
    token_routes.tokenize: TokenizeRequest,
    token_routes.detokenize: DetokenizeRequest,
    predict_routes.predict: PredictRequest,
    state_routes.create_state: StateRequest,
    training_routes.train: TrainRequestBody,
}
"""The types of JSON bodies, by handler."""

ROUTES = [
    Route("/", page),
    Route("/static/{path:path}", static),
    Route("/health", health),
    Route("/metrics", prometheus.metrics),
    Route("/openapi.json", openapi),
    Route("/v1/models", list_models),
    Route("/v1/models/{id}", retrieve_model),
    Route("/api/models/{id}", text_routes.model_details),
    Route("/api/score", text_routes.score, methods=["POST"]),
    Route("/api/trace", text_routes.trace, methods=["POST"]),
    Route("/api/predict", predict_routes.predict, methods=["POST"]),
    Route("/api/runs", run_routes.list_runs),
    Route("/api/runs/{id}/metrics", run_routes.run_metrics),
    Route("/api/runs/{id}/samples", run_routes.run_samples),
    Route("/api/runs/{id}/{action:str}", training_routes.control, methods=["POST"]),
    Route("/api/events", run_routes.events),
    Route("/api/train", training_routes.train, methods=["POST"]),
    Route("/api/uploads", training_routes.upload, methods=["POST"]),
    Route("/v1/completions", completions.complete, methods=["POST"]),
    Route("/tokenizer_info", token_routes.tokenizer_info),
    Route("/tokenize", token_routes.tokenize, methods=["POST"]),
    Route("/detokenize", token_routes.detokenize, methods=["POST"]),
    Route("/api/cancel/{id}", cancel, methods=["POST"]),
    Route("/api/state", state_routes.create_state, methods=["POST"]),
    Route("/api/state", state_routes.take_in_state, methods=["PUT"]),
    Route("/api/state/{id}", state_routes.hand_out_state),
    Route("/api/state/{id}", state_routes.delete_state, methods=["DELETE"]),
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
        await services.close()

    app = Starlette(
        routes=ROUTES,
        middleware=[Middleware(Security, allowed_hosts=allowed_hosts, api_key=api_key)],
        exception_handlers=dict.fromkeys((ApiError, HTTPException, UnrolledError, ClientDisconnect, Exception), handle_error),
        lifespan=lifespan,
    )
    app.state.services = services
    return app
