"""The metrics of a run as arrays, read as its log grows, and reduced to as many points as a chart has pixels."""

from __future__ import annotations

import math
import os
import threading
from array import array
from collections.abc import Sequence
from operator import attrgetter
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]

READ_BYTES = 1 << 20
"""Bytes that are decoded at once: other threads wait for it, some milliseconds. Longer lines are left out."""


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
SLOW_BYTES, MAX_SLOW_LINES = 1 << 12, 1 << 14
"""Of more than `MANY_BYTES` of lines at once, slow columns are read of the line after each `SLOW_BYTES`, and of the last; of
a longer log, of about `MAX_SLOW_LINES`."""


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
                    self._read(file, stat.st_size - self._offset)
            except OSError:  # not there yet, or no longer
                self._reset()
            return len(self._steps) + len(self._validation) // 2

    def _read(self, file: IO[bytes], size: int) -> None:
        """Read `size` bytes that were added, all into one buffer: new ones take as long as to decode what is in them."""
        file.seek(self._offset)
        length, buffer = len(self._rest), bytearray(min(READ_BYTES, len(self._rest) + size))
        slow_bytes = max(SLOW_BYTES, size // MAX_SLOW_LINES)
        buffer[:length] = self._rest
        with memoryview(buffer) as view:
            while length < len(view) and (count := file.readinto(view[length:])):  # type: ignore[attr-defined]  # no text
                self._offset += count
                length += count
                stop = buffer.rfind(b"\n", 0, length) + 1
                self._add(view[:stop], _some_lines(buffer, stop, slow_bytes) if stop > MANY_BYTES else view[:stop])
                length -= stop
                buffer[:length] = buffer[stop : stop + length]
                length = 0 if length == READ_BYTES else length
            self._rest = bytes(view[:length])

    def _add(self, lines: memoryview, some_lines: memoryview | bytes) -> None:
        records, slow = _decode_lines(_losses, lines), _decode_lines(_slow, some_lines)
        steps = np.array([record.step for record in records])  # written out three times, which is faster than by name
        train_nats = np.array([record.train_nats for record in records], np.float64)
        val_nats = np.array([record.val_nats for record in records], np.float64)
        is_validation = (steps >= 0) & np.isfinite(val_nats)
        is_training = (steps >= 0) & np.isfinite(train_nats) & ~is_validation
        self._steps.frombytes(steps[is_training].tobytes())
        self._train_nats.frombytes(train_nats[is_training].tobytes())
        self._validation.frombytes(np.stack((steps, val_nats), 1)[is_validation].tobytes())
        for row in np.flatnonzero(~is_training & ~is_validation):
            if (nats := records[row].nats) is not None:
                self.baseline_nats = {name: value for name, value in nats.items() if math.isfinite(value)}
        seconds = _column(slow, "seconds")
        self._last_seconds = next((float(value) for value in seconds[::-1] if value == value), self._last_seconds)
        rows = (_column(slow, "step") >= 0) & np.isfinite(_column(slow, "train_nats"))
        for name, column in self._slow.items():
            column.frombytes(_column(slow, name)[rows].tobytes())

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


def _column(records: Sequence[_Record], name: str) -> Doubles:
    """Return one value of each record, NaN where it has none."""
    return np.array(list(map(attrgetter(name), records)), np.float64)


def _some_lines(buffer: bytearray, stop: int, distance: int) -> bytes:
    """Return, of the lines before `stop`, the first one, the first after each `distance` bytes, and the last one."""
    places = range(distance, stop, distance)
    last = buffer.rfind(b"\n", 0, stop - 1) + 1
    starts = sorted({0, last, *(min(last, buffer.find(b"\n", place) + 1) for place in places)})
    return b"".join(buffer[start : buffer.find(b"\n", start) + 1] for start in starts)


def _decode_lines(decoder: msgspec.json.Decoder[_Record], lines: memoryview | bytes) -> list[_Record]:
    """Return the records of lines; those that are damaged are left out."""
    try:
        return decoder.decode_lines(lines)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, RecursionError):
        records = []
        for line in bytes(lines).split(b"\n"):
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
