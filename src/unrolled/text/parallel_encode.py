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

from unrolled.atomic_io import PARTIAL, can_claim, claim, new_folder, put_in_place, storage_error, write_bytes
from unrolled.errors import DataError, StorageError, UnrolledError
from unrolled.options import DataOptions
from unrolled.text import shards
from unrolled.text.shards import CHANGED
from unrolled.text.text_encoder import Encoder, Part, Whole, characters, join, refuse_nothing
from unrolled.text.tokenizer import Bytes, Characters, Vocabulary, vocabulary_from_json

FORMAT = 1
TRIES = 3

MOST = 32
"""Processes on one machine: more wait for its disk."""

WAIT = 0.2
"""Seconds between looks at what others have done."""

TELL = 60.0
"""Seconds between reports."""

Report = Callable[[str], None]


@dataclass(frozen=True)
class Task:
    """A text to encode: its files, what `os.stat` said of them when their digest was taken, and how they are read."""

    paths: list[Path]
    stamps: list[tuple[int, int]]
    options: DataOptions
    vocabulary: Vocabulary | None

    def to_json(self) -> str:
        """Return what a helper is told, in one line."""
        vocabulary = self.vocabulary and self.vocabulary.to_json()
        return json.dumps([list(map(str, self.paths)), self.stamps, self.options.tokens, self.options.unit, vocabulary])

    @classmethod
    def from_json(cls, line: bytes) -> Task:
        """Return the task that `to_json` told of."""
        paths, stamps, tokens, unit, vocabulary = json.loads(line)
        options = DataOptions(tokens=tokens, unit=unit)
        known = None if vocabulary is None else vocabulary_from_json(vocabulary)
        return cls([Path(path) for path in paths], [(size, at) for size, at in stamps], options, known)

    def has_changed(self, first: int = 0, last: int | None = None) -> bool:
        """Return whether any of the files, or of those from `first` to before `last`, is another than it was."""
        return stamps(self.paths[first:last]) != self.stamps[first:last]


def stamps(paths: list[Path]) -> list[tuple[int, int]]:
    """Return size and time of change of each file: enough to notice writing that goes on while we read. Gone: nothing."""
    try:
        return [(status.st_size, status.st_mtime_ns) for status in map(os.stat, paths)]
    except OSError:
        return []


