"""Kills, faults of the disk and signals at any moment: a checkpoint is never lost, never mixed, and a resume is exact.

The numbers that end in `_P` are those of every change, `_N` those of `-m long`.
"""

import errno
import functools
import json
import math
import os
import random
import re
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.faults import Calls, act_on_a_bad_disk
from support.forks import Forks
from support.models import checkpoint_parts, small_model
from support.runs import COMMON, RUNS, STEPS, assert_same_run, check_sound, train, train_undisturbed, write_data
from unrolled import atomic_io
from unrolled.atomic_io import TMP_MARK
from unrolled.checkpoints.model_file import load_model, save_model
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import UsageError
from unrolled.options import TrainRequest
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

KILLS_P, KILLS_N = 100, 1000
SIGNALS_P, SIGNALS_N = 10, 100

LONG = pytest.mark.long


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
    write_data(forks.folder)
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
                tally.partials += len(list(broken.rglob(f"*{TMP_MARK}*")))
            if left.code == 0:
                break
            tally.kills += 1
        assert not list(broken.rglob(f"*{TMP_MARK}*"))
        assert_same_run(straight, broken, steps)
        shutil.rmtree(broken)
        tally.runs += 1
    for kind in RUNS:
        shutil.rmtree(forks.folder / f"straight-{kind}")
    return tally


@pytest.mark.slow
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


def made_run(path: Path) -> Run:
    """Return a run with checkpoints of steps 1 to 3, of which the first is gone already, and a best model."""
    run = Run.create(path, {"inputs": [], "options": {}})
    for step in (1, 2, 3):
        run.save_checkpoint(step, *checkpoint_parts(step))
        run.metrics.append({"step": step})
    run.save_best(small_model(3))
    return run


def next_checkpoint(run: Run) -> None:
    run.save_checkpoint(4, *checkpoint_parts(4))


def same_checkpoint(run: Run) -> None:
    run.save_checkpoint(3, *checkpoint_parts(3, version=1))


def new_best(run: Run) -> None:
    save_model(run.model_path, checkpoint_parts(4)[0])


def new_config(run: Run) -> None:
    run.write_config({"inputs": [], "options": {"seed": 2}})


def cut_log(run: Run) -> None:
    run.metrics.truncate_after(2)


def longer_log(run: Run) -> None:
    run.metrics.append({"step": 4})


SAVES = {save.__name__: save for save in (next_checkpoint, same_checkpoint, new_best, new_config, cut_log, longer_log)}


def check_run(run: Run) -> tuple[int, float]:
    """Return step and number of the checkpoint that a resume would take; everything must be whole."""
    resumed = Run.open(run.path)
    resumed.lock()
    _, tensors, about, passed = resumed.load_checkpoint()
    resumed.unlock()
    assert passed == []
    step = about["state"]["used"]["steps"]
    assert step >= 3, "the last good checkpoint is gone"
    assert int(tensors["x"][0]) == step
    assert len(run.checkpoints()) >= 2, "there are two to go on from"
    for _, folder in run.checkpoints():
        assert len(os.listdir(folder)) == 3, f"{folder} is not whole"
        load_model(folder / "model.safetensors")
    assert not list(run.path.rglob(f"*{TMP_MARK}*")), "what was left behind is cleaned"
    load_model(run.model_path)
    assert run.config["options"] in ({}, {"seed": 2})
    assert [record["step"] for record in run.metrics.read()] in ([1, 2, 3], [1, 2], [1, 2, 3, 4])
    return step, float(tensors["x"][0])


def save_and_die(at: int, save: str, path: str) -> int:
    """Kill this process in place of its call number `at`; return 0 if there were not as many."""

    def die(name: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

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


@pytest.mark.slow
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

    with Calls(at, die, Path(path)).patched():
        run = Run.create(Path(path), {"inputs": [], "options": {}})
        run.lock()
        run.save_best(checkpoint_parts(1)[0])
    return 0


@pytest.mark.slow
def test_a_kill_while_a_run_is_begun_never_blocks_its_name(forks: Forks) -> None:
    kills = 0
    for at in range(1, 1000):
        path = forks.folder / "begun"
        left = forks.call(start_and_die, at, path)
        assert left.code in (0, -signal.SIGKILL), left.err
        if not (path / "model.safetensors").exists():
            again = forks.call(start_and_die, 0, path)
            assert again.code == 0, again.err
        assert not [name for name in os.listdir(path) if TMP_MARK in name]
        shutil.rmtree(path)
        if left.code == 0:
            break
        kills += 1
    assert kills >= 8
    print(f"\nbeginning a run: killed in place of each of {kills} calls; the same command begins it again")


ERRORS = (errno.EIO, errno.ENOSPC, errno.EINTR)
EACH_ERROR = pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)


@pytest.mark.slow
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
def test_each_call_that_fails_while_a_run_is_begun_is_reported(tmp_path: Path, number: int) -> None:
    refused = 0

    begun: list[Run] = []

    def begin() -> None:
        begun.append(Run.create(tmp_path / "run", {"options": {}}))

    for at in range(1, 1000):
        struck, told = act_on_a_bad_disk(begin, at, number, tmp_path)
        refused += told is not None
        assert told is None or told.startswith("Cannot "), told
        for run in begun:
            run.unlock()
        begin()
        begun.pop().unlock()
        assert sorted(os.listdir(tmp_path / "run")) == ["checkpoints", "config.json"]
        shutil.rmtree(tmp_path / "run")
        if not struck:
            break
    assert refused >= 6
    print(f"\n{errno.errorcode[number]}: {refused} calls failed and were told; the same command begins the run")


