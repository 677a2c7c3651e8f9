"""The benchmark measures what it says: the peers are what people write, the clock is fair, the picture is one."""

import json
import math
import os
import time
import xml.etree.ElementTree as Xml
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unrolled.bench import busy, learning
from unrolled.bench.benchmarks import BENCHMARKS, run_interleaved, torch_lstm_has_bfloat16
from unrolled.bench.peers import PlainLSTM, PlainLSTMCells, SmallGPT
from unrolled.bench.process import BenchProcess
from unrolled.bench.workloads import WORKLOADS
from unrolled.errors import DataError, UnrolledError
from unrolled.nn.kernels.extension import native_module
from unrolled.nn.kernels.native import has_bfloat16
from unrolled.views.svg_curves import loss_curves_svg

TINY: dict[str, dict[str, Any]] = {
    "our step": {"layers": 1, "hidden": 8, "batch": 2, "bptt": 4, "optimizer": "adamw"},
    "peer step": {"layers": 1, "hidden": 8, "batch": 2, "bptt": 4, "autocast": True},
    "layer": {"cell": "gru", "hidden": 8, "batch": 2, "bptt": 4, "kernel": "reference", "precision": "bfloat16"},
    "product": {"size": 16, "precision": "float32"},
    "our sampling": {"layers": 1, "hidden": 8, "streams": 2, "length": 3, "precision": "bfloat16"},
    "peer sampling": {"layers": 1, "hidden": 8, "streams": 2, "length": 3, "cells": True},
    "onnx sampling": {"layers": 2, "hidden": 8, "streams": 2, "length": 3},
    "our encoding": {"megabytes": 1},
    "peer encoding": {"megabytes": 1},
}
WORK = {
    "our step": 8,
    "peer step": 8,
    "layer": 8,
    "product": 2 * 16**3,
    "our sampling": 6,
    "peer sampling": 6,
    "onnx sampling": 6,
    "our encoding": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WORKLOADS if name != "matrix peak"])
def test_subjects_do_the_work_they_say(name: str) -> None:
    settings = TINY[name] | ({"autocast": torch_lstm_has_bfloat16()} if name == "peer step" else {})
    subject = WORKLOADS[name](**settings)
    subject()
    subject()
    assert subject.work == WORK.get(name, 1)


