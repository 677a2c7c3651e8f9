"""The run folder: configuration, logs, samples, the best model, and checkpoints to go on from.

runs/NAME/
  config.json          everything the run was asked to do
  metrics.jsonl        a line per interval and per validation
  samples.jsonl        what the model wrote at each validation
  tensorboard/         a copy of the two for TensorBoard, if that was asked for (tensorboard.py)
  model.safetensors    the best model so far: all that is needed to use it
  checkpoints/step-N/  model.safetensors, training.safetensors, MANIFEST.json: an exact resume; the last two are kept
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unrolled.atomic_io import TMP_MARK, atomic_dir, make_dir, remove_dir, remove_tmp, storage_error, write_atomic
from unrolled.checkpoints.format_1 import upgrade_config
from unrolled.datasets.base_models import base_model_path
from unrolled.datasets.stdlib import PREFIX
from unrolled.display import shell_argument
from unrolled.errors import ModelError, UsageError, did_you_mean
from unrolled.options import TrainRequest

if TYPE_CHECKING:  # the models of a run are read and written with torch, the folder is not
    from torch import Tensor

    from unrolled.checkpoints.model_file import ModelFile

MODEL_FILE_NAME, TRAINING_FILE_NAME = "model.safetensors", "training.safetensors"
_ESCAPED_CHARACTERS = re.compile("[\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]")

MAX_MANIFEST_BYTES = 1 << 16
NO_CHECKPOINT = "it stopped before its first checkpoint. Train it again"

RUNS_FOLDER = Path("runs")
"""Where runs are made, unless a folder is named."""

MAX_CHECKPOINTS = 2
"""Checkpoints kept: if the last is damaged, there is the one before."""


class Run:
    """A run folder that exists. `create` and `open` are the two ways to one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_descriptor: int | None = None
        self.model_path = path / MODEL_FILE_NAME
        self.metrics = JsonLinesLog(path / "metrics.jsonl")
        self.samples = JsonLinesLog(path / "samples.jsonl")

    def __repr__(self) -> str:
        return f"<unrolled.Run {self.path}>"

    @staticmethod
    def create(path: Path, config: dict[str, Any]) -> Run:
        """Make a new run folder, locked. One that has a checkpoint, or that another process trains, is never overwritten."""
        require_free(path)
        make_dir(path / "checkpoints")
        run = Run(path)
        run.lock()
        try:
            require_free(path)  # again: another process may have trained it until now
            for log in (run.metrics, run.samples):
                log.clear()
            run.write_config(config)
        except BaseException:
            run.unlock()
            raise
        return run

    def lock(self) -> None:
        """Lock the run for this process, and remove the incomplete files that a killed one left.

        Raises `UsageError` if another process is training it.
        """
        if self._lock_descriptor is None:
            self._acquire_lock()
            try:
                for folder in (self.path, self.path / "checkpoints"):
                    remove_tmp(folder)
            except OSError as error:
                self.unlock()
                raise storage_error(error, self.path, "look into") from error

    def _acquire_lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows: two trainings of one run are the user's to avoid
            return
        try:
            self._lock_descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise storage_error(error, self.path, "open") from error
        try:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.unlock()
            raise UsageError(f"{self.path} is being trained by another process. Wait for it, or start a new run.") from error

    def unlock(self) -> None:
        """Let other processes train the run again."""
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    @staticmethod
    def open(path: Path) -> Run:
        """Open a run folder. Raises `ModelError` if there is none at `path`."""
        if not is_run_dir(path):
            raise ModelError(f"{path} is no run folder: it has no config.json{_suggest_runs(path)}")
        return Run(path)

    @property
    def config(self) -> dict[str, Any]:
        """What the run was asked to do."""
        path = self.path / "config.json"
        try:
            config = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise storage_error(error, path, "read") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{path} cannot be read: {error}.") from error
        if not isinstance(config, dict):
            raise ModelError(f"{path} is no JSON object.")
        return config if config.get("format", 1) != 1 else upgrade_config(config)

    def write_config(self, config: dict[str, Any]) -> None:
        """Replace the configuration."""
        write_atomic(self.path / "config.json", (json.dumps(config, indent=2) + "\n").encode())

    def save_best(self, model_file: ModelFile) -> None:
        """Replace the run's model."""
        from unrolled.checkpoints.model_file import save_model

        save_model(self.model_path, model_file)

    def checkpoints(self) -> list[tuple[int, Path]]:
        """Return the checkpoints as `(step, folder)`, the oldest first."""
        folder = self.path / "checkpoints"
        try:
            names = os.listdir(folder) if folder.is_dir() else []
        except OSError as error:
            raise storage_error(error, folder, "look into") from error
        return sorted((int(name[5:]), folder / name) for name in names if name.startswith("step-") and name[5:].isdecimal())

    def save_checkpoint(self, step: int, model_file: ModelFile, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Write a checkpoint atomically, then remove all but the last `MAX_CHECKPOINTS`.

        Args:
            step: Training steps so far; the folder is `checkpoints/step-N`.
            model_file: The model as it is now, which is not the best one.
            tensors: What a resume needs besides: the state of the optimizer, carried states, sums for the log.
            metadata: The same as JSON values: the `TrainerState`.
        """
        from unrolled.checkpoints.model_file import save_checked, save_model

        with atomic_dir(self.path / "checkpoints" / f"step-{step}") as folder:
            save_model(folder / MODEL_FILE_NAME, model_file)
            save_checked(folder / TRAINING_FILE_NAME, tensors, {"kind": "training", **metadata})
            digests = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
            write_atomic(folder / "MANIFEST.json", json.dumps({"step": step, "sha256": digests}).encode())
        for _, path in self.checkpoints()[:-MAX_CHECKPOINTS]:
            remove_dir(path)

    def load_checkpoint(self) -> tuple[ModelFile, dict[str, Tensor], dict[str, Any], list[str]]:
        """Return model, tensors and state of the last undamaged checkpoint, and a message for each one that was skipped."""
        from unrolled.checkpoints.model_file import load_checked, load_model

        skipped: list[str] = []
        for step, folder in reversed(self.checkpoints()):
            try:
                _check_manifest(step, folder)
                tensors, metadata = load_checked(folder / TRAINING_FILE_NAME)
                return load_model(folder / MODEL_FILE_NAME), tensors, metadata, skipped
            except ModelError as error:
                skipped.append(f"Passed over a damaged checkpoint: {error}")
        reasons = "".join(f" {reason}" for reason in skipped)
        way_out = "start a new run with another --out." if skipped else f"{NO_CHECKPOINT}: --out {shell_argument(self.path)}"
        raise ModelError(f"{self.path} has no checkpoint to go on from: {way_out}{reasons}")


def is_run_dir(path: Path) -> bool:
    """Return whether a folder is a run folder: it has a `config.json`."""
    return os.path.isfile(path / "config.json")  # `Path.is_file` raises for a name that is too long


def is_table_run(inputs: Iterable[str], options: Mapping[str, Any]) -> bool:
    """Return whether a run with these inputs and settings trains on columns of a table, not on a text."""
    if options.get("source") is not None and (options.get("target") is not None or options.get("horizon") is not None):
        return True
    builtin = [name for name in inputs if name.startswith(PREFIX)]
    if not builtin:
        return False
    from unrolled.datasets.tables import is_builtin_table  # not at the top: it imports numpy, which a list does not need

    return any(map(is_builtin_table, builtin))


def run_of_model(model_path: Path) -> Run | None:
    """Return the run folder that a model file is in; None for a file elsewhere."""
    return Run(model_path.parent) if is_run_dir(model_path.parent) else None


def model_name(model_path: Path, run: Run | None) -> str:
    """Return the name of the run of a model, or of its file without a run."""
    return model_path.stem if run is None else run.path.resolve().name


def _check_manifest(step: int, folder: Path) -> None:
    """Raise `ModelError` unless a checkpoint is of this step and complete, with the very files that were written together."""
    manifest = folder / "MANIFEST.json"
    try:
        if not manifest.is_file() or manifest.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError("no manifest")
        content = json.loads(manifest.read_text("utf-8"))
        digests = dict(content["sha256"])
        if content["step"] != step or digests.keys() != {MODEL_FILE_NAME, TRAINING_FILE_NAME}:
            raise ValueError("of something else")
        for name, digest in digests.items():
            if not (folder / name).is_file() or _sha256(folder / name) != digest:
                raise ModelError(f"{folder / name} does not match its MANIFEST.")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{folder} has no readable MANIFEST.json.") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_started_run(request: TrainRequest) -> Path | None:
    """Return the run that these processes began before torchrun restarted them; None if it has no checkpoint yet."""
    if request.run.out:
        run_dirs = [Path(request.run.out)]
    else:
        run_dirs = sorted(
            RUNS_FOLDER.glob(f"{_run_name(request.inputs)}*"), key=lambda path: path.stat().st_mtime, reverse=True
        )
    return next((path for path in run_dirs if Run(path).checkpoints()), None)


def unused_run_dir(inputs: tuple[str, ...]) -> Path:
    """Return `runs/NAME` with the name of the first input, and a number appended if it exists."""
    stem = _run_name(inputs)
    path = RUNS_FOLDER / stem
    number = 2
    while path.exists():
        path = RUNS_FOLDER / f"{stem}-{number}"
        number += 1
    return path


def _run_name(inputs: tuple[str, ...]) -> str:
    """Return the name of a run, from its first input."""
    name = inputs[0]
    stem = name.removeprefix(PREFIX) if name.startswith(PREFIX) else Path(name).absolute().name.split(".")[0]
    return {"-": "stdin"}.get(name, stem) or "text"


def require_free(path: Path) -> None:
    """Raise `UsageError` if there is something at `path`, other than a run that never got as far as a checkpoint."""
    if not path.exists():
        return
    try:
        is_unfinished_run = path.is_dir() and all(name == "checkpoints" or TMP_MARK in name for name in os.listdir(path))
    except OSError as error:
        raise storage_error(error, path, "look into") from error
    if not is_run_dir(path) and not is_unfinished_run:
        raise UsageError(f"{path} exists already, and is no run. Choose another --out.")
    if (path / MODEL_FILE_NAME).exists() or Run(path).checkpoints():
        raise UsageError(f"{path} exists already. Choose another --out, or go on with it: --resume {shell_argument(path)}")


def find_model(path: Path) -> Path:
    """Return the model file that `RUN` names: a run folder, a checkpoint's folder, a model file, or `builtin:NAME`."""
    if str(path).startswith(PREFIX):
        return base_model_path(str(path))
    if os.path.isfile(path):  # `Path.is_file` raises for a name that is too long
        if _is_text(path):
            raise ModelError(f"{path} is a text, and a run folder or model file is expected: {_train_command(path)} makes one.")
        return path
    if os.path.isfile(path / MODEL_FILE_NAME):
        return path / MODEL_FILE_NAME
    if is_run_dir(path):
        if next(path.glob(f"checkpoints/*/{MODEL_FILE_NAME}"), None) is not None:
            resumed = f"unrolled train --resume {shell_argument(path)}"
            raise ModelError(f"{path} has checkpoints, but its {MODEL_FILE_NAME} is missing: {resumed} writes it at the end.")
        raise ModelError(f"{path} has no model yet: {NO_CHECKPOINT}: --out {shell_argument(path)}")
    raise ModelError(f"{path} is no run folder and no model file{_suggest_runs(path)}")


def _suggest_runs(path: Path) -> str:
    if inside := _runs_in(path):
        return f", but has some: name one, as in {shell_argument(path / inside[0])}."
    if is_run_dir(named := RUNS_FOLDER / path):
        return f"; did you mean {shell_argument(named)}?"
    names = _runs_in(path.parent)
    if names:
        return did_you_mean(path.name, names) or f". Runs there: {', '.join(names[:5])}."
    if os.path.isdir(path):
        return f": {_train_command(path)} makes one."
    return ". unrolled list shows the runs." if RUNS_FOLDER.is_dir() else ": unrolled train FILE makes one."


def _train_command(path: Path) -> str:
    return f"unrolled train {shell_argument(path)}"


def _is_text(path: Path) -> bool:
    """Return whether a file begins with text in UTF-8; a model file begins with the length of its header in 8 bytes."""
    with open(path, "rb") as file:
        head = file.read(64)
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return bool(text) and "\0" not in text and not head.startswith(b"PK")


def _runs_in(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return sorted(run.name for run in folder.iterdir() if is_run_dir(run))
    return []


class LogListener(Protocol):
    """Receives the changes of a log, to keep a copy."""

    def on_append(self, record: dict[str, Any]) -> None:
        """Is called after a record was written to the log."""
        ...

    def on_truncate(self) -> None:
        """Is called after records were removed."""
        ...


class JsonLinesLog:
    """A log with one JSON object per line, which grows while training goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listener: LogListener | None = None

    def append(self, record: dict[str, Any]) -> None:
        """Append one record and flush it, so that a killed process loses at most its last line."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(_encode_line(record))
        except OSError as error:
            raise storage_error(error, self.path, "write") from error
        if self.listener is not None:
            self.listener.on_append(record)

    def clear(self) -> None:
        """Remove all records."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self.path, "remove") from error

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield the records; a truncated or damaged line is skipped."""
        if not self.path.is_file():  # a device would never end
            return
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    with contextlib.suppress(ValueError, RecursionError):
                        record = json.loads(line)
                        if isinstance(record, dict):
                            yield record
        except OSError as error:
            raise storage_error(error, self.path, "read") from error

    def truncate_after(self, step: int, is_dropped: Callable[[dict[str, Any]], bool] = lambda record: False) -> None:
        """Drop the records after `step`, and those of which `is_dropped` is true: a resumed run writes them again."""
        records = (record for record in self.read() if _record_step(record) <= step and not is_dropped(record))
        write_atomic(self.path, "".join(map(_encode_line, records)).encode())
        if self.listener is not None:
            self.listener.on_truncate()


def _record_step(record: dict[str, Any]) -> float:
    step = record.get("step", 0)
    return step if isinstance(step, int | float) else math.inf


def _encode_line(record: dict[str, Any]) -> str:
    """Return a record as one line of JSON; other line ends of Unicode (U+2028 ...) and lone surrogates are escaped."""
    text = json.dumps(record, ensure_ascii=False)
    return _ESCAPED_CHARACTERS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
