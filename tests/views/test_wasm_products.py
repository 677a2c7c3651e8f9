"""The WebAssembly module of the page computes exact products, and the page may run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import numpy as np
import pytest

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


@pytest.mark.parametrize(("rows", "columns"), [(4, 8), (12, 56), (20, 512)])
def test_products_are_exact(rows: int, columns: int) -> None:
    node = shutil.which("node")
    if node is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no node")
    generator = np.random.default_rng(rows)
    weight, vector = generator.integers(-127, 128, (rows, columns)), generator.integers(-32767, 32768, columns)
    weight[0], vector[:] = (127, 32767) if columns == 512 else (weight[0], vector)  # the largest sum there is
    data = {"module": list(products_module()), "rows": rows, "columns": columns}
    data |= {"weight": weight.reshape(-1).tolist(), "vector": vector.tolist()}
    command = [node, "--input-type=module", "--eval", SCRIPT]
    run = subprocess.run(command, input=json.dumps(data), capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [*(weight @ vector).tolist(), 7]


def test_leb128() -> None:
    assert [leb128(value).hex() for value in (0, 127, 128, 300, 624485)] == ["00", "7f", "8001", "ac02", "e58e26"]