class Workshop:
    """One process's view of the folder: `count` and `write` return when all shards are done, by whomever."""

    def __init__(self, folder: Path, task: Task, report: Report = lambda message: None, is_helper: bool = False) -> None:
        self.folder, self.task = folder, task
        self._report, self._told, self._is_helper = report, time.monotonic(), is_helper
        self._done: dict[str, dict[int, dict[str, Any]]] = {"count": {}, "write": {}}
        plan = shards.kept(self.folder / "plan.json") or {}
        sizes = [size for size, _ in task.stamps]
        if plan.get("format") != FORMAT or not shards.is_plan(plan.get("cuts"), task.paths, sizes):
            raise ValueError("plan")
        self.cuts: list[shards.Cut] = [(file, at) for file, at in plan["cuts"]]
        self.shards = len(self.cuts) - 1
        self._vocabulary = task.vocabulary
        self._again = 0

    def look(self, step: str) -> dict[int, dict[str, Any]]:
        """Return what is kept of the shards that are done; what is damaged is removed, to be done again."""
        done = self._done[step]
        for name in os.listdir(self.folder):
            number, _, rest = name.partition(".")
            if rest == f"{step}.json" and number.isdecimal() and int(number) < self.shards and int(number) not in done:
                content = shards.kept(self.folder / name)
                if content is None:
                    (self.folder / name).unlink(missing_ok=True)
                else:
                    done[int(number)] = content
        return done

    def count(self) -> tuple[Vocabulary, Whole]:
        """Count all shards; return the vocabulary of the text, and where the ids of each belong."""
        options, known = self.task.options, self.task.vocabulary
        has_end = options.unit != "stream"
        given = known if isinstance(known, Characters) else None
        done = self._all("count", lambda number: shards.count(self._parts(number), options, given))
        if known is None and options.tokens == "bytes":
            known = Bytes(has_end)
        elif known is None:
            known = characters(sorted({symbol for kept in done for symbol in kept["alphabet"]}), options)
        self._vocabulary = known
        whole = self._joined(done)
        refuse_nothing(whole, has_end, self.task.paths)
        return known, whole

    def write(self, counted: Whole) -> tuple[Whole, list[dict[str, int]]]:
        """Write all shards; return what is known of the text, and the index of the shards: `offset`, `size`, `crc32`."""

        def one(number: int) -> dict[str, Any]:
            return shards.write(self._parts(number), counted.places[number], self.encoder(), self.folder / "ids.bin")

        done = self._all("write", one)
        whole = self._joined(done)
        if whole.places != counted.places:
            raise DataError(CHANGED)
        places = zip(whole.places, done, strict=True)
        return whole, [{"offset": place.offset, "size": place.size, "crc32": kept["crc32"]} for place, kept in places]

    def encoder(self) -> Encoder:
        """Return a fresh encoder; only after all shards were counted."""
        if self._vocabulary is None:
            raise ValueError("The vocabulary is not known before all shards are counted.")
        return Encoder(self._vocabulary, self.task.options)

    def _joined(self, done: list[dict[str, Any]]) -> Whole:
        encoder = self.encoder()
        return join([shards.facts_of(kept) for kept in done], encoder.end is not None, encoder.border is not None)

    def write_again(self, numbers: list[int]) -> None:
        """Forget that these shards were written: what is on the disk is not what was. A disk that does it again is told of."""
        self._again += 1
        if self._again == TRIES:
            raise StorageError(f"The encoded text in {self.folder} was damaged at once. Check the disk, and run again.")
        for number in numbers:
            self._done["write"].pop(number, None)
            (self.folder / f"{number}.write.json").unlink(missing_ok=True)

    def _parts(self, number: int) -> list[Part]:
        return shards.parts(self.cuts, number, self.task.paths)

    def _all(self, step: str, make: Callable[[int], dict[str, Any]]) -> list[dict[str, Any]]:
        """Do one step for every shard that nobody does, until all are done. Of several faults the first in the text is raised.

        That of a shard is raised once those before it are known to have none.
        """
        fault: tuple[int, UnrolledError] | None = None
        while True:
            done = self.look(step)
            left = [number for number in range(self.shards if fault is None else fault[0]) if number not in done]
            self._tell(step)
            if not left:
                break
            busy = True
            for number in left:
                try:
                    busy &= not self._one(step, number, make)
                except UnrolledError as error:
                    if self._is_helper:
                        raise
                    fault, busy = (number, error), False
                    break
            if busy:
                time.sleep(WAIT)
        if fault is not None:
            raise fault[1]
        return [done[number] for number in range(self.shards)]

    def _one(self, step: str, number: int, make: Callable[[int], dict[str, Any]]) -> bool:
        """Do one step for one shard, unless somebody else does; return whether it was done here, or is done."""
        path = self.folder / f"{number}.{step}.json"
        with claim(self.folder / f"{number}.lock") as ours:
            if not ours:
                return False
            if not path.exists():
                made = make(number)
                (first, _), (last, stop) = self.cuts[number : number + 2]
                if self.task.has_changed(first, last + (stop > 0)):
                    raise DataError(CHANGED)
                shards.keep(path, made)
                self._tell(step)
        return True

    def _tell(self, step: str) -> None:
        if time.monotonic() - self._told > TELL:
            self._told = time.monotonic()
            self._report(f"{'counted' if step == 'count' else 'encoded'} {len(self.look(step)):,} of {self.shards:,} shards")


