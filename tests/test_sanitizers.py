"""The native kernels under the address and the thread sanitizer: built anew, and run on every instruction set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

RUN = """
import glob, importlib.util, sys
import numpy as np

spec = importlib.util.spec_from_file_location("_native", glob.glob(sys.argv[1] + "/_native*.so")[0])
native = importlib.util.module_from_spec(spec)
spec.loader.exec_module(native)
draw = np.random.default_rng(0)

def floats(*shape):
    return draw.standard_normal(shape, np.float32)

def layer(kind, units, rows, steps, threads):
    gates, slots, blocks = (1, 3, 4)[kind], (1, 5, 6)[kind], (1, 4, 4)[kind]
    wide, high = -(-units // 32) * 32, -(-rows // 16) * 16
    parts = native.layer_parts(kind, rows, units, threads, False)
    tiles, back = floats(wide // 16 * gates, wide, 16), floats(wide // 16, gates * wide, 16)
    weight = floats(gates * units, units)
    native.pack_forward(kind, weight, tiles, units, threads)
    native.pack_backward(kind, weight, back, units, True, threads)
    c = [floats(rows, units) if kind == 2 else None for _ in range(4)]
    ids, resets = draw.integers(5, size=(steps, rows)), draw.random((steps, rows)) < 0.3
    saved, dgates = floats(steps, wide // 16, high, slots, 16), floats(steps, high, blocks * wide + 32)
    for dense in (False, True):
        xs, picks = (floats(steps, high, wide + 32), None) if dense else (None, ids)
        native.layer_forward(kind, threads, parts, xs, tiles if dense else None, picks,
                             None if dense else floats(5, gates, wide), tiles, floats(gates + (kind == 1), wide), resets,
                             floats(rows, units), c[0], floats(steps + 1, high, wide + 32), saved, floats(steps, rows, units),
                             floats(rows, units), c[1])
    native.layer_backward(kind, threads, back, resets, saved, floats(steps, rows, units), floats(rows, units), c[2], ids,
                          np.zeros((parts, 5, gates, wide), np.float32), dgates, floats(parts, blocks, wide),
                          floats(rows, units), c[3])

for name in native.sets():
    native.use_set(name)
    for kind in range(3):
        for units, rows, steps in ((1, 1, 1), (17, 3, 2), (64, 33, 3), (200, 16, 2)):
            for threads in (1, 2):
                layer(kind, units, rows, steps, threads)
print("clean")
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
    assert run.stdout.strip() == "clean"
    assert "WARNING: ThreadSanitizer" not in run.stderr
