"""Encoding of a large text by several processes in one work folder, which can be resumed after a kill.

    KEY.partial-shards/
        plan.json      where shards begin
        ids.bin        the ids of all shards, each written at its place
        N.count.json   the record of shard N after it was counted: statistics and characters
        N.write.json   the record of shard N after its ids were written: statistics and CRC-32
        N.lock         held by the process that works on shard N; the system releases it when that process dies
        users.lock     held by all processes that wait for the text
        finish.lock    held by the process that renames the folder to the entry of the cache

A process that opens the text starts workers on the other cores, does the shards whose lock is free, and waits for those of
other processes (other ranks, or other machines with the same disk). On a system without file locks, shards may be done twice,
with the same result. Each waiting process raises the error of the first shard that has one; a worker exits at its first error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.atomic_io import TMP_MARK, atomic_dir, commit_dir, file_lock, has_file_locks, storage_error, write_atomic
from unrolled.errors import DataError, StorageError, UnrolledError
from unrolled.options import DataOptions
from unrolled.text import shards
from unrolled.text.fingerprint import DAMAGED_AT_ONCE, TEXT_CHANGED, stat_files
from unrolled.text.text_encoder import CorpusStats, FileSlice, TextEncoder, fit_tokenizer, merge_stats, require_nonempty
from unrolled.text.tokenizer import Tokenizer
from unrolled.text.tokenizers import tokenizer_from_json

logger = logging.getLogger(__name__)

FORMAT = 2
MAX_ATTEMPTS = 3

MAX_PROCESSES = 32
"""Processes on one machine: more would wait for its disk."""

POLL_SECONDS = 0.2
"""Seconds between checks of what other processes have done."""

REPORT_EVERY = 60.0
"""Seconds between reports."""


@dataclass(frozen=True)
class EncodingJob:
    """A text to encode: its files, their `stat_files` from before the fingerprint, how they are read, a tokenizer or None."""

    paths: list[Path]
    file_stats: list[tuple[int, int]]
    options: DataOptions
    tokenizer: Tokenizer | None

    def to_json(self) -> str:
        """Return the job as one line, for a worker process."""
        tokenizer = self.tokenizer and self.tokenizer.to_json()
        options = [self.options.tokens, self.options.documents, self.options.normalize]
        return json.dumps([list(map(str, self.paths)), self.file_stats, *options, tokenizer])

    @classmethod
    def from_json(cls, line: bytes) -> EncodingJob:
        """Return the job that `to_json` described."""
        paths, file_stats, tokens, documents, normalize, tokenizer_json = json.loads(line)
        options = DataOptions(tokens=tokens, documents=documents, normalize=normalize)
        tokenizer = None if tokenizer_json is None else tokenizer_from_json(tokenizer_json)
        return cls([Path(path) for path in paths], [(size, mtime) for size, mtime in file_stats], options, tokenizer)

    def has_changed(self, first: int = 0, last: int | None = None) -> bool:
        """Return whether any of the files, or of those from `first` to before `last`, was modified."""
        return stat_files(self.paths[first:last]) != self.file_stats[first:last]


class ShardWorker:
    """One process at work in the folder: `count` and `write` return when all shards are done, by any process."""

    def __init__(self, folder: Path, job: EncodingJob, is_subprocess: bool = False) -> None:
        self.folder, self.job = folder, job
        self._last_report, self._is_subprocess = time.monotonic(), is_subprocess
        self._done: dict[str, dict[int, dict[str, Any]]] = {"count": {}, "write": {}}
        plan = shards.read_checked_json(self.folder / "plan.json") or {}
        sizes = [size for size, _ in job.file_stats]
        if plan.get("format") != FORMAT or not shards.is_valid_plan(plan.get("cuts"), job.paths, sizes):
            raise ValueError("plan")
        self.split_points: list[shards.SplitPoint] = [(file, offset) for file, offset in plan["cuts"]]
        self.num_shards = len(self.split_points) - 1
        self._tokenizer = job.tokenizer
        self._rewrites = 0

    def scan_done(self, step: str) -> dict[int, dict[str, Any]]:
        """Return the records of the shards that are done; a damaged record is removed, so that its shard is done again."""
        done = self._done[step]
        for name in os.listdir(self.folder):
            number, _, suffix = name.partition(".")
            if suffix == f"{step}.json" and number.isdecimal() and int(number) < self.num_shards and int(number) not in done:
                content = shards.read_checked_json(self.folder / name)
                if content is None:
                    (self.folder / name).unlink(missing_ok=True)
                else:
                    done[int(number)] = content
        return done

    def count(self) -> tuple[Tokenizer, CorpusStats]:
        """Count all shards; return the tokenizer of the text, and its statistics with the places of the shards."""
        options, tokenizer = self.job.options, self.job.tokenizer
        has_eos = options.documents != "none"
        counting_tokenizer = tokenizer if tokenizer and not tokenizer.reads_bytes else None
        done = self._run_all("count", lambda number: shards.count(self._slices(number), options, counting_tokenizer))
        if tokenizer is None:
            tokenizer = fit_tokenizer(sorted({char for record in done for char in record["alphabet"]}), options)
        self._tokenizer = tokenizer
        stats = self._merge_stats(done)
        require_nonempty(stats, has_eos, self.job.paths)
        return tokenizer, stats

    def write(self, counted: CorpusStats) -> tuple[CorpusStats, list[dict[str, int]]]:
        """Write all shards; return the statistics of the text, and the index of the shards: `offset`, `size`, `crc32`."""

        def write_one(number: int) -> dict[str, Any]:
            return shards.write(self._slices(number), counted.spans[number], self.encoder(), self.folder / "ids.bin")

        done = self._run_all("write", write_one)
        stats = self._merge_stats(done)
        if stats.spans != counted.spans:
            raise DataError(TEXT_CHANGED)
        spans = zip(stats.spans, done, strict=True)
        return stats, [{"offset": span.offset, "size": span.size, "crc32": record["crc32"]} for span, record in spans]

    def encoder(self) -> TextEncoder:
        """Return a new encoder; only after all shards were counted."""
        if self._tokenizer is None:
            raise ValueError("The tokenizer is not known before all shards are counted.")
        return TextEncoder(self._tokenizer, self.job.options)

    def _merge_stats(self, done: list[dict[str, Any]]) -> CorpusStats:
        encoder = self.encoder()
        return merge_stats(
            [shards.stats_from(record) for record in done], encoder.eos_id is not None, encoder.separator is not None
        )

    def rewrite(self, numbers: list[int]) -> None:
        """Let these shards, damaged on the disk, be written again. Raises `StorageError` at the third time."""
        self._rewrites += 1
        if self._rewrites == MAX_ATTEMPTS:
            raise StorageError(DAMAGED_AT_ONCE.format(self.folder))
        for number in numbers:
            self._done["write"].pop(number, None)
            (self.folder / f"{number}.write.json").unlink(missing_ok=True)

    def _slices(self, number: int) -> list[FileSlice]:
        return shards.shard_slices(self.split_points, number, self.job.paths)

    def _run_all(self, step: str, run_step: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """Do one step for all shards that no other process does, until all are done.

        Of several errors the first in the text is raised: when all shards before it are done without one.
        """
        first_error: tuple[int, UnrolledError] | None = None
        while True:
            done = self.scan_done(step)
            pending = [
                number for number in range(self.num_shards if first_error is None else first_error[0]) if number not in done
            ]
            self._report_progress(step)
            if not pending:
                break
            all_taken = True
            for number in pending:
                try:
                    all_taken &= not self._run_one(step, number, run_step)
                except UnrolledError as error:
                    if self._is_subprocess:
                        raise
                    first_error, all_taken = (number, error), False
                    break
            if all_taken:
                time.sleep(POLL_SECONDS)
        if first_error is not None:
            raise first_error[1]
        return [done[number] for number in range(self.num_shards)]

    def _run_one(self, step: str, number: int, run_step: Callable[[int], dict[str, Any]]) -> bool:
        """Do one step for one shard, unless another process does it at the moment; return whether it is done."""
        path = self.folder / f"{number}.{step}.json"
        with file_lock(self.folder / f"{number}.lock") as locked:
            if not locked:
                return False
            if not path.exists():
                record = run_step(number)
                (first, _), (last, stop) = self.split_points[number : number + 2]
                if self.job.has_changed(first, last + (stop > 0)):
                    raise DataError(TEXT_CHANGED)
                shards.write_checked_json(path, record)
                self._report_progress(step)
        return True

    def _report_progress(self, step: str) -> None:
        if time.monotonic() - self._last_report > REPORT_EVERY:
            self._last_report = time.monotonic()
            logger.info(
                f"{'counted' if step == 'count' else 'encoded'} {len(self.scan_done(step)):,} of {self.num_shards:,} shards"
            )


def num_processes() -> int:
    """Return the number of processes of one rank: together, the ranks of a machine use all its cores."""
    if not has_file_locks() or not sys.executable:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return min(MAX_PROCESSES, max(1, cores // max(1, int(ranks) if ranks.isdecimal() else 1)))


@contextlib.contextmanager
def _worker_processes(count: int, folder: Path, job: EncodingJob) -> Iterator[None]:
    """Run `count` other processes in the folder. They exit when this one does, also when it is killed."""
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from unrolled.text.parallel_encode import worker_main; worker_main()"
    )
    command = [sys.executable, "-c", code, json.dumps(list(map(str, sys.path))), str(folder)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):  # the work is done without them, too
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                workers.append(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
                workers[-1].stdin.write(job.to_json().encode() + b"\n")  # type: ignore[union-attr]
                workers[-1].stdin.flush()  # type: ignore[union-attr]
        yield
    finally:
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.wait()
            with contextlib.suppress(OSError):
                worker.stdin.close()  # type: ignore[union-attr]


def worker_main() -> None:
    """Work in the folder that the command line names, until all is done or the parent process is gone.

    Errors are not reported: the parent process meets them, too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = EncodingJob.from_json(sys.stdin.buffer.readline())
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    with contextlib.suppress(UnrolledError, OSError, ValueError):
        worker = ShardWorker(Path(sys.argv[2]), job, is_subprocess=True)
        _, stats = worker.count()
        worker.write(stats)
    os._exit(0)  # without waiting for the thread


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


