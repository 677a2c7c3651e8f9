#!/usr/bin/env bash
# One would guess: OpenCV's DNN module, which runs ONNX files with GRU and LSTM nodes in both directions at once without a
#   fault, also runs them with direction="reverse", or refuses it.
# What happens: a GRU with "reverse" is computed forward: all outputs are those of the same weights with direction="forward". An
#   LSTM with "reverse" gives the right sequence Y, but as its final state h and c after the first step that it read, which is
#   the last of the sequence, in the place of the state at the end. "bidirectional" is right in both, and so is the initial
#   state. No message.
# Version: opencv-python-headless 5.0.0.93 (all three engines of its own) with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: exporters write a stack that reads backward, or a bidirectional layer whose halves differ in size, as
#   "reverse" nodes; a classifier takes the final state of the backward half, and shapes, ranges and the forward half look
#   right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    opencv-python-headless==5.0.0.93 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
OPENCV_LOG_LEVEL=SILENT "$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import cv2
import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

STEPS, ROWS, INPUTS, UNITS = 5, 2, 3, 4
print("opencv", cv2.__version__, "onnxruntime", onnxruntime.__version__)


def node_alone(kind, direction):
    """A model of one recurrent node with named states, the same weights for a kind in any direction, and its inputs."""
    generator = np.random.default_rng(0)
    rows, ways = {"GRU": 3, "LSTM": 4}[kind] * UNITS, 2 if direction == "bidirectional" else 1
    sizes = (("W", (2, rows, INPUTS)), ("R", (2, rows, UNITS)), ("B", (2, 2 * rows)))
    weights = [numpy_helper.from_array(generator.normal(size=size).astype("f")[:ways], name) for name, size in sizes]
    feed = {"x": generator.normal(size=(STEPS, ROWS, INPUTS)).astype("f")}
    states = ["h", "c"][: 1 + (kind == "LSTM")]
    feed |= {name: generator.normal(size=(2, ROWS, UNITS)).astype("f")[:ways] for name in states}
    attributes = {"direction": direction} | ({"linear_before_reset": 1} if kind == "GRU" else {})
    outputs = ["Y", *(f"Y_{name}" for name in states)]
    node = helper.make_node(kind, ["x", "W", "R", "B", "", *states], outputs, hidden_size=UNITS, **attributes)
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in feed.items()]
    infos = [helper.make_tensor_value_info("Y", TensorProto.FLOAT, (STEPS, ways, ROWS, UNITS))]
    infos += [helper.make_tensor_value_info(name, TensorProto.FLOAT, (ways, ROWS, UNITS)) for name in outputs[1:]]
    graph = helper.make_graph([node], "node", inputs, infos, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), feed, outputs


def expected(kind, direction):
    model, feed, outputs = node_alone(kind, direction)
    return onnxruntime.InferenceSession(model).run(outputs, feed)


def seen_in_opencv(kind, direction, engine):
    model, feed, outputs = node_alone(kind, direction)
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8), engine=engine)
    for name, array in feed.items():
        network.setInput(array, name)
    return network.forward(outputs)


def worst(left, right):
    return max(abs(one - other).max() for one, other in zip(left, right, strict=True))


ok = True
for engine in (cv2.dnn.ENGINE_CLASSIC, cv2.dnn.ENGINE_NEW, cv2.dnn.ENGINE_AUTO):
    for kind in ("GRU", "LSTM"):
        for direction in ("forward", "bidirectional"):
            ok &= worst(seen_in_opencv(kind, direction, engine), expected(kind, direction)) < 1e-5
    gru = seen_in_opencv("GRU", "reverse", engine)
    wrong, forward = worst(gru, expected("GRU", "reverse")), worst(gru, expected("GRU", "forward"))
    print(f"engine {engine} GRU reverse: differs by {wrong:.1e}, from direction=forward by {forward:.1e}")
    steps, *finals = seen_in_opencv("LSTM", "reverse", engine)
    right_steps, *right_finals = expected("LSTM", "reverse")
    sequence, state = worst([steps], [right_steps]), worst(finals, right_finals)
    first = worst(finals[:1], [right_steps[-1]])
    shown = f"Y differs by {sequence:.1e}, final states by {state:.1e}, Y_h from Y[-1] by {first:.1e}"
    print(f"engine {engine} LSTM reverse: {shown}")
    ok &= wrong > 0.1 and forward < 1e-5 and sequence < 1e-5 and state > 0.1 and first < 1e-5
sys.exit(0 if ok else 1)
PY
