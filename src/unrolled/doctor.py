"""What there is on this machine, and whether it works: the facts a report of a fault needs, and a self-test."""

from __future__ import annotations

import copy
import os
import platform
import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from unrolled import __version__, job
from unrolled.data.corpus import cache_folder
from unrolled.errors import UnrolledError
from unrolled.inference.generate import generate
from unrolled.nn.cells import state_tensors
from unrolled.nn.kernels import KERNELS, refusal, use
from unrolled.nn.kernels.library import library, why_absent
from unrolled.nn.machine import choose_machine, fast_bfloat16, instruction_sets
from unrolled.nn.model import SequenceModel
from unrolled.options import MachineOptions, ModelOptions, SampleOptions, TrainRequest
from unrolled.store.model_file import load_text_model
from unrolled.views.console import Quiet

PACKAGES = ("torch", "numpy", "safetensors", "rich", "zstandard")
TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-3
"""Largest difference allowed in float32, where the loss is a sum of squares that is some hundreds."""
SECONDS = 5.0
SENTENCE = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n"


def examine() -> dict[str, Any]:
    """Return versions, processor, disk and the result of the self-test, as `doctor --json` prints them."""
    machine = choose_machine(MachineOptions())
    usage = shutil.disk_usage(Path.cwd())
    cache = cache_folder()
    return {
        "versions": {"unrolled": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": {"cores": os.cpu_count(), "threads": machine.threads, "instruction_sets": instruction_sets()},
        "device": str(machine.device),
        "precision": machine.precision,
        "fast_bfloat16": fast_bfloat16(machine.device),
        "kernels": sorted(name for name in KERNELS if name != "native" or library() is not None),
        "native": {"built": library() is not None, "why_not": why_absent()}
        | ({"uses": library().active_isa(), "has": library().available_isas()} if library() is not None else {}),
        "disk": {"free_bytes": usage.free, "total_bytes": usage.total},
        "cache": {"folder": str(cache), "bytes": sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())},
        "self_test": _self_test(),
    }


def show(findings: dict[str, Any]) -> str:
    """Return the findings as lines that can be pasted."""
    lines = []
    for name, value in findings.items():
        text = ", ".join(f"{k} {_short(v)}" for k, v in value.items() if v != "") if isinstance(value, dict) else _short(value)
        lines.append(f"{name:<14} {text}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _self_test() -> dict[str, Any]:
    """Hold the kernels equal, train for some seconds, save, load, and sample twice the same."""
    started = time.perf_counter()
    try:
        difference = max(_kernel_difference(cell) for cell in ("rnn", "gru", "lstm"))
        rate, bits, same = _learn()
        passed, problem = difference < TOLERANCE and bits < 2.0 and same, ""
    except UnrolledError as error:
        return {"passed": False, "problem": str(error), "seconds": time.perf_counter() - started}
    if not passed:
        problem = f"kernels differ by {difference:.2g}, {bits:.2f} bits learned, samples repeat: {same}"
    return {
        "passed": passed,
        "problem": problem,
        "kernels_differ_by": difference,
        "symbols_per_second": round(rate),
        "seconds": time.perf_counter() - started,
    }


def _kernel_difference(cell: str) -> float:
    """Return the largest difference between a kernel and the definition, in outputs, states and gradients.

    torch's layers are compared in float64; ours, which are float32, as a share of what that allows.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = SequenceModel(7, ModelOptions(cell=cell, hidden=5, dropout=0)).double()  # type: ignore[arg-type]  # a key of CELLS
        ids = torch.randint(7, (6, 3))
    exact, worst = _run_with(model, "reference", ids), 0.0
    for kernel in KERNELS:
        number = torch.float32 if kernel == "native" else torch.float64
        run = copy.deepcopy(model).to(number)
        if refusal(kernel, run.cells()[0]) is None:
            found = zip(exact, _run_with(run, kernel, ids), strict=True)
            difference = max(float((one - other).abs().max()) for one, other in found)
            worst = max(worst, difference * (TOLERANCE / FLOAT32_TOLERANCE if kernel == "native" else 1.0))
    return worst


def _run_with(model: SequenceModel, kernel: str, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return logits, last states and gradients `(...)` in float64, for ids `(T, B)`."""
    use(model, kernel)
    model.zero_grad()
    logits, state = model(ids, model.initial_state(ids.shape[1]))
    logits.square().sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [tensor.detach().double() for tensor in (logits, *state_tensors(state), *gradients)]


def _learn() -> tuple[float, float, bool]:
    """Train on a sentence; return symbols a second, bits a symbol at the end, and whether a seed repeats its text."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(SENTENCE * 300, "utf-8")
        values = {"minutes": SECONDS / 60, "hidden": 64, "sample_length": 0, "out": str(Path(folder) / "run")}
        outcome = job.start(TrainRequest.build((str(text),), values, "doctor"), Quiet()).train()
        if outcome.stopped is not None:
            raise KeyboardInterrupt
        saved = load_text_model(Path(outcome.model))
        texts = [next(generate(saved.model, saved.vocabulary, SampleOptions(length=50), seed=1)).text for _ in range(2)]
    return outcome.symbols_per_second, outcome.val_bits or 0.0, texts[0] == texts[1]
