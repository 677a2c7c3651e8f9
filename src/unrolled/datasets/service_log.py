"""A simulated log of a storage service: interleaved sessions of 20 kinds of lines, with anomalies of five kinds, labeled.

It is what the search for unusual lines is tested and measured on. The same seed gives the same log.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

ANOMALIES = ("unknown", "order", "missing", "repeated", "value")
"""The kinds: a line of no known kind, two lines in the wrong order, a line before which another is missing, a line that comes
again and again, and a word that does not fit the session."""

NORMAL = "normal"
ROLES = {"read": "reader", "write": "writer", "delete": "owner"}
MAX_OPEN_SESSIONS = 30

KEY_PATTERN = r"\[(\w+)\]"
"""The pattern of the key of a session, for `--group-by`."""


class LogLine(NamedTuple):
    """A line of the log, and its label: `normal`, or one of `ANOMALIES`."""

    text: str
    label: str


class _Step(NamedTuple):
    text: str
    label: str = NORMAL
    may_repeat: bool = False
    """Whether the step may come several times in a normal session, or not at all."""


def service_log(num_lines: int, seed: int = 1, anomaly_rate: float = 0.0) -> Iterator[LogLine]:
    """Yield the lines of a log.

    Args:
        num_lines: Number of lines.
        seed: Seed of all random numbers.
        anomaly_rate: Fraction of the sessions that have an anomaly, of a kind drawn at random.

    Example:
        >>> log = list(service_log(3000, seed=3, anomaly_rate=0.1))
        >>> log[0].text
        '2026-03-01 12:00:00.031 INFO [3bfd1d33] gateway: session open plan=read client=152.140.34.95:55908'
        >>> sorted({line.label for line in log})
        ['missing', 'normal', 'order', 'repeated', 'unknown', 'value']
    """
    draw = random.Random(seed)
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    sessions: list[tuple[str, list[_Step]]] = []
    for _ in range(num_lines):
        if not sessions or len(sessions) < MAX_OPEN_SESSIONS and draw.random() < 0.15:
            steps = _session(draw)
            if draw.random() < anomaly_rate:
                steps = _with_anomaly(steps, draw.choice(ANOMALIES), draw)
            sessions.append((f"{draw.getrandbits(32):08x}", steps[::-1]))
        index = draw.randrange(len(sessions))
        key, rest = sessions[index]
        step = rest.pop()
        if not rest:
            sessions.pop(index)
        now += timedelta(milliseconds=1 + draw.randrange(40) * (len(sessions) < MAX_OPEN_SESSIONS // 2))
        level = "WARN" if step.may_repeat and "timeout" in step.text else "INFO"
        yield LogLine(f"{now:%Y-%m-%d %H:%M:%S}.{now.microsecond // 1000:03} {level} [{key}] {step.text}", step.label)


def _session(draw: random.Random) -> list[_Step]:
    """Return the steps of a normal session."""
    plan = draw.choice(tuple(ROLES))
    address = ".".join(str(draw.randrange(1, 255)) for _ in range(4))
    token = uuid.UUID(int=draw.getrandbits(128))
    work = {"read": _read, "write": _write, "delete": _delete}[plan](draw)
    return [
        _Step(f"gateway: session open plan={plan} client={address}:{draw.randrange(1024, 65536)}"),
        _Step(f"auth: token {token} accepted for role={ROLES[plan]}"),
        *work,
        _Step(f"gateway: session closed after {draw.randrange(5, 9000)} ms"),
    ]


def _timeout(draw: random.Random) -> list[_Step]:
    if draw.random() > 0.03:
        return []
    return [_Step(f"storage: timeout after {draw.randrange(1000, 3000)} ms, trying again", may_repeat=True)]


def _file(draw: random.Random) -> str:
    return f"/srv/disk{draw.randrange(8)}/{draw.choice(('blocks', 'index', 'parts'))}/{draw.getrandbits(24):06x}.bin"


def _read(draw: random.Random) -> list[_Step]:
    size = draw.randrange(100, 1 << 20)
    if draw.random() < 0.7:
        found = [_Step(f"cache: hit, {size} bytes")]
    else:
        found = [
            _Step("cache: miss"),
            *_timeout(draw),
            _Step(f"storage: read block {draw.randrange(10**6)} from {_file(draw)}"),
            _Step(f"storage: {size} bytes in {draw.randrange(1, 90)}.{draw.randrange(10)} ms"),
            _Step(f"cache: store {size} bytes"),
        ]
    return [_Step(f"cache: lookup key={draw.getrandbits(64):016x}"), *found, _Step(f"gateway: response 200 OK, {size} bytes")]


def _write(draw: random.Random) -> list[_Step]:
    transaction = f"0x{draw.getrandbits(40):010x}"
    blocks = [
        _Step(f"storage: write block {draw.randrange(10**6)} to {_file(draw)}", may_repeat=True)
        for _ in range(draw.randrange(1, 4))
    ]
    return [
        _Step(f"queue: job {draw.randrange(10**6)} enqueued"),
        _Step(f"storage: begin transaction {transaction}"),
        *_timeout(draw),
        *blocks,
        _Step(f"storage: commit transaction {transaction}"),
        _Step(f"replica: copied to node {draw.randrange(5)} in {draw.randrange(1, 200)} ms"),
        _Step("gateway: response 201 Created"),
    ]


def _delete(draw: random.Random) -> list[_Step]:
    transaction = f"0x{draw.getrandbits(40):010x}"
    return [
        _Step(f"storage: begin transaction {transaction}"),
        *_timeout(draw),
        _Step(f"storage: delete block {draw.randrange(10**6)} of {_file(draw)}"),
        _Step(f"storage: commit transaction {transaction}"),
        _Step(f"cache: invalidate key={draw.getrandbits(64):016x}"),
        _Step("gateway: response 204 No Content"),
    ]


def _with_anomaly(steps: list[_Step], kind: str, draw: random.Random) -> list[_Step]:
    """Return the steps of a session with an anomaly; the lines that show it have its kind as their label."""
    steps = list(steps)
    inner = [i for i in range(1, len(steps) - 1) if not steps[i].may_repeat]
    if kind == "unknown":
        address = f"0x{draw.getrandbits(48):012x}"
        steps.insert(
            draw.randrange(1, len(steps)), _Step(f"worker: segfault at {address} in thread {draw.randrange(64)}", kind)
        )
    elif kind == "order":
        first = draw.choice([i for i in inner if i + 1 in inner])
        steps[first : first + 2] = [_Step(steps[first + 1].text, kind), _Step(steps[first].text, kind)]
    elif kind == "missing":
        gone = draw.choice([i for i in inner if not steps[i + 1].may_repeat])
        steps[gone : gone + 2] = [_Step(steps[gone + 1].text, kind)]
    elif kind == "repeated":
        again = draw.choice(inner)
        steps[again + 1 : again + 1] = [_Step(steps[again].text, kind)] * draw.randrange(1, 4)
    else:
        wrong = draw.choice([role for role in ROLES.values() if not steps[1].text.endswith(role)])
        steps[1] = _Step(steps[1].text.rpartition("=")[0] + f"={wrong}", kind)
    return steps
