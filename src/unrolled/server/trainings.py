"""Trainings that the server starts, pauses and stops. Each is a process of its own: `unrolled train`."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.atomic_io import storage_error
from unrolled.checkpoints.run_dir import is_run_dir, require_free
from unrolled.datasets.base_models import base_model_path
from unrolled.datasets.stdlib import PREFIX
from unrolled.display import printable
from unrolled.errors import UnrolledError, UsageError
from unrolled.flag_names import with_keywords
from unrolled.options import OPTION_CLASSES, TrainRequest, flag_name, present_names
from unrolled.server.catalog import Catalog
from unrolled.server.http_errors import ApiError
from unrolled.server.ids import ID_RULE, is_id, to_id
from unrolled.server.requests import TrainRequestBody
from unrolled.server.runs import RunList
from unrolled.server.uploads import WORK_FOLDER, Uploads

MAX_COLUMNS = 500
"""Columns of an uploaded table that are listed."""

MAX_TRAININGS = 4
"""Trainings that the server has running at the same time."""

_FIELDS = [field for kind in OPTION_CLASSES for field in dataclasses.fields(kind)]
NOT_OVER_HTTP = {field.name for field in _FIELDS if field.metadata["reads"] or field.metadata["writes"]} | {
    "cell_files", "encoding", "glob", "threads", "device",
}  # fmt: skip
"""Settings that name files, or belong to the machine of the server; `threads` and `device` are those of the server."""

INSTEAD_OVER_HTTP = {
    "out": "the field name is the name of the run",
    "encoding": "send the text or table as UTF-8",
    "glob": "it chooses files of a folder, and one file is sent",
    **dict.fromkeys(("threads", "device"), "the server's command line has it"),
}
"""What to do instead of some of these settings."""

MAX_LOG_BYTES = 65536
END_SECONDS = 20.0
ENDED_WELL = (None, 0, 130, 143)
"""Exit codes of a training that goes on, is done, or was stopped."""


@dataclass
class Training:
    """A training that was started here."""

    run_id: str
    path: Path
    process: subprocess.Popen[bytes]
    log_path: Path
    started: float
    is_starting: bool = True
    """Whether it was neither seen at work nor stopped yet."""

    @property
    def is_alive(self) -> bool:
        """Whether its process has not ended."""
        return self.process.poll() is None

    def error(self) -> str | None:
        """Return why it failed; None if it did not."""
        code = self.process.poll()
        if code is not None and code < 0:
            return f"The training was ended by signal {-code} of the system."
        return None if code in ENDED_WELL else with_keywords(self.last_line())

    def last_line(self) -> str:
        """Return the last line that it printed, in which an upload has the name that it came with."""
        try:
            text = self.log_path.read_bytes()[-MAX_LOG_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            return ""
        last = text.splitlines()[-1].removeprefix("unrolled: ") if text else ""
        return printable(without_upload_folder(last, self.log_path.parent))


def without_upload_folder(text: str, work_folder: Path) -> str:
    """Return a message in which each uploaded file has the name that it came with."""
    return re.sub(re.escape(str(work_folder.resolve())) + "/upload-[0-9a-f]{16}/", "", text)


class Trainings:
    """The trainings of a folder of runs.

    Args:
        folder: Where new runs and uploads are written.
        catalog: Has the run folders by id.
        runs: Knows the processes of trainings, also of those that the command line started.
    """

    def __init__(self, folder: Path, catalog: Catalog, runs: RunList) -> None:
        self.folder, self.catalog, self.runs = folder, catalog, runs
        self.uploads = Uploads(folder)
        self._started: dict[str, Training] = {}

    def columns(self, upload_id: str) -> dict[str, Any]:
        """Return the columns of an uploaded table, and which are suggested as source and target, if there are two.

        What is no table that can be read is removed, and an `ApiError`.
        """
        from unrolled.tables.suggested_columns import suggest_columns
        from unrolled.tables.table_files import open_table

        try:
            table = open_table(str(self.uploads.path(upload_id).resolve()))
            suggested = suggest_columns(table) or ()
            return {"columns": list(table.columns[:MAX_COLUMNS]), **dict(zip(("source", "target"), suggested, strict=False))}
        except UnrolledError as error:
            self.uploads.remove(upload_id)
            message = without_upload_folder(with_keywords(str(error)), self.folder / WORK_FOLDER)
            raise ApiError(400, printable(message), "name") from error

    def start(self, body: TrainRequestBody) -> str:
        """Start a training; return the id of its run. Raises `ApiError` and `UsageError` for what cannot be trained."""
        if (body.text is None) is (body.upload is None):
            raise ApiError(400, "One of text and upload is expected: what is learned from.", "text")
        self._drop_ended()
        if sum(training.is_alive for training in self._started.values()) >= MAX_TRAININGS:
            raise ApiError(
                429, f"{MAX_TRAININGS} trainings of this server are running already: stop one.", code="too_many_trainings",
                headers={"retry-after": "60"},
            )  # fmt: skip
        if not self.catalog.has_folder:
            raise ApiError(409, "This server has the runs that were named only: start it without RUN to train new ones.")
        options = present_names(body.options, OPTION_CLASSES)
        flags = ["--no-cell-files", *self._base_flags(options.pop("init_from", None)), *training_flags(options)]
        if body.upload is not None and body.upload.startswith("builtin:"):
            source = body.upload
        elif body.upload is not None:
            source = str(self.uploads.path(body.upload).resolve())
        else:
            source = str(self._write_text(body.text or "").resolve())
        run_id = self._run_name(body.name, source)
        arguments = [source, "--out", str(self.folder / run_id), *flags]
        return self._spawn(run_id, arguments)

    def resume(self, run_id: str) -> str:
        """Let a paused training go on, or continue one that was stopped; return what was done."""
        training = self._started.get(run_id)
        if training is not None and training.is_alive and training.is_starting:
            pid: int | None = training.process.pid
        else:
            pid = self.runs.pid(self.catalog.run_folder(run_id))
        if pid is None:
            if training is not None:
                self._wait_for_end(training)
            self._spawn(run_id, ["--resume", str(self.catalog.run_folder(run_id))])
        else:
            _signal(pid, signal.SIGCONT)
        return "running"

    def _wait_for_end(self, training: Training) -> None:
        """Wait for a training that has released its run folder and is about to end."""
        try:
            training.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise ApiError(409, "The training before has not ended yet: try it again in some seconds.", "id") from error

    def pause(self, run_id: str) -> str:
        """Pause a training where it is; it keeps its memory."""
        _signal(self._pid(run_id), signal.SIGSTOP)
        return "paused"

    def stop(self, run_id: str) -> str:
        """Let a training save and end, as Ctrl-C does."""
        pid = self._pid(run_id)
        if run_id in self._started:
            self._started[run_id].is_starting = False
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGCONT)  # a paused one has to wake up for it
        return "stopped"

    def without_folder(self) -> list[dict[str, Any]]:
        """Return the trainings that have no run folder: they are about to begin, or failed."""
        self._drop_ended()
        found: list[dict[str, Any]] = []
        for training in self._started.values():
            code = training.process.poll()
            if is_run_dir(training.path) or code == 0:
                continue
            error = None if code is None else training.error() or training.last_line()
            found.append({
                "id": training.run_id, "status": "starting" if code is None else "dead", "kind": None, "steps": 0,
                "total_steps": None, "started": training.started, "changed": training.started, "command": "",
                "loss": None, "validation_loss": None, "unit": None, "baselines": {}, "tokens_per_second": None,
                "eta_seconds": None, "has_model": False, "error": error,
            })  # fmt: skip
        return found

    def add_process(self, run: dict[str, Any]) -> dict[str, Any]:
        """Return a run of the list with what only its process knows: that it starts, or why it failed."""
        training = self._started.get(run["id"])
        if training is None:
            return {**run, "error": None}
        training.is_starting &= run["status"] not in ("running", "paused") and training.is_alive
        return {**run, "status": "starting" if training.is_starting else run["status"], "error": training.error()}

    def _pid(self, run_id: str) -> int:
        training = self._started.get(run_id)
        if training is not None and training.is_alive and training.is_starting:
            return training.process.pid
        pid = self.runs.pid(self.catalog.run_folder(run_id))
        if pid is None:
            raise ApiError(409, "No training of this run is running.", "id", "not_running")
        return pid

    def _run_name(self, name: str | None, source: str) -> str:
        base = name.strip() if name else to_id(Path(source).name.split(".")[0].removeprefix("builtin:"), "run")
        if not is_id(base):
            raise ApiError(400, f"name is the name of a run folder: it has {ID_RULE}.", "name")
        number, run_id = 1, base
        while name is None and ((self.folder / run_id).exists() or run_id in self._started):  # one that starts has no folder
            number += 1
            run_id = f"{base}-{number}"
        if run_id in self._started and self._started[run_id].is_alive:
            raise ApiError(409, "There is a run with this name already: choose another.", "name")
        try:
            require_free(self.folder / run_id)
        except UsageError as error:
            raise ApiError(409, "There is a run with this name already: choose another.", "name") from error
        return run_id

    def _base_flags(self, base: Any) -> list[str]:
        """Return the flag of the model whose weights a training starts from: `none`, `builtin:NAME`, or its id here."""
        if base is None:
            return []
        if not isinstance(base, str):
            raise ApiError(400, "options: from is the id of a model, and a string is expected.", "options")
        if base.startswith(PREFIX):
            base_model_path(base)
        elif base != "none":
            base = str(self.catalog.entry(base, "text").path.resolve())
        return [f"--from={base}"]

    def _write_text(self, text: str) -> Path:
        if not text.strip():
            raise ApiError(400, "The text is empty: there is nothing to learn from.", "text")
        with self.uploads.receive("text.txt") as path:
            try:
                path.write_text(text, "utf-8", errors="replace", newline="")
            except OSError as error:
                raise storage_error(error, path, "write") from error
            return self.uploads.path(self.uploads.keep(path))

    def _spawn(self, run_id: str, arguments: list[str]) -> str:
        log_path = self.uploads.work_folder / f"{run_id}.log"
        environment = {**os.environ, "NO_COLOR": "1"}
        try:
            with open(log_path, "wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-m", "unrolled", "train", *arguments],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                    start_new_session=True,  # Ctrl-C at the server does not stop it
                )  # fmt: skip
        except OSError as error:
            raise storage_error(error, log_path, "start a training with") from error
        self._started[run_id] = Training(run_id, self.folder / run_id, process, log_path, time.time())
        return run_id

    def _drop_ended(self) -> None:
        """Forget trainings that ended well, and the oldest of those that failed."""
        ended = [name for name, training in self._started.items() if not training.is_alive]
        for name in ended:
            if self._started[name].process.poll() == 0 or len(self._started) > 100:
                del self._started[name]


def training_flags(options: dict[str, Any]) -> list[str]:
    """Return settings of `unrolled train` by name as its flags. Raises `UsageError` for what is no such setting."""
    options = {name: value for name, value in present_names(options, OPTION_CLASSES).items() if value is not None}
    refused = next((name for name in options if name in NOT_OVER_HTTP), None)
    if refused is not None:
        to_do = INSTEAD_OVER_HTTP.get(refused, "it names files of the server, and clients name none: leave it out")
        raise UsageError(f"options: {refused} cannot be set here; {to_do}.")
    TrainRequest.build((), options, "options").check()
    flags = []
    for name, value in options.items():
        flag = flag_name(name, value)
        if isinstance(value, bool):
            flags.append(flag)
        elif isinstance(value, list):
            flags += [f"{flag}={part}" for part in value]
        else:
            flags.append(f"{flag}={value}")
    return flags


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        try:
            os.kill(pid, number)
        except PermissionError as error:
            raise ApiError(403, "The training belongs to another user of this machine.") from error
