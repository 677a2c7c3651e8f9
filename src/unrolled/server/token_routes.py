"""Tokens of texts and texts of tokens, at the addresses of vLLM, where programs that score texts look for a tokenizer."""

from __future__ import annotations

import asyncio
import json

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from unrolled.server.catalog import LoadedModel
from unrolled.server.http_errors import ApiError
from unrolled.server.limits import MAX_SCORE_CHARS
from unrolled.server.prompt_scores import require_known_ids
from unrolled.server.requests import DetokenizeRequest, TokenizeRequest, read_json
from unrolled.server.services import Services
from unrolled.text.tokenizer import DOCUMENT_ENDINGS


async def tokenize(request: Request) -> Response:
    """Answer `POST /tokenize`: the ids of a text, as `prompt` of a completion takes them and `echo` aligns them."""
    services: Services = request.app.state.services
    body = await read_json(request, TokenizeRequest)
    model = await _model(services, body.model)
    tokenized = await asyncio.to_thread(model.session.tokenize, body.prompt)
    start = int(tokenized.reset_mask is not None)  # what a document starts from is added to each prompt
    ids = tokenized.ids[start:].tolist()
    texts = {"token_strs": tokenized.token_texts[start:]} if body.return_token_strs else {}
    return JSONResponse({"count": len(ids), "max_model_len": MAX_SCORE_CHARS, "tokens": ids, **texts})


async def detokenize(request: Request) -> Response:
    """Answer `POST /detokenize`: the text of ids."""
    services: Services = request.app.state.services
    body = await read_json(request, DetokenizeRequest)
    model = await _model(services, body.model)
    require_known_ids(model, body.tokens, "tokens")
    return JSONResponse({"prompt": await asyncio.to_thread(model.tokenizer.decode, body.tokens)})


async def tokenizer_info(request: Request) -> Response:
    """Answer `GET /tokenizer_info`: the kind of tokens, and the text that stands for the beginning of a text."""
    services: Services = request.app.state.services
    model = await _model(services, request.query_params.get("model"))
    strings, eos = model.token_strings, model.tokenizer.eos_id
    begin = strings[model.tokenizer.bos_id] if eos is None else DOCUMENT_ENDINGS.get(model.session.saved.documents)
    return JSONResponse({"tokenizer_class": model.entry.to_json()["tokens"], "bos_token": begin or None, "eos_token": None})


async def _model(services: Services, model_id: str | None) -> LoadedModel:
    """Return the text model that is meant: the named one, or the only one."""
    if model_id is None:
        ids = [entry.id for entry in services.catalog.entries().values() if entry.kind == "text"]
        if len(ids) != 1:
            names = json.dumps(ids[:5])[1:-1]
            raise ApiError(
                400,
                f"model is not given, and there are {len(ids)} ({names}): give one, or start the server with one run.",
                "model",
            )
        model_id = ids[0]
    return await services.catalog.text_model(model_id)
