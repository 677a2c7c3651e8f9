"""What the routes of one server share."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from unrolled.server.catalog import Catalog
from unrolled.server.engine import Engine
from unrolled.server.lanes import Lane
from unrolled.server.limits import FRAME_SECONDS, MAX_FRAMES_PER_SECOND
from unrolled.server.runs import RunList
from unrolled.server.states import StateStore
from unrolled.server.table_process import TableWorker
from unrolled.server.trainings import Trainings


@dataclass
class Services:
    """Models, engine, states and running requests of one server."""

    catalog: Catalog
    engine: Engine
    runs: RunList
    trainings: Trainings
    max_upload: int = 256 << 20
    """Bytes of an uploaded file."""

    states: StateStore = field(default_factory=StateStore)
    completions: dict[str, list[Lane]] = field(default_factory=dict)
    """The samples of the requests that are being answered, by the id of the request."""

    heavy_work: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    """Requests that read whole texts outside the engine run one at a time."""

    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    """At most two requests read logs at the same time."""

    table_worker: TableWorker = field(default_factory=TableWorker)
    file_worker: TableWorker = field(default_factory=TableWorker)
    """Predicts the rows of files, so that a form does not wait for them."""

    is_stopping: bool = False
    num_event_streams: int = 0
    num_requests: int = 0
    started: float = field(default_factory=time.time)

    @property
    def frame_seconds(self) -> float:
        """Shortest time between two frames of a stream, by the number of samples that are drawn."""
        return max(FRAME_SECONDS, self.engine.num_lanes / MAX_FRAMES_PER_SECOND)

    def count_request(self) -> None:
        """Count a completion."""
        self.num_requests += 1

    def stop_streams(self) -> None:
        """End streams of events, which have no end of their own."""
        self.is_stopping = True

    async def close(self) -> None:
        """End the engine and the processes that predict; trainings go on."""
        self.stop_streams()
        await asyncio.gather(self.table_worker.close(), self.file_worker.close())
        await asyncio.to_thread(self.engine.close)


def make_services(catalog: Catalog, folder: Path, max_upload: int) -> Services:
    """Return the services of a catalog; new runs are written into a folder."""
    runs = RunList(catalog)
    return Services(catalog, Engine(), runs, Trainings(folder, catalog, runs), max_upload)
