#!/usr/bin/env bash
# One would guess: IREE, which compiles ONNX's Scan and gives right numbers where all sizes are written in the file, gives them
#   as well where the number of steps is free ("T"), as in a model of texts of any length, or else refuses to compile.
# What happens: it compiles and runs, and the sequence of outputs has one step, whatever the input has: each free size of it is
#   taken to be 1. The step is the last one, and with a free batch its first row. The final state is right. No message, and a
#   loss or an argmax over it has a number.
# Version: iree-base-compiler and iree-base-runtime 3.13.0 (torch-mlir), with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: Scan is how ONNX holds a recurrent cell that has no node (minGRU, sLSTM, peepholes, JAX's lax.scan). A second
#   layer that reads this output works on one step.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    iree-base-compiler==3.13.0 iree-base-runtime==3.13.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
cd "$folder"
venv/bin/python -W ignore - <<'PY'
import importlib.metadata
import subprocess
import sys

import iree.compiler.tools as compiler
import iree.runtime
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

STEPS, ROWS, UNITS = 5, 2, 3
print("iree-base-compiler", importlib.metadata.version("iree-base-compiler"), "onnxruntime", onnxruntime.__version__)
generator = np.random.default_rng(0)
MATRIX = generator.normal(size=(UNITS, UNITS)).astype("f")
sizes_of_inputs = (("first_h", (ROWS, UNITS)), ("xs", (STEPS, ROWS, UNITS)))
inputs = {name: generator.normal(size=size).astype("f") for name, size in sizes_of_inputs}


def linear_recurrence(steps, rows):
    """h' = h / 2 + x, and M h' as the output of each step."""
    sizes = {"first_h": (rows, UNITS), "h": (rows, UNITS), "x": (rows, UNITS), "next_h": (rows, UNITS), "y": (rows, UNITS)}
    sizes |= {"xs": (steps, rows, UNITS), "ys": (steps, rows, UNITS), "last_h": (rows, UNITS)}
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()}
    names = (("Mul", ["h", "half"], "halved"), ("Add", ["halved", "x"], "next_h"), ("MatMul", ["next_h", "M"], "y"))
    nodes = [helper.make_node(kind, sources, [target]) for kind, sources, target in names]
    body = helper.make_graph(nodes, "step", [info["h"], info["x"]], [info["next_h"], info["y"]])
    scan = helper.make_node("Scan", ["first_h", "xs"], ["last_h", "ys"], body=body, num_scan_inputs=1)
    values = [numpy_helper.from_array(np.float32(0.5), "half"), numpy_helper.from_array(MATRIX, "M")]
    graph = helper.make_graph([scan], "g", [info["first_h"], info["xs"]], [info["ys"], info["last_h"]], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_iree(model):
    onnx.save(model, "m.onnx")
    command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", "m.onnx", "-o", "m.mlir"]
    subprocess.run(command, check=True, capture_output=True)
    flags = ["--iree-llvmcpu-target-cpu=generic"]
    binary = compiler.compile_file("m.mlir", target_backends=["llvm-cpu"], input_type="onnx", extra_args=flags)
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-sync"))
    context.add_vm_module(iree.runtime.VmModule.copy_buffer(context.instance, binary))
    return [array.to_host() for array in context.modules.module["g"](*inputs.values())]


ok = True
for title, steps, rows, last in (
    ("all sizes fixed", STEPS, ROWS, None),
    ("free steps", "T", ROWS, np.s_[-1:]),
    ("free steps and rows", "T", "B", np.s_[-1:, :1]),
):
    model = linear_recurrence(steps, rows)
    expected, expected_state = onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)
    outputs, state = in_iree(model)
    part = expected if last is None else expected[last]
    state_error = abs(state - expected_state).max()
    same = outputs.shape == part.shape and abs(outputs - part).max() < 1e-6
    what = "all steps" if last is None else "the last step" + (", first row" if len(part[0]) == 1 else "")
    print(f"{title:20}outputs {outputs.shape} of {expected.shape}, equal to {what}: {same}; state differs by {state_error:.0e}")
    ok &= same and state_error < 1e-6
sys.exit(0 if ok else 1)
PY
