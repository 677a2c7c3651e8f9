#!/usr/bin/env bash
# One would guess: IREE, which compiles ONNX's RNN, GRU and LSTM nodes, computes their attribute `activations`, or refuses a
#   function that it does not have, as it computes the HardSigmoid node.
# What happens: inside the three recurrent nodes it knows Sigmoid, Tanh and Relu, and takes every other name for Relu, without
#   an error: HardSigmoid (the gates of Keras before 2.3, and what many converters write), Softsign, Elu, LeakyRelu, Affine,
#   ScaledTanh. Gates are then not bounded by 1, and a state grows from step to step. The importer's source has an "unreachable"
#   mark in that place, which in a release build is no check.
# Version: iree-base-compiler and iree-base-runtime 3.13.0 (torch-mlir), with onnx 1.23.2, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: the model compiles and runs; only a comparison of numbers shows that it is another network.
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

print("iree-base-compiler", importlib.metadata.version("iree-base-compiler"), "onnxruntime", onnxruntime.__version__)


def model_of(node, arrays, x_size, y_size):
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", x_size), ("y", y_size))]
    weights = [numpy_helper.from_array(array.astype("f"), name) for name, array in arrays.items()]
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_iree(model, x):
    onnx.save(model, "m.onnx")
    command = [sys.executable, "-m", "iree.compiler.tools.import_onnx", "m.onnx", "-o", "m.mlir"]
    subprocess.run(command, check=True, capture_output=True)
    flags = ["--iree-llvmcpu-target-cpu=generic"]
    binary = compiler.compile_file("m.mlir", target_backends=["llvm-cpu"], input_type="onnx", extra_args=flags)
    context = iree.runtime.SystemContext(config=iree.runtime.Config("local-sync"))
    context.add_vm_module(iree.runtime.VmModule.copy_buffer(context.instance, binary))
    return context.modules.module["g"](x).to_host()


def in_onnxruntime(model, x):
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def differences(model, x):
    """From onnxruntime, and from onnxruntime with Relu in the place of each function but Sigmoid and Tanh."""
    changed = onnx.ModelProto.FromString(model.SerializeToString())
    for attribute in changed.graph.node[0].attribute:
        if attribute.name == "activations":
            attribute.strings[:] = [name if name in (b"Sigmoid", b"Tanh") else b"Relu" for name in attribute.strings]
    seen = in_iree(model, x)
    return [abs(seen - in_onnxruntime(other, x)).max() for other in (model, changed)]


ok = True
line = np.linspace(-6, 6, 13, dtype="f").reshape(1, 13, 1)
alone = model_of(helper.make_node("HardSigmoid", ["x"], ["y"]), {}, (1, 13, 1), (1, 13, 1))
ok &= abs(in_iree(alone, line) - in_onnxruntime(alone, line)).max() < 1e-6
for name in ("Tanh", "Sigmoid", "HardSigmoid", "Softsign", "Elu", "LeakyRelu", "ScaledTanh"):
    node = helper.make_node("RNN", ["x", "W", "R"], ["y"], hidden_size=1, activations=[name])
    one = model_of(node, {"W": np.ones((1, 1, 1)), "R": np.zeros((1, 1, 1))}, (1, 13, 1), (1, 1, 13, 1))
    error, as_relu = differences(one, line)
    is_known = name in ("Tanh", "Sigmoid")
    print(f"RNN of one unit, {name:12}differs by {error:.1e}" + ("" if is_known else f", from Relu by {as_relu:.1e}"))
    ok &= error < 1e-6 if is_known else error > 0.05 and as_relu < 1e-6
generator = np.random.default_rng(0)
x = generator.normal(size=(5, 2, 3)).astype("f")
for kind, gates, gate in (("GRU", 3, ["Tanh"]), ("LSTM", 4, ["Tanh", "Tanh"])):
    for name in ("Sigmoid", "HardSigmoid"):
        node = helper.make_node(kind, ["x", "W", "R"], ["y"], hidden_size=4, activations=[name, *gate])
        arrays = {"W": generator.normal(size=(1, 4 * gates, 3)), "R": generator.normal(size=(1, 4 * gates, 4))}
        error, as_relu = differences(model_of(node, arrays, x.shape, (5, 1, 2, 4)), x)
        print(f"{kind:5}gates of {name:12}differs by {error:.1e}, from gates of Relu by {as_relu:.1e}")
        ok &= error < 1e-5 if name == "Sigmoid" else error > 0.1 and as_relu < 1e-3 * max(error, 1)
sys.exit(0 if ok else 1)
PY