MakeHeader = Callable[[Tokenizer, CorpusStats, list[dict[str, int]]], bytes]
"""Makes the content of `corpus.json` from tokenizer, statistics and index of the shards."""


def work_folder(entry: Path) -> Path:
    """Return the work folder of a cache entry; like other unfinished entries, it is removed after a day without use."""
    return entry.with_name(f"{entry.name}{TMP_MARK}shards")


def encode_in_shards(entry: Path, job: EncodingJob, make_header: MakeHeader) -> None:
    """Encode a text, together with other processes that do; on return it is at `entry`, and was checked.

    The work of a killed process is resumed. Raises `DataError` for what is not text (the work folder is removed), and
    `StorageError` for errors of the disk (the work folder is kept).
    """
    folder = work_folder(entry)
    for _ in range(MAX_ATTEMPTS):
        worker = _open_worker(folder, job)
        try:
            with file_lock(folder / "users.lock", blocking=True, shared=True):
                if not entry.exists():
                    _encode_all(worker, entry, make_header)
        except DataError:
            _remove_work_folder(folder)
            raise
        except StorageError:
            if folder.exists():
                raise
        except OSError as error:
            if folder.exists():
                raise storage_error(error, folder, "write the encoded text to") from error
        if entry.exists():  # else a process with an error removed the folder before we held its lock: try again
            _remove_work_folder(folder)
            return
    raise StorageError(f"Cannot write {folder}: something else removes it.")


