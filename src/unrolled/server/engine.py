"""The engine: one thread that reads prompts and draws the samples of all requests, a few milliseconds at a time.

Samples join and leave between blocks of tokens (continuous batching), and a prompt is read in pieces, so that no request waits
for a long one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from unrolled.nn.unit_clamp import Clamp
from unrolled.server.http_errors import ApiError
from unrolled.server.lane_groups import Sampler
from unrolled.server.lanes import Lane, RowState
from unrolled.server.limits import MAX_LANES, MAX_QUEUED

logger = logging.getLogger(__name__)

BLOCK_SECONDS = 0.010
"""Time of one block of all samples: what a new request waits for at most, before it is its turn."""

MIN_BLOCK_STEPS, MAX_BLOCK_STEPS = 8, 64
"""With fewer, what Python does for each row and block would take longer than the steps, on a machine that is busy elsewhere."""

MIN_PIECE_STEPS = 16
"""Steps of a piece of prompts that are read together: what Python does for a piece takes as long as some of them."""

READ_SECONDS = 0.004
"""Time in which prompts are read between two blocks."""

PAUSE_SECONDS = 0.01
"""Seconds between checks of samples whose readers are all behind."""


@dataclass(eq=False)
class Job:
    """Samples that continue one prompt: `ids` `(T,)` of it are still to be read, from `state` on."""

    sampler: Sampler
    lanes: list[Lane]
    state: RowState
    ids: npt.NDArray[np.int64]
    tail: int = field(init=False)

    def __post_init__(self) -> None:
        self.tail = self.sampler.tail_length(len(self.ids))

    @property
    def num_unread(self) -> int:
        """Ids that are read before the samples begin."""
        return len(self.ids) - self.tail


@dataclass
class EngineCounts:
    """What the engine has done since it started."""

    tokens: int = 0
    prompt_tokens: int = 0
    blocks: int = 0
    busy_seconds: float = 0.0


class Engine:
    """Draws the samples of all requests in a thread of its own. `close` ends it."""

    def __init__(self) -> None:
        self.counts = EngineCounts()
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._reading: deque[Job] = deque()
        self._groups: dict[tuple[int, tuple[Clamp, ...], bool], tuple[Sampler, list[Lane]]] = {}
        self._cancelled: dict[Lane, str] = {}
        self._is_closed = False
        self._step_seconds: dict[tuple[int, int], float] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_queued(self) -> int:
        """Requests that wait for a lane."""
        return len(self._queue)

    @property
    def num_lanes(self) -> int:
        """Samples that are being read or drawn."""
        return sum(len(lanes) for _, lanes in list(self._groups.values())) + sum(len(job.lanes) for job in list(self._reading))

    def submit(self, jobs: list[Job]) -> None:
        """Queue the samples of one request. Raises `ApiError` 429 if too many wait already."""
        with self._changed:
            if self._is_closed:
                raise ApiError(503, "The server is being stopped.", code="stopping")
            if len(self._queue) + len(jobs) > MAX_QUEUED:
                raise ApiError(
                    429, f"{MAX_QUEUED} requests are waiting already: send this one again later.", code="queue_full",
                    headers={"retry-after": "1"},
                )  # fmt: skip
            self._queue.extend(jobs)
            self._changed.notify()

    def cancel(self, lanes: list[Lane], reason: str = "cancelled") -> None:
        """End samples before the next block, also if they are still queued."""
        with self._changed:
            self._cancelled.update((lane, reason) for lane in lanes if not lane.finish_reason)
            self._changed.notify()

    def cancel_all(self, reason: str) -> None:
        """Accept no more requests, and end all samples."""
        with self._changed:
            self._is_closed = True
            lanes = [lane for job in (*self._queue, *self._reading) for lane in job.lanes]
            lanes += [lane for _, group in list(self._groups.values()) for lane in group]
        self.cancel(lanes, reason)

    def close(self) -> None:
        """End the thread, and the samples that it still draws."""
        self.cancel_all("cancelled")
        self._thread.join()

    def _run(self) -> None:
        while self._wait():
            started = time.perf_counter()
            self._admit()
            self._read_prompts()
            was_drawn = self._draw_blocks()
            self.counts.busy_seconds += time.perf_counter() - started
            if not was_drawn and not self._reading:
                time.sleep(PAUSE_SECONDS)

    def _wait(self) -> bool:
        """Wait for work; return whether there is any. Cancelled samples are taken out here."""
        with self._changed:
            while True:
                cancelled, self._cancelled = self._cancelled, {}
                if cancelled:
                    self._remove(cancelled)
                if self._queue or self._reading or self._groups:
                    return True
                if self._is_closed:
                    return False
                self._changed.wait()

    def _remove(self, cancelled: dict[Lane, str]) -> None:
        for lane, reason in cancelled.items():
            lane.finish(reason)
        for jobs in (self._queue, self._reading):
            for job in jobs:
                job.lanes = [lane for lane in job.lanes if lane not in cancelled]
        self._queue = deque(job for job in self._queue if job.lanes)
        self._reading = deque(job for job in self._reading if job.lanes)
        self._drop_finished()

    def _drop_finished(self) -> None:
        for key, (sampler, lanes) in list(self._groups.items()):
            left = [lane for lane in lanes if not lane.finish_reason]
            if not left:
                del self._groups[key]
            elif len(left) < len(lanes):
                self._groups[key] = (sampler, left)

    def _admit(self) -> None:
        with self._changed:
            num_lanes = self.num_lanes
            while self._queue and num_lanes + len(self._queue[0].lanes) <= MAX_LANES:
                job = self._queue.popleft()
                num_lanes += len(job.lanes)
                self._reading.append(job)

    def _read_prompts(self) -> None:
        """Read prompts in turns, piece by piece, for a short time; one piece at least."""
        deadline = time.perf_counter() + READ_SECONDS
        while self._reading:
            jobs = self._next_to_read()
            try:
                self._read_piece(jobs)
                self._begin([job for job in jobs if not job.num_unread])
            except Exception:
                logger.exception("prompts could not be read")
                self._fail([lane for job in jobs for lane in job.lanes])
                self._drop_finished()
                jobs_left = []
            else:
                jobs_left = [job for job in jobs if job.num_unread]
            # They stay in the queue while they are read, so that other threads see and cancel them; now they go to its end.
            self._reading = deque([*(job for job in self._reading if job not in jobs), *jobs_left])
            if time.perf_counter() > deadline:
                break

    def _next_to_read(self) -> list[Job]:
        """Return the first prompt, and those that can be read in one call with it."""
        sampler, filters = self._reading[0].sampler, self._reading[0].lanes[0].filters
        compatible = [job for job in self._reading if job.sampler is sampler and job.lanes[0].filters.clamps == filters.clamps]
        return compatible[: sampler.max_rows]

    def _read_piece(self, jobs: list[Job]) -> None:
        """Read a piece of prompts, as long as the shortest of them at most."""
        unread = [job for job in jobs if job.num_unread]
        if not unread:
            return
        sampler = unread[0].sampler
        size = min(max(MIN_PIECE_STEPS, sampler.piece_tokens // len(unread)), *(job.num_unread for job in unread))
        pieces = np.stack([job.ids[:size] for job in unread], axis=1)
        states = sampler.read_pieces([job.state for job in unread], pieces, unread[0].lanes[0].filters)
        for job, state in zip(unread, states, strict=True):
            job.state, job.ids = state, job.ids[size:]
        self.counts.prompt_tokens += pieces.size

    def _begin(self, jobs: list[Job]) -> None:
        """Let the samples of prompts that are read begin."""
        for job in jobs:
            job.sampler.start(job.lanes, job.state, job.ids)
            key = (id(job.sampler), *job.lanes[0].filters.group)
            _, lanes = self._groups.get(key, (job.sampler, []))
            self._groups[key] = (job.sampler, lanes + job.lanes)

    def _draw_blocks(self) -> bool:
        """Draw a block for each group; return whether there was anything to draw."""
        was_drawn = False
        for key, (sampler, lanes) in list(self._groups.items()):
            ready = [lane for lane in lanes if not lane.output.is_full]
            if not ready:
                continue
            was_drawn = True
            steps = self._block_steps(key[0], ready)
            started = time.perf_counter()
            try:
                sampler.draw(ready, steps)
            except Exception:
                logger.exception("samples could not be drawn")
                self._fail(lanes)
            self._learn_speed(key[0], len(ready), steps, time.perf_counter() - started)
            self.counts.tokens += steps * len(ready)
            self.counts.blocks += 1
        self._drop_finished()
        return was_drawn

    def _block_steps(self, sampler_id: int, lanes: list[Lane]) -> int:
        step_seconds = self._step_seconds.get((sampler_id, len(lanes).bit_length()), BLOCK_SECONDS / 4)
        fitting = int(BLOCK_SECONDS / len(self._groups) / step_seconds)
        left = max(lane.max_tokens - lane.position for lane in lanes)
        return min(max(fitting, MIN_BLOCK_STEPS), MAX_BLOCK_STEPS, left)

    def _learn_speed(self, sampler_id: int, rows: int, steps: int, seconds: float) -> None:
        """Keep a running mean of the time of a step, by the number of rows."""
        if len(self._step_seconds) > 1000:
            self._step_seconds.clear()
        key = (sampler_id, rows.bit_length())
        last = self._step_seconds.get(key, seconds / steps)
        self._step_seconds[key] = 0.8 * last + 0.2 * seconds / steps

    def _fail(self, lanes: list[Lane]) -> None:
        for lane in lanes:
            lane.finish("error")
