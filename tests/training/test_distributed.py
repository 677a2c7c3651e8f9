"""Several processes train what one would: the same weights, the same files, after a loss of any of them too."""

import copy
import datetime
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from support.cli import Cli
from support.forks import Forks
from support.tables import write_long
from support.texts import sentences
from unrolled.checkpoints.model_file import TextModelFile, save_model
from unrolled.checkpoints.run_dir import Run
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, TrainingOptions
from unrolled.tables.pair_batching import PairBatch
from unrolled.text.batching import IGNORE_INDEX, Batch
from unrolled.text.tokenizer import CharTokenizer
from unrolled.training.distributed import ProcessGroup, shard_batch
from unrolled.training.optim import Muon

ARGUMENTS = (
    *("--hidden", "16", "--batch", "6", "--bptt", "16", "--precision", "float32", "--dropout", "0", "--symbol-dropout", "0"),
    *("--state-reset-prob", "0.1", "--sample-length", "20", "--optimizer", "adamw"),
)
LIMIT = 150


def command(ranks: int, *arguments: object, restarts: int = 0) -> list[str]:
    """Return what trains with so many processes."""
    if ranks == 1:
        return [sys.executable, "-m", "unrolled", "train", *map(str, arguments)]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return [*launcher, f"--max-restarts={restarts}", "-m", "unrolled", "train", *map(str, arguments)]


def train(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(ranks, *arguments), capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def steps_saved(run: str) -> list[int]:
    return sorted(step for step, _ in Run(Path(run)).checkpoints())


def weights(run: str) -> dict[str, torch.Tensor]:
    folder = Path(run, "checkpoints", f"step-{steps_saved(run)[-1]}")
    return load_file(folder / "model.safetensors") | load_file(folder / "training.safetensors")


def difference(one: str, other: str) -> float:
    """Return the largest difference between two runs' weights, optimizers and carried states.

    A memory c is not bounded as weights are: above one, its difference is taken as a share of it.
    """
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(first[name].shape == second[name].shape for name in first)
    names = [name for name in first if name != "running_sums" and first[name].numel()]
    sizes = {name: first[name].abs().clamp_min(1) if name.startswith("state/") else 1.0 for name in names}
    return max(float(((first[name] - second[name]) / sizes[name]).abs().max()) for name in names)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text(sentences(300), "utf-8")
    return path


@pytest.mark.slow
def test_two_forked_processes_are_one(words: Path, cli: Cli, forks: Forks) -> None:
    arguments = [str(words), *ARGUMENTS, "--steps", "8"]
    assert cli("train", *arguments, "--out", "one").code == 0
    more = ["--out", "two", "--json", "--log-to", "tensorboard"]
    done = forks.call(forked_ranks, Path.cwd(), [*arguments, *more], False, most=LIMIT)
    assert done.value["codes"] == [0, 0], done.err[-3000:]
    assert difference("one", "two") < 1e-6
    assert len(list(Path("two", "tensorboard").iterdir())) == 1
    assert Path("stdout").read_text("utf-8").count('"version"') == 1
    assert done.err.count("best validation") == 1


@pytest.mark.long
@pytest.mark.parametrize(
    "settings", [(), ("--documents", "line"), ("--cell", "gru", "--tokens", "bytes")], ids=["stream", "line", "gru"]
)
def test_two_processes_are_one(words: Path, settings: tuple[str, ...]) -> None:
    train(1, words, *ARGUMENTS, *settings, "--steps", 8, "--out", "one")
    done = train(2, words, *ARGUMENTS, *settings, "--steps", 8, "--out", "two", "--json", "--log-to", "tensorboard")
    if settings == ("--documents", "line"):  # rows begin from zero: what is carried is nobody's
        names = [name for name in weights("one") if not name.startswith("state/") and name != "running_sums"]
        assert max(float((weights("one")[name] - weights("two")[name]).abs().max()) for name in names) < 1e-6
    else:
        assert difference("one", "two") < 1e-6
    assert len(list(Path("two", "tensorboard").iterdir())) == 1
    assert done.stdout.count('"version"') == 1
    assert done.stderr.count("best validation") == 1


class ThreadGroup(ProcessGroup):
    """Two processes, simulated by two threads of this one: `all_gather` returns the shards of both in rank order."""

    def __init__(self, rank: int, shards: list[torch.Tensor], barrier: threading.Barrier) -> None:
        super().__init__(rank, 2)
        self._shards, self._barrier = shards, barrier

    def all_gather(self, shard: torch.Tensor) -> torch.Tensor:
        self._shards[self.rank] = shard
        self._barrier.wait()
        gathered = torch.cat(self._shards)
        self._barrier.wait()
        return gathered


def after_muon(process_group: ProcessGroup, model: RecurrentLM) -> dict[str, torch.Tensor]:
    """Take three steps of Muon with the same gradients in all processes; return the weights and the optimizer state."""
    optimizer = Muon(model, TrainingOptions(), process_group)
    draw = torch.Generator().manual_seed(2)
    for _ in range(3):
        for weight in model.parameters():
            weight.grad = torch.randn(weight.shape, generator=draw)
        optimizer.step(0.01)
    return dict(model.state_dict()) | optimizer.to_tensors()


@pytest.mark.parametrize("hidden", [6, 64])  # 64: by the native kernels where there are some
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_sharded_muon_equals_one_process(cell: str, hidden: int) -> None:
    model = RecurrentLM(5, ModelOptions(hidden=hidden, layers=1, cell=cell))  # type: ignore[arg-type]  # a key of CELLS
    models = [copy.deepcopy(model) for _ in range(2)]
    expected = after_muon(ProcessGroup(), model)
    shards, barrier = [torch.empty(0)] * 2, threading.Barrier(2, timeout=60)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda rank: after_muon(ThreadGroup(rank, shards, barrier), models[rank]), range(2)))
    for result in results:
        assert result.keys() == expected.keys()
        assert all(torch.equal(result[name], expected[name]) for name in expected)