def _open_worker(folder: Path, job: EncodingJob) -> ShardWorker:
    """Return a worker in the existing work folder, if its plan is valid for these files; else in a new one."""
    with contextlib.suppress(ValueError):
        return ShardWorker(folder, job)
    _remove_work_folder(folder)
    split_points = shards.plan_shards(job.paths, [size for size, _ in job.file_stats])
    with atomic_dir(folder, keep_existing=True) as new:
        shards.write_checked_json(new / "plan.json", {"format": FORMAT, "cuts": split_points})
    try:
        return ShardWorker(folder, job)
    except ValueError as error:
        raise StorageError(f"The folder {folder} cannot be used. Remove it, and run again.") from error


def _remove_work_folder(folder: Path) -> None:
    """Remove a work folder, unless other processes use it."""
    with contextlib.suppress(OSError), file_lock(folder / "users.lock") as locked:
        if locked:
            shutil.rmtree(folder, ignore_errors=True)


def _encode_all(worker: ShardWorker, entry: Path, make_header: MakeHeader) -> None:
    """Work until the entry exists."""
    num_workers = min(num_processes(), worker.num_shards)
    num_counted, num_written = len(worker.scan_done("count")), len(worker.scan_done("write"))
    done_before = f"; {num_counted:,} were counted and {num_written:,} encoded before" if num_counted else ""
    logger.info(f"in {worker.num_shards:,} shards, {num_workers} process{'es' * (num_workers > 1)}{done_before}")
    with _worker_processes(num_workers - 1, worker.folder, worker.job):
        while not _commit(worker, entry, make_header):
            time.sleep(POLL_SECONDS)


def _commit(worker: ShardWorker, entry: Path, make_header: MakeHeader) -> bool:
    """Rename the folder to the entry when all shards are done and undamaged; return whether the entry exists."""
    folder = worker.folder
    tokenizer, counted = worker.count()
    stats, shard_index = worker.write(counted)
    with file_lock(folder / "finish.lock") as locked:
        if not locked or entry.exists():
            return entry.exists()
        if worker.job.has_changed():
            raise DataError(TEXT_CHANGED)
        write_atomic(folder / "corpus.json", make_header(tokenizer, stats, shard_index))
        corrupt = shards.corrupt_shards(folder / "ids.bin", shard_index, worker.encoder().dtype.itemsize)
        if corrupt:
            worker.rewrite(corrupt)
            return False
        commit_dir(folder, entry)
        for file in entry.iterdir():
            if file.name not in ("ids.bin", "corpus.json"):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
    return True
