#!/usr/bin/env bash
# One would guess: a Keras LSTM with stateful=False, the default, reads each input from the zero state after conversion to LiteRT as it
#   does in Keras, and a GRU and an LSTM differ in nothing there.
# What happens: the converter makes the LSTM of Keras 2 (tf_keras) one operator, UNIDIRECTIONAL_SEQUENCE_LSTM, whose h and c are
#   variables that last from one invoke() to the next. The first answer is that of Keras, each later one that of a text which goes on
#   where the last one ended; the backward half of a Bidirectional begins with the state of another text, too. A GRU becomes a loop,
#   and forgets. interpreter.reset_all_variables() before each input gives the numbers of Keras.
# Version: ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0, tf_keras 2.21.0, numpy 2.3.5.
# Why it matters: a check of the converted file on one input passes; in use a class or a score depends on what was asked before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    ai-edge-litert==2.3.0 tensorflow-cpu==2.21.0 tf_keras==2.21.0 numpy==2.3.5 2>/dev/null
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import importlib.metadata
import sys

import numpy as np
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter

STEPS, INPUTS, UNITS = 7, 3, 8
print("ai-edge-litert", importlib.metadata.version("ai-edge-litert"), "tensorflow", tf.__version__, "tf_keras", tf_keras.__version__)
x = np.random.default_rng(0).normal(size=(1, STEPS, INPUTS)).astype("f")


def build(name, steps, both):
    """One layer with the same weights for any number of steps."""
    tf_keras.utils.set_random_seed(0)
    layer = getattr(tf_keras.layers, name)(UNITS)
    layer = tf_keras.layers.Bidirectional(layer) if both else layer
    source = tf_keras.Input(batch_shape=(1, steps, INPUTS))
    return tf_keras.Model(source, layer(source))


ok = True
for name, both in (("LSTM", False), ("LSTM", True), ("GRU", False)):
    model = build(name, STEPS, both)
    expected = model.predict(x, verbose=0)
    interpreter = Interpreter(model_content=tf.lite.TFLiteConverter.from_keras_model(model).convert())
    interpreter.allocate_tensors()
    source, target = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def answer():
        """The output for x, from whatever state there is."""
        interpreter.set_tensor(source, x)
        interpreter.invoke()
        return interpreter.get_tensor(target).copy()

    first, second = answer(), answer()
    interpreter.reset_all_variables()
    errors = [float(abs(y - expected).max()) for y in (first, second, answer())]
    print(f"{name}{' in both directions' if both else ''}: differs from Keras at first by {errors[0]:.1e},", end=" ")
    print(f"for the same input again by {errors[1]:.1e}, after reset_all_variables by {errors[2]:.1e}")
    ok &= errors[0] < 1e-5 and errors[2] < 1e-5 and (errors[1] > 1e-3 if name == "LSTM" else errors[1] < 1e-5)
    if name == "LSTM" and not both:
        twice = build(name, 2 * STEPS, both).predict(np.concatenate([x, x], axis=1), verbose=0)
        print(f"  the second answer differs from Keras on the input twice in a row by {abs(second - twice).max():.1e}")
        ok &= abs(second - twice).max() < 1e-5
sys.exit(0 if ok else 1)
PY
