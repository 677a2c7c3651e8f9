#!/usr/bin/env bash
# One would guess: `model.export("m.onnx", format="onnx")` of a Keras LSTM with a free number of steps, Input((None, 3)), gives a file
#   that reads any number of steps, as it does on the TensorFlow backend, or a refusal where a backend cannot.
# What happens: on the torch backend, LSTM and GRU are traced on one step, and the file has that step alone. It declares free steps,
#   takes any length, and answers for the first step: with return_sequences=False, a class or a number that depends on nothing
#   after it; with return_sequences=True, one step of outputs. GRU(reset_after=False), SimpleRNN and masks fail when they run.
# Version: keras 3.15.1 on torch 2.13.0, with onnx 1.23.2, onnxscript 0.7.2, onnxruntime 1.32.0, numpy 2.3.5.
# Why it matters: a classifier of sequences has the right output shape, and a check with one step, which is what the export itself
#   is made on, agrees. Give the length, Input((40, 3)): then the file has all steps and is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    keras==3.15.1 torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0 numpy==2.3.5 2>/dev/null
cd "$folder"
KERAS_BACKEND=torch venv/bin/python -W ignore - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import sys

import keras
import numpy as np
import onnxruntime
import torch

STEPS = 9
print("keras", keras.__version__, "torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
x = 3 * np.random.default_rng(0).normal(size=(2, STEPS, 3)).astype("f")
ok = True
for layer in (keras.layers.LSTM, keras.layers.GRU):
    for declared in (None, STEPS):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((declared, 3)), layer(5), keras.layers.Dense(2, activation="softmax")])
        expected = model.predict(x, verbose=0)
        of_first = model.predict(x[:, :1], verbose=0) if declared is None else None
        model.export("m.onnx", format="onnx", verbose=False)
        session = onnxruntime.InferenceSession("m.onnx")
        source = session.get_inputs()[0]
        y = session.run(None, {source.name: x})[0]
        error = abs(y - expected).max()
        print(f"{layer.__name__}, input {source.shape}: differs by {error:.1e} from Keras", end="")
        if declared is None:
            first_error = abs(y - of_first).max()
            print(f", by {first_error:.1e} from Keras on the first step alone", end="")
            ok &= first_error < 1e-5 and error > 1e-3 and not isinstance(source.shape[1], int)
        else:
            ok &= error < 1e-5
        print()
sys.exit(0 if ok else 1)
PY
