"""The folder in which several processes encode one large text together, and go on after a kill.

    KEY.partial-shards/
        plan.json      where shards begin
        ids.bin        every shard writes its ids at their place
        N.count.json   shard N was counted: how many ids it has, and which symbols
        N.write.json   its ids are on the disk, with this CRC-32
        N.lock         held by the process that works on it; let go by the system when that process dies
        users.lock     held by all that wait for the text
        finish.lock    held by the one that makes the folder the entry of the cache

Whoever opens the text takes what nobody has taken, starts helpers on the other cores, and waits for the rest: other ranks, or
other machines that see the same disk. Where there are no locks, work is done twice to the same end. A fault is met by each
of those that wait, in the first shard that has one; helpers leave at the first they meet.
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
from unrolled.text.shards import TEXT_CHANGED
from unrolled.text.text_encoder import CorpusStats, FileSlice, TextEncoder, char_tokenizer, merge_stats, require_nonempty
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer, tokenizer_from_json

logger = logging.getLogger(__name__)

FORMAT = 1
MAX_ATTEMPTS = 3

MAX_PROCESSES = 32
"""Processes on one machine: more wait for its disk."""

POLL_SECONDS = 0.2
"""Seconds between looks at what others have done."""

REPORT_EVERY = 60.0
"""Seconds between reports."""


@dataclass(frozen=True)
class EncodingJob:
    """A text to encode: its files, what `os.stat` said of them when their digest was taken, and how they are read."""

    paths: list[Path]
    file_stats: list[tuple[int, int]]
    options: DataOptions
    tokenizer: Tokenizer | None

    def to_json(self) -> str:
        """Return what a helper is told, in one line."""
        tokenizer = self.tokenizer and self.tokenizer.to_json()
        return json.dumps([list(map(str, self.paths)), self.file_stats, self.options.tokens, self.options.documents, tokenizer])

    @classmethod
    def from_json(cls, line: bytes) -> EncodingJob:
        """Return the task that `to_json` told of."""
        paths, file_stats, tokens, documents, tokenizer_json = json.loads(line)
        options = DataOptions(tokens=tokens, documents=documents)
        tokenizer = None if tokenizer_json is None else tokenizer_from_json(tokenizer_json)
        return cls([Path(path) for path in paths], [(size, mtime) for size, mtime in file_stats], options, tokenizer)

    def has_changed(self, first: int = 0, last: int | None = None) -> bool:
        """Return whether any of the files, or of those from `first` to before `last`, is another than it was."""
        return stat_files(self.paths[first:last]) != self.file_stats[first:last]


def stat_files(paths: list[Path]) -> list[tuple[int, int]]:
    """Return size and time of change of each file: enough to notice writing that goes on while we read. Gone: nothing."""
    try:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths)]
    except OSError:
        return []


class ShardWorker:
    """One process's view of the folder: `count` and `write` return when all shards are done, by whomever."""

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
        """Return what is kept of the shards that are done; what is damaged is removed, to be done again."""
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
        """Count all shards; return the vocabulary of the text, and where the ids of each belong."""
        options, tokenizer = self.job.options, self.job.tokenizer
        has_eos = options.documents != "none"
        counting_tokenizer = tokenizer if isinstance(tokenizer, CharTokenizer) else None
        done = self._run_all("count", lambda number: shards.count(self._slices(number), options, counting_tokenizer))
        if tokenizer is None and options.tokens == "bytes":
            tokenizer = ByteTokenizer(has_eos)
        elif tokenizer is None:
            tokenizer = char_tokenizer(sorted({char for record in done for char in record["alphabet"]}), options)
        self._tokenizer = tokenizer
        stats = self._merge_stats(done)
        require_nonempty(stats, has_eos, self.job.paths)
        return tokenizer, stats

    def write(self, counted: CorpusStats) -> tuple[CorpusStats, list[dict[str, int]]]:
        """Write all shards; return what is known of the text, and the index of the shards: `offset`, `size`, `crc32`."""

        def write_one(number: int) -> dict[str, Any]:
            return shards.write(self._slices(number), counted.spans[number], self.encoder(), self.folder / "ids.bin")

        done = self._run_all("write", write_one)
        stats = self._merge_stats(done)
        if stats.spans != counted.spans:
            raise DataError(TEXT_CHANGED)
        spans = zip(stats.spans, done, strict=True)
        return stats, [{"offset": span.offset, "size": span.size, "crc32": record["crc32"]} for span, record in spans]

    def encoder(self) -> TextEncoder:
        """Return a fresh encoder; only after all shards were counted."""
        if self._tokenizer is None:
            raise ValueError("The vocabulary is not known before all shards are counted.")
        return TextEncoder(self._tokenizer, self.job.options)

    def _merge_stats(self, done: list[dict[str, Any]]) -> CorpusStats:
        encoder = self.encoder()
        return merge_stats(
            [shards.stats_from(record) for record in done], encoder.eos_id is not None, encoder.separator is not None
        )

    def rewrite(self, numbers: list[int]) -> None:
        """Forget that these shards were written: what is on the disk is not what was. A disk that does it again is told of."""
        self._rewrites += 1
        if self._rewrites == MAX_ATTEMPTS:
            raise StorageError(f"The encoded text in {self.folder} was damaged at once. Check the disk, and run again.")
        for number in numbers:
            self._done["write"].pop(number, None)
            (self.folder / f"{number}.write.json").unlink(missing_ok=True)

    def _slices(self, number: int) -> list[FileSlice]:
        return shards.shard_slices(self.split_points, number, self.job.paths)

    def _run_all(self, step: str, run_step: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """Do one step for every shard that nobody does, until all are done. Of several faults the first in the text is raised.

        That of a shard is raised once those before it are known to have none.
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
        """Do one step for one shard, unless somebody else does; return whether it was done here, or is done."""
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
    """Return how many processes a rank may put to work here: together, the ranks of a machine take all its cores."""
    if not has_file_locks() or not sys.executable:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return min(MAX_PROCESSES, max(1, cores // max(1, int(ranks) if ranks.isdecimal() else 1)))


@contextlib.contextmanager
def _worker_processes(count: int, folder: Path, job: EncodingJob) -> Iterator[None]:
    """Let so many other processes work in the folder. They leave when this one does, however it ends."""
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from unrolled.text.parallel_encode import worker_main; worker_main()"
    )
    command = [sys.executable, "-c", code, json.dumps(list(map(str, sys.path))), str(folder)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):  # without them it takes longer
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
    """Work as a helper in the folder that the command line names, until there is nothing left to do or the parent is gone.

    What is wrong with a shard is left for the parent to find.
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
"""Makes the content of `corpus.json` from the index of the shards and all else that is known of a text."""


def work_folder(entry: Path) -> Path:
    """Return where what is to become `entry` is made; like all that is unfinished, it is removed if left for a day."""
    return entry.with_name(f"{entry.name}{TMP_MARK}shards")


def encode_in_shards(entry: Path, job: EncodingJob, make_header: MakeHeader) -> None:
    """Encode a text together with whoever else does; on return it is at `entry`, and was checked.

    What a killed process left is gone on with. Raises `DataError` for what is not text, which leaves nothing behind, and
    `StorageError` for faults of the disk, which leaves what is done.
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
        if entry.exists():  # else one that met a fault took the folder away, and did not see us come
            _remove_work_folder(folder)
            return
    raise StorageError(f"Cannot write {folder}: something else removes it.")


def _open_worker(folder: Path, job: EncodingJob) -> ShardWorker:
    """Return the work folder that is there, if its plan is sound and of these files; else a new one."""
    with contextlib.suppress(ValueError):
        return ShardWorker(folder, job)
    _remove_work_folder(folder)
    split_points = shards.plan_shards(job.paths, [size for size, _ in job.file_stats])
    with atomic_dir(folder, keep_existing=True) as new:
        shards.write_checked_json(new / "plan.json", {"format": FORMAT, "cuts": split_points})
    try:
        return ShardWorker(folder, job)
    except ValueError as error:
        raise StorageError(f"What is in {folder} cannot be used. Remove it, and run again.") from error


def _remove_work_folder(folder: Path) -> None:
    """Remove a work folder, unless others are at work in it."""
    with contextlib.suppress(OSError), file_lock(folder / "users.lock") as locked:
        if locked:
            shutil.rmtree(folder, ignore_errors=True)


def _encode_all(worker: ShardWorker, entry: Path, make_header: MakeHeader) -> None:
    """Work until the entry is there."""
    num_workers = min(num_processes(), worker.num_shards)
    num_counted, num_written = len(worker.scan_done("count")), len(worker.scan_done("write"))
    done_before = f"; {num_counted:,} were counted and {num_written:,} encoded before" if num_counted else ""
    logger.info(f"in {worker.num_shards:,} shards, {num_workers} process{'es' * (num_workers > 1)}{done_before}")
    with _worker_processes(num_workers - 1, worker.folder, worker.job):
        while not _commit(worker, entry, make_header):
            time.sleep(POLL_SECONDS)


def _commit(worker: ShardWorker, entry: Path, make_header: MakeHeader) -> bool:
    """Make the folder the entry, once all shards are done and found undamaged; return whether the entry is there."""
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
