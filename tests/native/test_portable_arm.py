"""The portable step of the native module has the same bits on ARM, where there are a cross compiler and an emulator."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.text_networks import CELLS, LAYERS, NEWER_CELLS, saved_network
from unrolled.exchange.vectors import FNV_OFFSET, FNV_PRIME
from unrolled.generation.portable_sampling import portable_blocks
from unrolled.options import SampleOptions
from unrolled.runtime.native_portable import CELL_KINDS
from unrolled.runtime.portable import PortableNetwork
from unrolled.runtime.portable_arithmetic import Int8Matrix

ROOT = Path(__file__).parents[2]
SOURCES = ("isa/portable_plain.cpp", "args/portable_args.cpp", "args/decoder_args.cpp", "threads/parallel.cpp")
ROWS, STEPS, DRAWS = 3, 20, 60
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-static", "-pthread")

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (shutil.which("aarch64-linux-gnu-g++") and shutil.which("qemu-aarch64")),
        reason="there is no cross compiler for ARM, or no emulator",
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program for ARM; the table of instruction sets has its portable step only."""
    folder = tmp_path_factory.mktemp("arm")
    (folder / "table.cpp").write_text(
        '#include "isa/cpu_features.hpp"\nnamespace unrolled {\nvoid run_portable_plain(const PortableCall&, int, int);\n'
        "PortableRun portable_run() { return run_portable_plain; }\n"
        'const char* active_isa() { return "neon"; }\n}\n'
    )
    for source in SOURCES:
        off = ["-ffp-contract=off"] if "isa" in source else []
        compile_for_arm(["-c", str(ROOT / "native" / source), *off, "-o", str(folder / f"{Path(source).stem}.o")])
    objects = [str(folder / f"{Path(source).stem}.o") for source in SOURCES]
    files = [str(ROOT / "tests" / "native" / "portable.cpp"), str(folder / "table.cpp"), *objects]
    compile_for_arm([*files, "-o", str(folder / "portable")])
    return folder / "portable"


def compile_for_arm(arguments: list[str]) -> None:
    subprocess.run(["aarch64-linux-gnu-g++", *FLAGS, f"-I{ROOT / 'native'}", *arguments], check=True, capture_output=True)


def model_bytes(model: PortableNetwork, ids: np.ndarray) -> bytes:
    """Return a model and ids as the program reads them."""
    network = model.network
    parts: list[bytes] = []

    def add(*values: Any) -> None:
        parts.extend(np.asarray(value, np.int32).tobytes() for value in values)

    def add_floats(values: Any) -> None:
        add(0 if values is None else values.size)
        parts.append(b"" if values is None else np.ascontiguousarray(values, np.float32).tobytes())

    def add_matrix(matrix: Any) -> None:
        add(*((0, 0) if matrix is None else matrix.weight.shape))
        if matrix is not None:
            parts.extend([np.ascontiguousarray(matrix.weight).tobytes(), matrix.scale.tobytes()])

    embedding = model.embedding
    add(CELL_KINDS[network.cell], network.hidden_size, model.vocab_size)
    add(0 if embedding is None else embedding.weight.shape[1], network.residual, len(model.layers), ROWS, STEPS, DRAWS)
    one_hot = model.layers[0].input
    table = one_hot if embedding is None else embedding
    assert isinstance(table, Int8Matrix)
    parts.append(np.ascontiguousarray(table.weight.T if embedding is None else table.weight).tobytes())
    add_floats(table.scale)
    for index, layer in enumerate(model.layers):
        add_matrix(None if model.is_one_hot and index == 0 else layer.input)
        add_matrix(layer.recurrent)
        add_matrix(layer.recurrent_n)
        for values in (layer.bias, layer.bias_hh, *(layer.norm or (None, None)), layer.decay):
            add_floats(values)
        add(len(layer.mogrifier))
        for matrix in layer.mogrifier:
            add_matrix(matrix)
    add_matrix(model.head)
    add_floats(model.head_bias)
    return b"".join([*parts, ids.tobytes()])


def hash_bits(values: np.ndarray) -> int:
    result = FNV_OFFSET
    for word in np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32).tolist():
        result = ((result ^ word) * FNV_PRIME) & 0xFFFFFFFF
    return result


@pytest.mark.parametrize(("cell", "layers"), [*itertools.product(CELLS, LAYERS), *NEWER_CELLS])
def test_the_bits_on_arm_are_those_of_the_definition(tmp_path: Path, program: Path, cell: str, layers: str) -> None:
    model = PortableNetwork(saved_network(tmp_path, cell, layers))
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (STEPS, ROWS))
    (tmp_path / "model").write_bytes(model_bytes(model, ids))
    run = subprocess.run(["qemu-aarch64", str(program), str(tmp_path / "model")], capture_output=True, text=True, check=True)
    name, logits_hash, h_hash, c_hash, drawn = run.stdout.splitlines()
    logits, state = model.unroll(ids, model.initial_state(ROWS))
    assert name == "neon"
    assert int(logits_hash) == hash_bits(logits)
    assert int(h_hash) == hash_bits(np.stack([layer[0] for layer in state]))
    others = [np.stack(part) for part in zip(*(layer[1:] for layer in state), strict=True)]
    assert int(c_hash) == hash_bits(np.concatenate(others) if others else np.zeros(0))
    options = SampleOptions(length=DRAWS, temperature=0.8, top_k=12, top_p=0.9, min_p=0.01)
    blocks = [portable_blocks(model, ids[:, row].tolist(), [7], options) for row in range(ROWS)]
    expected = np.stack([np.concatenate(list(block), 1)[0] for block in blocks], axis=1)
    assert drawn.split() == [str(token) for token in expected.reshape(-1)]
