"""The server is private: hosts, origins, keys, headers of responses, paths, and limits of what is sent."""

import contextlib
import json
import logging
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from support.servers import RunningServer, running_server
from unrolled.errors import UsageError
from unrolled.options import MachineOptions, ServeOptions
from unrolled.server.app import ROUTES
from unrolled.server.http_protocol import DeadlineProtocol
from unrolled.server.limits import MAX_BODY_BYTES
from unrolled.server.prometheus import resident_bytes
from unrolled.server.run_server import read_key, serve
from unrolled.server.security import OPEN_PATHS, SECURITY_HEADERS

KEY = "a-key-of-this-test"


def raw(server: RunningServer, request: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes."""
    with server.socket() as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
            if b"\r\n\r\n" in received and b"ontent-length: 0" in received:
                break
        return received


def request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", *headers, "Connection: close", "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("127.0.0.1:8000", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:80", 200),
        ("10.1.2.3", 200), ("evil.example", 403), ("evil.example:8000", 403), ("localhost.evil.example", 403), ("", 403),
        ("127.0.0.1.evil.example", 403), ("localhost@evil.example", 403), ("evil.example/localhost", 403),
        ("localhost:x", 403), ("[::1", 403), ("0x7f.1.evil", 403),
        ("[::1%25evil.example]", 403), ("2130706433", 403), ("0177.0.0.1", 403), ("localhost.", 200),
    ],
)  # fmt: skip
def test_only_addresses_and_known_names_are_answered(server: RunningServer, host: str, status: int) -> None:
    for path in ("/health", "/v1/models", "/openapi.json"):
        answer = raw(server, request("GET", path, f"Host: {host}"))
        assert int(answer.split()[1]) == status, (host, path)


def test_two_hosts_and_none_are_refused(server: RunningServer) -> None:
    for headers in (("Host: localhost", "Host: localhost"), ()):
        assert int(raw(server, request("GET", "/health", *headers)).split()[1]) in (400, 403)
    assert int(raw(server, b"GET /health HTTP/1.0\r\n\r\n").split()[1]) == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404), ({"origin": "{url}"}, 404), ({"origin": "http://evil.example"}, 403), ({"origin": "null"}, 403),
        ({"origin": "{url}.evil.example"}, 403), ({"origin": "http://localhost:1"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403), ({"origin": "{url}", "sec-fetch-site": "same-origin"}, 404),
    ],
)  # fmt: skip
def test_pages_of_others_change_nothing(server: RunningServer, headers: dict[str, str], status: int) -> None:
    own = {name: value.format(url=server.url) for name, value in headers.items()}
    for method, path in (("POST", "/api/cancel/x"), ("DELETE", "/api/state/x"), ("POST", "/api/runs/x/stop")):
        answer = server.client.request(method, path, headers=own)
        assert answer.status_code == status, answer.text
        assert "access-control-allow-origin" not in answer.headers
    assert server.client.options("/v1/completions", headers={"origin": "http://evil.example"}).status_code in (403, 405)


def test_every_response_has_the_security_headers(server: RunningServer) -> None:
    paths = ("/", "/health", "/static/nothing.js", "/v1/models", "/nowhere", "/metrics", "/openapi.json")
    answers = [server.client.get(path) for path in paths]
    answers += [
        server.client.post("/v1/completions", content=b"{"),
        server.client.get("/health", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        assert SECURITY_HEADERS.items() <= dict(answer.headers).items(), answer.url
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


@pytest.fixture(scope="module")
def locked(runs_folder: Path) -> Iterator[RunningServer]:
    with running_server(runs_folder, api_key=KEY) as running:
        yield running


def test_with_a_key_every_route_but_the_page_asks_for_it(locked: RunningServer) -> None:
    tried = 0
    for route in ROUTES:
        path = route.path.replace("{id}", "letters").replace("{path:path}", "x.js").replace("{action:str}", "stop")
        for method in sorted((route.methods or set()) - {"HEAD"}):
            is_open = path in OPEN_PATHS or path.startswith("/static/")
            for headers in ({}, {"authorization": f"Bearer {KEY}x"}, {"authorization": f"Basic {KEY}"}, {"authorization": KEY}):
                answer = locked.client.request(method, path, headers=headers)
                assert (answer.status_code == 401) is not is_open, (method, path, headers)
                tried += 1
    assert tried > 60
    assert locked.client.get("/nowhere").status_code == 401
    headers = {"authorization": f"Bearer {KEY}"}
    assert locked.client.get("/v1/models", headers=headers).status_code == 200
    assert locked.client.post("/v1/completions", headers=headers, json={"model": "letters", "max_tokens": 1}).status_code == 200


def test_a_server_for_other_machines_needs_a_key(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.org"):
        with pytest.raises(UsageError, match="api_key_file="):
            serve([], ServeOptions(host=host), MachineOptions(), print)
    for content in ("", "short", "two words here", "k\u00e9y-k\u00e9y-k\u00e9y", "line-one\nline-two"):
        (tmp_path / "key").write_text(content, "utf-8")
        with pytest.raises(UsageError, match="has no key"):
            read_key(tmp_path / "key")
    (tmp_path / "key").write_text(KEY + "\n", "utf-8")
    assert read_key(tmp_path / "key") == KEY


def traversals() -> list[str]:
    """Return paths that lead out of a folder, spelled in many ways."""
    ups = [
        "..",
        "%2e%2e",
        "..%2f",
        "%2e%2e%2f",
        "..\\",
        "%5c..",
        "..%5c",
        "....//",
        "%252e%252e",
        "..;",
        "%c0%ae%c0%ae",
        "..%00",
        "./..",
    ]
    targets = ["etc/passwd", "config.json", "letters/model.safetensors", "server/app.py", "proc/self/environ", ".server"]
    return [f"{'/'.join([up] * depth)}/{target}" for up in ups for depth in (1, 2, 4, 8) for target in targets]


def test_no_path_leads_out(server: RunningServer) -> None:
    """Of 312 spellings, in every place where a path or an id is taken."""
    paths = traversals()
    assert len(paths) >= 300
    for index, path in enumerate(paths):
        place = ("/static/{}", "/api/models/{}", "/api/runs/{}/metrics", "/api/state/{}", "/{}")[index % 5].format(path)
        answer = raw(server, request("GET", place, "Host: localhost"))
        assert int(answer.split()[1]) in (400, 404), (place, answer[:200])
        assert b"root:" not in answer
        if index % 7 == 0:
            body = {"model": path, "prompt": "a"}
            assert server.client.post("/v1/completions", json=body).status_code in (400, 404)
    for name in ("../letters", "letters/", "/", ".", "letters\x00", "LETTERS"):
        assert server.client.post("/v1/completions", json={"model": name}).status_code in (400, 404)


def test_a_link_that_leads_out_of_the_folder_is_no_run(runs_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "config.json").write_text("{}", "utf-8")
    (outside / "model.safetensors").write_bytes((runs_folder / "letters" / "model.safetensors").read_bytes())
    link = runs_folder / "link"
    link.symlink_to(outside)
    try:
        with running_server(runs_folder) as running:
            ids = {model["id"] for model in running.client.get("/v1/models").json()["data"]}
            assert "letters" in ids
            assert "link" not in ids
            assert running.client.get("/api/models/link").status_code == 404
    finally:
        link.unlink()


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: RunningServer) -> None:
    answer = server.client.post("/v1/completions", content=b"x" * (MAX_BODY_BYTES + 1))
    assert answer.status_code == 413
    with server.socket() as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n")
        assert b" 413 " in connection.recv(4096)
    with server.socket() as connection:  # no length is told: it is counted
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answered = b""
        try:
            for _ in range(40):
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
            answered = connection.recv(4096)
        except OSError:  # closed while we were still sending
            answered = answered or b" 413 "
        assert b" 413 " in answered
    upload = server.client.post("/api/uploads?name=a.txt", content=b"x" * ((1 << 20) + 1))
    assert upload.status_code == 413
    assert not list((server.services.trainings.uploads.work_folder).glob("upload-*")), "what was refused is removed"


def test_connections_with_slow_headers_are_closed_and_do_not_disturb(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 connections that send a byte now and then, and ones that send nothing; the deadline is shortened for the test."""
    monkeypatch.setattr(DeadlineProtocol, "header_seconds", 0.8)
    slow = [server.socket() for _ in range(200)]
    started = time.monotonic()
    try:
        for index, connection in enumerate(slow[:150]):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: "[: 1 + index % 40])
        while time.monotonic() - started < 0.6:
            for connection in slow[:150:10]:
                with contextlib.suppress(OSError):  # on a slow machine, some are closed already
                    connection.sendall(b"a")
            assert server.client.get("/health").status_code == 200
        for connection in slow:
            connection.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert connection.recv(100) == b""
        assert time.monotonic() - started < 9
    finally:
        for connection in slow:
            connection.close()


def test_a_client_that_does_not_read_is_disconnected(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DeadlineProtocol, "stalled_seconds", 0.3)
    body = json.dumps({"model": "letters", "max_tokens": 1500, "n": 16, "logprobs": 5, "stream": True}).encode()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        deadline = time.monotonic() + 20
        while not server.services.completions:
            time.sleep(0.001)
        while server.services.completions and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not server.services.completions, "the samples of a client that does not read are still there"


def fuzzed_body(random_source: random.Random) -> bytes:
    """Return a body that may be anything: wrong types, extreme numbers, deep nesting, bytes that are no text."""
    values: list[Any] = [
        None, True, -1, 0, 2**63, -(2**63), 1e308, -0.0, "", "a", "\x00", "\ud800", "a" * 5000, [], {}, [[]], {"a": 1}, [None],
        ["a"] * 100, 0.5, "letters", 10**30, ["letters"], "../..", 1,
    ]  # fmt: skip
    names = [
        "model", "prompt", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "stream", "logprobs", "echo", "state",
        "request_id", "hold", "top_k", "min_p", "stream_options", "bogus", "text", "guesses", "layer", "units", "rows",
        "texts", "options", "name", "upload",
    ]  # fmt: skip
    body: dict[str, Any] = {"model": random_source.choice(["letters", "bytes", "lines", 5, None])}
    for name in random_source.sample(names, random_source.randrange(6)):
        body[name] = random_source.choice(values)
    body["max_tokens"] = random_source.choice([3, 0, *values])
    if isinstance(body["max_tokens"], int) and body["max_tokens"] > 1000:
        body["max_tokens"] = 10**7
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    kind = random_source.randrange(10)
    if kind == 0:
        cut = random_source.randrange(len(content) + 1)
        content = content[:cut] + random_source.randbytes(3) + content[cut:]
    elif kind == 1:
        content = content.replace(b"null", b"NaN").replace(b"true", b"1e999").replace(b"[]", b"-Infinity")
    elif kind == 2:
        content = b"[" * random_source.choice([10, 1000, 100_000]) + content
    elif kind == 3:
        content = b'{"model":' * random_source.choice([10, 5000, 50_000]) + content
    return content


def fuzz(server: RunningServer, count: int, seed: int) -> None:
    random_source = random.Random(seed)
    paths = ("/v1/completions", "/api/score", "/api/trace", "/api/predict", "/api/state", "/api/train", "/v1/completions")
    before = 0
    for index in range(count):
        content = fuzzed_body(random_source)
        path = paths[index % len(paths)]
        if path == "/api/train":
            content = content.replace(b'"text"', b'"tekst"').replace(b'"upload"', b'"uplod"')  # nothing is to be trained here
        try:
            answer = server.client.post(path, content=content)
        except httpx.RemoteProtocolError as error:
            raise AssertionError(content[:300]) from error
        assert answer.status_code < 500, (path, content[:300], answer.text[:300])
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        if index == count // 2:
            before = resident_bytes()
    assert server.client.get("/health").status_code == 200
    assert resident_bytes() - before < 20 << 20


def test_no_body_is_an_error_of_the_server(server: RunningServer) -> None:
    fuzz(server, 250, 1)


@pytest.mark.long
def test_twenty_thousand_bodies_are_no_error_of_the_server(server: RunningServer) -> None:
    fuzz(server, 20_000, 2)


@pytest.mark.parametrize(
    "content",
    [
        b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET " + b"/a" * 40000 + b" HTTP/1.1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n{}",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_no_http_is_refused(server: RunningServer, content: bytes) -> None:
    with server.socket() as connection:
        connection.settimeout(5)
        try:
            connection.sendall(content)
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b""
    assert not answer or int(answer.split()[1]) in (200, 400, 403, 404, 413, 431), answer[:100]
    assert not answer or b" 5" not in answer.split(b"\r\n")[0]
    assert server.client.get("/health").status_code == 200


def test_a_client_that_leaves_before_its_body_has_come_leaves_no_traceback(
    server: RunningServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "handlers", [caplog.handler])
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n"
    for path in ("/v1/completions", "/api/uploads?name=a.txt", "/api/score", "/api/runs/letters/stop", "/tokenize"):
        with server.socket() as connection:
            connection.sendall(head.format(path).encode() + b'{"model"')
            time.sleep(0.1)
    time.sleep(0.3)
    assert server.client.get("/health").status_code == 200
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


def test_every_route_is_in_the_description_and_every_description_is_a_route(server: RunningServer) -> None:
    document = server.client.get("/openapi.json").json()
    described = {(path, method) for path, operations in document["paths"].items() for method in operations}
    routes = {
        (route.path.replace(":path", "").replace(":str", ""), method.lower())
        for route in server_routes(server)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert described == routes
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"].startswith("Answer `"), (path, method)
            body = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if body is not None:
                name = body["schema"]["$ref"].rpartition("/")[2]
                schema = document["components"]["schemas"][name]
                assert schema["additionalProperties"] is False
                answer = server.client.request(method, path.replace("{id}", "x"), json={"bogus field": 1})
                assert answer.status_code in (400, 422), (path, answer.text)


def server_routes(server: RunningServer) -> list[Route]:
    return [route for route in ROUTES if isinstance(route, Route)]
