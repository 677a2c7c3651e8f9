"""The OpenAPI description of the routes, made from the routes themselves and from the types of their bodies."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from starlette.routing import Route

from unrolled import __version__
from unrolled.server.security import OPEN_PATHS

PARAMETERS: dict[str, dict[str, str]] = {
    "/api/cancel/{id}": {"index": "number of one of the samples; without it, all are cancelled"},
    "/api/runs/{id}/metrics": {"columns": "pixels of the chart", "from": "first step"},
    "/api/runs/{id}/samples": {"last": "number of samples"},
    "/api/events": {"run": "id of a run; may be repeated; without it, all runs"},
    "/tokenizer_info": {"model": "id of a model; without it, the only one"},
    "/api/uploads": {"name": "name of the file", "columns": "1: a table, whose columns are wanted, and a source and a target"},
}
"""Query parameters by path."""

BINARY_BODIES = frozenset({("/api/uploads", "post"), ("/api/state", "put")})
STREAMS = frozenset({("/api/events", "get"), ("/v1/completions", "post")})
OTHER_TYPES = {
    "/": "text/html", "/static/{path}": "application/octet-stream", "/metrics": "text/plain",
    "/api/state/{id}": "application/octet-stream",
}  # fmt: skip
ERROR_SCHEMA = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}  # fmt: skip


def describe_routes(routes: Iterable[Route], bodies: Mapping[Callable[..., Any], type]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of routes.

    Args:
        routes: The routes of the application.
        bodies: The type of the JSON body of a handler.
    """
    (_, components) = msgspec.json.schema_components(bodies.values(), ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r":\w+}", "}", route.path)
        for method in sorted((route.methods or {"GET"}) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(path, method.lower(), route.endpoint, bodies)
    return {
        "openapi": "3.1.0",
        "info": {"title": "unrolled serve", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {**components, "Error": ERROR_SCHEMA},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(
    path: str, method: str, handler: Callable[..., Any], bodies: Mapping[Callable[..., Any], type]
) -> dict[str, Any]:
    doc = inspect.getdoc(handler) or ""
    kind = OTHER_TYPES.get(path, "application/json") if method == "get" else "application/json"
    content: dict[str, Any] = {kind: {}}
    if (path, method) in STREAMS:
        content["text/event-stream"] = {}
    error = {"description": "Error", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
    operation: dict[str, Any] = {
        "summary": " ".join(doc.split()),
        "parameters": [
            *(
                {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
                for name in re.findall(r"{(\w+)}", path)
            ),
            *(
                {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
                for name, text in PARAMETERS.get(path, {}).items()
            ),
        ],
        "responses": {"200": {"description": "OK", "content": content}, "default": error},
    }
    if handler in bodies:
        reference = {"$ref": f"#/components/schemas/{bodies[handler].__name__}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    elif (path, method) in BINARY_BODIES:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {}}}
    if path not in OPEN_PATHS and not path.startswith("/static/"):
        operation["security"] = [{}, {"key": []}]
    return operation
