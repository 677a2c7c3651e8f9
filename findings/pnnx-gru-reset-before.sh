#!/usr/bin/env bash
# One would guess: pnnx, which reads ONNX for ncnn and PyTorch, either keeps `linear_before_reset` of a GRU or refuses the value that
#   neither nn.GRU nor ncnn's layer has.
# What happens: it drops the attribute. Two ONNX files that differ in it alone become the same nn.GRU and the same ncnn files, byte for
#   byte, with exit code 0: ONNX's default, the reset gate before the product, is converted as the reset gate after it.
# Version: pnnx 20261020 with torch 2.13.0 (CPU), onnx 1.23.2 and onnxruntime 1.32.0.
# Why it matters: the default of ONNX is the form that is lost; a GRU of char-rnn or of Keras with reset_after=False runs on a phone
#   with other numbers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    pnnx==20261020 torch==2.13.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
cd "$folder"
PATH="$folder/venv/bin:$PATH" "$folder/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

UNITS, INPUTS, STEPS = 4, 3, 5
print("pnnx", importlib.metadata.version("pnnx"), "torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
generator = np.random.default_rng(0)
W, R, B = (generator.normal(size=(1, *shape)).astype("f") for shape in ((12, INPUTS), (12, UNITS), (24,)))
x, h0 = (generator.normal(size=shape).astype("f") for shape in ((STEPS, 1, INPUTS), (1, 1, UNITS)))
expected, files = {}, {}
for value in (0, 1):
    gru = helper.make_node("GRU", ["x", "W", "R", "B", "", "h0"], ["gru"], hidden_size=UNITS, linear_before_reset=value)
    squeeze = helper.make_node("Squeeze", ["gru", "axis"], ["y"])
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in (("x", x), ("h0", h0))]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (STEPS, 1, UNITS))
    arrays = (("W", W), ("R", R), ("B", B), ("axis", np.array([1])))
    weights = [numpy_helper.from_array(array, name) for name, array in arrays]
    graph = helper.make_graph([gru, squeeze], "gru", infos, [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected[value] = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x, "h0": h0})[0]
    folder = Path(f"reset{value}")
    folder.mkdir()
    onnx.save(model, str(folder / "gru.onnx"))
    shapes = "inputshape=[5,1,3]f32,[1,1,4]f32"
    subprocess.run(["pnnx", "gru.onnx", shapes, "fp16=0"], cwd=folder, capture_output=True, check=True)
    files[value] = [(folder / name).read_bytes() for name in ("gru.ncnn.param", "gru.ncnn.bin", "gru_pnnx.py")]
rows = {name: torch.from_numpy(np.concatenate([np.split(a, 3)[i] for i in (1, 0, 2)])) for name, a in (("W", W[0]), ("R", R[0]))}
biases = [torch.from_numpy(np.concatenate([np.split(half, 3)[i] for i in (1, 0, 2)])) for half in np.split(B[0], 2)]
layer = torch.nn.GRU(INPUTS, UNITS)
layer.load_state_dict({"weight_ih_l0": rows["W"], "weight_hh_l0": rows["R"], "bias_ih_l0": biases[0], "bias_hh_l0": biases[1]})
with torch.no_grad():
    torch_y = layer(torch.from_numpy(x), torch.from_numpy(h0))[0].numpy()
same = files[0] == files[1]
print("ncnn and PyTorch files of linear_before_reset 0 and 1 are equal:", same, "| nn.GRU in the file:", b"nn.GRU(" in files[0][2])
differences = {value: abs(torch_y - expected[value]).max() for value in (0, 1)}
for value, difference in differences.items():
    print(f"nn.GRU with these weights, difference from onnxruntime with linear_before_reset={value}: {difference:.1e}")
sys.exit(0 if same and b"nn.GRU(" in files[0][2] and differences[1] < 1e-5 and differences[0] > 1e-2 else 1)
PY
