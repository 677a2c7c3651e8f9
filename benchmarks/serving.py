"""What a server of one machine does: 64 streams compared with drawing 64 samples without one, latency, requests a second.

    python benchmarks/serving.py [--seconds 5] [--requests 1000] [--peer PYTHON]

A model of 2 layers of 256 units with random weights is saved and served by `unrolled serve`, a process of its own; the clients
are one process of this script. In turn, medians of 3 rounds:

* characters a second of `generate` with 64 samples in one process and no server, and of 64 streaming clients together;
* 64 streaming clients, each with a temperature and a top-p of its own;
* the same with one sample and one client;
* for the 64 clients: the times between two frames (p50, p99), and the most and the least characters of a client;
* milliseconds from a request to its first character, median of 50, while nothing else runs;
* requests a second: `--requests` of 50 characters, 64 at a time; and the same with a plain server, as people write it: FastAPI
  and `nn.LSTM`, one character after the other (`--peer PYTHON` has fastapi, uvicorn and torch);
* resident memory of `unrolled serve` at the end.

Clients and server share the processors of the machine, so the figures are those of a busy machine. Needs httpx.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx

CHARACTERS = "".join(map(chr, range(32, 127))) + "\n"
LAYERS, UNITS, STREAMS = 2, 256, 64
ROUNDS = 3

PEER = """
import sys, torch, uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

class Model(torch.nn.Module):
    def __init__(self, vocab, hidden, layers):
        super().__init__()
        self.embedding = torch.nn.Embedding(vocab, hidden)
        self.lstm = torch.nn.LSTM(hidden, hidden, layers)
        self.head = torch.nn.Linear(hidden, vocab)

    def forward(self, ids, state):
        output, state = self.lstm(self.embedding(ids), state)
        return self.head(output), state

class Body(BaseModel):
    prompt: str
    max_tokens: int

app, model, first = FastAPI(), Model(96, 256, 2).eval(), 32

@app.post("/v1/completions")
def complete(body: Body):
    with torch.no_grad():
        ids = torch.tensor([[min(max(ord(c) - first, 0), 95)] for c in body.prompt])
        logits, state = model(ids, None)
        text = ""
        for _ in range(body.max_tokens):
            token = torch.multinomial(torch.softmax(logits[-1, 0], -1), 1)
            text += chr(first + int(token))
            logits, state = model(token[None], state)
    return {"choices": [{"text": text}]}

uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
"""


def save_model(folder: Path) -> Path:
    """Save a model with random weights as a run; return its path."""
    import torch

    from unrolled.checkpoints import model_file
    from unrolled.nn.language_model import RecurrentLM
    from unrolled.options import ModelOptions
    from unrolled.text.tokenizer import CharTokenizer

    torch.manual_seed(0)
    network = RecurrentLM(len(CHARACTERS), ModelOptions(layers=LAYERS, hidden=UNITS)).eval()
    path = folder / "bench"
    path.mkdir()
    (path / "config.json").write_text('{"inputs": [], "options": {}}', "utf-8")
    saved = model_file.TextModelFile(network, CharTokenizer(CHARACTERS), "none", {})
    model_file.save_model(path / "model.safetensors", saved)
    return path / "model.safetensors"


def direct_speed(path: Path, streams: int, seconds: float) -> float:
    """Return the characters a second of `generate` in a process of its own."""
    code = f"""
import time
from pathlib import Path
from unrolled.generation.sampling import generate
from unrolled.options import MachineOptions, SampleOptions
from unrolled.runtime.native_decoder import sampling_precision
from unrolled.runtime.text_network import read_text_model
model = read_text_model(Path({str(path)!r}))
precision = sampling_precision(MachineOptions())
drawn, length, started = 0, 256, None
while started is None or time.perf_counter() - started < {seconds}:
    count = sum(s.num_tokens for s in generate(model.network, model.tokenizer, SampleOptions(length=length, count={streams}), 1,
                                               precision=precision))
    if started is None:
        started = time.perf_counter()
    else:
        drawn += count
print(drawn / (time.perf_counter() - started))
"""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def running(command: list[str], url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(httpx.HTTPError):
                    httpx.get(url, timeout=1, trust_env=False)
                    break
                time.sleep(0.1)
            yield process
        finally:
            process.terminate()


class Client:
    """A connection that is kept open. It does as little as possible, since it shares the processors with the server."""

    def __init__(self, url: str) -> None:
        self.host, self.port = url.removeprefix("http://").split(":")

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection(self.host, int(self.port))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.close()

    async def post(self, body: dict[str, object]) -> None:
        """Send a completion request, and read the headers of the response."""
        content = json.dumps(body).encode()
        head = f"POST /v1/completions HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nContent-Type: application/json\r\n"
        self.writer.write(head.encode() + f"Content-Length: {len(content)}\r\n\r\n".encode() + content)
        answer = await self.reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer.decode())
        length = re.search(rb"(?i)content-length: (\d+)", answer)
        self.length = int(length[1]) if length else 0

    async def body(self) -> bytes:
        """Read a response of known length."""
        return await self.reader.readexactly(self.length)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks of a stream."""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readexactly(2)


