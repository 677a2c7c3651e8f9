"""How training scales over many processes: a step's cost measured here, and the same step simulated on 8 to 512 ranks.

    torchrun --nproc-per-node 2 benchmarks/scaling.py --measure > benchmarks/costs.json
    python benchmarks/scaling.py benchmarks/costs.json
    torchrun --nproc-per-node 2 benchmarks/scaling.py --beside

`--measure` times the parts of a step, and whole steps of one rank and of two, one thread each. The costs in a file make a
table: what share of N times one rank's speed N ranks reach, with the lanes of a rank kept (weak) or those of all together
(strong), over networks of several speeds. Each rank has a processor of its own. `--beside` compares two processes of one thread
with one process of two, on the same two cores, a few steps of each in turn.
"""

import argparse
import dataclasses
import json
import math
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
    from unrolled.data.batches import Batch
    from unrolled.training.distributed import Ranks
    from unrolled.training.learner import Learner

RANKS = (8, 16, 32, 64, 128, 256, 512)
NETWORKS = {"1 Gbit/s": 0.125e9, "10 Gbit/s": 1.25e9, "100 Gbit/s": 12.5e9}


@dataclass(frozen=True)
class Costs:
    """What a step is made of, in seconds and bytes.

    The pass forward and back takes `fixed + lanes * lane`. `update` is what every rank does alike after it; `turning` is Muon's
    work on all blocks, which ranks share where they divide evenly. `gradients` are the bytes averaged, `turned` those gathered.
    A message takes `latency` and its bytes over `bandwidth`. Ranks differ by `spread` of a step, and the slowest sets the pace.
    `handed` is what two ranks of one machine need instead, in memory that they share: gradients, blocks, the five numbers.
    """

    fixed: float
    lane: float
    update: float
    turning: float
    blocks: int
    gradients: int
    turned: int
    latency: float
    bandwidth: float
    spread: float
    handed: float
    lanes: int

    def compute(self, lanes: float) -> float:
        """Return the seconds of forward and backward on so many lanes."""
        return self.fixed + self.lane * lanes

    def exchange(self, ranks: int) -> float:
        """Return the seconds of averaging the gradients in a ring, which leaves each rank with all of them."""
        rounds = 2 * (ranks - 1)
        return rounds * (self.latency + self.gradients / ranks / self.bandwidth)

    def agreement(self, ranks: int) -> float:
        """Return the seconds of the sum of five numbers that ends a step."""
        return 2 * self.latency * (ranks - 1).bit_length()

    def turn(self, ranks: int) -> float:
        """Return the seconds of turning the blocks, and of gathering what the others turned."""
        if ranks == 1 or self.blocks % ranks:
            return self.turning
        return self.turning / ranks + (ranks - 1) * (self.latency + self.turned / ranks / self.bandwidth)

    def step(self, ranks: int, lanes: int, draw: random.Random, overlap: float = 0.5, count: int = 200) -> float:
        """Return the mean seconds of a step of `ranks` with `lanes` each, over `count` steps drawn.

        `overlap` is the share of the backward pass, itself two thirds of `compute`, behind which an exchange can hide.
        """
        plain = self.compute(lanes)
        hidden = overlap * plain * 2 / 3 if ranks > 1 else 0.0
        after = max(0.0, self.exchange(ranks) - hidden) + self.update + self.turn(ranks) + self.agreement(ranks)
        slowest = [max(draw.gauss(1.0, self.spread) for _ in range(ranks)) for _ in range(count)] if ranks > 1 else [1.0]
        return plain * max(1.0, statistics.fmean(slowest)) + after