@EACH_ERROR
def test_each_call_that_fails_while_a_text_is_encoded(tmp_path: Path, number: int) -> None:
    from unrolled.options import DataOptions
    from unrolled.text.corpus import cache_folder, open_corpus

    text = tmp_path / "a.txt"
    text.write_text("abc\nabd\u65e5\n", "utf-8")
    expected = open_corpus([str(text)], DataOptions()).ids.tolist()
    refused = 0
    for at in range(1, 1000):
        shutil.rmtree(cache_folder())
        struck, told = act_on_a_bad_disk(functools.partial(open_corpus, [str(text)], DataOptions()), at, number, tmp_path)
        refused += told is not None
        assert open_corpus([str(text)], DataOptions()).ids.tolist() == expected
        assert not list(cache_folder().glob(f"*{TMP_MARK}*")), struck
        if not struck:
            break
    assert refused >= 6
    print(f"\n{errno.errorcode[number]}: {refused} calls failed and were told, and the text is encoded after each")


def encode_together(turns: int) -> list[str]:
    """Let two processes read the same new text at the same moment, again and again; return what went wrong."""
    from unrolled.options import DataOptions
    from unrolled.text.corpus import open_corpus

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


@pytest.mark.slow
def test_two_processes_may_read_a_new_text_at_once(forks: Forks) -> None:
    assert forks.call(encode_together, 40).value == []


def test_who_may_not_train_a_run_touches_nothing_in_it(tmp_path: Path) -> None:
    """Another process that wants to resume, while this one trains, must not clean away what is being written."""
    write_data(Path.cwd())
    train("text", "r", 6)
    trainer = Run(Path("r"))
    trainer.lock()
    with atomic_io.atomic_dir(Path("r/checkpoints/step-9")) as folder:
        (folder / "model.safetensors").write_text("x")
        busy = Path("r") / f"model.safetensors{TMP_MARK}abc"
        busy.write_text("y")
        with pytest.raises(UsageError, match="being trained by another process"):
            launch.resume_run(Path("r"), {}, ProgressCallback())
        assert busy.exists()
        assert (folder / "model.safetensors").exists()
    trainer.unlock()


# ---------------------------------------------------------------------------------------------------------------------------
# Signals

SLOW = "".join(f"{n} {n * n} {n**3}\n" for n in range(120_000))
"""Some megabytes, so that reading takes part of a second."""


def command_line(arguments: list[str], cache: str = "") -> int:
    """Call the command line, as its process does."""
    from unrolled.__main__ import main

    if cache:
        os.environ["UNROLLED_CACHE"] = cache
    return main(arguments)


def signal_again_and_again(forks: Forks, count: int, seed: int) -> dict[str, int]:
    """Send SIGTERM or SIGINT at random moments to whole commands: reading, recipe, steps, looks, samples, saves."""
    draw = random.Random(seed)
    (forks.folder / "slow.txt").write_text(SLOW, "utf-8")
    write_data(forks.folder)
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


@pytest.mark.serial
def test_signals_at_random_moments_save_and_leave(forks: Forks) -> None:
    seen = signal_again_and_again(forks, SIGNALS_P, seed=3)
    assert seen["saved"] > 0
    print(f"\n{SIGNALS_P} signals: {seen}")


@pytest.mark.serial
@LONG
def test_a_hundred_signals_save_and_leave(forks: Forks) -> None:
    seen = signal_again_and_again(forks, SIGNALS_N, seed=4)
    assert seen["saved"] > 10
    assert seen["nothing to save yet"] > 10
    print(f"\n{SIGNALS_N} signals: {seen}")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind if kind == "text" else pytest.param(kind, marks=LONG) for kind in RUNS])
def test_runs_stopped_by_signals_end_as_undisturbed_ones(forks: Forks, kind: str) -> None:
    draw, end = random.Random(kind), 40
    write_data(forks.folder)
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
    assert_same_run(straight, broken, end)
    print(f"\n{kind}: stopped {stops} times, and the end is bit for bit that of the undisturbed run")


def sample_for_long(out: str) -> int:
    """Train a few steps and then write a sample that takes half a minute, as the definition writes it."""
    name, own = RUNS["text"]
    values = (
        COMMON
        | own
        | {"out": out, "steps": 50, "sample_length": 100_000, "kernels": "reference", "eval_every": 50, "save_every": 1e9}
    )
    work = launch.start_run(TrainRequest.build((name,), values, "test"), ProgressCallback())
    outcome = work.train()
    return 128 + (outcome.stop_signal or 0)


@pytest.mark.serial
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=LONG)])
def test_a_signal_while_a_sample_is_written_does_not_wait_for_it(forks: Forks, number: int) -> None:
    write_data(forks.folder)
    path = forks.folder / f"sampling-{number}"
    left = forks.call(sample_for_long, path, after=5.0, number=number)
    assert left.code == 128 + number, left.err
    assert left.seconds < 1.0, "a signal waited for the sample"
    assert check_sound(path)[-1] == 50
