#!/usr/bin/env bash
# One would guess: numpy's functions take a plain CPU tensor, since it converts to an array, and that all of them give the same kind
#   of result, as in code of 2015 that is ported line by line: np.dot(W, h), np.tanh(a), np.sum(a).
# What happens: three things. np.dot and np.concatenate return an ndarray; np.tanh and np.argmax return a torch.Tensor; np.sum,
#   np.mean, np.max and np.std raise TypeError, because numpy calls the tensor's own method with numpy's keywords. No gradient is
#   involved: these are tensors that need none.
# Version: torch 2.13.0 (CPU) with numpy 2.3.5.
# Why it matters: a step of a network written with numpy's functions runs for a tensor up to the first sum; the type changes on the
#   way. A class that hands out its matrices to numpy code needs __array_function__, not only __array__.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import torch

print("torch", torch.__version__, "numpy", np.__version__)
matrix = torch.ones(2, 3)
calls = {
    "dot": lambda: np.dot(matrix, np.ones(3)), "concatenate": lambda: np.concatenate([matrix, matrix]),
    "tanh": lambda: np.tanh(matrix), "argmax": lambda: np.argmax(matrix), "sum": lambda: np.sum(matrix),
    "mean": lambda: np.mean(matrix), "max": lambda: np.max(matrix), "std": lambda: np.std(matrix),
}
seen = {}
for name, call in calls.items():
    try:
        seen[name] = type(call()).__name__
    except TypeError:
        seen[name] = "TypeError"
    print(f"np.{name:12}{seen[name]}")
expected = ["ndarray"] * 2 + ["Tensor"] * 2 + ["TypeError"] * 4
sys.exit(0 if list(seen.values()) == expected else 1)
PY
