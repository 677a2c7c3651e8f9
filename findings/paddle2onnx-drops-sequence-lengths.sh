#!/usr/bin/env bash
# One would guess: paddle.onnx.export of an LSTM that is called with `sequence_length` writes the lengths into the node's
#   `sequence_lens`, since ONNX has this input, or refuses, as where it has no counterpart.
# What happens: the file declares the lengths as an input, in the right type and shape, and no node reads them: LSTM and GRU run over
#   the padding. Outputs after the end of a row are not zero, the final state is that after the padding, and the backward half of a
#   layer of two directions begins in it, so that all of its outputs are others. Lengths that are as long as the batch are right.
# Version: paddlepaddle 3.3.1, paddle2onnx 2.1.0, onnx 1.17.0, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: one row at a time agrees with Paddle, and a batch of rows of different lengths does not; the input with the lengths
#   makes the file look as if it heeded them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    paddlepaddle==3.3.1 paddle2onnx==2.1.0 onnx==1.17.0 onnxruntime==1.32.0 numpy==2.3.5 setuptools 2>/dev/null
cd "$folder"
cat >layers.py <<'PY'
import importlib.metadata
import sys

import numpy as np
import onnx
import onnxruntime
import paddle


class Encoder(paddle.nn.Layer):
    """A recurrent layer over rows with lengths: its outputs and its final h."""

    def __init__(self, name, direction):
        super().__init__()
        self.layer = getattr(paddle.nn, name)(3, 4, direction=direction)

    def forward(self, x, lengths):
        y, state = self.layer(x, sequence_length=lengths)
        return y, state[0] if isinstance(state, (tuple, list)) else state


paddle.set_device("cpu")
paddle.seed(0)
print(*(f"{name} {importlib.metadata.version(name)}" for name in ("paddlepaddle", "paddle2onnx", "onnxruntime")))
x = np.random.default_rng(0).normal(size=(3, 7, 3)).astype("f")
sources = [paddle.static.InputSpec([None, None, 3], "float32", "x"), paddle.static.InputSpec([None], "int64", "lengths")]
ok = True
for name in ("LSTM", "GRU"):
    for direction in ("forward", "bidirect"):
        encoder = Encoder(name, direction)
        encoder.eval()
        paddle.onnx.export(encoder, "encoder", input_spec=sources, opset_version=17)
        session = onnxruntime.InferenceSession("encoder.onnx")
        node = next(node for node in onnx.load("encoder.onnx").graph.node if node.op_type == name)
        declared = any(source.name == "lengths" for source in session.get_inputs())
        errors = []
        for lengths in ([7, 7, 7], [7, 4, 2]):
            feed = {"x": x, "lengths": np.array(lengths)}
            expected = encoder(*(paddle.to_tensor(array) for array in feed.values()))
            given = session.run(None, feed)
            errors.append([float(abs(a - b.numpy()).max()) for a, b in zip(given, expected)])
        print(f"{name} {direction}: lengths are an input: {declared}, the node's sequence_lens: {node.input[4]!r};", end=" ")
        print(*(f"{kind} lengths: outputs {y:.1e}, state {h:.1e} from Paddle" for kind, (y, h) in zip(("full", "shorter"), errors)), sep="; ")
        ok &= declared and not node.input[4] and max(errors[0]) < 1e-5 and min(errors[1]) > 1e-2
sys.exit(0 if ok else 1)
PY
venv/bin/python -W ignore layers.py >out 2>log && code=0 || code=$?
grep -E '^(paddlepaddle|LSTM|GRU) ' out
[ "$code" = 0 ] || { tail -5 log; exit 1; }
