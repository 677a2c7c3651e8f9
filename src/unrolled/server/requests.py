"""The bodies of requests: their fields with types and limits. An unknown field is refused."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request

from unrolled.nn.unit_clamp import Clamp, check_clamps
from unrolled.runtime.text_network import TextNetwork
from unrolled.server.http_errors import ApiError
from unrolled.server.limits import (
    BODY_SECONDS,
    MAX_BODY_BYTES,
    MAX_GUESSES,
    MAX_NAME_CHARS,
    MAX_PROMPTS,
    MAX_ROWS,
    MAX_SAMPLES,
    MAX_SCORE_CHARS,
    MAX_STEPS,
    MAX_STOP_CHARS,
    MAX_STOP_STRINGS,
    MAX_TOKENS,
)

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
RequestId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
StateId = Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")]
Guesses = Annotated[int, Meta(ge=0, le=MAX_GUESSES)]
Probability = Annotated[float, Meta(ge=0, le=1)]
UploadId = Annotated[str, Meta(pattern="^upload-[0-9a-f]{16}$")]
StopString = Annotated[str, Meta(max_length=MAX_STOP_CHARS)]
Zero = Annotated[float, Meta(ge=0, le=0)]
Index = Annotated[int, Meta(ge=0, le=65535)]


TokenIds = Annotated[list[Annotated[int, Meta(ge=0, le=2**31 - 1)]], Meta(max_length=MAX_BODY_BYTES)]
Prompt = str | list[int]
"""A text, or its tokens."""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """OpenAI's `stream_options`; frames are never padded."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class HeldUnit(msgspec.Struct, forbid_unknown_fields=True):
    """A hidden unit whose output is a constant while the model writes."""

    layer: Index
    unit: Index
    value: Annotated[float, Meta(ge=-3e38, le=3e38)]


def clamps_of(hold: HeldUnit | list[HeldUnit] | None, network: TextNetwork) -> tuple[Clamp, ...]:
    """Return the units that are held. Raises `UsageError` for one that the network does not have."""
    held = hold if isinstance(hold, list) else [] if hold is None else [hold]
    clamps = tuple(Clamp(unit.layer, unit.unit, unit.value) for unit in held)
    check_clamps(clamps, network.hidden_size, len(network.layers))
    return clamps


class CompletionRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /v1/completions`: OpenAI's fields, and some of this server. Penalties, biases and suffixes do not exist here."""

    model: Name
    prompt: str | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=MAX_BODY_BYTES)] | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Probability | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] | None = None
    best_of: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] | None = None
    stop: StopString | Annotated[list[StopString], Meta(max_length=MAX_STOP_STRINGS)] | None = None
    seed: Annotated[int, Meta(ge=-1, le=2**63 - 1 - MAX_SAMPLES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: Guesses | None = None
    guesses: Guesses | None = None
    echo: bool | None = None
    state: StateId | None = None
    request_id: RequestId | None = None
    hold: HeldUnit | Annotated[list[HeldUnit], Meta(max_length=16)] | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    suffix: Annotated[str, Meta(max_length=0)] | None = None
    presence_penalty: Zero | None = None
    frequency_penalty: Zero | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=0)] | None = None


def prompts_of(body: CompletionRequest) -> list[Prompt]:
    """Return the prompts: one text or the ids of one, or several. Raises `ApiError` 400 for a mixture."""
    prompts = body.prompt if isinstance(body.prompt, list) else [body.prompt or ""]
    if any(isinstance(prompt, int) for prompt in prompts):
        ids = [prompt for prompt in prompts if isinstance(prompt, int)]
        if len(ids) < len(prompts):
            raise ApiError(
                400, "prompt has token ids and texts side by side: send one list of ids, or a list of prompts.", "prompt"
            )
        return [ids]
    if len(prompts) > MAX_PROMPTS:
        raise ApiError(
            400, f"prompt has {len(prompts):,} prompts, and at most {MAX_PROMPTS} are answered: send less.", "prompt"
        )
    return [prompt for prompt in prompts if not isinstance(prompt, int)]


class ScoreRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /api/score`."""

    model: Name
    text: Annotated[str, Meta(max_length=MAX_SCORE_CHARS)]
    guesses: Guesses = 0


class TraceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /api/trace`; without units, all of the layer."""

    model: Name
    text: Annotated[str, Meta(max_length=MAX_SCORE_CHARS)]
    layer: Index = 0
    units: Annotated[list[Index], Meta(max_length=65536)] | None = None


class PredictRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /api/predict`: source values as texts; rows of which the source column is read, of series a row per step; or an
    uploaded file, in any format of tables.

    With `charts`, the answer has the numbers of drawings of series, too.
    """

    model: Name
    texts: Annotated[list[str], Meta(min_length=1, max_length=MAX_ROWS)] | None = None
    rows: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=MAX_STEPS)] | None = None
    upload: UploadId | None = None
    charts: bool = False


class StateRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /api/state`: read `text` after a prompt, or after another state."""

    model: Name
    prompt: str | None = None
    state: StateId | None = None
    text: str = ""
    hold: HeldUnit | Annotated[list[HeldUnit], Meta(max_length=16)] | None = None


class TokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /tokenize`; without a model, the only one is meant."""

    prompt: Annotated[str, Meta(max_length=MAX_SCORE_CHARS)]
    model: Name | None = None
    add_special_tokens: bool | None = None
    """There are none: a prompt of ids is read as its text is."""

    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /detokenize`; without a model, the only one is meant."""

    tokens: TokenIds
    model: Name | None = None


class TrainRequestBody(msgspec.Struct, forbid_unknown_fields=True):
    """`POST /api/train`: a text, or an upload; `options` are the settings of `unrolled train` by name."""

    text: str | None = None
    upload: Annotated[str, Meta(pattern="^(builtin:)?[A-Za-z0-9_-]{1,64}$")] | None = None
    name: Annotated[str, Meta(max_length=MAX_NAME_CHARS)] | None = None
    options: dict[str, Any] = {}


Body = TypeVar("Body")
_PARAM = re.compile(r"`\$\.?([A-Za-z_]\w*)")
_UNKNOWN = re.compile(r"unknown field `(.*)`", re.S)
_PLACE = re.compile(r" - at `(.*)`$", re.S)
ADVICE = {
    "prompt": "send a text, a list of texts, or token ids as /tokenize gives them",
    "presence_penalty": "there are no penalties here: leave it out",
    "frequency_penalty": "there are no penalties here: leave it out",
    "logit_bias": "there are no biases here: leave it out",
    "suffix": "a text before the end of another is not written here: leave it out",
    "messages": "these models have no chat: send a prompt",
}
"""What to do about fields that other servers have, or have in another form."""


async def read_body(request: Request, limit: int = MAX_BODY_BYTES) -> bytes:
    """Return the body of a request. Raises `ApiError` 413 if it is too long, and 408 if it does not come in time."""
    too_long = ApiError(413, f"The body has more than {limit:,} bytes: send less.", code="body_too_large")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limit:
        raise too_long
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > limit:
                    raise too_long
    except TimeoutError as error:
        raise ApiError(408, f"The body did not come within {BODY_SECONDS:g} seconds.", code="body_too_slow") from error
    return bytes(content)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """Return the checked body of a request. Raises `ApiError` 400 for what does not fit `kind`."""
    content = await read_body(request)
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error)) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ApiError(
            400, f"The body is not the JSON object that is expected: {str(error) or 'it is nested too deep'}."
        ) from error


def _refusal(message: str) -> ApiError:
    """Return the error for what msgspec says of a body: the field, what it expected and what came, and what to do."""
    unknown, place, known = _UNKNOWN.search(message), _PLACE.search(message), _PARAM.search(message)
    name = unknown[1][:MAX_NAME_CHARS] if unknown else known[1] if known else None
    if unknown:
        where = f" of {known[1]}" if known else ""
        advice = ADVICE.get(unknown[1], "leave it out; /openapi.json has the fields")
        return ApiError(400, f"{name} is no field{where} here: {advice}.", known[1] if known else name)
    expectation = _PLACE.sub("", message).replace("`", "")
    path = place[1].removeprefix("$").removeprefix(".") if place else "The body"
    if name in ADVICE and expectation.endswith(("<= 0", "<= 0.0")):  # it is here for clients that send it empty
        return ApiError(400, f"{name} is not supported: {ADVICE[name]}.", name)
    advice = f": {ADVICE[name]}" if name in ADVICE else ""
    return ApiError(400, f"{path or 'The body'}: {expectation[:1].lower()}{expectation[1:]}{advice}.", name)
