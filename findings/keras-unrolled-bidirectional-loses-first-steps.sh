#!/usr/bin/env bash
# One would guess: `unroll=True` of a Keras layer changes its speed alone; a Bidirectional LSTM over padded rows gives the same numbers
#   with it and without.
# What happens: Bidirectional with return_sequences sets outputs of masked steps to zero. Unrolled on TensorFlow, it lays the mask over
#   the backward half, which is still in the order it was read, the wrong way round: with three padded steps at the end of a row,
#   the first three steps of the backward half are zeros, though they are there in the loop. Final states are right. On JAX a
#   layer with `unroll=True` sets nothing to zero, and padded steps have other outputs than in its loop. Without a mask all agree.
# Version: keras 3.15.1 on tensorflow-cpu 2.21.0 and jax 0.10.2, numpy 2.3.5.
# Why it matters: a tagger that was trained so has half of its features missing for the first words of short sentences, trains and has
#   a loss; the same .keras file elsewhere, or converted, is another network, and a test without padding agrees.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0 jax==0.10.2 numpy==2.3.5 2>/dev/null
cat >"$folder/layers.py" <<'PY'
import sys

import keras
import numpy as np

STEPS, PADDED = 7, 3
backend = keras.backend.backend()
print("keras", keras.__version__, "on", backend)
x = np.random.default_rng(0).normal(size=(1, STEPS, 3)).astype("f")
padded = x.copy()
padded[:, -PADDED:] = 0
ok = True
for name in ("SimpleRNN", "GRU", "LSTM"):
    halves = {}
    for unroll in (False, True):
        layer = getattr(keras.layers, name)(4, return_sequences=True, unroll=unroll)
        source = keras.Input((STEPS, 3))
        model = keras.Model(source, keras.layers.Bidirectional(layer)(keras.layers.Masking()(source)))
        generator = np.random.default_rng(1)
        model.set_weights([generator.normal(size=w.shape).astype("f") for w in model.get_weights()])
        whole, short = (model.predict(rows, verbose=0)[0] for rows in (x, padded))
        halves[unroll] = whole, short[:, :4], short[:, 4:]
    differences = [abs(a - b).max(axis=1) for a, b in zip(halves[False], halves[True])]
    print(f"{name}: differs without padding by {differences[0].max():.1e}; with {PADDED} padded steps, by step:")
    print("  forward half ", np.round(differences[1], 2), "\n  backward half", np.round(differences[2], 2))
    lost = halves[True][2][:PADDED]
    ok &= differences[0].max() < 1e-5 and abs(halves[False][1][-PADDED:]).max() == abs(halves[False][2][-PADDED:]).max() == 0
    if backend == "tensorflow":
        ok &= differences[1].max() < 1e-5 and abs(lost).max() == 0 and differences[2][:PADDED].min() > 0.05
    else:
        ok &= differences[2].max() < 1e-5 and differences[1][:-PADDED].max() < 1e-5 and differences[1][-PADDED:].min() > 0.01
sys.exit(0 if ok else 1)
PY
for backend in tensorflow jax; do
    KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore "$folder/layers.py" 2>"$folder/log" ||
        { tail -5 "$folder/log"; exit 1; }
done
