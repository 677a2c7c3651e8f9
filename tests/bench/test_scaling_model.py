"""The model of benchmarks/scaling.py: it reproduces what was measured, and scales plausibly."""

import dataclasses
import json
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from support.modules import load_file

ROOT = Path(__file__).parents[2]
MEASURED = json.loads((ROOT / "benchmarks" / "costs.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    return load_file("scaling", ROOT / "benchmarks" / "scaling.py")


@pytest.fixture
def costs(scaling: ModuleType) -> Any:
    return scaling.Costs(**MEASURED["costs"])


def test_what_was_measured_comes_back(scaling: ModuleType, costs: Any) -> None:
    predicted = scaling.predicted(costs)
    for processes, step in MEASURED["steps"].items():
        assert predicted[processes] == pytest.approx(step, rel=0.1)


def test_one_process_sends_nothing(costs: Any) -> None:
    far = dataclasses.replace(costs, latency=1e9, bandwidth=1e-9)
    assert far.all_reduce(1) == far.agreement(1) == 0
    assert far.step(1, costs.lanes, random.Random(1)) == costs.compute(costs.lanes) + costs.update + costs.orthogonalize


def test_work_that_is_all_shared_scales_whole(scaling: ModuleType, costs: Any) -> None:
    ideal = dataclasses.replace(
        costs, fixed=0.0, update=0.0, orthogonalize=0.0, block_bytes=0, latency=0.0, bandwidth=1e30, spread=0.0, lanes=512
    )
    for processes in scaling.PROCESSES:
        for weak in (True, False):
            assert scaling.efficiency(ideal, processes, weak) == pytest.approx(1)


@pytest.mark.parametrize("weak", [True, False])
def test_a_better_network_is_never_worse(scaling: ModuleType, costs: Any, weak: bool) -> None:
    for processes in scaling.PROCESSES:
        fast = dataclasses.replace(costs, bandwidth=10 * costs.bandwidth)
        near = dataclasses.replace(costs, latency=costs.latency / 10)
        here = scaling.efficiency(costs, processes, weak)
        assert scaling.efficiency(fast, processes, weak) >= here
        assert scaling.efficiency(near, processes, weak) >= here
        assert scaling.efficiency(costs, processes, weak, overlap=0.0) <= here


def test_a_ring_moves_twice_the_gradients_whatever_its_size(costs: Any) -> None:
    silent = dataclasses.replace(costs, latency=0.0)
    for processes in (2, 8, 512):
        share = 2 * (processes - 1) / processes
        assert silent.all_reduce(processes) == pytest.approx(share * costs.gradient_bytes / costs.bandwidth)


def test_the_table_in_the_documents_is_the_one_that_is_printed(scaling: ModuleType, costs: Any) -> None:
    assert scaling.table(costs) in (ROOT / "docs" / "scaling.md").read_text("utf-8")
