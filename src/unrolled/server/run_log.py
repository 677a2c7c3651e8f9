"""The metrics of a run as arrays, read as its log grows, and reduced to as many points as a chart has pixels."""

from __future__ import annotations

import math
import os
import threading
from array import array
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

READ_BYTES = 8 << 20
MAX_LINE_BYTES = 1 << 20


class _Record(msgspec.Struct, gc=False):
    """The parts of a line of metrics.jsonl that charts show; any of them may be missing."""

    step: float = math.nan
    train_nats: float | None = None
    val_nats: float | None = None
    tokens_per_second: float | None = None
    gradient_norm: float | None = None
    lr: float | None = None
    seconds: float | None = None
    epochs: float | None = None
    nats: dict[str, float] | None = None


_decoder = msgspec.json.Decoder(_Record)
SLOW_COLUMNS = ("step", "tokens_per_second", "gradient_norm", "lr", "seconds", "epochs")
"""What changes slowly, and is kept of one record in `SLOW_STRIDE` when many are read at once: of a log of a million lines, each
column costs 0.2 seconds."""

SLOW_STRIDE = 16
MANY_RECORDS = 1000


class RunLog:
    """The training and validation losses of one run.

    Args:
        path: metrics.jsonl.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._inode, self._offset, self._rest = 0, 0, b""
        self._steps, self._train_nats = array("d"), array("d")
        self._slow = {name: array("d") for name in SLOW_COLUMNS}
        self._validation = array("d")
        self._last_validation_seconds = math.nan
        self.baseline_nats: dict[str, float] = {}
        """Losses of simple models, which were measured before the training, by name."""

    def update(self) -> int:
        """Read what was added to the log; return its number of records. A log that was cut is read again."""
        with self._lock:
            try:
                with open(self.path, "rb") as file:
                    stat = os.fstat(file.fileno())
                    if stat.st_ino != self._inode or stat.st_size < self._offset:
                        self._reset()
                        self._inode = stat.st_ino
                    file.seek(self._offset)
                    while chunk := file.read(READ_BYTES):
                        self._offset += len(chunk)
                        whole, _, rest = (self._rest + chunk).rpartition(b"\n")
                        self._rest = rest if len(rest) <= MAX_LINE_BYTES else b""
                        self._add(whole)
            except OSError:  # not there yet, or no longer
                self._reset()
            return len(self._steps) + len(self._validation) // 2

    def _add(self, lines: bytes) -> None:
        records = [record for record in _decode_lines(lines) if record.step >= 0]
        training = [record for record in records if record.train_nats is not None and record.val_nats is None]
        self._steps.extend([record.step for record in training])
        self._train_nats.extend([record.train_nats or 0.0 for record in training])
        sampled = training[:: SLOW_STRIDE if len(training) > MANY_RECORDS else 1]
        for name, column in self._slow.items():
            column.extend([_number(getattr(record, name)) for record in sampled])
        if len(training) < len(records):
            for record in records:
                if record.nats is not None:
                    self.baseline_nats = {name: nats for name, nats in record.nats.items() if math.isfinite(nats)}
                if record.val_nats is not None:
                    self._validation.extend((record.step, record.val_nats))
                    self._last_validation_seconds = _number(record.seconds)

    @property
    def last(self) -> dict[str, float]:
        """The values of the last record, those that are known; `val_nats` is the lowest validation loss."""
        with self._lock:
            values = {name: column[-1] for name, column in self._slow.items() if column}
            if self._steps:
                values |= {"step": self._steps[-1], "train_nats": self._train_nats[-1]}
            if self._validation:
                values["val_nats"] = float(np.nanmin(np.array(self._validation[1::2])))
                values["step"] = max(values.get("step", 0.0), self._validation[-2])
                values["seconds"] = max(values.get("seconds", 0.0), self._last_validation_seconds)
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def reduced(self, num_columns: int, first_step: float, scale: float) -> dict[str, Any]:
        """Return the smallest and the largest training loss of each of `num_columns` equal ranges of steps.

        Ranges without a record are left out. Losses are multiplied by `scale`. Of the validation losses, at most as many are
        returned: the smallest of each range.
        """
        with self._lock:
            steps, losses = np.array(self._steps), np.array(self._train_nats)
            slow = {name: np.array(column) for name, column in self._slow.items()}
            validation = np.array(self._validation).reshape(-1, 2)
        losses, steps = losses[steps >= first_step], steps[steps >= first_step]
        validation = validation[validation[:, 0] >= first_step]
        last_step = max(steps.max(initial=first_step), validation[:, 0].max(initial=first_step))
        borders = np.linspace(first_step, last_step, num_columns + 1)[:-1]
        starts = _range_starts(steps, borders)
        return {
            "step": steps[starts].tolist(),
            "train_min": _numbers(_reduce(np.fmin, losses, starts) * scale),
            "train_max": _numbers(_reduce(np.fmax, losses, starts) * scale),
            "validation": [[step, nats * scale] for step, nats in _smallest(validation, borders)],
            **{name: _numbers(_at_steps(slow, name, steps[starts])) for name in SLOW_COLUMNS[1:]},
        }


def _at_steps(slow: dict[str, Doubles], name: str, steps: Doubles) -> Doubles:
    """Return the values of a column at steps, of the record at or before each."""
    if not len(slow["step"]):
        return np.zeros(0)
    rows = np.searchsorted(slow["step"], steps, side="right") - 1
    values: Doubles = slow[name][np.maximum(rows, 0)]
    return values


def _smallest(validation: Doubles, borders: Doubles) -> list[tuple[float, float]]:
    """Return the step and the loss of the smallest validation loss of each range of steps."""
    starts = _range_starts(validation[:, 0], borders)
    stops = np.append(starts[1:], len(validation))[: len(starts)]
    rows = [start + int(validation[start:stop, 1].argmin()) for start, stop in zip(starts, stops, strict=True)]
    return [(float(validation[row, 0]), float(validation[row, 1])) for row in rows]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _decode_lines(lines: bytes) -> list[_Record]:
    """Return the records of lines; those that are damaged are left out."""
    try:
        return _decoder.decode_lines(lines)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError):
        records = []
        for line in lines.split(b"\n"):
            try:
                records.append(_decoder.decode(line))
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError):
                continue
        return records


def _range_starts(steps: Doubles, borders: Doubles) -> npt.NDArray[np.int64]:
    """Return the first row of each range of steps that has any. Steps increase."""
    return np.flatnonzero(np.diff(np.searchsorted(borders, steps, side="right"), prepend=-1))


def _reduce(function: np.ufunc, values: Doubles, starts: npt.NDArray[np.int64]) -> Doubles:
    result: Doubles = function.reduceat(values, starts) if len(starts) else np.zeros(0)
    return result


def _numbers(values: Doubles) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values.tolist()]
