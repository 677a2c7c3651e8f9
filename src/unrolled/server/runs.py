"""The trainings of a folder: which process works on each, how far it is, and what it has logged."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unrolled.checkpoints.array_file import read_header
from unrolled.checkpoints.run_dir import MODEL_FILE_NAME, is_table_run
from unrolled.errors import UnrolledError
from unrolled.flag_names import flag_name
from unrolled.server.catalog import Catalog
from unrolled.server.run_log import RunLog

LOCK_LINE = re.compile(r"^\d+: FLOCK\s+\S+\s+WRITE\s+(\d+)\s+\S+:(\d+)\s", re.M)


def lock_owners() -> dict[int, int]:
    """Return the processes that hold a lock on a file or folder, by its inode: a training locks its run folder.

    Trying the lock instead would disturb a training that starts at the same moment. Empty where there is no /proc/locks.
    """
    try:
        locks = Path("/proc/locks").read_text("ascii", "replace")
    except OSError:
        return {}
    return {int(inode): int(pid) for pid, inode in LOCK_LINE.findall(locks)}


def is_stopped(pid: int) -> bool:
    """Return whether a process is paused by a signal."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


class RunFacts:
    """One run folder: its request, read once, and its log."""

    def __init__(self, path: Path) -> None:
        self.path, self.log = path, RunLog(path / "metrics.jsonl")
        self._config: dict[str, Any] = {}
        self._config_time = 0.0
        self._model_header: dict[str, Any] | None = None
        self._model_time = 0

    @property
    def config(self) -> dict[str, Any]:
        """What is in config.json; empty if it cannot be read."""
        try:
            changed = (self.path / "config.json").stat().st_mtime
            if changed != self._config_time:
                config = json.loads((self.path / "config.json").read_text("utf-8"))
                self._config, self._config_time = config if isinstance(config, dict) else {}, changed
        except (OSError, ValueError, RecursionError):
            self._config = {}
        return self._config

    @property
    def options(self) -> dict[str, Any]:
        """The settings that the run was started with."""
        options = self.config.get("options")
        return options if isinstance(options, dict) else {}

    @property
    def is_table(self) -> bool:
        """Whether the run learns a column of a table, or forecasts one."""
        inputs = [str(name) for name in self.config.get("inputs", []) if isinstance(name, str)]
        return is_table_run(inputs, self.options)

    @property
    def unit(self) -> tuple[str, float]:
        """The unit of losses, and what nats are multiplied by for it."""
        unit = self.config.get("loss_unit", None if self.is_table else "character")  # older runs do not say it
        if unit == "number":
            return "of scaled numbers", 1.0
        return (f"bits per {unit}", 1 / math.log(2)) if unit in ("character", "target") else ("", 1.0)

    def fraction(self, last: Mapping[str, float]) -> float:
        """Return the fraction of the budget that is used; 0 if it is not known."""
        used = {"steps": last.get("step", 0), "epochs": last.get("epochs", 0), "minutes": last.get("seconds", 0) / 60}
        for name, value in used.items():
            budget = self.options.get(name)
            if isinstance(budget, int | float) and budget > 0:
                return min(1.0, value / budget)
        return 0.0

    def command(self) -> str:
        """Return the command that starts the same training."""
        words = ["unrolled", "train", *map(str, self.config.get("inputs", []))]
        explicit = self.config.get("explicit_options")
        for name in explicit if isinstance(explicit, list) else []:
            value = self.options.get(str(name))
            flag = flag_name(str(name), value)
            if isinstance(value, bool):
                words.append(flag)
            elif value is not None:
                for part in value if isinstance(value, list) else [value]:
                    words += [flag, f"{part:.12g}" if isinstance(part, float) else str(part)]
        return shlex.join(words)

    def to_json(self, run_id: str, pid: int | None) -> dict[str, Any]:
        """Return the run for a list. `pid` is the process that trains it, if there is one."""
        self.log.update()
        last, (unit, scale) = self.log.last, self.unit
        fraction, seconds = self.fraction(last), last.get("seconds", 0.0)
        total = round(last.get("step", 0) / fraction) if fraction > 0 else None
        budget = self.options.get("steps")
        steps = max(0, int(last.get("step", 0)), self._last_checkpoint())
        header = self._header()
        status = self._status(pid, header, last)
        started = self._time_of("config.json")
        return {
            "id": run_id, "status": status, "kind": "table" if self.is_table else "text",
            "steps": steps, "total_steps": budget if isinstance(budget, int) else total,
            "started": started, "changed": self._time_of("metrics.jsonl") or started, "command": self.command(),
            "loss": _scaled(last.get("train_nats"), scale), "validation_loss": _scaled(last.get("val_nats"), scale),
            "unit": unit, "baselines": self._baselines(header, scale),
            "tokens_per_second": last.get("tokens_per_second"),
            "eta_seconds": seconds / fraction - seconds if status in ("running", "paused") and fraction > 0 else None,
            "has_model": header is not None,
        }  # fmt: skip

    def _header(self) -> dict[str, Any] | None:
        path = self.path / MODEL_FILE_NAME
        try:
            changed = path.stat().st_mtime_ns
            if changed != self._model_time:
                self._model_header, self._model_time = read_header(path)[0], changed
            return self._model_header
        except (UnrolledError, OSError):
            return None

    def _status(self, pid: int | None, header: dict[str, Any] | None, last: Mapping[str, float]) -> str:
        if pid is not None:
            return "paused" if is_stopped(pid) else "running"
        history = (header or {}).get("history")
        if isinstance(history, dict) and history.get("diagnosis") is not None:
            return "finished"
        return "stopped" if self._last_checkpoint() >= last.get("step", 0) else "dead"

    def _last_checkpoint(self) -> int:
        """Return the step of the last checkpoint: one that was stopped has it at its last step, a killed one has not."""
        try:
            names = os.listdir(self.path / "checkpoints")
        except OSError:
            return -1
        return max((int(name[5:]) for name in names if name.startswith("step-") and name[5:].isdecimal()), default=-1)

    def _baselines(self, header: dict[str, Any] | None, scale: float) -> dict[str, float]:
        """Return the losses of simple models: those of the log, and of the uniform distribution over the characters of a text.

        Losses are per character, and how many tokens of another kind a character has is not known here.
        """
        measured = {name: nats * scale for name, nats in self.log.baseline_nats.items()}
        tokenizer = (header or {}).get("tokenizer")
        tokens = tokenizer.get("tokens") if isinstance(tokenizer, dict) and tokenizer.get("kind") == "characters" else None
        if self.is_table or not isinstance(tokens, str | list):
            return measured
        return {"uniform": math.log(max(1, len(tokens))) * scale, **measured}

    def _time_of(self, name: str) -> float | None:
        try:
            return (self.path / name).stat().st_mtime
        except OSError:
            return None


class RunList:
    """All runs of a catalog, each with its log in memory once it was asked for."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._facts: dict[Path, RunFacts] = {}

    def facts(self, path: Path) -> RunFacts:
        """Return the facts of a run folder."""
        return self._facts.setdefault(path, RunFacts(path))

    def pid(self, path: Path, owners: Mapping[int, int] | None = None) -> int | None:
        """Return the process that trains a run, or None."""
        try:
            return (lock_owners() if owners is None else owners).get(path.stat().st_ino)
        except OSError:
            return None

    def to_json(self) -> list[dict[str, Any]]:
        """Return all runs, the newest first."""
        owners = lock_owners()
        runs = [self.facts(path).to_json(run_id, self.pid(path, owners)) for run_id, path in self.catalog.run_folders().items()]
        return sorted(runs, key=lambda run: (-(run["started"] or 0), run["id"]))


def _scaled(nats: float | None, scale: float) -> float | None:
    return None if nats is None else nats * scale
