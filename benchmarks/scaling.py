"""How training scales over several processes: the costs of a step, measured, and a model of 8 to 512 processes.

    torchrun --nproc-per-node 2 benchmarks/scaling.py --measure > benchmarks/costs.json
    python benchmarks/scaling.py benchmarks/costs.json
    torchrun --nproc-per-node 2 benchmarks/scaling.py --compare

`--measure` times the parts of a step, and whole steps of one process and of two, one thread each. From the costs in a file, the
script prints a table: the parallel efficiency of N processes over networks of several speeds, with the batch per process kept
(weak scaling) or the total batch kept (strong scaling). The model assumes a processor for each process. `--compare` runs two
processes of one thread and one process of two threads on the same two cores, a few steps of each in turn.
"""

import argparse
import dataclasses
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unrolled.text.batching import Batch
    from unrolled.training.distributed import ProcessGroup
    from unrolled.training.train_step import TrainStep

PROCESSES = (8, 16, 32, 64, 128, 256, 512)
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}


@dataclass(frozen=True)
class Costs:
    """The costs of a step, in seconds and bytes.

    Forward and backward take `fixed + lanes * lane`, where `lanes` is the number of batch columns. `update` is the work that
    every process repeats after that; `orthogonalize` is Muon's work on all `blocks`, which the processes share if they divide
    evenly. `gradient_bytes` are averaged and `block_bytes` gathered in a step. A message takes `latency`, and its bytes over
    `bandwidth`. The time of a step varies between processes by `spread` (a standard deviation, as a fraction), and the
    slowest one counts.
    """

    fixed: float
    lane: float
    update: float
    orthogonalize: float
    blocks: int
    gradient_bytes: int
    block_bytes: int
    latency: float
    bandwidth: float
    spread: float
    lanes: int

    def compute(self, lanes: float) -> float:
        """Return the seconds of forward and backward for this number of batch columns."""
        return self.fixed + self.lane * lanes

    def all_reduce(self, processes: int) -> float:
        """Return the seconds of averaging the gradients with a ring all-reduce."""
        rounds = 2 * (processes - 1)
        return rounds * (self.latency + self.gradient_bytes / processes / self.bandwidth)

    def agreement(self, processes: int) -> float:
        """Return the seconds of the all-reduce of five numbers that ends a step."""
        return 2 * self.latency * (processes - 1).bit_length()

    def muon(self, processes: int) -> float:
        """Return the seconds of orthogonalizing the blocks, and of gathering those of the other processes."""
        if processes == 1 or self.blocks % processes:
            return self.orthogonalize
        gather = (processes - 1) * (self.latency + self.block_bytes / processes / self.bandwidth)
        return self.orthogonalize / processes + gather

    def step(self, processes: int, lanes: int, draw: random.Random, overlap: float = 0.5, count: int = 200) -> float:
        """Return the mean seconds of `count` simulated steps of `processes` with `lanes` batch columns each.

        `overlap` is the fraction of the backward pass (two thirds of `compute`) that hides the all-reduce.
        """
        plain = self.compute(lanes)
        hidden = overlap * plain * 2 / 3 if processes > 1 else 0.0
        visible = max(0.0, self.all_reduce(processes) - hidden)
        after = visible + self.update + self.muon(processes) + self.agreement(processes)
        slowest = [1.0]
        if processes > 1:
            slowest = [max(draw.gauss(1.0, self.spread) for _ in range(processes)) for _ in range(count)]
        return plain * max(1.0, statistics.fmean(slowest)) + after