def processes() -> int:
    """Return how many processes a rank may put to work here: together, the ranks of a machine take all its cores."""
    if not can_claim() or not sys.executable:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return min(MOST, max(1, cores // max(1, int(ranks) if ranks.isdecimal() else 1)))


@contextlib.contextmanager
def _helpers(count: int, folder: Path, task: Task) -> Iterator[None]:
    """Let so many other processes work in the folder. They leave when this one does, however it ends."""
    code = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from unrolled.text.parallel_encode import help_out; help_out()"
    )
    command = [sys.executable, "-c", code, json.dumps(list(map(str, sys.path))), str(folder)]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            with contextlib.suppress(OSError):  # without them it takes longer
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                started.append(subprocess.Popen(command, **pipes))  # type: ignore[call-overload]
                started[-1].stdin.write(task.to_json().encode() + b"\n")  # type: ignore[union-attr]
                started[-1].stdin.flush()  # type: ignore[union-attr]
        yield
    finally:
        for helper in started:
            helper.kill()
        for helper in started:
            helper.wait()
            with contextlib.suppress(OSError):
                helper.stdin.close()  # type: ignore[union-attr]


def help_out() -> None:
    """Work as a helper in the folder that the command line names, until there is nothing left to do or the parent is gone.

    What is wrong with a shard is left for the parent to find.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    task = Task.from_json(sys.stdin.buffer.readline())
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    with contextlib.suppress(UnrolledError, OSError, ValueError):
        workshop = Workshop(Path(sys.argv[2]), task, is_helper=True)
        _, whole = workshop.count()
        workshop.write(whole)
    os._exit(0)  # without waiting for the thread


def _leave_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


Head = Callable[[Vocabulary, Whole, list[dict[str, int]]], bytes]
"""Makes the content of `corpus.json` from the index of the shards and all else that is known of a text."""


def work_folder(entry: Path) -> Path:
    """Return where what is to become `entry` is made; like all that is unfinished, it is removed if left for a day."""
    return entry.with_name(f"{entry.name}{PARTIAL}shards")


def encode_in_shards(entry: Path, task: Task, report: Report, head: Head) -> None:
    """Encode a text together with whoever else does; on return it is at `entry`, and was checked.

    What a killed process left is gone on with. Raises `DataError` for what is not text, which leaves nothing behind, and
    `StorageError` for faults of the disk, which leaves what is done.
    """
    folder = work_folder(entry)
    for _ in range(TRIES):
        workshop = _open(folder, task, report)
        try:
            with claim(folder / "users.lock", wait=True, shared=True):
                if not entry.exists():
                    _work(workshop, entry, head, report)
        except DataError:
            _remove(folder)
            raise
        except StorageError:
            if folder.exists():
                raise
        except OSError as error:
            if folder.exists():
                raise storage_error(error, folder, "write the encoded text to") from error
        if entry.exists():  # else one that met a fault took the folder away, and did not see us come
            _remove(folder)
            return
    raise StorageError(f"Cannot write {folder}: something else removes it.")


def _open(folder: Path, task: Task, report: Report) -> Workshop:
    """Return the work folder that is there, if its plan is sound and of these files; else a new one."""
    with contextlib.suppress(ValueError):
        return Workshop(folder, task, report)
    _remove(folder)
    cuts = shards.plan(task.paths, [size for size, _ in task.stamps])
    with new_folder(folder, first_wins=True) as made:
        shards.keep(made / "plan.json", {"format": FORMAT, "cuts": cuts})
    try:
        return Workshop(folder, task, report)
    except ValueError as error:
        raise StorageError(f"What is in {folder} cannot be used. Remove it, and run again.") from error


def _remove(folder: Path) -> None:
    """Remove a work folder, unless others are at work in it."""
    with contextlib.suppress(OSError), claim(folder / "users.lock") as alone:
        if alone:
            shutil.rmtree(folder, ignore_errors=True)


def _work(workshop: Workshop, entry: Path, head: Head, report: Report) -> None:
    """Work until the entry is there."""
    count = min(processes(), workshop.shards)
    counted, written = len(workshop.look("count")), len(workshop.look("write"))
    before = f"; {counted:,} were counted and {written:,} encoded before" if counted else ""
    report(f"in {workshop.shards:,} shards, {count} process{'es' * (count > 1)}{before}")
    with _helpers(count - 1, workshop.folder, workshop.task):
        while not _finish(workshop, entry, head):
            time.sleep(WAIT)


def _finish(workshop: Workshop, entry: Path, head: Head) -> bool:
    """Make the folder the entry, once all shards are done and found undamaged; return whether the entry is there."""
    folder = workshop.folder
    vocabulary, counted = workshop.count()
    whole, index = workshop.write(counted)
    with claim(folder / "finish.lock") as ours:
        if not ours or entry.exists():
            return entry.exists()
        if workshop.task.has_changed():
            raise DataError(CHANGED)
        write_bytes(folder / "corpus.json", head(vocabulary, whole, index))
        wrong = shards.damaged(folder / "ids.bin", index, workshop.encoder().dtype.itemsize)
        if wrong:
            workshop.write_again(wrong)
            return False
        put_in_place(folder, entry)
        for file in entry.iterdir():
            if file.name not in ("ids.bin", "corpus.json"):
                with contextlib.suppress(OSError):
                    file.unlink(missing_ok=True)
    return True
