#!/usr/bin/env bash
# One would guess: tract, which refuses unequal `sequence_lens` by name, refuses what else of a recurrent node it does not compute.
# What happens: `direction=reverse` is computed forward, `activations` are Sigmoid and Tanh whatever the file says (a relu RNN is a
#   tanh RNN), and `clip` and `input_forget` are not read. No message, right shapes. `bidirectional`, peepholes and both forms of
#   GRU are as in ONNX, so a model of two directions works and one that reads backward alone does not.
# Version: tract 0.23.9 (Python), with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: a Keras LSTM with go_backwards or hard sigmoids, or torch's nn.RNN(nonlinearity="relu"), is another network on
#   the device, and only a comparison of numbers shows it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    tract==0.23.9 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
cd "$folder"
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np
import onnx
import onnxruntime
import tract
from onnx import TensorProto, helper, numpy_helper

UNITS, INPUTS, STEPS, ROWS = 4, 3, 6, 2
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
print("tract", importlib.metadata.version("tract"), "onnxruntime", onnxruntime.__version__)
generator = np.random.default_rng(0)
x = generator.normal(size=(STEPS, ROWS, INPUTS)).astype("f")


def models(kind, attributes):
    """The node with the attributes and, of the same weights, without them."""
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    rows = GATES[kind] * UNITS
    sizes = {"W": (rows, INPUTS), "R": (rows, UNITS), "B": (2 * rows,)}
    weights = [numpy_helper.from_array(generator.normal(size=(directions, *s)).astype("f"), name) for name, s in sizes.items()]
    for kept in (attributes, {key: value for key, value in attributes.items() if key == "linear_before_reset"}):
        if directions == 2 and kept is not attributes:
            continue
        node = helper.make_node(kind, ["x", "W", "R", "B"], ["y"], hidden_size=UNITS, **kept)
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, (STEPS, directions, ROWS, UNITS))
        graph = helper.make_graph([node], "g", [source], [out], weights)
        yield helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_onnxruntime(model):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def in_tract(model):
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "m.onnx")
    return tract.onnx().load("m.onnx").into_model().into_runnable().run([x])[0].to_numpy()


ok = True
for kind, attributes, is_read in (
    ("LSTM", {}, True),
    ("GRU", {}, True),
    ("GRU", {"linear_before_reset": 1}, True),
    ("LSTM", {"direction": "bidirectional"}, True),
    ("LSTM", {"direction": "reverse"}, False),
    ("GRU", {"direction": "reverse"}, False),
    ("RNN", {"activations": ["Relu"]}, False),
    ("LSTM", {"activations": ["HardSigmoid", "Tanh", "Tanh"]}, False),
    ("GRU", {"activations": ["Sigmoid", "Relu"]}, False),
    ("LSTM", {"clip": 0.3}, False),
    ("LSTM", {"input_forget": 1}, False),
):
    with_attributes, *without = models(kind, attributes)
    y, expected = in_tract(with_attributes), in_onnxruntime(with_attributes)
    difference = abs(y - expected).max()
    ignored = abs(y - in_onnxruntime(without[0])).max() if without else np.nan
    print(f"{kind} {attributes}: differs by {difference:.1e} from onnxruntime, by {ignored:.1e} from the node without them")
    ok &= difference < 1e-5 if is_read else difference > 1e-2 and ignored < 1e-5
sys.exit(0 if ok else 1)
PY
