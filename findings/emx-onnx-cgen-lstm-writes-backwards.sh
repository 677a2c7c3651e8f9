#!/usr/bin/env bash
# One would guess: a generator of C code from ONNX that takes an LSTM with `direction` reverse or bidirectional, and refuses these
#   for GRU and RNN by name, writes output t of the backward direction at step t, as ONNX says.
# What happens: it reads backward, and its last states are right, but its outputs stand in the order in which they were made: the
#   output for the last step comes first. Forward and backward halves of a bidirectional layer do not belong to the same step.
# Version: emx-onnx-cgen 1.4.0, with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5, and a C compiler.
# Why it matters: a tagger of two directions (labels for each word) is wrong on the device, while a classifier that takes the last
#   states is right. The command `verify` of the same package finds it; `compile`, which people call, says nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    emx-onnx-cgen==1.4.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
cd "$folder"
PATH="$folder/venv/bin:$PATH" venv/bin/python - <<'PY'
import ctypes
import importlib.metadata
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

UNITS, INPUTS, STEPS, ROWS = 4, 3, 6, 2
print("emx-onnx-cgen", importlib.metadata.version("emx-onnx-cgen"))
generator = np.random.default_rng(0)


def compiled(model, x, shapes, library):
    """The outputs of the C code that is made from a model."""
    onnx.save(model, "model.onnx")
    subprocess.run(["emx-onnx-cgen", "compile", "model.onnx", "model.c"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "model.c", "-o", library, "-lm"], check=True)
    function = ctypes.CDLL(library).model
    outputs = [np.zeros(shape, "f") for shape in shapes]
    function(*(a.ctypes.data_as(ctypes.c_void_p) for a in (x, *outputs)))
    return outputs


ok = True
for direction in ("forward", "reverse", "bidirectional"):
    ways = 2 if direction == "bidirectional" else 1
    sizes = {"W": (ways, 4 * UNITS, INPUTS), "R": (ways, 4 * UNITS, UNITS), "B": (ways, 8 * UNITS)}
    weights = [numpy_helper.from_array(generator.normal(size=size).astype("f"), name) for name, size in sizes.items()]
    node = helper.make_node("LSTM", ["x", "W", "R", "B"], ["y", "h", "c"], hidden_size=UNITS, direction=direction)
    shapes = [(STEPS, ways, ROWS, UNITS), (ways, ROWS, UNITS), (ways, ROWS, UNITS)]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip("yhc", shapes)]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, (STEPS, ROWS, INPUTS))
    graph = helper.make_graph([node], "g", [source], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    x = generator.normal(size=(STEPS, ROWS, INPUTS)).astype("f")
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    y, *states = compiled(model, x, shapes, f"./{direction}.so")
    as_onnx, turned = abs(y - expected[0])[:, -1].max(), abs(y[::-1] - expected[0])[:, -1].max()
    off = max(abs(a - b).max() for a, b in zip(states, expected[1:]))
    print(f"{direction}: outputs differ by {as_onnx:.1e}, turned round in time by {turned:.1e}; last states by {off:.1e}")
    is_right = as_onnx < 1e-6 if direction == "forward" else as_onnx > 1e-2 and turned < 1e-6
    ok &= is_right and off < 1e-6
sys.exit(0 if ok else 1)
PY
