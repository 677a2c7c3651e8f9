"""`POST /v1/completions`, as OpenAI's clients expect it."""

from __future__ import annotations

import asyncio
import functools
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from unrolled.checkpoints.array_file import GENERATION_SETTINGS
from unrolled.generation.sampling import MAX_DRAWN_SEED, encode_prompt
from unrolled.server.catalog import LoadedModel
from unrolled.server.engine import Job
from unrolled.server.frames import EventStream, data_frame, encode_json
from unrolled.server.http_errors import ApiError
from unrolled.server.lane_groups import zero_state
from unrolled.server.lanes import Filters, Lane, Output, Piece, TokenInfo
from unrolled.server.limits import MAX_LANES, MAX_LOGPROB_TOKENS, MAX_TOTAL_TOKENS, REQUEST_SECONDS
from unrolled.server.prompt_scores import prompt_tokens, require_known_ids
from unrolled.server.requests import CompletionRequest, Prompt, clamps_of, prompts_of, read_json
from unrolled.server.services import Services

DEFAULT_MAX_TOKENS = 16
"""As OpenAI's."""

SHORT_PROMPT_CHARS = 2000
FINISH_REASONS = {"end": "stop", "stop": "stop", "length": "length"}


@dataclass
class Choice:
    """One sample of a request: its place in the response, its lane, and how far its text has got."""

    index: int
    lane: Lane
    prompt: str
    """The prompt, if it is echoed."""
    echoed: list[TokenInfo] = field(default_factory=list)
    offset: int = 0


