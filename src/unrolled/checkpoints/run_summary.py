"""Facts of a run folder that need no model to be loaded: for a list of runs. Nothing here needs torch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.checkpoints.run_dir import MODEL_FILE_NAME, JsonLinesLog, is_run_dir, is_table_run
from unrolled.display import Displayed, one_line
from unrolled.errors import StorageError

MAX_PATH_CHARS = 4096
"""Characters of a path in the table of runs: it is typed in other commands."""


@dataclass(frozen=True, repr=False)
class RunSummary(Displayed):
    """One run: its kind, what it was trained on, how far it came, and its lowest validation loss in nats per `loss_unit`."""

    path: str
    kind: str
    inputs: list[str]
    network: str
    steps: int
    val_nats: float | None
    has_model: bool
    changed: float
    loss_unit: str | None = None

    @property
    def facts(self) -> Mapping[str, object]:
        loss = self.loss_text or "unknown"
        return {"run": self.path, "kind": self.kind, "network": self.network, "steps": f"{self.steps:,}", "loss": loss}

    @property
    def loss_text(self) -> str:
        """The lowest validation loss for people, without a unit if it has none or none is known; empty if there is no loss."""
        unit = " nats" if self.loss_unit in ("character", "target") else ""
        return "" if self.val_nats is None else f"{self.val_nats:.4f}{unit}"

    def to_json(self) -> dict[str, Any]:
        """Return the summary as JSON values; `changed` is in seconds since 1970."""
        return dataclasses.asdict(self)


def summarize_runs(folder: Path) -> list[RunSummary]:
    """Return the runs in a folder, the newest first; the folder itself, if it is a run. What is no run is left out."""
    paths = [folder] if is_run_dir(folder) else [path for path in folder.iterdir() if path.is_dir()]
    summaries = [summary for path in paths if (summary := summarize_run(path)) is not None]
    return sorted(summaries, key=lambda summary: (-summary.changed, summary.path))


def summarize_run(path: Path) -> RunSummary | None:
    """Return the summary of a run folder; None if it is none, or its configuration cannot be read."""
    try:
        config: Any = json.loads((path / "config.json").read_text("utf-8"))
        options, inputs = dict(config["options"]), [str(name) for name in config["inputs"]]
        changed = max(entry.stat().st_mtime for entry in (path, *path.iterdir()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    records: list[dict[str, Any]] = []
    with contextlib.suppress(StorageError):
        records.extend(JsonLinesLog(path / "metrics.jsonl").read())
    losses = [record["val_nats"] for record in records if is_number(record.get("val_nats"))]
    is_table = is_table_run(inputs, options)
    return RunSummary(
        path=str(path),
        kind="table" if is_table else "text",
        inputs=inputs,
        network=f"{options.get('layers')}x{options.get('hidden')} {options.get('cell')}",
        steps=max((int(record["step"]) for record in records if is_number(record.get("step"))), default=0),
        val_nats=min(losses, default=None),
        has_model=(path / MODEL_FILE_NAME).is_file(),
        changed=changed,
        loss_unit=config.get("loss_unit", None if is_table else "character"),
    )


CURVE_KEYS = ("step", "epochs", "seconds", "train_nats", "val_nats", "lr", "gradient_norm", "tokens_per_second")
"""What `loss_curve` tells of a step: the keys of metrics.jsonl, without those that follow from the others."""


def loss_curve(records: Iterable[Mapping[str, Any]]) -> list[dict[str, float | None]]:
    """Return the records of metrics.jsonl by step: one dictionary for all that is known of it, None for what is not.

    Example:
        >>> loss_curve([{"step": 10, "train_nats": 3.0}, {"step": 10, "val_nats": 2.5}])[0]["val_nats"]
        2.5
    """
    points: dict[int, dict[str, float | None]] = {}
    for record in records:
        values = {key: record[key] for key in CURVE_KEYS if is_number(record.get(key))}
        if "step" in values and len(values) > 1 and record.get("event") not in ("baselines", "rollback"):
            points.setdefault(values["step"], dict.fromkeys(CURVE_KEYS)).update(values)
    return [points[step] for step in sorted(points)]


def table_of_runs(summaries: list[RunSummary]) -> str:
    """Return the runs as a table of text."""
    rows = [["run", "kind", "network", "steps", "val loss", "changed", "trained on"]]
    for run in summaries:
        changed = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.changed))
        inputs = one_line(", ".join(Path(name).name for name in run.inputs), 40)
        rows.append(
            [one_line(run.path, MAX_PATH_CHARS), run.kind, run.network, f"{run.steps:,}", run.loss_text or "-", changed, inputs]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def is_number(value: Any) -> bool:
    """Return whether a value of a record is a finite number that can be computed with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and math.isfinite(value)
