#!/usr/bin/env bash
# One would guess: in a batch with `sequence_lens`, a row of length 0 reads nothing, so that its last state (Y_h, Y_c) is the
#   state that was given (initial_h, initial_c). A length of 0 is allowed: only negative and too large ones are refused.
# What happens: the last state of such a row is zeros, for RNN, GRU and LSTM. Rows of length 1 and more are right.
# Version: onnxruntime 1.32.0 (CPU), onnx 1.23.2, numpy 2.3.5.
# Why it matters: a server that steps many streams in one batch gives length 0 to those that have no input just now. Each of them
#   forgets all it has read, with no message; the state of an idle row has to be kept by the caller.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

UNITS, INPUTS, STEPS, ROWS = 4, 3, 5, 3
print("onnxruntime", onnxruntime.__version__)
generator = np.random.default_rng(0)


def normal(*shape):
    return generator.normal(size=shape).astype("f")


def value(name, *shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


ok = True
for kind, gates, states in (("RNN", 1, ["h"]), ("GRU", 3, ["h"]), ("LSTM", 4, ["h", "c"])):
    sizes = {"W": (1, gates * UNITS, INPUTS), "R": (1, gates * UNITS, UNITS), "B": (1, 2 * gates * UNITS)}
    weights = [numpy_helper.from_array(normal(*size), name) for name, size in sizes.items()]
    inputs = ["x", "W", "R", "B", "lengths", *(f"initial_{s}" for s in states)]
    node = helper.make_node(kind, inputs, ["y", *(f"last_{s}" for s in states)], hidden_size=UNITS)
    given = [value("x", STEPS, ROWS, INPUTS), value("lengths", ROWS, dtype=TensorProto.INT32)]
    given += [value(f"initial_{s}", 1, ROWS, UNITS) for s in states]
    answers = [value("y", STEPS, 1, ROWS, UNITS), *(value(f"last_{s}", 1, ROWS, UNITS) for s in states)]
    graph = helper.make_graph([node], "g", given, answers, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    feed = {"x": normal(STEPS, ROWS, INPUTS), **{f"initial_{s}": normal(1, ROWS, UNITS) for s in states}}

    def last(lengths):
        return session.run(None, {**feed, "lengths": np.array(lengths, "i")})[1:]

    idle, busy = last([0, 1, 5]), last([1, 1, 5])
    for name, state, other in zip(states, idle, busy):
        print(f"{kind:5}last {name} of the row of length 0: {state[0, 0]}, given: {feed[f'initial_{name}'][0, 0].round(3)}")
        ok &= not state[0, 0].any() and np.array_equal(state[0, 1:], other[0, 1:])
    try:
        last([-1, 1, 5])
        ok = False
    except Exception as error:
        print(f"{kind:5}length -1: {str(error).split('Status Message: ')[-1]}")
sys.exit(0 if ok else 1)
PY
