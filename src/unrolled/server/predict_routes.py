"""Predictions of models of tables."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unrolled.server.catalog import ModelEntry
from unrolled.server.http_errors import ApiError
from unrolled.server.limits import MAX_ROWS
from unrolled.server.requests import PredictRequest, read_json
from unrolled.server.services import Services
from unrolled.server.table_columns import source_columns


async def predict(request: Request) -> Response:
    """Answer `POST /api/predict`."""
    services: Services = request.app.state.services
    body = await read_json(request, PredictRequest)
    entry = services.catalog.entry(body.model, "table")
    if sum(values is not None for values in (body.rows, body.texts, body.upload)) != 1:
        raise ApiError(400, "One of rows, texts and upload is expected.", "rows")
    if body.upload is not None:
        path = services.trainings.uploads.path(body.upload)
        return JSONResponse(await services.file_worker.predict_file(entry, path, body.charts))
    if (entry.header.get("spec") or {}).get("long"):
        return await _predict_series(services, entry, body)
    if len(body.rows or ()) > MAX_ROWS:
        raise ApiError(400, f"rows has more than {MAX_ROWS:,}: send them in parts.", "rows")
    names = [str(column.get("name")) for column in source_columns(entry)]
    if body.texts is not None and len(names) > 1:
        raise ApiError(400, f"The model reads {len(names)} columns, {', '.join(names)}: send rows.", "texts")
    rows = [{names[0]: text} for text in body.texts or []] if body.rows is None else body.rows
    for row in rows:
        if missing := [name for name in names if name not in row]:
            raise ApiError(400, f"A row has no column {missing[0]!r}, which the model predicts from.", "rows")
        if not all(_is_value(row[name]) for name in names):
            raise ApiError(400, "Values are texts, numbers, or lists of numbers.", "rows")
    values = [row[names[0]] if len(names) == 1 else {name: row[name] for name in names} for row in rows]
    return JSONResponse(await services.table_worker.predict(entry, values, body.charts))


async def _predict_series(services: Services, entry: ModelEntry, body: PredictRequest) -> Response:
    """Return the answers to a table with one row per step: a row for each step that is predicted, or for each series."""
    if body.rows is None:
        raise ApiError(400, "The model reads a table with one row per step: send rows.", "texts")
    if not all(_is_value(value) or value is None for row in body.rows for value in row.values()):
        raise ApiError(400, "Values are texts, numbers, or lists of numbers.", "rows")
    return JSONResponse(await services.table_worker.predict(entry, body.rows, body.charts))


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float | list) and not isinstance(value, bool)
