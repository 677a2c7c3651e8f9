"""`GET /metrics`: figures of the server in Prometheus' text format."""

from __future__ import annotations

import time
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from unrolled.server.services import Services


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 where there is no /proc."""
    try:
        fields = Path("/proc/self/statm").read_text("ascii").split()
        return int(fields[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0


async def metrics(request: Request) -> Response:
    """Answer `GET /metrics` with figures of the engine and the process, in Prometheus' text format."""
    services: Services = request.app.state.services
    counts = services.engine.counts
    figures = [
        ("requests_total", "counter", "Completions that were accepted.", services.num_requests),
        ("tokens_total", "counter", "Tokens that were drawn.", counts.tokens),
        ("prompt_tokens_total", "counter", "Tokens of prompts that were read.", counts.prompt_tokens),
        ("blocks_total", "counter", "Blocks of tokens that were drawn.", counts.blocks),
        ("engine_busy_seconds_total", "counter", "Time in which the engine was at work.", round(counts.busy_seconds, 3)),
        ("lanes", "gauge", "Samples that are being drawn.", services.engine.num_lanes),
        ("queued_requests", "gauge", "Prompts that wait for a lane.", services.engine.num_queued),
        ("states", "gauge", "States of clients in memory.", len(services.states)),
        ("event_streams", "gauge", "Clients that follow runs.", services.num_event_streams),
        ("resident_bytes", "gauge", "Resident memory of the server.", resident_bytes()),
        ("uptime_seconds", "gauge", "Time since the server started.", round(time.time() - services.started, 3)),
    ]
    lines = [
        f"# HELP unrolled_{name} {text}\n# TYPE unrolled_{name} {kind}\nunrolled_{name} {value}\n"
        for name, kind, text, value in figures
    ]
    return Response("".join(lines), media_type="text/plain; version=0.0.4")
