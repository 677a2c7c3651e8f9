"""Completions: the text of a seed whatever the load, and the protocol of OpenAI's clients."""

import concurrent.futures
import json
import math
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from support.cli import Cli
from support.servers import MACHINE, RunningServer
from unrolled.api import load
from unrolled.server.engine import Engine
from unrolled.server.http_errors import ApiError
from unrolled.server.lane_groups import NativeReader, NativeSampler, ReferenceSampler
from unrolled.server.limits import MAX_QUEUED

SETTINGS: list[dict[str, Any]] = [
    {}, {"temperature": 0.7}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.8, "temperature": 1.3}, {"min_p": 0.1},
]  # fmt: skip


def complete(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def streamed(client: httpx.Client, **body: Any) -> list[Any]:
    """Return the values of all frames; the last one is [DONE]."""
    with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as answer:
        lines = [line for line in answer.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def python_text(runs_folder: Path, model: str, prompt: str, seed: int, length: int, **options: Any) -> str:
    loaded = load(runs_folder / model, device="cpu", precision="float32", threads=1)
    return loaded.sample(prompt, seed=seed, length=length, **options)[len(prompt) :]


def test_the_text_of_a_seed_is_the_same_alone_among_64_streamed_and_from_python(
    server: RunningServer, runs_folder: Path
) -> None:
    requests = [
        {
            "model": ("letters", "bytes", "lines")[i % 3], "prompt": "abc de"[: 1 + i % 6], "seed": 100 + i,
            "max_tokens": 5 + 29 * i % 170, **SETTINGS[i % len(SETTINGS)],
        }
        for i in range(64)
    ]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        together = list(pool.map(lambda body: complete(server.client, **body)["choices"][0]["text"], requests))
    for body, text in zip(requests, together, strict=True):
        options = {name: value for name, value in body.items() if name in ("temperature", "top_k", "top_p", "min_p")}
        arguments = (str(body["model"]), str(body["prompt"]), int(str(body["seed"])), int(str(body["max_tokens"])))
        assert text == python_text(runs_folder, *arguments, **options), body
    for body, text in list(zip(requests, together, strict=True))[:6]:
        assert complete(server.client, **body)["choices"][0]["text"] == text
        assert "".join(frame["choices"][0]["text"] for frame in streamed(server.client, **body)) == text


def test_what_a_request_leaves_out_has_the_default_of_the_model(server: RunningServer, runs_folder: Path) -> None:
    def drawn(**options: float) -> str:
        return str(complete(server.client, model="slow", prompt="a", seed=3, max_tokens=60, **options)["choices"][0]["text"])

    assert drawn() == drawn(temperature=0.5, min_p=0.01) == python_text(runs_folder, "slow", "a", 3, 60)
    assert drawn() != drawn(temperature=1, min_p=0) == python_text(runs_folder, "slow", "a", 3, 60, temperature=1, min_p=0)


def test_logprobs_and_held_units_do_not_change_what_is_drawn_and_follow_the_command_line(
    server: RunningServer, runs_folder: Path, cli: Cli
) -> None:
    body = {"model": "letters", "prompt": "ab", "seed": 7, "max_tokens": 60}
    plain = complete(server.client, **body)["choices"][0]["text"]
    assert complete(server.client, **body, logprobs=3)["choices"][0]["text"] == plain
    flags = ("--seed", "7", "--length", "60", "--prompt", "ab", "--precision", "float32")
    assert cli("sample", str(runs_folder / "letters"), *flags).out == f"ab{plain}\n"
    held = complete(server.client, **body, hold={"layer": 1, "unit": 3, "value": 2.5})["choices"][0]["text"]
    assert held == python_text(runs_folder, "letters", "ab", 7, 60, clamp=("1.3=2.5",)) != plain
    slow = complete(server.client, **body | {"model": "slow"}, n=6)["choices"]
    assert [choice["text"] for choice in slow] == [python_text(runs_folder, "slow", "ab", 7 + i, 60) for i in range(6)]


def test_a_long_prompt_is_read_in_pieces_and_gives_the_text_of_python(server: RunningServer, runs_folder: Path) -> None:
    prompt = "abc def " * 150
    for model in ("letters", "slow"):
        body = {"model": model, "prompt": prompt, "seed": 3, "max_tokens": 20}
        assert complete(server.client, **body)["choices"][0]["text"] == python_text(runs_folder, model, prompt, 3, 20)


def test_nobody_waits_behind_a_long_prompt(server: RunningServer) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        long = pool.submit(complete, server.client, model="slow", prompt="ab " * 300_000, max_tokens=1, request_id="long")
        while not server.services.engine.num_lanes:
            time.sleep(0.001)
        complete(server.client, model="letters", prompt="ab", max_tokens=5)
        assert not long.done(), "the short request waited for the long one"
        assert server.client.post("/api/cancel/long").status_code == 200
        answer = long.result()
    assert answer["choices"][0]["finish_reason"] == "cancelled"
    assert answer["usage"]["prompt_tokens"] == 900_000


def test_the_openai_client_reads_every_answer(server: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    assert [model.id for model in client.models.list()] == [
        "bytes",
        "letters",
        "lines",
        "slow",
        "builtin-english",
        "builtin-python",
    ]
    answer = client.completions.create(
        model="letters", prompt=["ab", "cd e"], n=2, max_tokens=12, temperature=0.8, top_p=0.9, seed=5, logprobs=2, echo=True
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert all(choice.text.startswith(("ab", "cd e")) and choice.finish_reason == "length" for choice in answer.choices)
    assert answer.usage is not None
    assert answer.usage.to_dict() == {"prompt_tokens": 6, "completion_tokens": 48, "total_tokens": 54}
    several = client.completions.create(model="letters", prompt=["ab", "cd e", ""], n=2, max_tokens=1)
    assert several.usage is not None
    assert several.usage.to_dict() == {"prompt_tokens": 6, "completion_tokens": 6, "total_tokens": 12}
    strange = client.completions.create(model="letters", prompt=["\u20aca", "\u20ac\u4e00"], max_tokens=1).to_dict()
    assert strange["unknown"] == "\u20ac\u4e00"
    assert "unknown" not in several.to_dict()
    stream = client.completions.create(
        model="letters", prompt="ab", max_tokens=30, seed=5, stream=True, stream_options={"include_usage": True}
    )
    frames = list(stream)
    assert frames[-1].usage is not None
    assert frames[-1].usage.completion_tokens == 30
    text = "".join(choice.text for frame in frames for choice in frame.choices)
    assert len(text) == 30
    assert [choice.finish_reason for frame in frames for choice in frame.choices][-1] == "length"
    assert client.models.retrieve("lines").id == "lines"
    with pytest.raises(openai.NotFoundError, match="no model with this id"):
        client.models.retrieve("other")
    scores = client.completions.create(model="letters", prompt=["ab c", "d"], max_tokens=0, echo=True, logprobs=1)
    assert [choice.text for choice in scores.choices] == ["ab c", "d"]
    assert [len(choice.logprobs.token_logprobs or []) for choice in scores.choices if choice.logprobs] == [4, 1]
    with pytest.raises(openai.NotFoundError, match="POST /v1/completions"):
        client.chat.completions.create(model="letters", messages=[{"role": "user", "content": "ab"}])
    with pytest.raises(openai.BadRequestError, match="no token"):
        client.completions.create(model="letters", prompt=[1, 2000])
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model="letters", prompt="ab", suffix="x")
    with pytest.raises(openai.NotFoundError, match="no model"):
        client.completions.create(model="../letters", prompt="ab")
    client.close()


@pytest.mark.parametrize("model", ["letters", "bytes", "lines"])
def test_token_ids_are_read_as_their_text(server: RunningServer, model: str) -> None:
    """As vLLM's addresses give them, where lm-eval looks for a tokenizer; it sums the log-probabilities of the last tokens."""
    text, post = "ab \u00e9\u65e5", server.client.post
    made = post(
        "/tokenize", json={"model": model, "prompt": text, "add_special_tokens": False, "return_token_strs": True}
    ).json()
    assert made["count"] == len(made["tokens"]) == len(made["token_strs"])
    assert ("".join(made["token_strs"]), made["token_strs"][:2]) == (text, ["a", "b"])
    assert post("/detokenize", json={"model": model, "tokens": made["tokens"]}).json() == {"prompt": text}
    settings: dict[str, Any] = {"seed": 3, "max_tokens": 8, "temperature": 0, "logprobs": 1, "echo": True}
    answers = [
        complete(server.client, model=model, prompt=prompt, **settings) for prompt in (text, made["tokens"], [made["tokens"]])
    ]
    logprobs = [answer["choices"][0]["logprobs"]["token_logprobs"] for answer in answers]
    assert logprobs[0] == logprobs[1] == logprobs[2]
    assert len(logprobs[0]) == made["count"] + 8
    assert answers[0]["usage"] == answers[1]["usage"]
    begin = server.client.get("/tokenizer_info", params={"model": model}).json()["bos_token"]
    assert len(post("/tokenize", json={"model": model, "prompt": begin}).json()["tokens"]) == 1
    assert "give one" in post("/tokenize", json={"prompt": "a"}).json()["error"]["message"]
    assert post("/detokenize", json={"model": model, "tokens": [100_000]}).status_code == 400


def test_the_logprob_of_a_token_is_that_of_the_token(server: RunningServer, runs_folder: Path) -> None:
    """An echoed prompt has the surprisal of `score`, the first token none; what is drawn is scored as if it were a prompt."""
    choice = complete(server.client, model="letters", prompt="abcd", max_tokens=9, seed=4, logprobs=2, echo=True)["choices"][0]
    logprobs = choice["logprobs"]
    assert "".join(logprobs["tokens"]) == choice["text"]
    assert logprobs["text_offset"] == list(range(13))
    assert logprobs["token_logprobs"][0] is None
    assert logprobs["top_logprobs"][0] is None
    expected = load(runs_folder / "letters", device="cpu", threads=1).score(choice["text"]).bits[1:]
    np.testing.assert_allclose(np.array(logprobs["token_logprobs"][1:]) / -math.log(2), expected, rtol=1e-4)
    for token, logprob, top in list(zip(logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True))[
        1:
    ]:
        assert len(top) == 2
        assert logprob <= max(top.values()) + 1e-6
        assert token not in top or top[token] == pytest.approx(logprob, abs=1e-5)
    scored = complete(server.client, model="letters", prompt=choice["text"], max_tokens=0, logprobs=0, echo=True)["choices"][0]
    assert scored["text"] == choice["text"]
    assert scored["finish_reason"] == "length"
    np.testing.assert_allclose(scored["logprobs"]["token_logprobs"][1:], logprobs["token_logprobs"][1:], rtol=1e-4)
    score = server.client.post("/api/score", json={"model": "letters", "text": choice["text"], "guesses": 5}).json()
    bits = [token["bits"] for token in score["tokens"]]
    assert bits[0] is None
    np.testing.assert_allclose(bits[1:], expected, rtol=1e-4)
    assert score["bits_per_character"] == pytest.approx(float(np.mean(expected)), rel=1e-4)


def test_a_text_ends_before_a_stop_string_and_at_the_end_of_a_document(server: RunningServer, runs_folder: Path) -> None:
    body = {"model": "letters", "prompt": "ab", "seed": 7, "max_tokens": 200}
    whole = complete(server.client, **body)["choices"][0]["text"]
    stop = whole[20:22]
    expected = whole[: whole.index(stop)]
    for logprobs in ({}, {"logprobs": 0}):
        choice = complete(server.client, **body, stop=[stop, "never"], **logprobs)["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (expected, "stop")
        if logprobs:
            assert "".join(choice["logprobs"]["tokens"]) == expected
    frames = streamed(server.client, **body, stop=stop)
    assert "".join(frame["choices"][0]["text"] for frame in frames) == expected
    lines = complete(server.client, model="lines", prompt="", seed=2, max_tokens=500, n=8)["choices"]
    assert {choice["finish_reason"] for choice in lines} == {"stop"}
    assert lines[0]["text"] == python_text(runs_folder, "lines", "", 2, 500)


def test_a_frame_carries_all_that_came_since_the_last_and_few_are_sent(server: RunningServer) -> None:
    started = time.perf_counter()
    frames = streamed(server.client, model="letters", prompt="ab", seed=1, max_tokens=20_000, n=2)
    seconds = time.perf_counter() - started
    assert sum(len(frame["choices"][0]["text"]) for frame in frames) == 40_000
    assert len(frames) <= 2 * (30 * seconds + 3)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"bogus": 1}, "bogus"), ({"max_tokens": -1}, "max_tokens"), ({"max_tokens": 2.5}, "max_tokens"),
        ({"temperature": -0.1}, "temperature"), ({"top_p": 0}, "top_p"), ({"n": 65}, "n"), ({"prompt": 5}, "prompt"),
        ({"prompt": [[1, -2]]}, "prompt"), ({"prompt": ["a", 1]}, "prompt"), ({"prompt": [["a"]]}, "prompt"),
        ({"prompt": [9999]}, "prompt"), ({"prompt": ["a"] * 65}, "prompt"), ({"prompt": [1.5]}, "prompt"),
        ({"prompt": ["a"] * 40, "n": 2}, "n"), ({"best_of": 3}, "best_of"),
        ({"logprobs": 6}, "logprobs"), ({"stop": ["a"] * 17}, "stop"), ({"seed": 2**63}, "seed"), ({"model": ""}, "model"),
        ({"presence_penalty": 0.5}, "presence_penalty"), ({"logit_bias": {"1": 2}}, "logit_bias"),
        ({"stream_options": {}}, "stream_options"), ({"max_tokens": 200_000, "logprobs": 1}, "max_tokens"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options"), ({"messages": []}, "messages"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options"), ({"request_id": "a b"}, "request_id"),
        ({"hold": {"layer": 0, "unit": 1}}, "hold"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_its_name(server: RunningServer, body: dict[str, Any], param: str) -> None:
    answer = server.client.post("/v1/completions", json={"model": "letters", "prompt": "ab", "max_tokens": 3} | body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param


def test_a_request_is_cancelled_as_a_whole_or_by_sample_also_while_it_is_queued(server: RunningServer) -> None:
    body = {"model": "letters", "prompt": "ab", "max_tokens": 60_000}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = pool.submit(complete, server.client, **body, n=64, request_id="first")
        while server.services.engine.num_lanes < 64:
            time.sleep(0.001)
        queued = pool.submit(complete, server.client, **body, n=2, request_id="second")
        while server.services.engine.num_queued < 1:
            time.sleep(0.001)
        assert server.client.post("/api/cancel/second").json() == {"cancelled": 2}
        assert {c["finish_reason"] for c in queued.result()["choices"]} == {"cancelled"}
        assert not running.done()
        assert server.client.post("/api/cancel/first?index=5").json() == {"cancelled": 1}
        assert server.client.post("/api/cancel/first").status_code == 200
        choices = running.result()["choices"]
        assert all(len(choice["text"]) < 60_000 for choice in choices)
    assert server.client.post("/api/cancel/first").status_code == 404


def test_a_client_that_leaves_frees_its_lanes(server: RunningServer) -> None:
    for stream in (True, False):
        body = json.dumps({"model": "letters", "prompt": "ab", "max_tokens": 60_000, "n": 64, "stream": stream}).encode()
        with server.socket() as connection:
            connection.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            while server.services.engine.num_lanes < 64:
                time.sleep(0.001)
        deadline = time.monotonic() + 5
        while (server.services.engine.num_lanes or server.services.completions) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert server.services.engine.num_lanes == 0
        assert not server.services.completions


def test_a_reader_that_stalls_stops_its_lane_and_nobody_else(server: RunningServer) -> None:
    request = {"model": "letters", "prompt": "ab", "max_tokens": 1_000_000, "stream": True, "request_id": "stalled"}
    body = json.dumps(request).encode()
    with server.socket() as connection:
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        time.sleep(0.5)
        complete(server.client, model="letters", prompt="ab", max_tokens=100)
        (lane,) = server.services.completions["stalled"]
        assert len(lane.output._piece.text) < 1_000_000
    while server.services.engine.num_lanes:
        time.sleep(0.001)


def test_a_prompt_is_seen_while_it_is_read(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server could not cancel it when it stops."""
    seen = []
    for sampler in (NativeReader, ReferenceSampler):

        def read_pieces(self: Any, *arguments: Any, original: Any = sampler.read_pieces) -> Any:
            seen.append(server.services.engine.num_lanes)
            return original(self, *arguments)

        monkeypatch.setattr(sampler, "read_pieces", read_pieces)
    complete(server.client, model="letters", prompt="abc", max_tokens=1, n=3)
    assert seen
    assert set(seen) == {3}


@pytest.mark.parametrize("method", ["read_pieces", "start", "draw"])
def test_a_failure_in_the_engine_ends_its_request_and_nothing_else(
    server: RunningServer, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise FloatingPointError("for a test")

    body = {"model": "letters", "prompt": "abc", "max_tokens": 5, "seed": 1}
    before = complete(server.client, **body)["choices"]
    with monkeypatch.context() as patch:
        for sampler in (NativeSampler, ReferenceSampler):
            patch.setattr(sampler, method, fail)
        assert server.client.post("/v1/completions", json=body).status_code == 500
    deadline = time.monotonic() + 5
    while server.services.engine.num_lanes and time.monotonic() < deadline:  # it ends them before it drops them
        time.sleep(0.001)
    assert server.services.engine.num_lanes == 0
    assert complete(server.client, **body)["choices"] == before


def test_too_many_waiting_requests_are_refused_for_now() -> None:
    engine = Engine()
    try:
        with pytest.raises(ApiError) as refused:
            engine.submit([None] * (MAX_QUEUED + 1))  # type: ignore[list-item]  # they are only counted
        assert refused.value.status == 429
        assert dict(refused.value.headers or {})["retry-after"]
    finally:
        engine.close()


def test_a_state_is_handed_out_taken_in_and_continued(server: RunningServer) -> None:
    whole = complete(server.client, model="letters", prompt="abc de", seed=9, max_tokens=30)["choices"][0]["text"]
    for model, prompt in (("letters", "abc "), ("letters", "")):
        made = server.client.post("/api/state", json={"model": model, "prompt": prompt, "text": "abc de"[len(prompt) :]}).json()
        content = server.client.get(f"/api/state/{made['state']}").content
        taken = server.client.put("/api/state", content=content).json()
        for state in (made["state"], taken["state"]):
            answer = complete(server.client, model=model, state=state, seed=9, max_tokens=30)
            assert answer["choices"][0]["text"] == whole
        assert made["bytes"] == taken["bytes"] == 2 * 2 * 21 * 4
    first = server.client.post("/api/state", json={"model": "letters", "prompt": "abc"}).json()["state"]
    answer = complete(server.client, model="letters", state=first, prompt=" de", seed=9, max_tokens=30)
    assert answer["choices"][0]["text"] == whole
    assert server.client.delete(f"/api/state/{first}").json() == {"deleted": True}
    assert server.client.get(f"/api/state/{first}").status_code == 404
    for damaged in (content[:-1], content[:40], b"", content[:-1] + b"\x00", content.replace(b"letters", b"bytes!!")):
        assert server.client.put("/api/state", content=damaged).status_code in (400, 404, 409)
    other = server.client.post("/v1/completions", json={"model": "bytes", "state": made["state"]})
    assert other.status_code == 409


def test_activations_of_a_text_are_those_of_trace(server: RunningServer, runs_folder: Path) -> None:
    answer = server.client.post("/api/trace", json={"model": "letters", "text": "abcd", "layer": 1, "units": [2, 7]}).json()
    expected = load(runs_folder / "letters", device="cpu", threads=1).trace("abcd").h[:, 1, [2, 7]]
    assert answer["tokens"] == list("abcd")
    np.testing.assert_allclose(answer["values"], expected, atol=1e-4)
    assert server.client.post("/api/trace", json={"model": "letters", "text": "a", "layer": 2}).status_code == 400
    assert server.client.post("/api/trace", json={"model": "letters", "text": "a", "units": [21]}).status_code == 400


def test_the_server_is_as_exact_as_the_machine_options_of_the_test() -> None:
    """The comparisons above load models with the same settings as the server."""
    assert (MACHINE.device, MACHINE.precision, MACHINE.threads) == ("cpu", "float32", 1)
