"""The native layers on ARM, where there are a cross compiler and an emulator (Debian: g++-aarch64-linux-gnu, qemu-user)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "isa/plain.cpp",
    "isa/portable_plain.cpp",
    "isa/cpu_features.cpp",
    "threads/parallel.cpp",
    "args/decoder_args.cpp",
    "bindings/pack_decoder.cpp",
)
COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")


@pytest.mark.long
@pytest.mark.skipif(not (COMPILER and EMULATOR), reason="there is no cross compiler for ARM, or no emulator")
def test_a_layer_on_arm_is_the_definition(tmp_path: Path) -> None:
    files = [*(ROOT / "native" / source for source in SOURCES), ROOT / "tests" / "native" / "layer.cpp"]
    built = subprocess.run(
        [str(COMPILER), "-std=c++17", "-O3", "-Wall", "-Wextra", "-Wno-maybe-uninitialized", "-fno-math-errno", "-static",
         "-pthread", f"-I{ROOT / 'native'}", *map(str, files), "-o", str(tmp_path / "layer")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "warning: unused" not in built.stderr
    run = subprocess.run([str(EMULATOR), str(tmp_path / "layer")], capture_output=True, text=True, check=False)
    assert run.stdout.startswith("neon "), run.stderr
    assert run.returncode == 0, run.stdout