@dataclass
class Completion:
    """A request that is being answered."""

    id: str
    request: CompletionRequest
    model: LoadedModel
    filters: Filters
    choices: list[Choice]
    created: int
    num_prompt_tokens: int = 0
    """Tokens of all prompts; that of several samples counts once."""
    unknown: str = ""
    """Characters of the prompts that the model does not know, and reads as others."""

    @property
    def lanes(self) -> list[Lane]:
        """The lanes of all choices."""
        return [choice.lane for choice in self.choices]

    @property
    def has_usage_frame(self) -> bool:
        """Whether a stream ends with a frame that has the numbers of tokens."""
        options = self.request.stream_options
        return options is not None and options.include_usage

    def chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the JSON of a response, or of a frame of it, without usage."""
        return {
            "id": self.id, "object": "text_completion", "created": self.created, "model": self.model.entry.id,
            "choices": choices, **({"unknown": self.unknown} if self.unknown else {}),
        }  # fmt: skip

    def usage(self) -> dict[str, int]:
        """Return the numbers of tokens."""
        prompt = self.num_prompt_tokens
        drawn = sum(choice.lane.streamer.num_tokens for choice in self.choices)
        return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


async def complete(request: Request) -> ASGIApp:
    """Answer `POST /v1/completions`."""
    services: Services = request.app.state.services
    body = await read_json(request, CompletionRequest)
    check_fields(body)
    model = await services.catalog.text_model(body.model)
    completion, jobs = await _prepare(body, model, services)
    if body.request_id in services.completions:
        raise ApiError(409, "There is a request with this request_id already.", "request_id")
    services.completions[completion.id] = completion.lanes

    try:
        services.engine.submit(jobs)
    except ApiError:
        services.completions.pop(completion.id, None)
        raise
    services.count_request()
    timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, services.engine.cancel, completion.lanes, "timeout")

    def close() -> None:
        timer.cancel()
        services.completions.pop(completion.id, None)
        services.engine.cancel([lane for lane in completion.lanes if not lane.finish_reason])

    return EventStream(_frames(completion, services), close) if body.stream else _WholeResponse(completion, close)


def check_fields(body: CompletionRequest) -> None:
    """Raise `ApiError` for fields that do not go together."""
    lanes = len(prompts_of(body)) * (body.n or 1)
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    if lanes > MAX_LANES:
        raise ApiError(400, f"{lanes:,} samples are asked for, and at most {MAX_LANES} are drawn for one request.", "n")
    if lanes * max_tokens > MAX_TOTAL_TOKENS:
        raise ApiError(400, f"max_tokens times samples is more than {MAX_TOTAL_TOKENS:,}: ask for less.", "max_tokens")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise ApiError(400, "best_of is not supported, other than with the value of n: leave it out.", "best_of")
    if body.logprobs is not None and body.guesses is not None and body.logprobs != body.guesses:
        raise ApiError(400, "logprobs and guesses are the same setting, and have two values: leave one out.", "guesses")
    if guesses_of(body) is not None and lanes * max_tokens > MAX_LOGPROB_TOKENS:
        raise ApiError(
            400, f"With logprobs, max_tokens times samples is at most {MAX_LOGPROB_TOKENS:,}: ask for less.", "max_tokens"
        )
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options is for stream, which is not set: leave it out.", "stream_options")
    if body.stream_options is not None and body.stream_options.include_obfuscation:
        raise ApiError(400, "include_obfuscation is not supported: set it to false, or leave it out.", "stream_options")
    if body.state is not None and isinstance(body.prompt, list):
        raise ApiError(400, "A state is continued by one prompt: give a string, or none.", "prompt")


def guesses_of(body: CompletionRequest) -> int | None:
    """Return how many guesses are reported with each token; None: no log-probabilities."""
    return body.guesses if body.logprobs is None else body.logprobs


async def _prepare(body: CompletionRequest, model: LoadedModel, services: Services) -> tuple[Completion, list[Job]]:
    clamps = clamps_of(body.hold, model.network)
    given = {name: value for name in GENERATION_SETTINGS if (value := getattr(body, name)) is not None}
    filters = Filters(**{**model.generation_defaults, **given}, guesses=guesses_of(body), clamps=clamps)
    seed = secrets.randbelow(MAX_DRAWN_SEED) if body.seed is None or body.seed < 0 else body.seed
    completion = Completion(body.request_id or f"cmpl-{secrets.token_hex(12)}", body, model, filters, [], int(time.time()))
    jobs = []
    for prompt in prompts_of(body):
        jobs.append(await _prepare_prompt(completion, prompt, seed, services))
    return completion, [job for job in jobs if job.lanes]


async def _prompt_ids(model: LoadedModel, prompt: Prompt) -> tuple[list[int], dict[str, str]]:
    """Return the ids of a prompt with what its text begins from, and the replacements of unknown characters."""
    if not isinstance(prompt, str):
        require_known_ids(model, prompt, "prompt")
        begin = [model.tokenizer.bos_id] if model.tokenizer.eos_id is not None or not prompt else []
        return [*begin, *prompt], {}
    encode = functools.partial(encode_prompt, model.tokenizer, prompt)
    is_short = len(prompt) <= SHORT_PROMPT_CHARS  # another thread takes longer to start
    return encode() if is_short else await asyncio.to_thread(encode)


async def _prepare_prompt(completion: Completion, prompt: Prompt, seed: int, services: Services) -> Job:
    """Add the choices of one prompt; return what the engine has to do for them."""
    body, model = completion.request, completion.model
    max_tokens = DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if body.state is None:
        ids, replaced = await _prompt_ids(model, prompt)
        state, all_ids = zero_state(model.network), np.array(ids, np.int64)
        completion.unknown += "".join(character for character in replaced if character not in completion.unknown)
        completion.num_prompt_tokens += len(ids) - int(not prompt or model.tokenizer.eos_id is not None)
    else:
        state, all_ids = services.states.resume(body.state, model, str(prompt))
        completion.num_prompt_tokens += len(all_ids) - 1
    echoed: list[TokenInfo] = []
    if body.echo and completion.filters.guesses is not None and prompt:
        async with services.heavy_work:
            echoed = await asyncio.to_thread(prompt_tokens, model, prompt, completion.filters)
    echo = "" if not body.echo else prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt)
    lanes = []
    loop = asyncio.get_running_loop()
    for sample in range(body.n or 1):
        lane = Lane(model.tokenizer, seed + sample, completion.filters, max_tokens, stop, Output(loop))
        choice = Choice(len(completion.choices), lane, echo, echoed)
        completion.choices.append(choice)
        if max_tokens == 0:
            lane.finish("length")
        else:
            lanes.append(lane)
    return Job(model.sampler(completion.filters), lanes, state, all_ids)


def choice_json(choice: Choice, piece: Piece, with_logprobs: bool, is_first: bool) -> dict[str, Any]:
    """Return one choice of a response or of a frame: the echoed prompt, if it is the first one, and what was drawn."""
    text, tokens = piece.text, piece.tokens
    if is_first:
        text, tokens = choice.prompt + text, choice.echoed + tokens
    reason = FINISH_REASONS.get(piece.finish_reason, piece.finish_reason) or None
    logprobs = None
    if with_logprobs:
        offsets = []
        for token in tokens:
            offsets.append(choice.offset)
            choice.offset += len(token.text)
        logprobs = {
            "tokens": [token.text for token in tokens],
            "token_logprobs": [token.logprob for token in tokens],
            "top_logprobs": [None if token.logprob is None else dict(token.guesses) for token in tokens],
            "text_offset": offsets,
        }
    return {
        "text": text, "index": choice.index, "logprobs": logprobs, "finish_reason": reason, "seed": choice.lane.seed
    }  # fmt: skip


class _WholeResponse:
    """The response with everything in it. A client that leaves ends the samples."""

    def __init__(self, completion: Completion, on_close: Any) -> None:
        self.completion, self.on_close = completion, on_close

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        collector = asyncio.create_task(self._collect())
        watcher = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((collector, watcher), return_when=asyncio.FIRST_COMPLETED)
            if collector.done():
                await collector.result()(scope, receive, send)
        finally:
            self.on_close()
            for task in (collector, watcher):
                task.cancel()
            await asyncio.gather(collector, watcher, return_exceptions=True)

    async def _collect(self) -> Response:
        completion = self.completion
        with_logprobs = completion.filters.guesses is not None
        choices = []
        for choice in completion.choices:
            piece = await _collect_lane(choice.lane)
            choices.append(choice_json(choice, piece, with_logprobs, True))
        reasons = {choice.lane.finish_reason for choice in completion.choices}
        if "error" in reasons:
            return ApiError(500, "The samples could not be drawn; the server's log says why.").response()
        content = encode_json({**completion.chunk(choices), "usage": completion.usage()})
        return Response(content, media_type="application/json")


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _collect_lane(lane: Lane) -> Piece:
    texts, whole = [], Piece()
    while not whole.finish_reason:
        piece = await lane.output.take(min_chars=4096)
        texts.append(piece.text)
        whole.tokens += piece.tokens
        whole.finish_reason = piece.finish_reason
    whole.text = "".join(texts)
    return whole


async def _frames(completion: Completion, services: Services) -> AsyncIterator[bytes]:
    """Yield the frames of a stream: of each choice at most 30 a second, fewer of many; each has all text since the last."""
    frames: asyncio.Queue[bytes | None] = asyncio.Queue(len(completion.choices))
    tasks = [asyncio.create_task(_lane_frames(completion, choice, frames, services)) for choice in completion.choices]
    try:
        for _ in tasks:
            while (frame := await frames.get()) is not None:
                yield frame
        if any(choice.lane.finish_reason == "error" for choice in completion.choices):
            yield data_frame(ApiError(500, "The samples could not be drawn; the server's log says why.").body())
        if completion.has_usage_frame:
            yield data_frame({**completion.chunk([]), "usage": completion.usage()})
        yield b"data: [DONE]\n\n"
    finally:
        for task in tasks:
            task.cancel()


async def _lane_frames(completion: Completion, choice: Choice, frames: asyncio.Queue[bytes | None], services: Services) -> None:
    with_logprobs, is_first, loop = completion.filters.guesses is not None, True, asyncio.get_running_loop()
    while True:
        piece = await choice.lane.output.take()
        sent = loop.time()
        frame = completion.chunk([choice_json(choice, piece, with_logprobs, is_first)])
        if completion.has_usage_frame:
            frame["usage"] = None
        await frames.put(data_frame(frame))
        is_first = False
        if piece.finish_reason:
            break
        await asyncio.sleep(max(0.0, sent + services.frame_seconds - loop.time()))
    await frames.put(None)