def efficiency(costs: Costs, processes: int, weak: bool, overlap: float = 0.5) -> float:
    """Return the parallel efficiency: the speed of all processes over `processes` times the speed of one.

    In strong scaling, each process keeps at least one batch column.
    """
    draw = random.Random(processes)
    one = costs.step(1, costs.lanes, draw) / costs.lanes
    lanes = costs.lanes if weak else max(1, costs.lanes // processes)
    return one / (costs.step(processes, lanes, draw, overlap) / lanes)


def predicted(costs: Costs) -> dict[str, float]:
    """Return the seconds of a step of one process, and of two that share its batch on one machine.

    There the all-reduce and the backward pass need the same cores, so neither hides the other.
    """
    draw = random.Random(0)
    return {"1": costs.step(1, costs.lanes, draw), "2": costs.step(2, costs.lanes // 2, draw, overlap=0.0)}


def table(costs: Costs) -> str:
    """Return the efficiencies as a Markdown table."""
    lines = [
        "| network, scaling | " + " | ".join(str(processes) for processes in PROCESSES) + " |",
        "|---" * (len(PROCESSES) + 1) + "|",
    ]
    for name, bandwidth in NETWORKS.items():
        on_network = dataclasses.replace(costs, bandwidth=bandwidth)
        for kind, weak, lanes in (("weak", True, costs.lanes), ("strong", False, max(PROCESSES))):
            sized = dataclasses.replace(on_network, lanes=lanes)
            row = (f"{efficiency(sized, processes, weak):.0%}" for processes in PROCESSES)
            lines.append(f"| {name}, {kind} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def compare(hidden: int, lanes: int, steps: int, rounds: int = 40) -> list[str]:
    """Return the speed of two processes with `lanes` batch columns together, and with `lanes` each, relative to one.

    The one process runs in a subprocess, as a training does, and waits for its turn.
    """
    from unrolled.training.distributed import join

    process_group = join()
    if process_group.world_size != 2:
        raise SystemExit("--compare wants two processes: torchrun --nproc-per-node 2")
    kinds = {f"two, {count} lanes each": train_step_of(hidden, count, steps, process_group) for count in (lanes // 2, lanes)}
    rates: dict[str, list[float]] = {name: [] for name in ("one", *kinds)}
    one = alone(hidden, lanes, steps) if process_group.is_main else None
    for _ in range(rounds):
        if one and one.stdin and one.stdout:
            one.stdin.write("go\n")
            one.stdin.flush()
            rates["one"].append(float(one.stdout.readline()))
        process_group.all_reduce_sum([0.0])
        for name, (train_step, batch) in kinds.items():
            rates[name].append(rate_of(train_step, batch, process_group))
    if one:
        one.communicate()
    process_group.close()
    if not process_group.is_main:
        return []
    lines = [f"one process of two threads, {lanes} lanes: {statistics.median(rates['one']):,.0f} symbols a second"]
    for name in kinds:
        ratios = [two / one for one, two in zip(rates["one"][5:], rates[name][5:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"{name}: {middle:.2f} times as many (quartiles {low:.2f}, {high:.2f})")
    return lines


def rate_of(train_step: "TrainStep", batch: "Batch", process_group: "ProcessGroup", turns: int = 5) -> float:
    """Return the symbols per second of all processes together: the median of a few steps, after one warm-up step."""
    took = []
    for _ in range(turns + 1):
        started = time.perf_counter()
        loss, _ = train_step.step(batch, 0.0, 0)
        process_group.all_reduce_sum([0.0] * 4 + [float(loss)])
        took.append(time.perf_counter() - started)
    return process_group.world_size * batch.num_targets / statistics.median(took[1:])


def alone(*sizes: int) -> "subprocess.Popen[str]":
    """Start one process of two threads that prints its symbols per second for each line on its standard input."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")}
    command = [sys.executable, __file__, "--one", *map(str, sizes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def take_turns(hidden: int, lanes: int, steps: int) -> None:
    """Run as the subprocess that `alone` starts."""
    from unrolled.training.distributed import SINGLE_PROCESS

    train_step, batch = train_step_of(hidden, lanes, steps, SINGLE_PROCESS, threads=2)
    for _ in sys.stdin:
        print(rate_of(train_step, batch, SINGLE_PROCESS), flush=True)


def train_step_of(
    hidden: int, lanes: int, steps: int, process_group: "ProcessGroup", threads: int = 1
) -> "tuple[TrainStep, Batch]":
    """Return a training step of two layers with `hidden` units, and a batch of `lanes` columns for it."""
    import numpy as np
    import torch

    from unrolled.nn.device import select_device
    from unrolled.nn.kernels.select import set_kernel
    from unrolled.nn.language_model import RecurrentLM
    from unrolled.options import MachineOptions, ModelOptions, TrainingOptions
    from unrolled.text.batching import Batch
    from unrolled.training.train_step import TrainStep

    torch.manual_seed(0)
    model = RecurrentLM(65, ModelOptions(hidden=hidden, dropout=0.1)).train()
    set_kernel(model, "auto")
    options = TrainingOptions(batch=lanes, bptt=steps, optimizer="muon")
    ids = np.random.default_rng(1).integers(65, size=(2, steps, lanes))
    train_step = TrainStep(model, select_device(MachineOptions(threads=threads)), options, lanes, process_group)
    return train_step, Batch(ids[0], ids[1], None, True, ids[0].size)


def measure(hidden: int, lanes: int, steps: int) -> dict[str, dict[str, float]]:
    """Return the costs of a step of two layers with `hidden` units, and the seconds of a whole step of one process and two."""
    import torch

    from unrolled.training.distributed import SINGLE_PROCESS, join
    from unrolled.training.optim import clip_gradient, polar_express

    process_group = join()
    if process_group.world_size != 2:
        raise SystemExit("--measure wants two processes: torchrun --nproc-per-node 2")
    few, half = train_step_of(hidden, lanes // 2, steps, SINGLE_PROCESS)
    alone, full = train_step_of(hidden, lanes, steps, SINGLE_PROCESS)
    pair, shard = train_step_of(hidden, lanes // 2, steps, process_group)
    squares = torch.randn(16, hidden, hidden)
    gradients = torch.zeros(sum(weight.numel() for weight in alone.model.parameters()))

    alone.step(full, 0.0, 0)
    work: dict[str, Callable[[], object]] = {
        "half": lambda: few._accumulate_gradients(half, few.carried_state),
        "full": lambda: alone._accumulate_gradients(full, alone.carried_state),
        "clip": lambda: clip_gradient(alone.model.parameters(), alone.options),
        "update": lambda: alone.optimizer.step(0.0),
        "orthogonalize": lambda: polar_express(squares),
        "agreed": lambda: process_group.all_reduce_sum([0.0] * 5),
        "exchanged": lambda: process_group.all_gather(gradients),
        "one": lambda: alone.step(full, 0.0, 0),
        "two": lambda: (pair.step(shard, 0.0, 0), process_group.all_reduce_sum([0.0] * 5)),
    }
    seconds = timings(work, process_group.all_reduce_sum)
    process_group.close()
    if not process_group.is_main:
        return {}
    sizes = {"blocks": 16, "gradient_bytes": gradients.nbytes, "block_bytes": 2 * squares.numel(), "lanes": lanes}
    return summary(seconds, sizes)


def timings(
    work: dict[str, Callable[[], object]], barrier: Callable[[list[float]], object], rounds: int = 60
) -> dict[str, list[float]]:
    """Return the seconds of each piece of work, run in both processes at once; in turn, since the machine's speed changes."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            barrier([0.0])
            started = time.perf_counter()
            do()
            found[name].append(time.perf_counter() - started)
    return {name: values[rounds // 6 :] for name, values in found.items()}


def summary(seconds: dict[str, list[float]], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """Return the costs of a step from the times of its parts, and the times of whole steps."""
    took = {name: statistics.median(values) for name, values in seconds.items()}
    quarters = statistics.quantiles(seconds["full"], n=4)
    lane = max(0.0, took["full"] - took["half"]) / (sizes["lanes"] / 2)
    costs = {
        "fixed": took["full"] - lane * sizes["lanes"],
        "lane": lane,
        "update": took["clip"] + max(0.0, took["update"] - took["orthogonalize"]),
        "orthogonalize": took["orthogonalize"],
        "latency": took["agreed"] / 2,
        "bandwidth": sizes["gradient_bytes"] / max(1e-9, took["exchanged"] - took["agreed"]),
        "spread": (quarters[2] - quarters[0]) / 1.35 / took["full"],
    }
    return {"costs": costs | sizes, "steps": {"1": took["one"], "2": took["two"]}}


def main() -> None:
    """Measure the costs, or print the table of those in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", nargs="?", type=Path)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        if found := measure(256, 32, 64):
            print(json.dumps(found))
    elif arguments.one:
        take_turns(*arguments.one)
    elif arguments.compare:
        print("".join(f"{line}\n" for line in compare(256, 32, 64)), end="")
    elif arguments.costs:
        measured = json.loads(arguments.costs.read_text("utf-8"))
        costs = Costs(**measured["costs"])
        expected = predicted(costs)
        for count, step in measured["steps"].items():
            print(f"{count} process(es), {costs.lanes} lanes: {1e3 * step:.1f} ms, by the model {1e3 * expected[count]:.1f}")
        print(f"\n{table(costs)}")
    else:
        parser.error("give a file of costs, --measure or --compare")


if __name__ == "__main__":
    main()
