#!/usr/bin/env bash
# One would guess: a Keras layer gives the same numbers on each of its backends; a masked step repeats the output before it, and
#   where there is none, at the start of a row that is padded on the left, the output is zero.
# What happens: with a given initial state the masked start of a row is zero on TensorFlow, and is the initial state on JAX. On
#   JAX, too, unroll=True gives zeros. Without an initial state both are zero, all later outputs and the final states agree, and
#   so one sees it only where a decoder or a stateful layer meets left padding, or a row that is masked whole: that is all that
#   return_sequences=False returns.
# Version: keras 3.15.1 on tensorflow-cpu 2.21.0 and jax 0.10.2.
# Why it matters: a .keras file gives other outputs after a change of KERAS_BACKEND; a head, a mean over steps or attention
#   reads them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    keras==3.15.1 tensorflow-cpu==2.21.0 jax==0.10.2 numpy==2.3.5 2>/dev/null
cat >"$folder/outputs.py" <<'PY'
import sys

import keras
import numpy as np

generator = np.random.default_rng(0)
x, *state = (generator.normal(size=size).astype("f") for size in ((2, 4, 3), (2, 5), (2, 5)))
mask = np.array([[False, False, True, True], [True, True, True, False]])
results = {"state": state[0]}
for kind in ("SimpleRNN", "GRU", "LSTM"):
    given = state if kind == "LSTM" else state[:1]
    for unroll in (False, True):
        for with_state in (False, True):
            keras.utils.set_random_seed(0)
            layer = getattr(keras.layers, kind)(5, return_sequences=True, return_state=True, unroll=unroll)
            layer.build(x.shape)
            weights = np.random.default_rng(1)
            layer.set_weights([weights.normal(size=weight.shape).astype("f") for weight in layer.get_weights()])
            output, *final = layer(x, mask=mask, initial_state=given if with_state else None)
            name = f"{kind} unroll={unroll} state={with_state}"
            results[name] = keras.ops.convert_to_numpy(output)
            results[name + " final"] = np.stack([keras.ops.convert_to_numpy(one) for one in final])
            last = getattr(keras.layers, kind)(5, unroll=unroll)
            last.build(x.shape)
            last.set_weights(layer.get_weights())
            output = last(x, mask=np.zeros((2, 4), bool), initial_state=given if with_state else None)
            results[name + " masked whole"] = keras.ops.convert_to_numpy(output)
np.savez(sys.argv[1], **results)
PY
cd "$folder"
for backend in tensorflow jax; do
    KERAS_BACKEND=$backend TF_CPP_MIN_LOG_LEVEL=3 JAX_PLATFORMS=cpu venv/bin/python outputs.py $backend.npz 2>/dev/null
done
venv/bin/python - <<'PY'
import importlib.metadata
import sys

import numpy as np

print(*(f"{name} {importlib.metadata.version(name)}" for name in ("keras", "tensorflow-cpu", "jax")))
files = {backend: np.load(f"{backend}.npz") for backend in ("tensorflow", "jax")}
state, ok = files["jax"]["state"], True
for name in (name for name in files["jax"] if name.endswith(("state=True", "state=False"))):
    start = {backend: file[name][0, :2] for backend, file in files.items()}
    is_state = abs(start["jax"] - state[0]).max() < 1e-6
    rest = np.ones((2, 4), bool)
    rest[0, :2] = False
    later = abs(files["jax"][name] - files["tensorflow"][name])[rest].max()
    final = abs(files["jax"][name + " final"] - files["tensorflow"][name + " final"]).max()
    whole = {backend: file[name + " masked whole"] for backend, file in files.items()}
    words = "the initial state" if is_state else "zero" if not start["jax"].any() else "something else"
    zero = "zero" if not start["tensorflow"].any() else "not zero"
    print(f"{name:35}masked start: tensorflow {zero}, jax {words}; the rest differs by {max(later, final):.0e}")
    is_affected = "unroll=False state=True" in name
    ok &= zero == "zero" and words == ("the initial state" if is_affected else "zero") and max(later, final) < 1e-5
    ok &= not whole["tensorflow"].any() and np.array_equal(whole["jax"], state if is_affected else np.zeros_like(state))
sys.exit(0 if ok else 1)
PY
