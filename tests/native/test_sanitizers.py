"""The native kernels under the address and the thread sanitizer: built anew, and run on every instruction set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RUN = """
import glob, importlib.util, itertools, sys
import torch

name = "unrolled.nn.kernels._native"
spec = importlib.util.spec_from_file_location(name, glob.glob(sys.argv[1] + "/_native*.so")[0])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
native.adopt_openmp = lambda path: False  # its threads meet where the sanitizers do not see it
sys.modules[name] = native
torch.set_num_threads(2)

from unrolled.nn import kernels
from unrolled.nn.kernels.native_decoder import PRECISIONS, NativeStep
from unrolled.nn.language_model import SequenceModel
from unrolled.options import ModelOptions, SampleOptions, TrainingOptions
from unrolled.training.optim import clip_gradient, make_optimizer

def learn(cell, units, rows, steps, symbols, dtype, residual):
    options = ModelOptions(cell=cell, hidden=units, dropout=0.2, residual=residual, embedding=None if residual else 7)
    model = SequenceModel(symbols, options).train()
    kernels.use(model, "native")
    model.seed_dropout(1)
    ids = torch.randint(symbols, (2, steps, rows))
    batch = {"inputs": ids[0], "targets": ids[1], "resets": torch.rand(steps, rows) < 0.3}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, _ = model.loss(batch, model.initial_state(rows))
    loss.backward()
    training = TrainingOptions(optimizer="muon" if units % 32 == 0 else "adamw")
    _, scale = clip_gradient(model.parameters(), training)
    make_optimizer(model, training).step(0.01, scale)
    assert loss.isfinite()
    return model.eval()

def sample(model, streams, precision):
    step = NativeStep(model, streams, precision, threads=2)
    step.read(torch.randint(model.symbols, (3, streams)))
    step.draw(torch.rand(4, streams, dtype=torch.float64), SampleOptions(top_k=3, top_p=0.9, min_p=0.01))

sets = native.available_isas()
for instructions in sets:
    native.set_isa(instructions)
    narrow = [torch.float32, *([torch.bfloat16] if instructions in ("avx512_bf16", "amx") else [])]
    for cell, dtype in itertools.product(("rnn", "gru", "lstm"), narrow):
        sizes = ((1, 1, 1), (17, 3, 2), (64, 33, 3), (200, 16, 2), (40, 50, 12))
        for (units, rows, steps), residual in itertools.product(sizes, (True, False)):
            model = learn(cell, units, rows, steps, 5 + rows, dtype, residual)
        for streams, precision in itertools.product((1, 2, 17, 40), PRECISIONS):
            sample(model, streams, precision)
print("clean on", *sets)
"""


@pytest.mark.long
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_the_kernels_are_clean(sanitizer: str, tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    assert compiler, "the sanitizers come with GCC"
    nanobind = subprocess.run([sys.executable, "-m", "nanobind", "--cmake_dir"], capture_output=True, text=True, check=True)
    subprocess.run(
        ["cmake", "-S", ROOT / "native", "-B", tmp_path, f"-DUNROLLED_SANITIZE={sanitizer}", f"-DCMAKE_CXX_COMPILER={compiler}",
         f"-DPython_EXECUTABLE={sys.executable}", f"-Dnanobind_DIR={nanobind.stdout.strip()}"],
        check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["cmake", "--build", tmp_path, "--parallel", "2"], check=True, capture_output=True)
    found = subprocess.run([compiler, f"-print-file-name=lib{sanitizer[0]}san.so"], capture_output=True, text=True, check=True)
    # Python's own memory is not what is looked at: leaks of the interpreter are its own affair.
    settings = {"LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0", "OPENBLAS_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.startswith("clean on plain")
    assert "WARNING: ThreadSanitizer" not in run.stderr
