"""Kills, faults of the disk and signals at any moment: a checkpoint is never lost, never mixed, and a resume is exact.

[P] in every change, [N] with `-m long`. Starting Python with torch takes longer than what is tested, so one process imports
everything and forks the children that are killed; it starts no thread of torch itself.
"""

import atexit
import builtins
import contextlib
import errno
import functools
import io
import json
import math
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from unrolled import files, job
from unrolled.errors import StorageError, UsageError
from unrolled.files import PARTIAL
from unrolled.options import TrainRequest
from unrolled.store.model_file import load_model, read_sealed, save_model
from unrolled.store.run import Run
from unrolled.views.console import Quiet

KILLS_P, KILLS_N = 100, 1000
SIGNALS_P, SIGNALS_N = 10, 100

LONG = pytest.mark.long
HUNG = 60.0
"""Seconds after which a child is held to hang."""

# ---------------------------------------------------------------------------------------------------------------------------
# A process that forks. Other tests of faults use it too.


class Left(NamedTuple):
    """How a child ended: its exit code, or minus the signal; what it printed; seconds it lived on after its signal was
    sent (of its whole life, if none was), and by how many megabytes it grew."""

    code: int
    err: str
    seconds: float
    grown: float
    value: Any


class Forks:
    """Forks children that call a function of a test module. `call` waits for one to end, and may send it a signal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0
        environment = os.environ | {"OMP_NUM_THREADS": "1", "UNROLLED_CACHE": str(folder / "cache"), "MALLOC_ARENA_MAX": "1"}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        after: float | None = None,
        number: int = signal.SIGKILL,
        most: float = HUNG,
    ) -> Left:
        """Call `function(*arguments)` in a child, in `folder`; send it the signal `number` after some seconds, if asked to.

        One that lives on for more than `most` seconds hangs, and is killed.
        """
        self._count += 1
        err, value = self.folder / f"{self._count}.err", self.folder / f"{self._count}.json"
        module = Path(sys.modules[function.__module__].__file__ or "").stem
        wanted = {
            "module": module, "function": function.__name__,
            "arguments": [str(argument) if isinstance(argument, Path) else argument for argument in arguments],
            "err": str(err), "value": str(value), "folder": str(self.folder), "after": after, "number": int(number),
            "most": most,
        }  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        told = err.read_text("utf-8", "replace") if err.exists() else ""
        result = json.loads(value.read_text()) if value.exists() else None
        for path in (err, value):
            path.unlink(missing_ok=True)
        return Left(answer["code"], told, answer["seconds"], answer["grown"], result)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=HUNG)
        self._process.stdout.close()


@functools.cache
def running_forks() -> Forks:
    """Start the process that forks, once for all tests; with a folder that a child without rights can read too."""
    folder = Path(tempfile.mkdtemp(prefix="unrolled-faults-"))
    folder.chmod(0o755)
    running = Forks(folder)

    def end() -> None:
        running.close()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return running


@pytest.fixture
def forks() -> Forks:
    """A process that forks."""
    return running_forks()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What survives a loss of power is tested with the store; here hundreds of saves need not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def serve() -> None:
    """Read what to call from standard input, one JSON line a child."""
    import importlib

    import unrolled.api
    import unrolled.cli

    _ = unrolled.api, unrolled.cli
    torch.set_num_threads(1)
    for line in sys.stdin:
        wanted = json.loads(line)
        function = getattr(importlib.import_module(wanted["module"]), wanted["function"])
        before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
        child = os.fork()
        if child == 0:
            _be_a_child(function, wanted)
        started = time.monotonic()
        if wanted["after"] is not None:
            ended = _wait(child, started + wanted["after"])
            started = time.monotonic()
            if ended is None:
                os.kill(child, wanted["number"])
        else:
            ended = None
        ended = ended or _wait(child, started + wanted["most"])
        if ended is None:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            answer = {"code": 999, "seconds": HUNG, "grown": 0.0}
        else:
            code, usage = ended
            grown = usage.ru_maxrss / 1024 - before
            answer = {"code": code, "seconds": time.monotonic() - started, "grown": grown}
        print(json.dumps(answer), flush=True)


def _wait(child: int, until: float) -> tuple[int, resource.struct_rusage] | None:
    """Wait for a child to end; return its code and what it used, or None if it had not at `until`."""
    descriptor = os.pidfd_open(child)
    try:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, until - time.monotonic()))
    finally:
        os.close(descriptor)
    if not ready:
        return None
    _, status, usage = os.wait4(child, 0)
    return os.waitstatus_to_exitcode(status), usage


def _be_a_child(function: Callable[..., Any], wanted: dict[str, Any]) -> None:
    code = 98
    try:
        os.chdir(wanted["folder"])
        target = os.open(wanted["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(target, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        result = function(*wanted["arguments"])
        code = result if isinstance(result, int) else 0
        if result is not None and not isinstance(result, int):
            Path(wanted["value"]).write_text(json.dumps(result))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---------------------------------------------------------------------------------------------------------------------------
# The run that is killed

NOUNS, VERBS = ("the", "a", "old", "red", "dog", "fox"), ("jumps", "sleeps", "and")
TEXT = "".join(f"{NOUNS[(i * i + i // 7) % 6]} {VERBS[i % 3]}.\n" for i in range(300))
TABLE = "word,back\n" + "".join(f"{word},{word[::-1]}\n" for word in ("abc", "bcd", "cab", "dda", "bbc", "acd", "ba", "ad") * 8)
COMMON = {
    "batch": 2,
    "bptt": 4,
    "precision": "float32",
    "save_every": 1e-9,
    "eval_every": 3,
    "eval_symbols": 50,
    "kernels": "aten",
}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("t.txt", {"hidden": 8, "cell": "lstm", "dropout": 0.2, "optimiser": "muon", "sample_length": 6}),
    "lines": ("t.txt", {"hidden": 6, "cell": "gru", "unit": "line", "optimiser": "rmsprop", "sample_length": 4}),
    "table": ("t.csv", {"hidden": 8, "layers": 1, "source": "word", "target": "back", "sample_length": 1}),
}  # fmt: skip
STEPS = {"text": 80, "lines": 90, "table": 70}


def without_waiting() -> None:
    """Do not wait for the disk: what a killed process wrote, the system has. Saves are as many times more often killed."""
    os.fsync = lambda fd: None


def train(kind: str, out: str, steps: int, **values: Any) -> int:
    """Start or go on with a run until it is done, as a user would who runs the command again after each crash."""
    without_waiting()
    name, own = RUNS[kind]
    path = Path(out)
    if Run(path).checkpoints():
        work = job.resume(path, {}, Quiet())
    else:
        work = job.start(TrainRequest.build((name,), COMMON | own | {"out": out, "steps": steps} | values, "test"), Quiet())
    work.trainer.run.lock()
    left_behind = [str(found) for found in path.rglob(f"*{PARTIAL}*")]
    if left_behind:
        raise AssertionError(f"what a killed process left is still there: {left_behind}")
    work.train()
    return 0


def train_undisturbed(kind: str, out: str, steps: int) -> int:
    """Train straight to the end, with few checkpoints."""
    return train(kind, out, steps, save_every=1e9)


def lay_texts(folder: Path) -> None:
    (folder / "t.txt").write_text(TEXT, "utf-8")
    (folder / "t.csv").write_text(TABLE, "utf-8")


def check_sound(path: Path) -> list[int]:
    """Hold everything in a run folder that has a final name readable and unmixed; return the steps of its checkpoints."""
    if not (path / "config.json").exists():
        assert not list(path.glob("checkpoints/step-*")), "a checkpoint without its configuration"
        return []
    assert json.loads((path / "config.json").read_text("utf-8"))["options"]
    run, steps = Run(path), []
    for step, folder in run.checkpoints():
        assert sorted(os.listdir(folder)) == ["MANIFEST.json", "model.safetensors", "training.safetensors"], folder
        manifest = json.loads((folder / "MANIFEST.json").read_text("utf-8"))
        assert set(manifest["sha256"]) == {"model.safetensors", "training.safetensors"}
        _, about = read_sealed(folder / "training.safetensors")
        model = load_model(folder / "model.safetensors")
        assert manifest["step"] == about["position"]["spent"]["steps"] == model.history["steps"] == step, "mixed"
        assert all(weight.isfinite().all() for weight in model.model.state_dict().values())
        steps.append(step)
    if steps:
        _, _, about, passed = run.load_checkpoint()
        assert (about["position"]["spent"]["steps"], passed) == (steps[-1], [])
    if run.model_path.exists():
        load_model(run.model_path)
    for log in (run.metrics.path, run.samples.path):
        if log.is_file():
            whole, _, cut = log.read_bytes().rpartition(b"\n")
            assert all(json.loads(line) for line in whole.splitlines()), "only the last line may be cut"
            assert len(cut) < 1 << 16
    return steps


def logged(path: Path) -> list[dict[str, Any]]:
    """Return metrics and samples without what a clock decides; every line must parse."""
    lines = [line for name in ("metrics", "samples") for line in (path / f"{name}.jsonl").read_text("utf-8").split("\n")[:-1]]
    records = [json.loads(line) for line in lines]
    keys = [(record.get("event"), record["step"]) for record in records]
    assert len(keys) == len(set(keys)), "a step was logged twice"
    return [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in records]


def same_end(one: Path, other: Path, step: int) -> None:
    """Hold two finished runs equal: weights, optimiser, state, cursor, best loss, logs; tolerance 0."""
    for name in (
        f"checkpoints/step-{step}/model.safetensors",
        f"checkpoints/step-{step}/training.safetensors",
        "model.safetensors",
    ):
        (left, about), (right, others) = read_sealed(one / name), read_sealed(other / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(left[key], right[key]) for key in left), name
        if "position" in about:
            about["position"]["spent"]["seconds"] = others["position"]["spent"]["seconds"] = 0
            assert about["position"] == others["position"]
    assert logged(one) == logged(other)


@dataclass
class Tally:
    """What was injected, and what came of it."""

    kills: int = 0
    starts: int = 0
    checkpoints: int = 0
    partials: int = 0
    runs: int = 0


class Patience:
    """How long to wait at most before a child is stopped: longer and longer on a machine so busy that nothing is reached."""

    def __init__(self) -> None:
        self.seconds = 0.2
        self._steps: list[int] = []

    def saw(self, steps: list[int]) -> None:
        """Wait longer, if there is no newer checkpoint."""
        self.seconds = self.seconds * 1.1 if steps == self._steps else 0.2
        self._steps = steps


def kill_again_and_again(forks: Forks, least: int, seed: int) -> Tally:
    """Kill trainers of several kinds at random moments until `least` were killed and each run that began has ended."""
    draw, tally = random.Random(seed), Tally()
    lay_texts(forks.folder)
    for kind in RUNS:
        done = forks.call(train_undisturbed, kind, forks.folder / f"straight-{kind}", STEPS[kind])
        assert done.code == 0, done.err
    while tally.kills < least:
        kind = list(RUNS)[tally.runs % len(RUNS)]
        steps, straight, broken = STEPS[kind], forks.folder / f"straight-{kind}", forks.folder / f"broken-{tally.runs}"
        patience = Patience()
        while True:
            tally.starts += 1
            after = draw.random() ** 2 * patience.seconds if tally.kills < least else None
            left = forks.call(train, kind, broken, steps, after=after)
            assert left.code in (0, -signal.SIGKILL), left.err
            if broken.exists():
                found = check_sound(broken)
                patience.saw(found)
                tally.checkpoints += len(found)
                tally.partials += len(list(broken.rglob(f"*{PARTIAL}*")))
            if left.code == 0:
                break
            tally.kills += 1
        assert not list(broken.rglob(f"*{PARTIAL}*"))
        same_end(straight, broken, steps)
        shutil.rmtree(broken)
        tally.runs += 1
    for kind in RUNS:
        shutil.rmtree(forks.folder / f"straight-{kind}")
    return tally


def test_kills_at_random_moments_cost_nothing(forks: Forks) -> None:
    tally = kill_again_and_again(forks, KILLS_P, seed=0)
    assert tally.checkpoints > KILLS_P // 2
    print(f"\n{tally}: 0 unreadable, 0 mixed, {tally.runs} runs ended bit for bit as undisturbed ones")


@LONG
def test_a_thousand_kills_cost_nothing(forks: Forks) -> None:
    tally = kill_again_and_again(forks, KILLS_N, seed=1)
    assert tally.partials > 0, "some kills must come while a file is written"
    print(f"\n{tally}: 0 unreadable, 0 mixed, {tally.runs} runs ended bit for bit as undisturbed ones")


# ---------------------------------------------------------------------------------------------------------------------------
# A kill, or a fault, at each call to the system

Fault = Callable[[str], None]


class Calls:
    """Counts the calls that writing makes to the system; `strike` is called in place of the one with number `at`.

    With `only`, faults of these calls alone are counted.
    """

    OS = ("open", "mkdir", "fsync", "chmod", "replace", "rename", "unlink", "remove", "rmdir", "scandir", "close", "listdir")

    def __init__(self, at: int, strike: Fault, under: Path) -> None:
        self.at, self.strike, self.under = at, strike, str(under)
        self.count = 0
        self.struck = ""

    def hit(self, name: str) -> None:
        """Count a call, and strike if it is the one."""
        self.count += 1
        if self.count == self.at:
            self.struck = name
            self.strike(name)

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        """Count while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in self.OS:
                patch.setattr(os, name, self._counting(name, getattr(os, name)))
            patch.setattr(os, "fdopen", self._opening("fdopen", os.fdopen))
            patch.setattr(builtins, "open", self._opening("open file", builtins.open))
            patch.setattr(io, "open", self._opening("open file", io.open))
            yield

    def _counting(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.hit(name)
            return real(*arguments, **named)

        return call

    def _opening(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            place = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else self.under
            file = real(*arguments, **named)
            return _File(file, self) if place.startswith(self.under) and self._hit_opened(name, file) else file

        return call

    def _hit_opened(self, name: str, file: Any) -> bool:
        try:
            self.hit(name)
        except BaseException:
            file.close()
            raise
        return True


class _File:
    """A file whose reads, writes, flushes and closing count."""

    def __init__(self, file: Any, calls: Calls) -> None:
        self._file, self._calls = file, calls

    def write(self, content: Any) -> Any:
        self._calls.hit("write")
        return self._file.write(content)

    def flush(self) -> None:
        self._calls.hit("flush")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "_File":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._calls.hit("close file")

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def made_run(path: Path) -> Run:
    """Return a run with checkpoints of steps 1 to 3, of which the first is gone already, and a best model."""
    from test_store import small

    run = Run.create(path, {"inputs": [], "options": {}})
    for step in (1, 2, 3):
        run.save_checkpoint(step, *parts(step))
        run.metrics.append({"step": step})
    run.save_best(small(3))
    return run


def parts(step: int, version: int = 0) -> tuple[Any, dict[str, torch.Tensor], dict[str, Any]]:
    """Return what a checkpoint of a step is made of; another `version` has other numbers."""
    from test_store import small

    saved = small(step + 100 * version)
    saved.history.update(steps=step)
    return saved, {"x": torch.full((50,), step + version / 10)}, {"position": {"spent": {"steps": step}}}


def next_checkpoint(run: Run) -> None:
    run.save_checkpoint(4, *parts(4))


def same_checkpoint(run: Run) -> None:
    run.save_checkpoint(3, *parts(3, version=1))


def new_best(run: Run) -> None:
    save_model(run.model_path, parts(4)[0])


def new_config(run: Run) -> None:
    run.write_config({"inputs": [], "options": {"seed": 2}})


def cut_log(run: Run) -> None:
    run.metrics.keep_until(2)


def longer_log(run: Run) -> None:
    run.metrics.append({"step": 4})


SAVES = {save.__name__: save for save in (next_checkpoint, same_checkpoint, new_best, new_config, cut_log, longer_log)}


def check_run(run: Run) -> tuple[int, float]:
    """Return step and number of the checkpoint that a resume would take; everything must be whole."""
    resumed = Run.open(run.path)
    resumed.lock()
    _, tensors, about, passed = resumed.load_checkpoint()
    resumed.release()
    assert passed == []
    step = about["position"]["spent"]["steps"]
    assert step >= 3, "the last good checkpoint is gone"
    assert int(tensors["x"][0]) == step
    assert len(run.checkpoints()) >= 2, "there are two to go on from"
    for _, folder in run.checkpoints():
        assert len(os.listdir(folder)) == 3, f"{folder} is not whole"
        load_model(folder / "model.safetensors")
    assert not list(run.path.rglob(f"*{PARTIAL}*")), "what was left behind is cleaned"
    load_model(run.model_path)
    assert run.config["options"] in ({}, {"seed": 2})
    assert [record["step"] for record in run.metrics.read()] in ([1, 2, 3], [1, 2], [1, 2, 3, 4])
    return step, float(tensors["x"][0])


def save_and_die(at: int, save: str, path: str) -> int:
    """Kill this process in place of its call number `at`; return 0 if there were not as many."""

    def die(name: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    without_waiting()
    run = Run(Path(path))
    with Calls(at, die, run.path).patched():
        SAVES[save](run)
    return 0


def kill_at_calls(forks: Forks, save: str, numbers: range) -> None:
    """Kill a child in place of each of some calls that a save makes; hold that nothing is lost."""
    kills = 0
    path = forks.folder / f"each-{save}"
    pattern = forks.folder / f"each-{save}-pattern"
    made_run(pattern)
    for at in numbers:
        shutil.copytree(pattern, path)
        left = forks.call(save_and_die, at, save, path)
        assert left.code in (0, -signal.SIGKILL), left.err
        check_run(Run(path))
        shutil.rmtree(path)
        if left.code == 0:
            break
        kills += 1
    shutil.rmtree(pattern)
    assert kills >= 1
    print(f"\n{save}: killed in place of {kills} calls; nothing lost")


@pytest.mark.parametrize("save", SAVES)
def test_a_kill_in_place_of_calls_to_the_system(forks: Forks, save: str) -> None:
    kill_at_calls(forks, save, range(2, 1000, 3))


@LONG
@pytest.mark.parametrize("save", SAVES)
def test_a_kill_in_place_of_each_call_to_the_system(forks: Forks, save: str) -> None:
    kill_at_calls(forks, save, range(1, 1000))


def start_and_die(at: int, path: str) -> int:
    def die(name: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    without_waiting()
    with Calls(at, die, Path(path)).patched():
        run = Run.create(Path(path), {"inputs": [], "options": {}})
        run.lock()
        run.save_best(parts(1)[0])
    return 0


def test_a_kill_while_a_run_is_begun_never_blocks_its_name(forks: Forks) -> None:
    kills = 0
    for at in range(1, 1000):
        path = forks.folder / "begun"
        left = forks.call(start_and_die, at, path)
        assert left.code in (0, -signal.SIGKILL), left.err
        if not (path / "model.safetensors").exists():
            again = forks.call(start_and_die, 0, path)
            assert again.code == 0, again.err
        assert not [name for name in os.listdir(path) if PARTIAL in name]
        shutil.rmtree(path)
        if left.code == 0:
            break
        kills += 1
    assert kills >= 8
    print(f"\nbeginning a run: killed in place of each of {kills} calls; the same command begins it again")


def act_on_a_bad_disk(act: Callable[[], object], at: int, number: int, under: Path) -> tuple[str, str | None]:
    """Call `act`, in which the call number `at` to the system fails; return that call, and what was told of it."""

    def fail(name: str) -> None:
        raise OSError(number, os.strerror(number))

    calls = Calls(at, fail, under)
    try:
        with calls.patched():
            act()
    except StorageError as error:
        return calls.struck, str(error)
    return calls.struck, None


ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR)
EACH_ERROR = pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)


@pytest.mark.parametrize("save", SAVES)
def test_each_call_to_the_system_that_fails_leaves_the_old_or_the_new(tmp_path: Path, save: str) -> None:
    fail_each_call(tmp_path, save, ERRORS)


@LONG
@EACH_ERROR
@pytest.mark.parametrize("save", SAVES)
def test_each_call_that_fails_in_each_way_leaves_the_old_or_the_new(tmp_path: Path, save: str, number: int) -> None:
    fail_each_call(tmp_path, save, (number,))


def fail_each_call(tmp_path: Path, save: str, numbers: tuple[int, ...]) -> None:
    """Let each call to the system fail, one after the other, with the errors in turn; hold that nothing is lost."""
    refused = harmless = 0
    made_run(tmp_path / "pattern")
    for at in range(1, 1000):
        path, number = tmp_path / "run", numbers[at % len(numbers)]
        shutil.copytree(tmp_path / "pattern", path)
        run = Run(path)
        struck, told = act_on_a_bad_disk(functools.partial(SAVES[save], run), at, number, path)
        allowed: list[Any] = [(3, 3.0), (4, 4.0), (3, pytest.approx(3.1))]
        if told is None:
            harmless += struck != ""
            allowed = {"next_checkpoint": allowed[1:2], "same_checkpoint": allowed[2:]}.get(save, allowed[:1])
        else:
            refused += 1
            assert told.startswith("Cannot "), told
            assert str(tmp_path) in told
            assert "\n" not in told
            if number == errno.ENOSPC:
                assert re.search(r"the disk is full\. [\d,]+ bytes are free there\.", told), told
        assert check_run(run) in allowed, (struck, at)
        shutil.rmtree(path)
        if not struck:
            break
    assert refused >= (2 if save == "longer_log" else 5)
    kinds = ", ".join(errno.errorcode[number] for number in numbers)
    print(f"\n{save}, {kinds}: {refused} calls failed and were told, {harmless} were harmless; nothing lost")


@EACH_ERROR
def test_each_call_that_fails_while_a_run_is_begun_is_told(tmp_path: Path, number: int) -> None:
    refused = 0
    begin = functools.partial(Run.create, tmp_path / "run", {"options": {}})
    for at in range(1, 1000):
        struck, told = act_on_a_bad_disk(begin, at, number, tmp_path)
        refused += told is not None
        assert told is None or told.startswith("Cannot "), told
        begin()
        assert sorted(os.listdir(tmp_path / "run")) == ["checkpoints", "config.json"]
        shutil.rmtree(tmp_path / "run")
        if not struck:
            break
    assert refused >= 6
    print(f"\n{errno.errorcode[number]}: {refused} calls failed and were told; the same command begins the run")


@EACH_ERROR
def test_each_call_that_fails_while_a_text_is_encoded(tmp_path: Path, number: int) -> None:
    from unrolled.data.corpus import cache_folder, open_corpus
    from unrolled.options import DataOptions

    text = tmp_path / "a.txt"
    text.write_text("abc\nabd\u65e5\n", "utf-8")
    expected = open_corpus([str(text)], DataOptions()).ids.tolist()
    refused = 0
    for at in range(1, 1000):
        shutil.rmtree(cache_folder())
        struck, told = act_on_a_bad_disk(functools.partial(open_corpus, [str(text)], DataOptions()), at, number, tmp_path)
        refused += told is not None
        assert open_corpus([str(text)], DataOptions()).ids.tolist() == expected
        assert not list(cache_folder().glob(f"*{PARTIAL}*")), struck
        if not struck:
            break
    assert refused >= 6
    print(f"\n{errno.errorcode[number]}: {refused} calls failed and were told, and the text is encoded after each")


def encode_together(turns: int) -> list[str]:
    """Let two processes read the same new text at the same moment, again and again; return what went wrong."""
    from unrolled.data.corpus import open_corpus
    from unrolled.options import DataOptions

    without_waiting()
    faults = Path("faults.txt")
    for turn in range(turns):
        Path("both.txt").write_text(f"abc {turn} " * 50, "utf-8")
        start, children = time.time() + 0.05, []
        for _ in range(2):
            children.append(os.fork())
            if children[-1] == 0:
                while time.time() < start:
                    pass
                try:
                    open_corpus(["both.txt"], DataOptions())
                except BaseException as error:
                    with open(faults, "a", encoding="utf-8") as file:
                        file.write(f"{error!r}\n")
                os._exit(0)
        for child in children:
            os.waitpid(child, 0)
    return faults.read_text("utf-8").splitlines() if faults.exists() else []


def test_two_processes_may_read_a_new_text_at_once(forks: Forks) -> None:
    assert forks.call(encode_together, 40).value == []


def test_who_may_not_train_a_run_touches_nothing_in_it(tmp_path: Path) -> None:
    """Another process that wants to resume, while this one trains, must not clean away what is being written."""
    lay_texts(Path.cwd())
    train("text", "r", 6)
    trainer = Run(Path("r"))
    trainer.lock()
    with files.new_folder(Path("r/checkpoints/step-9")) as folder:
        (folder / "model.safetensors").write_text("x")
        busy = Path("r") / f"model.safetensors{PARTIAL}abc"
        busy.write_text("y")
        with pytest.raises(UsageError, match="being trained by another process"):
            job.resume(Path("r"), {}, Quiet())
        assert busy.exists()
        assert (folder / "model.safetensors").exists()
    trainer.release()


# ---------------------------------------------------------------------------------------------------------------------------
# Signals

SLOW = "".join(f"{n} {n * n} {n**3}\n" for n in range(120_000))
"""Some megabytes, so that reading takes part of a second."""


def command_line(arguments: list[str], cache: str = "") -> int:
    """Call the command line."""
    from unrolled.cli import main

    if cache:
        os.environ["UNROLLED_CACHE"] = cache
    return main(arguments)


def signal_again_and_again(forks: Forks, count: int, seed: int) -> dict[str, int]:
    """Send SIGTERM or SIGINT at random moments to whole commands: reading, recipe, steps, looks, samples, saves."""
    draw = random.Random(seed)
    (forks.folder / "slow.txt").write_text(SLOW, "utf-8")
    lay_texts(forks.folder)
    seen = dict.fromkeys(("nothing to save yet", "saved", "finished"), 0)
    slowest = 0.0
    for turn in range(count):
        number = draw.choice([signal.SIGTERM, signal.SIGINT])
        flags = ["--batch", "4", "--bptt", "8", "--sample-length", "40", "--eval-every", "5", "--save-every", "0.05"]
        flags += ["--eval-symbols", "2000", "--precision", "float32", "--threads", "1"]
        budget = draw.choice([["--minutes", "0.2"], ["--steps", "4000", "--hidden", "16"], ["--steps", "60", "--hidden", "16"]])
        text = draw.choice(["slow.txt", "slow.txt", "t.txt"])
        run, cache = forks.folder / f"signal-{turn}", forks.folder / f"cache-{turn}"
        arguments = ["train", text, *flags, *budget, "--out", str(run)]
        left = forks.call(command_line, arguments, str(cache), after=0.02 + draw.random() ** 2 * 2.2, number=number)
        slowest = max(slowest, left.seconds)
        assert "Traceback" not in left.err, left.err
        assert left.seconds < 1.5, (left, "a step and a second")
        if left.code == 0:
            seen["finished"] += 1
        else:
            assert left.code in (128 + number, -number), left.err
        steps = check_sound(run) if run.exists() else []
        if left.code == 128 + number and "stopped and saved" in left.err:
            assert steps, left.err
            logs = run / "metrics.jsonl"
            assert "--resume" in left.err
            assert all(
                json.loads(line)["step"] <= steps[-1]
                for line in (logs.read_text("utf-8").splitlines() if logs.exists() else [])
            )
            seen["saved"] += 1
        elif left.code:
            seen["nothing to save yet"] += 1
        for folder in (run, cache):
            shutil.rmtree(folder, ignore_errors=True)
    return seen | {"slowest, ms": math.ceil(slowest * 1000)}


def test_signals_at_random_moments_save_and_leave(forks: Forks) -> None:
    seen = signal_again_and_again(forks, SIGNALS_P, seed=3)
    assert seen["saved"] > 0
    print(f"\n{SIGNALS_P} signals: {seen}")


@LONG
def test_a_hundred_signals_save_and_leave(forks: Forks) -> None:
    seen = signal_again_and_again(forks, SIGNALS_N, seed=4)
    assert seen["saved"] > 10
    assert seen["nothing to save yet"] > 10
    print(f"\n{SIGNALS_N} signals: {seen}")


@pytest.mark.parametrize("kind", RUNS)
def test_runs_stopped_by_signals_end_as_undisturbed_ones(forks: Forks, kind: str) -> None:
    draw, end = random.Random(kind), 40
    lay_texts(forks.folder)
    straight, broken = forks.folder / f"whole-{kind}", forks.folder / f"parts-{kind}"
    assert forks.call(train_undisturbed, kind, straight, end).code == 0
    stops, patience = 0, Patience()
    for _ in range(200):
        number = draw.choice([signal.SIGTERM, signal.SIGINT])
        left = forks.call(train, kind, broken, end, after=draw.random() * patience.seconds, number=number)
        steps = check_sound(broken) if broken.exists() else []
        patience.saw(steps)
        if left.code == 0 and steps[-1:] == [end]:
            break
        # Before the trainer takes signals, the caller does; `main` leaves at once there, and `train` here lets Python raise.
        assert left.code in (0, -number) or "KeyboardInterrupt" in left.err, left.err
        stops += 1
    again = forks.call(train, kind, broken, end)
    assert again.code == 0, again.err
    same_end(straight, broken, end)
    print(f"\n{kind}: stopped {stops} times, and the end is bit for bit that of the undisturbed run")


def sample_for_long(out: str) -> int:
    """Train a few steps and then write a sample that takes half a minute, as the definition writes it."""
    name, own = RUNS["text"]
    values = (
        COMMON
        | own
        | {"out": out, "steps": 50, "sample_length": 100_000, "kernels": "reference", "eval_every": 50, "save_every": 1e9}
    )
    work = job.start(TrainRequest.build((name,), values, "test"), Quiet())
    outcome = work.train()
    return 128 + (outcome.stopped or 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_sample_is_written_does_not_wait_for_it(forks: Forks, number: int) -> None:
    lay_texts(forks.folder)
    path = forks.folder / f"sampling-{number}"
    left = forks.call(sample_for_long, path, after=5.0, number=number)
    assert left.code == 128 + number, left.err
    assert left.seconds < 1.0, "a signal waited for the sample"
    assert check_sound(path)[-1] == 50


if __name__ == "__main__":
    serve()
