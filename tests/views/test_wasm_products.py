"""The WebAssembly module of the page computes exact products, and tanh to the bit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import numpy as np
import pytest

from unrolled.runtime.portable_arithmetic import FloatMatrix, portable_tanh
from unrolled.views.wasm_products import leb128, products_module

SCRIPT = """
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { module, weight, vector, rows, columns } = JSON.parse(Buffer.concat(chunks).toString());
const memory = new WebAssembly.Memory({ initial: 2 });
const { instance } = await WebAssembly.instantiate(Uint8Array.from(module), { env: { memory } });
const out = 65536;
new Int8Array(memory.buffer).set(weight);
new Int16Array(memory.buffer, 32768).set(vector);
new Int32Array(memory.buffer, out).fill(7);
instance.exports.multiply(0, columns, rows, 32768, columns, out);
console.log(JSON.stringify([...new Int32Array(memory.buffer, out, rows + 1)]));
"""


TANH_SCRIPT = """
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { module, bits } = JSON.parse(Buffer.concat(chunks).toString());
const memory = new WebAssembly.Memory({ initial: 2 });
const { instance } = await WebAssembly.instantiate(Uint8Array.from(module), { env: { memory } });
const values = new Uint32Array(memory.buffer, 16, bits.length + 1);
values.set([...bits, 7]);
instance.exports.tanh(16, 16 + 4 * bits.length);
console.log(JSON.stringify([...values]));
"""


FLOATS_SCRIPT = """
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { module, weight, vector, rows } = JSON.parse(Buffer.concat(chunks).toString());
const memory = new WebAssembly.Memory({ initial: 3 });
const { instance } = await WebAssembly.instantiate(Uint8Array.from(module), { env: { memory } });
new Uint32Array(memory.buffer).set(weight);
new Uint32Array(memory.buffer, 65536).set(vector);
new Uint32Array(memory.buffer, 131072).fill(7);
instance.exports.multiply_floats(0, 4 * vector.length, rows, 65536, 131072);
console.log(JSON.stringify([...new Uint32Array(memory.buffer, 131072, rows + 1)]));
"""


def run_node(script: str, data: dict[str, Any]) -> Any:
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no node")
    command = [node, "--input-type=module", "--eval", script]
    run = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_tanh_is_that_of_the_portable_step() -> None:
    random = np.random.default_rng(2).normal(0, 3, 4000)
    edges = [0, -0.0, 1e-45, 1e-30, 9.02, -9.02, 9.1, 1e38, np.inf, -np.inf, 0.5]
    numbers = np.array([*random, *edges], np.float32)
    bits = run_node(TANH_SCRIPT, {"module": list(products_module()), "bits": numbers.view(np.uint32).tolist()})
    assert bits == [*portable_tanh(numbers).view(np.uint32).tolist(), 7]


@pytest.mark.parametrize(("rows", "columns"), [(4, 8), (12, 56), (20, 512)])
def test_products_are_exact(rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    weight, vector = generator.integers(-127, 128, (rows, columns)), generator.integers(-32767, 32768, columns)
    weight[0], vector[:] = (127, 32767) if columns == 512 else (weight[0], vector)  # the largest sum there is
    data = {"module": list(products_module()), "rows": rows, "columns": columns}
    data |= {"weight": weight.reshape(-1).tolist(), "vector": vector.tolist()}
    assert run_node(SCRIPT, data) == [*(weight @ vector).tolist(), 7]


@pytest.mark.parametrize(("rows", "columns"), [(1, 16), (7, 48), (13, 512)])
def test_products_of_floats_are_ordered_sums(rows: int, columns: int) -> None:
    generator = np.random.default_rng(rows)
    weight = (generator.normal(size=(rows, columns)) * 10.0 ** generator.integers(-6, 7, (rows, columns))).astype(np.float32)
    vector = generator.normal(size=columns).astype(np.float32)
    data = {"module": list(products_module()), "rows": rows, "vector": vector.view(np.uint32).tolist()}
    found = run_node(FLOATS_SCRIPT, data | {"weight": weight.view(np.uint32).reshape(-1).tolist()})
    assert found == [*FloatMatrix(weight).product(vector[None])[0].view(np.uint32).tolist(), 7]


def test_leb128() -> None:
    assert [leb128(value).hex() for value in (0, 127, 128, 300, 624485)] == ["00", "7f", "8001", "ac02", "e58e26"]
