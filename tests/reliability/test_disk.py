"""A disk that is full, read-only or broken: the old checkpoint stays, and one line says what happened, with exit code 6."""

import contextlib
import ctypes
import errno
import io
import json
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from support.faults import Calls
from support.forks import Forks
from support.runs import COMMON, RUNS, assert_same_run, check_sound, train, train_undisturbed, write_data
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import StorageError
from unrolled.options import TrainRequest
from unrolled.tables import ragged
from unrolled.tables.ragged import RaggedArray
from unrolled.training import launch
from unrolled.training.callbacks import Progress, ProgressCallback

LONG = pytest.mark.long


@pytest.fixture
def place(forks: Forks) -> Path:
    """A folder of a test's own, in which children work."""
    path = Path(tempfile.mkdtemp(dir=forks.folder))
    path.chmod(0o755)
    write_data(forks.folder)
    return path


KINDS = pytest.mark.parametrize("kind", RUNS)


def main(arguments: list[str]) -> int:
    """Call the command line, and send what it prints on stdout where it can be seen."""
    from unrolled.cli.main import main

    os.environ["UNROLLED_CACHE"] = str(Path("cache").absolute())
    return main(arguments)


def main_limited(size: int, arguments: list[str]) -> int:
    """Call the command line where no file may grow beyond `size` bytes, but that which stderr goes to."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    told, stderr = io.StringIO(), sys.stderr
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    sys.stderr = told
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        return main(arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        sys.stderr = stderr
        sys.stderr.write(told.getvalue())


def flags(kind: str, out: Path, steps: int) -> list[str]:
    """Return the flags of one of the runs that are killed elsewhere."""
    name, own = RUNS[kind]
    settings = COMMON | own | {"out": str(out), "steps": steps}
    return ["train", name] + [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]


def one_line(err: str, path: Path) -> str:
    """Hold that a fault was told in one line, with the path and the free space; return it."""
    told = [line for line in err.splitlines() if line.startswith("unrolled: ")]
    assert len(told) == 1, err
    assert "Traceback" not in err, err
    assert str(path) in told[0] or "cache" in told[0], told
    return told[0]


SIZES = (0, 200, 1500, 2500, 4000, 6000, 9000)
FREE = re.compile(r"[\d,]+ bytes are free there\.")


@pytest.mark.slow
@KINDS
def test_files_that_may_not_grow(forks: Forks, place: Path, kind: str) -> None:
    """RLIMIT_FSIZE: a limit that no program can get around, at sizes that stop logs, models and checkpoints."""
    straight, broken = place / "straight", place / "broken"
    assert forks.call(train_undisturbed, kind, straight, 20).code == 0
    refused = 0
    done = forks.call(main, [*flags(kind, broken, 20), "--stop-after", "2"])
    assert done.code == 0, done.err
    for size in SIZES:
        before = check_sound(broken)
        left = forks.call(main_limited, size, ["train", "--resume", str(broken)])
        after = check_sound(broken)
        assert after[-1] >= before[-1], "the last checkpoint stays"
        assert left.code in (0, 6), left.err
        if left.code == 6:
            refused += 1
            told = one_line(left.err, broken)
            assert "larger than the system allows" in told, told
            assert FREE.search(told), told
    done = forks.call(train, kind, broken, 20)
    assert done.code == 0, done.err
    assert_same_run(straight, broken, 20)
    assert refused >= 3
    print(f"\n{kind}: {refused} of {len(SIZES)} limits were met and told; the run ended as the undisturbed one")


@pytest.mark.slow
def test_a_new_run_where_files_may_not_grow(forks: Forks, place: Path) -> None:
    for size in SIZES[::2]:
        path = place / f"new-{size}"
        shutil.rmtree(forks.folder / "cache", ignore_errors=True)
        left = forks.call(main_limited, size, flags("text", path, 20))
        assert left.code == (6 if size < 9000 else left.code), left.err
        if left.code == 6:
            assert FREE.search(one_line(left.err, path)), left.err
            again = forks.call(main, flags("text", path, 20))
            resumed = forks.call(main, ["train", "--resume", str(path)]) if again.code == 2 else again
            assert resumed.code == 0, (again.err, resumed.err)
        check_sound(path)
        shutil.rmtree(path, ignore_errors=True)


def failing(at: int, number: int, arguments: list[str]) -> Any:
    """Call the command line; writes of the run fail from call `at` on, as on a disk that is full."""

    def fail(name: str) -> None:
        raise OSError(number, os.strerror(number))

    class FromThere(Calls):
        def hit(self, name: str) -> None:
            if name in ("write", "fsync", "fdopen", "mkdir"):
                self.count += 1
                if self.count >= self.at:
                    self.struck = name
                    self.strike(name)

    calls = FromThere(at, fail, Path(arguments[-1]))
    with calls.patched():
        code = main(arguments)
    return {"code": code, "struck": calls.struck}


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, pytest.param(errno.EIO, marks=LONG), pytest.param(errno.EDQUOT, marks=LONG)],
    ids=errno.errorcode.get,
)
def test_a_disk_that_fails_from_some_write_on(forks: Forks, place: Path, number: int) -> None:
    path, kind = place / "failing", "text"
    straight = place / "straight"
    assert forks.call(train_undisturbed, kind, straight, 30).code == 0
    assert forks.call(main, [*flags(kind, path, 30), "--stop-after", "2"]).code == 0
    stopped = 0
    for at in range(1, 60, 7):
        before = check_sound(path)
        left = forks.call(failing, at, number, ["train", "--resume", str(path)])
        assert left.value is not None, left.err
        assert check_sound(path)[-1] >= before[-1]
        if not left.value["struck"]:
            assert left.value["code"] == 0
            break
        stopped += 1
        assert left.value["code"] == 6, left.err
        told = one_line(left.err, path)
        assert bool(FREE.search(told)) == (number != errno.EIO), told
    done = forks.call(train, kind, path, 30)
    assert done.code == 0, done.err
    assert_same_run(straight, path, 30)
    print(f"\n{errno.errorcode[number]}: {stopped} disks failed and were told; the run ended as the undisturbed one")


def without_rights(arguments: list[str], writable: list[str]) -> int:
    """Call the command line as somebody who must ask the folders' rights: root, too, without the right to pass them over."""
    names = [Path(root) / name for root, folders, found in os.walk(arguments[-1]) for name in (*folders, *found)]
    kept = {path: path.stat().st_mode for path in (Path(arguments[-1]), *names)}
    for path in kept:
        if str(path) not in writable:
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        if os.getuid() == 0:
            drop_capabilities()
        return main(arguments)
    finally:
        for path, mode in kept.items():
            path.chmod(mode)


