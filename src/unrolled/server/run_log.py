"""The metrics of a run as arrays, read as its log grows, and reduced to as many points as a chart has pixels."""

from __future__ import annotations

import math
import os
import threading
from array import array
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

READ_BYTES = 1 << 20
"""Bytes that are decoded at once: other threads wait for it, some milliseconds."""

MAX_LINE_BYTES = 1 << 20


class _Losses(msgspec.Struct, gc=False):
    """What is read of every line of metrics.jsonl; any of it may be missing."""

    step: float = math.nan
    train_nats: float | None = None
    val_nats: float | None = None
    nats: dict[str, float] | None = None


class _Slow(msgspec.Struct, gc=False):
    """What changes slowly. Of many lines it is read of some: of all, it would take longer than the losses."""

    step: float = math.nan
    train_nats: float | None = None
    tokens_per_second: float | None = None
    gradient_norm: float | None = None
    lr: float | None = None
    seconds: float | None = None
    epochs: float | None = None


_Record = TypeVar("_Record", _Losses, _Slow)
_losses, _slow = msgspec.json.Decoder(_Losses), msgspec.json.Decoder(_Slow)
SLOW_COLUMNS = ("step", "tokens_per_second", "gradient_norm", "lr", "seconds", "epochs")
MANY_BYTES = 1 << 18
SLOW_BYTES = 1 << 12
"""Of more than `MANY_BYTES` of lines at once, slow columns are read of the line after each `SLOW_BYTES`, and of the last."""


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
        self._last_seconds = math.nan
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
        records = [record for record in _decode_lines(_losses, lines) if record.step >= 0]
        training = [record for record in records if record.train_nats is not None and record.val_nats is None]
        _extend(self._steps, [record.step for record in training])
        _extend(self._train_nats, [record.train_nats or 0.0 for record in training])
        for slow in _decode_lines(_slow, lines if len(lines) <= MANY_BYTES else _some_lines(lines)):
            if slow.seconds is not None:
                self._last_seconds = slow.seconds
            if slow.train_nats is not None and slow.step >= 0:
                for name, column in self._slow.items():
                    column.append(_number(getattr(slow, name)))
        if len(training) < len(records):
            for record in records:
                if record.nats is not None:
                    self.baseline_nats = {name: nats for name, nats in record.nats.items() if math.isfinite(nats)}
                if record.val_nats is not None:
                    self._validation.extend((record.step, record.val_nats))

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
            values["seconds"] = self._last_seconds
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


def _extend(column: array[float], values: list[float]) -> None:
    """Append values to a column; twice as fast as `extend`."""
    column.frombytes(np.array(values, np.float64).tobytes())


def _some_lines(lines: bytes) -> bytes:
    """Return the first line, the first one after each `SLOW_BYTES`, and the last one."""
    places = range(SLOW_BYTES, len(lines), SLOW_BYTES)
    starts = sorted({0, lines.rfind(b"\n") + 1, *(lines.find(b"\n", place) + 1 for place in places)})
    return b"\n".join(lines[start : stop if (stop := lines.find(b"\n", start)) >= 0 else None] for start in starts)


def _decode_lines(decoder: msgspec.json.Decoder[_Record], lines: bytes) -> list[_Record]:
    """Return the records of lines; those that are damaged are left out."""
    try:
        return decoder.decode_lines(lines)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError):
        records = []
        for line in lines.split(b"\n"):
            try:
                records.append(decoder.decode(line))
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
