#!/usr/bin/env bash
# One would guess: a runtime that converts ONNX's GRU without a word computes its default, `linear_before_reset=0`: the reset gate
#   acts on h, before the product, n = tanh(W x + Wb + R (r h) + Rb).
# What happens: MNN computes n = tanh(W x + Wb + r (R h) + Rb): the reset gate acts after the product, and its bias stays outside. That
#   is neither form of ONNX: with `linear_before_reset=1`, which it computes as ONNX does, the bias is inside.
# Version: MNN 3.6.1, with onnx 1.23.2 and numpy 2.3.5.
# Why it matters: shapes, ranges and the first tokens look right; a GRU of char-rnn, or any that was exported with ONNX's default, is
#   another network, and only a comparison of numbers shows it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 numpy==2.3.5 2>/dev/null
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" - <<'PY'
import importlib.metadata
import subprocess
import sys

import MNN
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

UNITS, INPUTS, STEPS = 4, 3, 5
print("MNN", importlib.metadata.version("MNN"), "onnx", onnx.__version__)
generator = np.random.default_rng(0)
W, R, B = (generator.normal(size=(1, *shape)).astype("f") for shape in ((12, INPUTS), (12, UNITS), (24,)))
x, h0 = (generator.normal(size=shape).astype("f") for shape in ((STEPS, 1, INPUTS), (1, 1, UNITS)))


def convert(linear_before_reset):
    node = helper.make_node("GRU", ["x", "W", "R", "B", "", "h0"], ["y"], hidden_size=UNITS, linear_before_reset=linear_before_reset)
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in (("x", x), ("h0", h0))]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (STEPS, 1, 1, UNITS))
    weights = [numpy_helper.from_array(array, name) for name, array in (("W", W), ("R", R), ("B", B))]
    graph = helper.make_graph([node], "gru", infos, [out], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "gru.onnx")
    command = ["mnnconvert", "-f", "ONNX", "--modelFile", "gru.onnx", "--MNNModel", "gru.mnn", "--bizCode", "x"]
    subprocess.run(command, capture_output=True, check=True)
    inputs = []
    for array in (x, h0):
        inputs.append(MNN.expr.placeholder(list(array.shape), MNN.expr.NCHW, MNN.expr.float))
        inputs[-1].write(array)
    module = MNN.nn.load_module_from_file("gru.mnn", ["x", "h0"], ["y"])
    return np.array(module.forward(inputs)[0].read()).reshape(STEPS, UNITS)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def gru(candidate):
    Wz, Wr, Wn, Rz, Rr, Rn = *np.split(W[0], 3), *np.split(R[0], 3)
    bz, br, bn, cz, cr, cn = np.split(B[0], 6)
    h, outputs = h0[0, 0], []
    for step in x[:, 0]:
        z, r = sigmoid(Wz @ step + Rz @ h + bz + cz), sigmoid(Wr @ step + Rr @ h + br + cr)
        n = np.tanh(Wn @ step + bn + candidate(r, h, Rn, cn))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return np.stack(outputs)


forms = {
    "R (r h) + Rb, ONNX with 0": lambda r, h, R, b: R @ (r * h) + b,
    "r (R h + Rb), ONNX with 1": lambda r, h, R, b: r * (R @ h + b),
    "r (R h) + Rb, neither": lambda r, h, R, b: r * (R @ h) + b,
}
seen = {}
for value in (0, 1):
    converted = convert(value)
    for name, form in forms.items():
        seen[value, name] = abs(converted - gru(form)).max()
        print(f"linear_before_reset={value}, difference from {name}: {seen[value, name]:.1e}")
zero, one, neither = forms
is_as_described = seen[0, neither] < 1e-5 and seen[1, one] < 1e-5 and min(seen[0, zero], seen[0, one], seen[1, neither]) > 1e-2
sys.exit(0 if is_as_described else 1)
PY