def drop_capabilities() -> None:
    """Give up all capabilities of this thread (capset of Linux, version 3)."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if libc.capset(ctypes.byref(header), ctypes.byref(nothing)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


@pytest.mark.slow
@pytest.mark.parametrize("writable", ["nothing", "the run", "checkpoints"])
def test_a_read_only_folder(forks: Forks, place: Path, writable: str) -> None:
    path = place / "readonly"
    assert forks.call(main, [*flags("text", path, 30), "--stop-after", "2"]).code == 0
    before = check_sound(path)
    allowed = {"nothing": [], "the run": [str(path)], "checkpoints": [str(path / "checkpoints")]}[writable]
    left = forks.call(without_rights, ["train", "--resume", str(path)], allowed)
    assert left.code == 6, left.err
    told = one_line(left.err, path)
    assert "permission denied. Choose another folder." in told, told
    assert check_sound(path)[-1:] >= before[-1:]
    for command in ("sample", "eval"):
        read = forks.call(without_rights, [command, str(path)], [])
        assert read.code == 0, read.err
    done = forks.call(train, "text", path, 30)
    assert done.code == 0, done.err


def test_a_new_run_in_a_read_only_folder(forks: Forks, place: Path) -> None:
    (place / "closed").mkdir()
    left = forks.call(without_rights, flags("text", place / "closed" / "run", 5) + ["--glob", str(place / "closed")], [])
    assert left.code == 6, left.err
    assert "no permission to write" in one_line(left.err, place / "closed" / "run")


def train_inside(folder: Path) -> int:
    os.chdir(folder)
    return without_rights(["train", "book.txt", "--steps", "2", "--glob", str(folder)], [])


def test_a_run_without_a_name_in_a_read_only_folder_is_refused_before_the_text_is_read(forks: Forks, place: Path) -> None:
    (place / "closed").mkdir()
    (place / "closed" / "book.txt").write_text("the cat sat on the mat\n" * 400, "utf-8")
    left = forks.call(train_inside, place / "closed")
    assert left.code == 6, left.err
    assert "no permission to write" in one_line(left.err, Path("runs/book"))
    assert "tokens" not in left.err


@pytest.mark.slow
@pytest.mark.parametrize("log", ["metrics.jsonl", "samples.jsonl"])
def test_a_log_on_a_full_device(forks: Forks, place: Path, log: str) -> None:
    straight, path = place / "straight", place / "logs"
    assert forks.call(train_undisturbed, "text", straight, 30).code == 0
    left = forks.call(train_into_full, path, log)
    assert left.value is not None, left.err
    assert left.value["exit"] == 6
    assert left.value["message"].startswith(f"Cannot write {path / log}: the disk is full. ")
    assert FREE.search(left.value["message"])
    steps = check_sound(path)
    assert steps
    done = forks.call(train, "text", path, 30)
    assert done.code == 0, done.err
    assert not (path / log).is_symlink()
    if log == "metrics.jsonl":  # `Filling` took the record of the baselines away, with the file
        lines = (straight / log).read_text("utf-8").splitlines(keepends=True)
        (straight / log).write_text("".join(line for line in lines if '"baselines"' not in line), "utf-8")
    assert_same_run(straight, path, 30)


class Filling(ProgressCallback):
    """Puts a log on a device that is always full after the first checkpoint."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def on_step(self, progress: Callable[[], Progress]) -> None:
        if not self.log.is_symlink() and len(os.listdir(self.log.parent / "checkpoints")):
            self.log.unlink(missing_ok=True)
            os.symlink("/dev/full", self.log)