@pytest.mark.long
@pytest.mark.parametrize("has_base", [False, True])
def test_rows_of_a_table_are_shared(tmp_path: Path, has_base: bool) -> None:
    table = tmp_path / "table.csv"
    rows = [f"{'ab' * (i % 5 + 1)} {i % 3},{'x' if i % 3 else 'y'}" for i in range(60)]
    table.write_text("text,label\n" + "\n".join(rows) + "\n")
    own: tuple[object, ...] = (
        "--source",
        "text:characters",
        "--target",
        "label",
        *ARGUMENTS[:2],
        "--batch",
        "5",
        *ARGUMENTS[6:12],
    )
    if has_base:
        tokenizer = CharTokenizer("\n ab012")
        network = RecurrentLM(tokenizer.vocab_size, ModelOptions(hidden=12, layers=1))
        save_model(tmp_path / "base.safetensors", TextModelFile(network, tokenizer))
        own = (*own, "--from", str(tmp_path / "base.safetensors"))
    train(1, table, *own, "--steps", 6, "--out", "one")
    train(2, table, *own, "--steps", 6, "--out", "two")
    assert difference("one", "two") < 1e-6


@pytest.mark.long
@pytest.mark.parametrize(
    "settings", [(), ("--difference", "season", "--time-features", "on"), ("--difference", "off")], ids=str
)
def test_a_forecast_is_chosen_and_learned_as_by_one_process(settings: tuple[str, ...], tmp_path: Path) -> None:
    """Once, a series stopped at its second step: the weights that pool a source have no part in its loss."""
    start, draw = datetime.datetime(2024, 1, 1), np.random.default_rng(0)
    times = [start + datetime.timedelta(hours=hour) for hour in range(400)]
    load = [100 + 0.1 * hour + 20 * np.sin(hour * np.pi / 12) + draw.normal() for hour in range(400)]
    columns = {"t": [time.isoformat() for time in times], "load": load, "promo": [int(hour % 7 == 3) for hour in range(400)]}
    table = write_long("hours.csv", columns)
    own = ("--source", "load", "--order-by", "t", "--known-covariates", "promo", "--horizon", 6, "--lr", "0.01", *settings)
    trained = [
        train(ranks, table, *own, "--layers", 1, *ARGUMENTS[:2], "--batch", 4, *ARGUMENTS[4:8], "--steps", 6, "--out", name)
        for ranks, name in ((1, "one"), (2, "two"))
    ]
    chosen = [[line for line in done.stderr.splitlines() if "(--difference" in line] for done in trained]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == ("--difference" not in settings)
    assert difference("one", "two") < 1e-6