def efficiency(costs: Costs, ranks: int, weak: bool, overlap: float = 0.5) -> float:
    """Return the share of `ranks` times the speed of one that they reach; strong scaling leaves each at least one lane."""
    draw = random.Random(ranks)
    one = costs.step(1, costs.lanes, draw) / costs.lanes
    lanes = costs.lanes if weak else max(1, costs.lanes // ranks)
    return one / (costs.step(ranks, lanes, draw, overlap) / lanes)


def predicted(costs: Costs) -> dict[str, float]:
    """Return the seconds of a step of one rank, and of two that share its lanes and one machine."""
    one, slower = costs.step(1, costs.lanes, random.Random(0)), 1 + costs.spread / math.pi**0.5  # of two, on average
    return {"1": one, "2": slower * costs.compute(costs.lanes / 2) + costs.update + costs.turning / 2 + costs.handed}


def table(costs: Costs) -> str:
    """Return the efficiencies as a Markdown table."""
    lines = ["| network, scaling | " + " | ".join(str(ranks) for ranks in RANKS) + " |", "|---" * (len(RANKS) + 1) + "|"]
    for name, bandwidth in NETWORKS.items():
        there = dataclasses.replace(costs, bandwidth=bandwidth)
        for kind, weak, lanes in (("weak", True, costs.lanes), ("strong", False, max(RANKS))):
            sized = dataclasses.replace(there, lanes=lanes)
            row = (f"{efficiency(sized, ranks, weak):.0%}" for ranks in RANKS)
            lines.append(f"| {name}, {kind} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def beside(hidden: int, lanes: int, steps: int, rounds: int = 40) -> list[str]:
    """Return a line for two processes that share `lanes`, and for two of as many each: symbols a second over one process's.

    The one is a process of its own, as a training is, and waits for its turns.
    """
    from unrolled.training.distributed import join

    ranks = join()
    if ranks.size != 2:
        raise SystemExit("--beside wants two processes: torchrun --nproc-per-node 2")
    kinds = {f"two, {own} lanes each": learner_of(hidden, own, steps, ranks) for own in (lanes // 2, lanes)}
    rates: dict[str, list[float]] = {name: [] for name in ("one", *kinds)}
    one = alone(hidden, lanes, steps) if ranks.first else None
    for _ in range(rounds):
        if one and one.stdin and one.stdout:
            one.stdin.write("go\n")
            one.stdin.flush()
            rates["one"].append(float(one.stdout.readline()))
        ranks.total([0.0])
        for name, (learner, batch) in kinds.items():
            rates[name].append(rate_of(learner, batch, ranks))
    if one:
        one.communicate()
    ranks.close()
    if not ranks.first:
        return []
    lines = [f"one process of two threads, {lanes} lanes: {statistics.median(rates['one']):,.0f} symbols a second"]
    for name in kinds:
        ratios = [two / one for one, two in zip(rates["one"][5:], rates[name][5:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        lines.append(f"{name}: {middle:.2f} times as many (quartiles {low:.2f}, {high:.2f})")
    return lines


def rate_of(learner: "Learner", batch: "Batch", ranks: "Ranks", turns: int = 5) -> float:
    """Return the symbols a second that all ranks learn from together: the median of a few steps, after one that warms up."""
    took = []
    for _ in range(turns + 1):
        started = time.perf_counter()
        loss, _ = learner.step(batch, 0.0, 0)
        ranks.total([0.0] * 4 + [float(loss)])
        took.append(time.perf_counter() - started)
    return ranks.size * batch.symbols / statistics.median(took[1:])


def alone(*sizes: int) -> "subprocess.Popen[str]":
    """Start one process of two threads that says its symbols a second for each line that it is told."""
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")}
    command = [sys.executable, __file__, "--one", *map(str, sizes)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def take_turns(hidden: int, lanes: int, steps: int) -> None:
    """Be that process."""
    from unrolled.training.distributed import ALONE

    learner, batch = learner_of(hidden, lanes, steps, ALONE, threads=2)
    for _ in sys.stdin:
        print(rate_of(learner, batch, ALONE), flush=True)


def learner_of(hidden: int, lanes: int, steps: int, ranks: "Ranks", threads: int = 1) -> "tuple[Learner, Batch]":
    """Return what takes steps with two layers of `hidden` units on so many lanes, and what it learns from."""
    import numpy as np
    import torch

    from unrolled.data.batches import Batch
    from unrolled.nn.kernels import use
    from unrolled.nn.machine import choose_machine
    from unrolled.nn.model import SequenceModel
    from unrolled.options import MachineOptions, ModelOptions, TrainingOptions
    from unrolled.training.learner import Learner

    torch.manual_seed(0)
    model = SequenceModel(65, ModelOptions(hidden=hidden, dropout=0.1)).train()
    use(model, "auto")
    options = TrainingOptions(batch=lanes, bptt=steps, optimiser="muon")
    ids = np.random.default_rng(1).integers(65, size=(2, steps, lanes))
    learner = Learner(model, choose_machine(MachineOptions(threads=threads)), options, lanes, ranks)
    return learner, Batch(ids[0], ids[1], None, True, ids[0].size)


def measure(hidden: int, lanes: int, steps: int) -> dict[str, dict[str, float]]:
    """Return what a step of two layers of `hidden` units costs, and the seconds of whole steps of one rank and of two."""
    import torch

    from unrolled.training.distributed import ALONE, Ranks, join
    from unrolled.training.optim import clip_gradient, orthogonalise

    ranks = join()
    if ranks.size != 2:
        raise SystemExit("--measure wants two processes: torchrun --nproc-per-node 2")
    afar = Ranks(ranks.rank, ranks.size)  # these two as if they were on two machines
    few, half = learner_of(hidden, lanes // 2, steps, ALONE)
    alone, full = learner_of(hidden, lanes, steps, ALONE)
    pair, own = learner_of(hidden, lanes // 2, steps, ranks)
    near = ranks.neighbours
    if near is None:
        raise SystemExit("--measure wants the native library, and room for shared memory")
    squares = torch.randn(16, hidden, hidden)
    gradients = torch.zeros(sum(weight.numel() for weight in alone.model.parameters()))

    def handed() -> None:
        near.mean(gradients, alone.machine.dtype)
        ranks.parts(ranks.place((8, hidden, hidden), torch.bfloat16))
        near.total([0.0] * 5)

    alone.step(full, 0.0, 0)
    work: dict[str, Callable[[], object]] = {
        "half": lambda: few._gradients(half, few.carried),
        "full": lambda: alone._gradients(full, alone.carried),
        "clip": lambda: clip_gradient(alone.model.parameters(), alone.options),
        "update": lambda: alone.optimiser.step(0.0),
        "turning": lambda: orthogonalise(squares),
        "agreed": lambda: afar.total([0.0] * 5),
        "exchanged": lambda: afar.gather(gradients),
        "handed": handed,
        "one": lambda: alone.step(full, 0.0, 0),
        "two": lambda: (pair.step(own, 0.0, 0), ranks.total([0.0] * 5)),
    }
    seconds = timings(work, ranks.total)
    ranks.close()
    if not ranks.first:
        return {}
    return summary(seconds, {"blocks": 16, "gradients": gradients.nbytes, "turned": 2 * squares.numel(), "lanes": lanes})


def timings(
    work: dict[str, Callable[[], object]], meet: Callable[[list[float]], object], rounds: int = 60
) -> dict[str, list[float]]:
    """Return the seconds that each work took, both ranks at the same time; in turn, since the machine's own speed changes."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, do in work.items():
            meet([0.0])
            started = time.perf_counter()
            do()
            found[name].append(time.perf_counter() - started)
    return {name: values[rounds // 6 :] for name, values in found.items()}


def summary(seconds: dict[str, list[float]], sizes: dict[str, int]) -> dict[str, dict[str, float]]:
    """Return the costs of a step out of what its parts took, and what whole steps took."""
    took = {name: statistics.median(values) for name, values in seconds.items()}
    quarters = statistics.quantiles(seconds["full"], n=4)
    lane = max(0.0, took["full"] - took["half"]) / (sizes["lanes"] / 2)
    costs = {
        "fixed": took["full"] - lane * sizes["lanes"],
        "lane": lane,
        "update": took["clip"] + max(0.0, took["update"] - took["turning"]),
        "turning": took["turning"],
        "latency": took["agreed"] / 2,
        "bandwidth": sizes["gradients"] / max(1e-9, took["exchanged"] - took["agreed"]),
        "handed": took["handed"],
        "spread": (quarters[2] - quarters[0]) / 1.35 / took["full"],
    }
    return {"costs": costs | sizes, "steps": {"1": took["one"], "2": took["two"]}}


def main() -> None:
    """Measure the costs, or print the table of those in a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("costs", nargs="?", type=Path)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--beside", action="store_true")
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        if found := measure(256, 32, 64):
            print(json.dumps(found))
    elif arguments.one:
        take_turns(*arguments.one)
    elif arguments.beside:
        print("".join(f"{line}\n" for line in beside(256, 32, 64)), end="")
    elif arguments.costs:
        measured = json.loads(arguments.costs.read_text("utf-8"))
        costs = Costs(**measured["costs"])
        for ranks, step in predicted(costs).items():
            print(f"{ranks} rank(s), {costs.lanes} lanes: {1e3 * step:.1f} ms, measured {1e3 * measured['steps'][ranks]:.1f}")
        print(f"\n{table(costs)}")
    else:
        parser.error("give a file of costs, --measure or --beside")


if __name__ == "__main__":
    main()
