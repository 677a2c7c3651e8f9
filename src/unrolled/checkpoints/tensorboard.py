"""A run's logs for TensorBoard (`--log-to tensorboard`): RUN/tensorboard holds what metrics.jsonl and samples.jsonl say.

The events are a copy of the two logs. When a run goes on, the copy is made anew from the logs, which by then end at the
checkpoint: no step is there twice, and what a killed process left half-written is gone. Only the package's own records are
used, not torch's writer, which imports TensorFlow where that is installed, and starts a thread.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unrolled.atomic_io import make_dir, storage_error, write_atomic
from unrolled.checkpoints.run_dir import JsonLinesLog, Run
from unrolled.errors import UsageError

SCALARS = {
    "train": {
        "train_nats": "loss/train",
        "lr": "training/learning_rate",
        "tokens_per_second": "training/tokens_per_second",
        "gradient_norm": "training/gradient_norm",
        "epochs": "training/epochs",
    },
    "validation": {"val_nats": "loss/validation", "val_bits": "loss/validation_bits"},
}
"""What is drawn of each kind of record in metrics.jsonl, and under which name. Losses are in nats per character."""


def require_tensorboard() -> None:
    """Raise `UsageError` if the package tensorboard is not installed."""
    try:
        import tensorboard.compat.proto.event_pb2
        import tensorboard.summary.writer.record_writer  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise UsageError("--log-to tensorboard needs the package tensorboard: pip install 'unrolled[log]'") from error


class TensorBoardWriter:
    """The events of one run. It follows the run's logs: every record that is added to them is added here.

    Nothing is written, and no old events are removed, before the first record comes.
    """

    def __init__(self, run: Run) -> None:
        require_tensorboard()
        self._run, self._folder = run, run.path / "tensorboard"
        self._path: Path | None = None
        for log in (run.metrics, run.samples):
            log.listener = self

    def on_append(self, record: dict[str, Any]) -> None:
        """Write the events of a record that was added to a log."""
        if self._path is None:
            self._rewrite()
            return
        try:
            with open(self._path, "ab") as file:
                file.write(_encode_record(record, time.time()))
        except OSError as error:
            raise storage_error(error, self._path, "write") from error

    def on_truncate(self) -> None:
        """Forget what was written: the logs were cut back to an earlier step."""
        self._path = None

    def _rewrite(self) -> None:
        """Write all that the logs hold, the last record just now, into a new file in place of the ones before."""
        make_dir(self._folder)
        old_files = list(self._folder.glob("*tfevents*"))
        records = sorted(_records(self._run.metrics, self._run.samples), key=lambda record: int(record["step"]))
        now, last = time.time(), max((float(record["seconds"]) for record in records), default=0.0)
        content = _header_events(now) + b"".join(_encode_record(record, now - last + record["seconds"]) for record in records)
        self._path = self._folder / f"events.out.tfevents.{time.time_ns()}.unrolled"
        write_atomic(self._path, content)
        for path in old_files:
            path.unlink(missing_ok=True)


def _records(*logs: JsonLinesLog) -> Iterator[dict[str, Any]]:
    for log in logs:
        yield from (record for record in log.read() if all(isinstance(record.get(n), int | float) for n in ("step", "seconds")))


def _encode_record(record: dict[str, Any], wall_time: float) -> bytes:
    """Return a record of a log as an event; empty if TensorBoard has nothing to show of it."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    tags = SCALARS.get(str(record.get("event")), {})
    values = [Summary.Value(tag=tag, simple_value=record[n]) for n, tag in tags.items() if isinstance(record.get(n), float)]
    if "event" not in record and isinstance(record.get("text"), str):
        values.append(_text_value("sample", record["text"]))
    return _encode_event(Event(wall_time=wall_time, step=int(record["step"]), summary=Summary(value=values))) if values else b""


def _text_value(tag: str, text: str) -> Any:
    """Return a text as TensorBoard shows one: as Markdown, so that an indented block keeps the lines as they are."""
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
    from tensorboard.compat.proto.types_pb2 import DT_STRING

    block = "".join(f"    {line}\n" for line in text.split("\n"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype=DT_STRING, string_val=[block.encode("utf-8", "replace")], tensor_shape=shape)
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def _header_events(wall_time: float) -> bytes:
    """Return the first events of a file: its version, and the request to drop what was read from earlier files."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(wall_time=wall_time, step=0, session_log=SessionLog(status=SessionLog.START))
    return _encode_event(Event(wall_time=wall_time, file_version="brain.Event:2")) + _encode_event(start)


def _encode_event(event: Any) -> bytes:
    """Return an event as a record of the file, with its length and checks."""
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    RecordWriter(buffer).write(event.SerializeToString())
    return buffer.getvalue()