@pytest.mark.skipif(native_module() is None, reason="no native kernels here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_matrix_peak_counts_its_work(precision: str) -> None:
    if precision == "bfloat16" and not has_bfloat16():
        pytest.skip("no products in bfloat16 here")
    narrow = precision == "bfloat16"
    one = native_module().multiply(narrow, 1, 1)
    assert one >= 2 * 4 * 12  # a product and an addition for each number of twelve registers
    assert native_module().multiply(narrow, 2, 50) == 100 * one
    with pytest.raises(ValueError, match="rounds must be at least 1"):
        native_module().multiply(narrow, 1, 0)


@pytest.mark.serial
@pytest.mark.skipif(native_module() is None, reason="no native kernels here")
@pytest.mark.skipif("UNROLLED_INSTRUCTIONS" in os.environ, reason="torch uses more instructions than the native kernels may")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_product_goes_beyond_the_matrix_peak(precision: str) -> None:
    if precision == "bfloat16" and not has_bfloat16():
        pytest.skip("no products in bfloat16 here")
    peak, torchs = WORKLOADS["matrix peak"](precision=precision), WORKLOADS["product"](size=512, precision=precision)
    best: dict[Any, float] = {}
    for subject in (peak, torchs) * 5:
        start = time.perf_counter()
        subject()
        rate = subject.work / (time.perf_counter() - start)
        best[subject] = max(rate, best.get(subject, 0))
    assert best[peak] > 0.5 * best[torchs]  # half, for what others do on the machine meanwhile


@pytest.mark.slow
def test_contenders_take_turns_in_processes_of_their_own() -> None:
    given = {name: (name, TINY[name]) for name in ("product", "peer sampling")}
    rates = run_interleaved(given, rounds=2)
    assert set(rates) == set(given)
    assert all(0 < rate < math.inf for rate in rates.values())


@pytest.mark.slow
def test_a_contender_that_dies_is_one_sentence(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnrolledError, match="'product' ended with code 1"):
        BenchProcess("product", size=-1, precision="float32")
    capfd.readouterr()


def test_the_peers_loops_are_the_same_network() -> None:
    torch.manual_seed(0)
    layer, cells = PlainLSTM(7, 5, 6, 2), PlainLSTMCells(7, 5, 6, 2)
    kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    names = {f"{kind}_l{index}": f"cells.{index}.{kind}" for index in range(2) for kind in kinds}
    own = {name.replace("lstm.", ""): weight for name, weight in layer.state_dict().items()}
    cells.load_state_dict({names.get(name, name): weight for name, weight in own.items()})
    ids = torch.randint(7, (4, 3))
    whole, _ = layer(ids)
    state = None
    for t in range(4):
        logits, state = cells(ids[t], state)
        torch.testing.assert_close(logits, whole[t])


def test_the_gpt_sees_no_future() -> None:
    torch.manual_seed(0)
    model = SmallGPT(11, context=8, width=16, num_heads=2, num_layers=2)
    ids = torch.randint(11, (2, 8))
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % 11
    one, other = model(ids), model(changed)
    torch.testing.assert_close(one[:, :5], other[:, :5])
    assert not torch.allclose(one[:, 5:], other[:, 5:])
    assert sum(weight.numel() for weight in SmallGPT(65).parameters()) == 65 * 128 + 64 * 128 + 4 * (12 * 128**2 + 256) + 128


def test_a_peer_that_knows_nothing_loses_the_logarithm_of_its_symbols() -> None:
    model = PlainLSTM(7, 5, 6, 1)
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    ids = np.random.default_rng(0).integers(7, size=2500).astype(np.uint8)
    for window in (100, len(ids) - 1):
        assert learning._recurrent_loss(model, ids, window) == pytest.approx(math.log(7), abs=1e-5)


def test_the_clock_stands_while_a_peer_is_looked_at() -> None:
    seen: list[float] = []

    def look() -> float:
        time.sleep(0.02)
        return 1.0

    def step(progress: float) -> None:
        seen.append(progress)
        time.sleep(0.005)

    curve = learning._train_timed(step, look, 0.1)
    assert 0.1 <= curve[-1][0] < 0.2
    assert len(curve) >= 5
    assert seen == sorted(seen)


@pytest.mark.slow
def test_all_learn_and_the_picture_is_drawn(book: Path, cli: Callable[..., Any]) -> None:
    done = cli("bench", "learning", "--text", book, "--seconds", 0.3, "--svg", "loss.svg", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["learning"]
    assert [row["name"] for row in rows] == list(learning.CONTENDERS)
    assert all(row["curve"][-1][1] < math.log(60) and row["windowed"] > 0 for row in rows)
    root = Xml.fromstring(Path("loss.svg").read_text("utf-8"))
    words = " ".join(element.text or "" for element in root.iter())
    assert all(name in words for name in learning.CONTENDERS)


def test_curves_stay_inside_their_picture() -> None:
    root = Xml.fromstring(loss_curves_svg({"a & b": [(1.0, 9.0), (2.0, 1.5)], "c": [(1.5, 1.4), (2.0, 1.3)]}))
    for line in root.iter("{http://www.w3.org/2000/svg}polyline"):
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 760
            assert 0 <= y <= 420


@pytest.mark.long
def test_steps_next_to_busy_processes_are_shares_of_quiet_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy, "SHAPE", {"layers": 1, "hidden": 8, "batch": 2, "bptt": 4})
    for name in ("ROUND_SECONDS", "SETTLE_SECONDS"):
        monkeypatch.setattr(busy, name, 0.01)
    monkeypatch.setattr(busy, "CONTENDERS", {name: busy.CONTENDERS[name] for name in ("ours", "nn.LSTM, 1 thread")})
    monkeypatch.setattr(busy, "MAX_NEIGHBORS", 1)
    quiet, beside_one = busy.training_steps(rounds=1)
    assert [quiet["busy_processes"], beside_one["busy_processes"]] == [0, 1]
    assert set(quiet["share_of_quiet"].values()) == {1.0}
    for name, speed in beside_one["characters_per_second"].items():
        assert beside_one["share_of_quiet"][name] == speed / quiet["characters_per_second"][name] > 0


def test_parts_are_named(cli: Callable[..., Any]) -> None:
    done = cli("bench", "trainin")
    assert done.code == 2
    assert "'training'" in done.err
    assert set(BENCHMARKS) == {"training", "kernels", "sampling", "encoding", "learning", "busy", "cells", "languages"}


def test_a_text_too_short_for_the_peers_and_a_picture_without_a_folder_are_reported(
    tmp_path: Path, cli: Callable[..., Any]
) -> None:
    (tmp_path / "short.txt").write_text("too short. " * 40, "utf-8")
    with pytest.raises(DataError, match="440 tokens; the peers need 2,833"):
        learning.train_plain_lstm(str(tmp_path / "short.txt"), 0.1, 1)
    done = cli("bench", "learning", "--svg", "no/such/folder.svg")
    assert done.code == 2
    assert "does not exist" in done.err