@pytest.mark.long
def test_labels_of_each_step_are_learned_by_two_processes(tmp_path: Path) -> None:
    table = tmp_path / "tags.csv"
    rows = [f"{'a b ' * (i % 4 + 1)},{'x y ' * (i % 4 + 1)}" for i in range(60)]
    table.write_text("words,tags\n" + "\n".join(rows) + "\n")
    own = ("--source", "words", "--target", "tags:labels", *ARGUMENTS[:2], "--batch", 4, *ARGUMENTS[6:12], "--layers", 1)
    train(1, table, *own, "--steps", 4, "--out", "one")
    train(2, table, *own, "--steps", 4, "--out", "two")
    assert difference("one", "two") < 1e-6


@pytest.mark.long
def test_another_number_of_processes_goes_on(words: Path) -> None:
    train(1, words, *ARGUMENTS, "--steps", 12, "--out", "straight")
    train(2, words, *ARGUMENTS, "--steps", 12, "--stop-after", 5, "--out", "broken")
    train(1, "--resume", "broken", "--stop-after", 9)
    train(3, "--resume", "broken")
    assert difference("straight", "broken") < 1e-5


def kills(words: Path, count: int, steps: int) -> None:
    """Kill a random rank `count` times; the weights in the end are those of the run that nobody disturbed."""
    pace = ("--steps", steps, "--save-every", "0.2", "--eval-every", steps)
    train(2, words, *ARGUMENTS, *pace, "--out", "calm")
    draw, killed = random.Random(1), 0
    process = subprocess.Popen(
        command(2, words, *ARGUMENTS, *pace, "--out", "shot", restarts=count), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + LIMIT + 10 * count
    while killed < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(draw.uniform(0.2, 0.6))
        saved = steps_saved("shot")
        ranks = workers(process.pid)
        if saved and len(ranks) == 2 and saved[-1] > killed:
            os.kill(draw.choice(ranks), signal.SIGKILL)
            killed += 1
            wait_for(lambda before=set(ranks): not before & set(workers(process.pid)) or process.poll() is not None)
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said[-3000:]
    print(f"{killed} ranks killed, nothing lost")
    assert killed == count
    assert difference("calm", "shot") == 0


def wait_for(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "a rank that was killed was not replaced"
        time.sleep(0.05)


def workers(launcher: int) -> list[int]:
    """Return the processes that a launcher has started."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True)
    return [int(number) for number in found.stdout.split()]


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' ps for the children of a process")
def test_a_rank_that_is_lost_costs_nothing(words: Path) -> None:
    kills(words, 1, 700)


def forked_ranks(folder: str, arguments: list[str], kills: bool) -> dict[str, Any]:
    """Train with two forked processes, each with the environment that torchrun sets; return their exit codes.

    Both print to the file `stdout`. With `kills`, the first process is killed once there is a checkpoint in `run`. Forked,
    they do not import torch again.
    """
    from unrolled.cli.main import main

    os.chdir(folder)
    os.dup2(os.open("stdout", os.O_WRONLY | os.O_CREAT), 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    ranks = []
    for rank in range(2):
        ranks.append(os.fork())
        if ranks[-1] == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os._exit(main(["train", *arguments]))
    if kills:
        wait_for(lambda: (steps_saved("run") or [0])[-1] > 0)
        os.kill(ranks[0], signal.SIGKILL)
    return {"codes": [os.waitstatus_to_exitcode(os.waitpid(rank, 0)[1]) for rank in ranks]}


@pytest.mark.slow
def test_a_lost_process_is_reported_in_a_sentence(words: Path, forks: Forks) -> None:
    arguments = [str(words), *ARGUMENTS, "--steps", "100000", "--save-every", "0.2", "--out", "run"]
    done = forks.call(forked_ranks, Path.cwd(), arguments, True, most=LIMIT)
    assert done.value["codes"][0] == -signal.SIGKILL
    assert done.value["codes"][1] > 0
    assert done.err.count("Another process of this training was lost") == 1, done.err[-3000:]
    assert "[rank" not in done.err, "a traceback"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux' ps for the children of a process")
def test_twenty_ranks_that_are_lost_cost_nothing(words: Path) -> None:
    kills(words, 20, 4000)


@pytest.mark.long
def test_a_stop_saves_once_and_resumes(words: Path) -> None:
    train(1, words, *ARGUMENTS, "--steps", 300, "--out", "straight")
    process = subprocess.Popen(
        command(2, words, *ARGUMENTS, "--steps", 300, "--save-every", "0.1", "--out", "broken"),
        stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(lambda: steps_saved("broken") or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not list(Path("broken").rglob("*.partial-*"))
    train(1, "--resume", "broken")
    assert difference("straight", "broken") < 1e-3  # 300 steps of AdamW make more of the last digits


@pytest.mark.long
def test_processes_start_from_a_base_and_stop_together(words: Path) -> None:
    train(1, words, *ARGUMENTS, "--steps", 4, "--out", "base")
    words.write_text(sentences(300, seed=1) + "é", "utf-8")
    flags = ("--from", "base", "--steps", 60, "--eval-every", 2, "--patience", 2, "--lr", 1e-12, "--weight-decay", 0)
    for ranks, out in ((1, "one"), (2, "two")):
        train(ranks, words, *ARGUMENTS, *flags, "--no-calibrate", "--out", out)
        assert steps_saved(out)[-1] < 60
    assert steps_saved("one") == steps_saved("two")
    assert difference("one", "two") < 1e-6


@pytest.mark.long
def test_a_short_text_is_shared_in_fewer_columns(tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text(sentences(300)[:1100], "utf-8")  # fifteen lanes of 64 steps
    settings = ("--hidden", "8", "--steps", "2", "--sample-length", "5")
    assert "the text is short: batch" in train(2, text, *settings, "--out", "two").stderr
    assert len(weights("two")["state/0"]) % 2 == 0


def test_what_stops_the_first_rank_is_reported_once(forks: Forks) -> None:
    done = forks.call(forked_ranks, Path.cwd(), ["missing.txt", "--steps", "2"], False, most=LIMIT)
    assert all(code > 0 for code in done.value["codes"]), done
    assert done.err.count("No such file: missing.txt") == 1
    assert "The main process failed" in done.err
    assert "[rank1]" not in done.err, "a traceback"


@pytest.mark.long
def test_a_batch_that_cannot_be_shared_equally_is_refused(words: Path) -> None:
    done = subprocess.run(
        command(2, words, *ARGUMENTS, "--batch", 7, "--steps", 2, "--out", "run"), capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode != 0
    assert "A batch of 7 cannot be shared equally among 2 processes" in done.stderr


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("rows", [1, 2, 4, 7])
def test_parts_of_a_batch_are_the_batch(size: int, rows: int) -> None:
    draw = np.random.default_rng(rows)
    targets = draw.integers(0, 9, (5, rows))
    for row in range(rows):
        targets[draw.integers(1, 6) :, row] = IGNORE_INDEX
    batch = Batch(draw.integers(0, 9, (5, rows)), targets, None, False, int((targets != IGNORE_INDEX).sum()))
    pairs = PairBatch(batch.inputs, np.full(rows, 5), targets, np.arange(rows), batch.num_targets + rows)
    for whole in (batch, pairs):
        parts = [shard_batch(whole, ProcessGroup(rank, size)) for rank in range(size)]
        assert sum(part.num_targets for part in parts) == whole.num_targets
        assert sum(part.loss_weight for part in parts) == pytest.approx(size)
        assert all(part.batch_size >= 1 for part in parts)
        for part in parts:
            assert part.loss_weight == pytest.approx(part.num_targets * size / whole.num_targets)
