"""The process with torch that predicts with models of tables, started when it is first asked for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from unrolled.server.catalog import ModelEntry
from unrolled.server.http_errors import ApiError

WORKER_SECONDS = 300.0
MAX_ANSWER_BYTES = 64 << 20
ATTENTION_ROWS = 5
"""Most rows of a request whose attention is reported."""


class TableWorker:
    """The process that predicts. It answers one request at a time, and is started again if it has ended."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def predict(self, entry: ModelEntry, values: list[Any], charts: bool = False) -> dict[str, Any]:
        """Return the answers to source values, or to the rows of series, and, if they are asked for, charts of series.

        Raises `ApiError` for what the model cannot read.
        """
        request = {"values": values, "attention": len(values) <= ATTENTION_ROWS, "charts": charts}
        return await self._answer(entry, request, "rows")

    async def predict_file(self, entry: ModelEntry, path: Path, charts: bool = False) -> dict[str, Any]:
        """Return what `unrolled predict` prints for a file as `csv`, its messages as `notes`, and charts as `predict` does.

        Raises `ApiError` for what the model cannot read.
        """
        return await self._answer(entry, {"file": str(path.resolve()), "charts": charts}, "upload")

    async def _answer(self, entry: ModelEntry, request: dict[str, Any], param: str) -> dict[str, Any]:
        request["path"] = str(entry.path.resolve())
        async with self._lock:
            try:
                async with asyncio.timeout(WORKER_SECONDS):
                    answer = await self._ask(json.dumps(request).encode() + b"\n")
            except (OSError, ValueError, TimeoutError, asyncio.CancelledError) as error:
                await self.close()  # its answer would be taken for that of the next request
                if isinstance(error, asyncio.CancelledError):
                    raise
                raise ApiError(503, "The process that predicts has failed: try again.", code="worker_failed") from error
        if "error" in answer:
            raise ApiError(400, str(answer["error"]), param)
        if "failure" in answer:
            raise ApiError(500, f"The prediction failed: {answer['failure']}.")
        return answer

    async def _ask(self, line: bytes) -> dict[str, Any]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "unrolled.server.table_worker",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MAX_ANSWER_BYTES, start_new_session=True,
            )  # fmt: skip
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise OSError("no pipes")
        stdin.write(line)
        await stdin.drain()
        return dict(json.loads(await stdout.readline()))

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
