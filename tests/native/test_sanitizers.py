"""The native kernels under the address and the thread sanitizer: built anew, and run on every instruction set."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = Path(__file__).parents[1] / "support" / "sanitized_kernels.py"


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
    settings = {
        "LD_PRELOAD": found.stdout.strip(), "ASAN_OPTIONS": "detect_leaks=0", "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(PROGRAM.parents[1]),
    }  # fmt: skip
    run = subprocess.run([sys.executable, PROGRAM, tmp_path], env={**os.environ, **settings}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-4000:]
    assert run.stdout.startswith("clean on plain")
    assert "WARNING: ThreadSanitizer" not in run.stderr
