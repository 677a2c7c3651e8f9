"""Scores and activations of a text, and the details of a model."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unrolled.runtime.numpy_model import NumpyModel
from unrolled.server.catalog import LoadedModel
from unrolled.server.frames import encode_json
from unrolled.server.http_errors import ApiError
from unrolled.server.lanes import Filters, TokenInfo
from unrolled.server.limits import MAX_TRACE_VALUES
from unrolled.server.prompt_scores import score_tokens
from unrolled.server.requests import ScoreRequest, TraceRequest, read_json
from unrolled.server.services import Services
from unrolled.server.table_columns import series_facts, table_columns


async def score(request: Request) -> Response:
    """Answer `POST /api/score`: the bits of each token of a text, and what the model expected."""
    return await _read_with_model(request, ScoreRequest, _score)


async def trace(request: Request) -> Response:
    """Answer `POST /api/trace`: the outputs of hidden units of one layer after each token of a text."""
    return await _read_with_model(request, TraceRequest, _trace)


async def _read_with_model(request: Request, body_type: type[Any], work: Callable[[LoadedModel, Any], bytes]) -> Response:
    """Return what `work` makes of the model and the body of a request, in another thread."""
    services: Services = request.app.state.services
    body = await read_json(request, body_type)
    model = await services.catalog.text_model(body.model)
    async with services.heavy_work:
        content = await asyncio.to_thread(work, model, body)
    return Response(content, media_type="application/json")


def _score(model: LoadedModel, body: ScoreRequest) -> bytes:
    tokens = score_tokens(model, model.session.tokenize(body.text), Filters(guesses=body.guesses))
    bits = [None if token.logprob is None else -token.logprob / math.log(2) for token in tokens]
    num_chars = sum(1 for token, value in zip(tokens, bits, strict=True) if token.text and value is not None)
    total = math.fsum(value for value in bits if value is not None)
    replaced = model.tokenizer.encode_prompt(body.text)[1]
    return encode_json({
        "tokens": [
            {"text": token.text, "bits": value, "guesses": _guesses(token)} for token, value in zip(tokens, bits, strict=True)
        ],
        "bits_per_character": total / num_chars if num_chars else None,
        "unknown": "".join(replaced),
    })  # fmt: skip


def _guesses(token: TokenInfo) -> list[dict[str, Any]]:
    return [{"text": text, "probability": math.exp(logprob)} for text, logprob in token.guesses]


def _trace(model: LoadedModel, body: TraceRequest) -> bytes:
    network, tokenized = model.network, model.session.tokenize(body.text)
    units = list(range(network.hidden_size)) if body.units is None else body.units
    if body.layer >= len(network.layers):
        raise ApiError(400, f"There is no layer {body.layer}: the model has {len(network.layers)}, counted from 0.", "layer")
    if units and max(units) >= network.hidden_size:
        raise ApiError(400, f"There is no unit {max(units)}: a layer has {network.hidden_size}, counted from 0.", "units")
    if len(tokenized) * max(1, len(units)) > MAX_TRACE_VALUES:
        raise ApiError(
            400, f"Tokens times units are more than {MAX_TRACE_VALUES:,}: name fewer units, or send less text.", "text"
        )
    values = _unit_values(model, tokenized.ids, tokenized.reset_mask, body.layer, units)
    skip = int(tokenized.reset_mask is not None)  # what a document starts from is no part of the text
    rounded = np.round(values[skip:].astype(np.float64), 4).tolist()
    return encode_json({"tokens": tokenized.token_texts[skip:], "units": units, "values": rounded})


def _unit_values(model: LoadedModel, ids: Any, resets: Any, layer: int, units: list[int]) -> Any:
    """Return the outputs of units `(T, U)` after each token, by the step in numpy."""
    numpy_model = NumpyModel(model.network)
    state = numpy_model.initial_state(1)
    values = np.empty((len(ids), len(units)), np.float32)
    with numpy_model.inference():
        for step, token_id in enumerate(ids):
            if resets is not None and resets[step]:
                state = numpy_model.initial_state(1)
            _, state = numpy_model.step(np.array([token_id]), state)
            values[step] = state[layer][0][0, units]
    return values


async def model_details(request: Request) -> Response:
    """Answer `GET /api/models/ID`: what `unrolled info` shows; for tables, their columns too."""
    services: Services = request.app.state.services
    entry = services.catalog.entry(request.path_params["id"])
    header = entry.header
    history = dict(header.get("history") or {})
    facts = {
        **entry.to_json(), "options": header.get("options"), "diagnosis": history.pop("diagnosis", None),
        "training": {name: value for name, value in history.items() if value is not None},
    }  # fmt: skip
    if entry.kind == "table":
        facts["columns"] = await asyncio.to_thread(table_columns, entry)
        facts["series"] = await asyncio.to_thread(series_facts, entry)
    else:
        tokens = (header.get("tokenizer") or {}).get("tokens")
        facts["vocabulary"] = tokens if isinstance(tokens, str) else None  # of tokens with several characters: none
    return JSONResponse(facts)