def train_into_full(out: str, log: str) -> dict[str, Any]:
    """Train into a run, a log of which lies on a device that is always full."""
    name, own = RUNS["text"]
    request = TrainRequest.build((name,), COMMON | own | {"out": out, "steps": 30}, "test")
    try:
        launch.start_run(request, Filling(Path(out) / log)).train()
    except StorageError as error:
        return {"exit": error.exit_code, "message": str(error)}
    return {"exit": 0, "message": ""}


@pytest.mark.parametrize("which", ["open", "write"])
def test_rows_that_do_not_fit_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """Rows too large for the memory lie in a file, which may not fit."""
    monkeypatch.setattr(ragged, "MAX_MEMORY_BYTES", 100)
    monkeypatch.setattr(ragged, "FLUSH_BYTES", 200)
    monkeypatch.setattr(ragged.tempfile, "tempdir", str(tmp_path))  # type: ignore[attr-defined]  # the module's own import
    rows = RaggedArray("int32")

    def fail(*arguments: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    full = FullFile(tmp_path / "rows")
    if which == "open":
        monkeypatch.setattr(ragged.tempfile, "NamedTemporaryFile", fail)  # type: ignore[attr-defined]  # the module's own import
    else:
        monkeypatch.setattr(ragged.tempfile, "NamedTemporaryFile", lambda **named: full)  # type: ignore[attr-defined]  # as above
    with pytest.raises(StorageError, match=r"keep the rows in .*: the disk is full\. [\d,]+ bytes are free"):
        add_rows(rows)
    full.close()


def add_rows(rows: RaggedArray) -> None:
    for _ in range(100):
        rows.append(torch.arange(30).numpy())
    rows.finalize()


class FullFile:
    """A file on a device that is always full, under another name."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        path.touch()
        self._file = open("/dev/full", "wb", buffering=0)

    def write(self, content: Any) -> int:
        return self._file.write(content)

    def fileno(self) -> int:
        return self._file.fileno()

    def tell(self) -> int:
        return 0

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def test_a_run_that_could_not_be_saved_can_be_saved_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python, a fault of the disk is an exception, and what was learned is still there."""
    write_data(Path.cwd())
    name, own = RUNS["text"]
    work = launch.start_run(TrainRequest.build((name,), COMMON | own | {"out": "r", "steps": 30}, "test"), ProgressCallback())

    def fail(name: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    calls = Calls(40, fail, Path.cwd())
    with calls.patched(), pytest.raises(StorageError):
        work.train()
    work.trainer.save()
    step = work.trainer.state.used.steps
    assert Run(Path("r")).checkpoints()[-1][0] == step
    assert json.loads(Path("r/config.json").read_text())
    with contextlib.suppress(FileNotFoundError):
        assert Path("r/metrics.jsonl").read_text()
