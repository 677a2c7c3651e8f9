"""States over HTTP."""

from __future__ import annotations

import asyncio

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unrolled.generation.sampling import encode_prompt
from unrolled.server.catalog import LoadedModel
from unrolled.server.http_errors import ApiError
from unrolled.server.lane_groups import zero_state
from unrolled.server.limits import MAX_STATE_BYTES
from unrolled.server.requests import StateRequest, clamps_of, read_body, read_json
from unrolled.server.services import Services
from unrolled.server.states import StoredState, load_state, read_text


async def create_state(request: Request) -> Response:
    """Answer `POST /api/state`: read a text after a prompt or another state, and keep the state."""
    services: Services = request.app.state.services
    body = await read_json(request, StateRequest)
    if (body.prompt is None) is (body.state is None):
        raise ApiError(400, "One of prompt and state is expected.", "prompt")
    model = await services.catalog.text_model(body.model)
    clamps = clamps_of(body.hold, model.network)

    def read() -> StoredState:
        if body.state is None:
            ids, _ = encode_prompt(model.tokenizer, (body.prompt or "") + body.text)
            return read_text(model, zero_state(model.network), np.array(ids, np.int64), clamps)
        state, all_ids = services.states.resume(body.state, model, body.text)
        return read_text(model, state, all_ids, clamps)

    stored = await asyncio.to_thread(read)
    return JSONResponse({"state": services.states.add(stored), "bytes": stored.num_bytes})


async def take_in_state(request: Request) -> Response:
    """Answer `PUT /api/state`: take in a state that was handed out."""
    services: Services = request.app.state.services
    content = await read_body(request, MAX_STATE_BYTES)
    entries = services.catalog.entries()

    def model_of(model_id: str) -> LoadedModel:
        if model_id not in entries or entries[model_id].kind != "text":
            raise ApiError(404, "There is no model with the id that is in the state.", "model", "model_not_found")
        return services.catalog.load(entries[model_id])

    stored = await asyncio.to_thread(load_state, content, model_of)
    return JSONResponse({"state": services.states.add(stored), "bytes": stored.num_bytes})


async def hand_out_state(request: Request) -> Response:
    """Answer `GET /api/state/ID`."""
    stored = request.app.state.services.states.get(request.path_params["id"])
    return Response(stored.to_bytes(), media_type="application/octet-stream")


async def delete_state(request: Request) -> Response:
    """Answer `DELETE /api/state/ID`."""
    request.app.state.services.states.remove(request.path_params["id"])
    return JSONResponse({"deleted": True})