async def frames(client: Client, max_tokens: int, seed: int, settings: dict[str, float]) -> AsyncIterator[tuple[float, int]]:
    """Yield the time and the characters of each frame of a stream."""
    await client.post({"model": "bench", "prompt": "The ", "max_tokens": max_tokens, "seed": seed, "stream": True} | settings)
    async for frame in client.chunks():
        if frame.startswith(b"data: {"):
            yield time.perf_counter(), len(json.loads(frame[6:])["choices"][0]["text"])


async def stream_for(url: str, seconds: float, seed: int, settings: dict[str, float]) -> list[tuple[float, int]]:
    """Return the frames of a stream that is left some seconds after its first frame, and has several."""
    found: list[tuple[float, int]] = []
    async with Client(url) as client:
        async for frame in frames(client, 1_000_000, seed, settings):
            found.append(frame)
            if frame[0] - found[0][0] > seconds and len(found) > 2:
                break
    return found


async def measure_streams(url: str, streams: int, seconds: float, has_own_settings: bool = False) -> dict[str, float]:
    """Return the speed of so many clients together, the times between frames, and how evenly they are served."""
    settings = [{"temperature": 0.5 + i / streams, "top_p": 1 - i / (4 * streams)} for i in range(streams)]
    found = await asyncio.gather(
        *(stream_for(url, seconds, seed, settings[seed] if has_own_settings else {}) for seed in range(streams))
    )
    first, last = max(rows[0][0] for rows in found), min(rows[-1][0] for rows in found)
    counts = [sum(count for when, count in rows if first < when <= last) for rows in found]
    gaps = sorted(later[0] - earlier[0] for rows in found for earlier, later in zip(rows, rows[1:], strict=False))
    return {
        "characters_per_second": sum(counts) / (last - first), "most_to_least": max(counts) / max(1, min(counts)),
        "frame_p50": gaps[len(gaps) // 2], "frame_p99": gaps[len(gaps) * 99 // 100],
    }  # fmt: skip


async def first_character(url: str, count: int = 50) -> float:
    """Return the median milliseconds to the first character of a stream."""
    times = []
    async with Client(url) as client:
        for seed in range(count):
            started, first = time.perf_counter(), 0.0
            async for when, size in frames(client, 20, seed, {}):
                first = first or when * bool(size)
            times.append(1000 * (first - started))
    return statistics.median(times)


async def requests_per_second(url: str, count: int, characters: int = 50) -> float:
    """Return how many requests are answered in a second, 64 at a time."""
    waiting = iter(range(count))

    async def worker() -> None:
        async with Client(url) as client:
            for seed in waiting:
                body: dict[str, object] = {"prompt": "The quick brown fox ", "max_tokens": characters}
                if ":8766" not in url:
                    body |= {"model": "bench", "seed": seed}
                await client.post(body)
                await client.body()

    started = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(STREAMS)))
    return count / (time.perf_counter() - started)


def measure_ours(path: Path, seconds: float, requests: int) -> None:
    """Print the figures of `unrolled serve`."""
    url = "http://127.0.0.1:8765"
    with running([sys.executable, "-m", "unrolled", "serve", str(path.parent), "--port", "8765"], url + "/health"):
        for streams in (STREAMS, 1):
            rounds = [
                (direct_speed(path, streams, seconds), asyncio.run(measure_streams(url, streams, seconds)))
                for _ in range(ROUNDS)
            ]
            direct = statistics.median(speed for speed, _ in rounds)
            served = {name: statistics.median(figures[name] for _, figures in rounds) for name in rounds[0][1]}
            share = statistics.median(figures["characters_per_second"] / speed for speed, figures in rounds)
            speeds = f"{served['characters_per_second']:,.0f} characters/s served, {direct:,.0f} without a server ({share:.0%})"
            gaps = f"p50 {served['frame_p50'] * 1000:.0f} ms, p99 {served['frame_p99'] * 1000:.0f} ms"
            print(f"{streams} streams: {speeds}; frames {gaps}; most to least {served['most_to_least']:.2f}", flush=True)
        own = [asyncio.run(measure_streams(url, STREAMS, seconds, True))["characters_per_second"] for _ in range(ROUNDS)]
        print(f"{STREAMS} streams with {STREAMS} settings: {statistics.median(own):,.0f} characters/s served", flush=True)
        print(f"first character: {asyncio.run(first_character(url)):.1f} ms", flush=True)
        rates = [asyncio.run(requests_per_second(url, requests)) for _ in range(ROUNDS)]
        print(f"{statistics.median(rates):,.0f} requests/s of 50 characters, 64 at a time", flush=True)
        figures = dict(re.findall(r"^unrolled_(\w+) (\S+)$", httpx.get(f"{url}/metrics", trust_env=False).text, re.M))
        print(f"resident memory {int(figures['resident_bytes']) / 1e6:.0f} MB", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--peer", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_ours(save_model(Path(folder)), arguments.seconds, arguments.requests)
    if arguments.peer:
        url = "http://127.0.0.1:8766"
        with running([arguments.peer, "-c", PEER, "8766"], url + "/docs"):
            rate = asyncio.run(requests_per_second(url, max(64, arguments.requests // 10)))
            print(f"{rate:,.1f} requests/s by FastAPI and nn.LSTM")


if __name__ == "__main__":
    main()
