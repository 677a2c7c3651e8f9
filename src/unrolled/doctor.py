"""Facts about this machine for a bug report, and a self-test."""

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

from unrolled import __version__
from unrolled.checkpoints.model_file import load_text_model
from unrolled.errors import UnrolledError
from unrolled.generation.sampling import generate
from unrolled.nn.cells import state_tensors
from unrolled.nn.device import has_fast_bfloat16, instruction_sets, select_device
from unrolled.nn.kernels.extension import native_module, unavailable_reason
from unrolled.nn.kernels.select import KERNELS, set_kernel, unsupported_reason
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import MachineOptions, ModelOptions, SampleOptions, TrainRequest
from unrolled.text.corpus import cache_folder
from unrolled.training import launch
from unrolled.training.callbacks import ProgressCallback

PACKAGES = ("torch", "numpy", "safetensors", "rich", "zstandard")
FLOAT64_TOLERANCE = 1e-9
FLOAT32_TOLERANCE = 1e-3
"""Largest allowed difference of the float32 kernel. Gradients are of a sum of squares of several hundred."""
TRAIN_SECONDS = 5.0
TRAIN_TEXT = "the quick brown fox jumps over the lazy dog, and the dog sleeps on.\n"


def collect_findings() -> dict[str, Any]:
    """Return versions, processor, disk and the result of the self-test: the keys of `doctor --json`."""
    machine = select_device(MachineOptions())
    disk = shutil.disk_usage(Path.cwd())
    cache_dir = cache_folder()
    return {
        "versions": {"unrolled": __version__, "python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "system": platform.platform(),
        "processor": {"cores": os.cpu_count(), "threads": machine.threads, "instruction_sets": instruction_sets()},
        "device": str(machine.device),
        "precision": machine.precision,
        "fast_bfloat16": has_fast_bfloat16(machine.device),
        "kernels": sorted(name for name in KERNELS if name != "native" or native_module() is not None),
        "native": {"built": native_module() is not None, "unavailable_reason": unavailable_reason()}
        | (
            {"isa": native_module().active_isa(), "available_isas": native_module().available_isas()}
            if native_module() is not None
            else {}
        ),
        "disk": {"free_bytes": disk.free, "total_bytes": disk.total},
        "cache": {
            "folder": str(cache_dir),
            "bytes": sum(file.stat().st_size for file in cache_dir.rglob("*") if file.is_file()),
        },
        "self_test": _self_test(),
    }


def format_findings(findings: dict[str, Any]) -> str:
    """Return the findings as lines of text."""
    lines = []
    for name, value in findings.items():
        text = (
            ", ".join(f"{k} {_format_value(v)}" for k, v in value.items() if v != "")
            if isinstance(value, dict)
            else _format_value(value)
        )
        lines.append(f"{name:<14} {text}")
    return "\n".join(lines)


def _format_value(value: Any) -> str:
    if isinstance(value, list):
        return "+".join(map(str, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _self_test() -> dict[str, Any]:
    """Compare the kernels, train for some seconds, load the saved model, and check that a seed repeats its sample."""
    started = time.perf_counter()
    try:
        kernel_difference = max(_max_kernel_difference(cell) for cell in ("rnn", "gru", "lstm"))
        tokens_per_second, final_bits, samples_repeat = _train_and_sample()
        passed, problem = kernel_difference < FLOAT64_TOLERANCE and final_bits < 2.0 and samples_repeat, ""
    except UnrolledError as error:
        return {"passed": False, "problem": str(error), "seconds": time.perf_counter() - started}
    if not passed:
        problem = f"kernels differ by {kernel_difference:.2g}, final bits {final_bits:.2f}, samples repeat: {samples_repeat}"
    return {
        "passed": passed,
        "problem": problem,
        "max_kernel_difference": kernel_difference,
        "tokens_per_second": round(tokens_per_second),
        "seconds": time.perf_counter() - started,
    }


def _max_kernel_difference(cell: Any) -> float:
    """Return the largest difference between a kernel and the reference, in outputs, states and gradients.

    torch's layers are compared in float64. The native kernel is float32: its difference is scaled to the float64 tolerance.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = RecurrentLM(7, ModelOptions(cell=cell, hidden=5, dropout=0)).double()
        ids = torch.randint(7, (6, 3))
    expected, max_difference = _forward_backward(model, "reference", ids), 0.0
    for kernel in KERNELS:
        dtype = torch.float32 if kernel == "native" else torch.float64
        model_copy = copy.deepcopy(model).to(dtype)
        if unsupported_reason(kernel, model_copy.cells()[0]) is None:
            tensor_pairs = zip(expected, _forward_backward(model_copy, kernel, ids), strict=True)
            difference = max(
                float((expected_tensor - actual_tensor).abs().max()) for expected_tensor, actual_tensor in tensor_pairs
            )
            max_difference = max(
                max_difference, difference * (FLOAT64_TOLERANCE / FLOAT32_TOLERANCE if kernel == "native" else 1.0)
            )
    return max_difference


def _forward_backward(model: RecurrentLM, kernel: str, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the logits, final states and gradients in float64, for token ids `(T, B)`."""
    set_kernel(model, kernel)
    model.zero_grad()
    logits, state = model(ids, model.initial_state(ids.shape[1]))
    logits.square().sum().backward()
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [tensor.detach().double() for tensor in (logits, *state_tensors(state), *gradients)]


def _train_and_sample() -> tuple[float, float, bool]:
    """Train on a sentence; return tokens per second, final bits per token, and whether a seed repeats its text."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(TRAIN_TEXT * 300, "utf-8")
        values = {"minutes": TRAIN_SECONDS / 60, "hidden": 64, "sample_length": 0, "out": str(Path(folder) / "run")}
        result = launch.start_run(TrainRequest.build((str(text),), values, "doctor"), ProgressCallback()).train()
        if result.stop_signal is not None:
            raise KeyboardInterrupt
        saved = load_text_model(Path(result.model))
        texts = [next(generate(saved.model, saved.tokenizer, SampleOptions(length=50), seed=1)).text for _ in range(2)]
    return result.tokens_per_second, result.val_bits or 0.0, texts[0] == texts[1]
