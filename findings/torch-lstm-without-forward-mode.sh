#!/usr/bin/env bash
# One would guess: forward-mode derivatives (torch.func.jvp, jacfwd) go through nn.RNN, nn.GRU and nn.LSTM alike, or through none.
# What happens: on a CPU they go through nn.RNN and nn.GRU, and nn.LSTM raises NotImplementedError, because it alone is one oneDNN
#   operator. With oneDNN off the same call works, and agrees with reverse mode. torch.func.vmap goes through none of the three.
# Version: torch 2.13.0 (CPU).
# Why it matters: the sensitivity of a state to an early input, or real-time recurrent learning, is tried on a GRU and fails on
#   the LSTM; the cure is a flag of another library, torch.backends.mkldnn.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import torch

print("torch", torch.__version__)
torch.manual_seed(0)
x, direction = torch.randn(2, 5, 1, 3)
seen = {}


def tangent(layer):
    return torch.func.jvp(lambda steps: layer(steps)[0].sum(), (x,), (direction,))[1]


for kind in (torch.nn.RNN, torch.nn.GRU, torch.nn.LSTM):
    layer, name = kind(3, 4), kind.__name__
    given = x.clone().requires_grad_()
    layer(given)[0].sum().backward()
    expected = (given.grad * direction).sum()
    for is_on in (True, False):
        with torch.backends.mkldnn.flags(enabled=is_on):
            try:
                difference = abs(tangent(layer) - expected).item()
                seen[name, is_on] = "equal" if difference < 1e-5 else f"differs by {difference:.1e}"
            except NotImplementedError as error:
                seen[name, is_on] = "NotImplementedError: " + str(error).split(" because")[0]
        print(f"{name:5}oneDNN {'on ' if is_on else 'off'} forward mode against reverse mode: {seen[name, is_on]}")
    try:
        torch.func.vmap(lambda steps: layer(steps)[0], in_dims=1)(x)
        seen[name, "vmap"] = "works"
    except RuntimeError as error:
        seen[name, "vmap"] = str(error).split(".")[0]
    print(f"{name:5}vmap: {seen[name, 'vmap']}")
refused = {key for key, value in seen.items() if "NotImplementedError" in value and "mkldnn_rnn_layer" in value}
equal = {key for key, value in seen.items() if value == "equal"}
no_vmap = all("Batching rule not implemented" in seen[name, "vmap"] for name in ("RNN", "GRU", "LSTM"))
sys.exit(0 if refused == {("LSTM", True)} and len(equal) == 5 and no_vmap else 1)
PY
