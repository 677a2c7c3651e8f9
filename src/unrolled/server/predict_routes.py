"""Predictions of models of tables."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unrolled.server.http_errors import ApiError
from unrolled.server.requests import PredictRequest, read_json
from unrolled.server.services import Services


async def predict(request: Request) -> Response:
    """Answer `POST /api/predict`."""
    services: Services = request.app.state.services
    body = await read_json(request, PredictRequest)
    entry = services.catalog.entry(body.model, "table")
    if (body.rows is None) is (body.texts is None):
        raise ApiError(400, "One of rows and texts is expected.", "rows")
    name = str(((entry.header.get("spec") or {}).get("source") or {}).get("name"))
    values: list[Any] = list(body.texts or [])
    for row in body.rows or []:
        if name not in row:
            raise ApiError(400, f"A row has no column {name!r}, which the model predicts from.", "rows")
        values.append(row[name])
    if not all(isinstance(value, str | int | float | list) and not isinstance(value, bool) for value in values):
        raise ApiError(400, "Values are texts, numbers, or lists of numbers.", "rows")
    return JSONResponse({"answers": await services.table_worker.predict(entry, values)})
