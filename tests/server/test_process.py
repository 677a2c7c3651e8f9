"""The server as a process of its own: what it imports, how much memory it needs, and how it stops."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from support.cli import Cli
from support.servers import save_models
from unrolled.server.run_server import bind


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`unrolled serve`, and its address."""
    save_models(tmp_path / "runs")
    arguments = [sys.executable, "-m", "unrolled", "serve", "--runs", str(tmp_path / "runs"), "--port", "0", "--threads", "1"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        address = re.match(r"(http://127\.0\.0\.1:\d+) ", running.stderr.readline())
        assert address is not None
        yield running, address[1]
        running.kill()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="the system does not list the libraries of a process")
def test_text_models_are_served_without_torch_and_it_stops_in_time(process: tuple[subprocess.Popen[str], str]) -> None:
    """Also while a sample is streamed."""
    running, url = process
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
        for model in ("letters", "bytes", "lines", "slow"):
            body = {"model": model, "prompt": "ab", "max_tokens": 50, "n": 8, "echo": True, "logprobs": 2}
            assert client.post("/v1/completions", json=body).status_code == 200
            assert client.post("/api/score", json={"model": model, "text": "abc", "guesses": 3}).status_code == 200
            assert client.post("/api/trace", json={"model": model, "text": "abc"}).status_code == 200
            assert client.post("/api/state", json={"model": model, "prompt": "abc"}).status_code == 200
        assert client.get("/api/runs").status_code == 200
        libraries = Path(f"/proc/{running.pid}/maps").read_text("utf-8")
        assert "libtorch" not in libraries
        figures = dict(re.findall(r"^unrolled_(\w+) (\S+)$", client.get("/metrics").text, re.M))
        assert 0 < int(figures["resident_bytes"]) < 120 << 20
        assert int(figures["requests_total"]) == 4
        assert int(figures["tokens_total"]) >= 3 * 8 * 50
        with client.stream(
            "POST", "/v1/completions", json={"model": "slow", "max_tokens": 1_000_000, "stream": True}
        ) as answer:
            frames = answer.iter_lines()
            next(frames)
            started = time.monotonic()
            running.send_signal(signal.SIGTERM)
            last = [line for line in frames if line][-2:]
        assert '"finish_reason":"stopped"' in last[0]
        assert last[1] == "data: [DONE]"
    assert running.wait(10) in (0, -signal.SIGTERM, 143)
    assert time.monotonic() - started < 12


SOAK_SECONDS = float(os.environ.get("UNROLLED_SOAK_SECONDS", "600"))
MEASURING_NOISE = 1 << 20
"""Bytes by which the resident memory of a process that loses nothing differs between two minutes."""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not list the open files of a process")
def test_64_streams_at_a_time_lose_no_memory_and_no_file(process: tuple[subprocess.Popen[str], str]) -> None:
    """For ten minutes, or UNROLLED_SOAK_SECONDS. Clients leave one of eight streams before its end, and get equal shares."""
    running, url = process
    end = time.monotonic() + SOAK_SECONDS
    drawn = [0] * 64

    def follow(client: httpx.Client, number: int) -> None:
        for turn in range(1_000_000):
            body = {"model": ("letters", "bytes", "lines")[turn % 3], "prompt": "ab", "max_tokens": 400, "seed": turn}
            with client.stream(
                "POST", "/v1/completions", json=body | {"stream": True, "temperature": 0.5 + turn % 2}
            ) as answer:
                assert answer.status_code == 200
                last = ""
                for line in answer.iter_lines():
                    last = line or last
                    drawn[number] += len(line)
                    if turn % 8 == 7:
                        break
            assert turn % 8 == 7 or last == "data: [DONE]"
            if time.monotonic() > end:
                return

    def resident() -> int:
        return int(Path(f"/proc/{running.pid}/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def num_files() -> int:
        return len(os.listdir(f"/proc/{running.pid}/fd"))

    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    with httpx.Client(base_url=url, timeout=120, trust_env=False, limits=limits) as client, ThreadPoolExecutor(64) as pool:
        client.get("/health")
        files_before = num_files()
        workers = [pool.submit(follow, client, number) for number in range(64)]
        memory, files = [], []
        while not all(worker.done() for worker in workers):
            memory.append(resident())
            files.append(num_files())
            time.sleep(SOAK_SECONDS / 200)
        for worker in workers:
            worker.result()
    third = len(memory) // 3
    growth = np.median(memory[2 * third :]) - np.median(memory[third : 2 * third])
    assert growth < max(MEASURING_NOISE, (1 << 20) * SOAK_SECONDS / 3 / 3600), (
        f"{growth} bytes in {SOAK_SECONDS / 3:.0f} seconds"
    )
    assert max(files[third:]) <= files_before + 64 + 16, "a stream that its client left is closed after a moment"
    assert max(drawn) < 1.5 * min(drawn)
    deadline = time.monotonic() + 10
    while num_files() > files_before and time.monotonic() < deadline:
        time.sleep(0.1)
    assert num_files() <= files_before


def test_mistakes_on_the_command_line_are_one_sentence(cli: Cli, tmp_path: Path) -> None:
    cases = {
        ("--host", "0.0.0.0"): "--api-key-file", ("--port", "70000"): "--port is 70000", ("nothing",): "no run folder",
        ("--device", "cuda"): "on the CPU", ("--kernels", "torch"): "--kernels",
        ("--api-key-file", str(tmp_path / "none")): "none",
    }  # fmt: skip
    for arguments, message in cases.items():
        result = cli("serve", *arguments)
        assert result.code in (1, 2, 4, 6), arguments
        assert message in result.err, result.err
        assert result.err.count("\n") == 1
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        result = cli("serve", "--port", listener.getsockname()[1])
        assert (result.code, "in use" in result.err) == (1, True)


def test_small_frames_are_sent_at_once() -> None:
    """Without TCP_NODELAY, each of them but the first would wait 40 ms for an acknowledgement of the one before."""

    async def is_set() -> bool:
        found: asyncio.Queue[bool] = asyncio.Queue()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                found.put_nowait(bool(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))

        listener = bind("127.0.0.1", 0)
        async with await asyncio.get_running_loop().create_server(Protocol, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            answer = await found.get()
            writer.close()
            return answer

    with ThreadPoolExecutor(1) as thread:  # the browser of other tests has an event loop in this one
        assert thread.submit(lambda: asyncio.run(is_set())).result()
