#!/usr/bin/env bash
# One would guess: minLSTM of minGRU-pytorch, given the state that it returned, goes on where it stopped, in one call for
#   several steps as in one call a step; its minGRU does.
# What happens: where more than one step follows, minLSTM passes the given state through the function g of the candidates once
#   more, and g(h) = h + 0.5 for h >= 0: the state is too large by one half. With one step a call it is used as it is. So a text
#   in one call and step by step agree to the last digits, and the same text in two pieces does not.
# Version: minGRU-pytorch 0.2.1 with torch 2.13.0 (CPU).
# Why it matters: training with truncated backpropagation carries the state from piece to piece, evaluation steps or reads
#   whole: the two compute different networks, and a test of whole against steps passes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check minGRU-pytorch==0.2.1 torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import torch
from minGRU_pytorch.minGRU import minGRU
from minGRU_pytorch.minLSTM import minLSTM

print("minGRU-pytorch", importlib.metadata.version("minGRU-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
UNITS, STEPS, CUT = 8, 6, 3
x = torch.randn(2, STEPS, UNITS)
torch.set_grad_enabled(False)


def by_steps(layer, inputs, state):
    outputs = []
    for step in inputs.split(1, dim=1):
        output, state = layer(step, state, return_next_prev_hidden=True)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def equations(layer, inputs):
    """minLSTM of the paper: f' h + i' g(x), with f and i normalized to a sum of 1."""
    weight, h, outputs = layer.to_hidden_and_f_i_gate.weight, torch.zeros(len(inputs), UNITS), []
    for step in inputs.unbind(1):
        candidate, forget, write = (step @ weight.T).chunk(3, dim=-1)
        candidate = torch.where(candidate >= 0, candidate + 0.5, candidate.sigmoid())
        f, i = forget.sigmoid(), write.sigmoid()
        h = (f * h + i * candidate) / (f + i)
        outputs.append(h)
    return torch.stack(outputs, dim=1)


errors = {}
for kind in (minGRU, minLSTM):
    layer = kind(UNITS)
    whole = layer(x)
    first, state = layer(x[:, :CUT], return_next_prev_hidden=True)
    second = layer(x[:, CUT:], state)
    candidates = {
        "steps": by_steps(layer, x, None) - whole,
        "two pieces": torch.cat([first, second], dim=1) - whole,
        "second piece against steps from the state + 0.5": second - by_steps(layer, x[:, CUT:], state + 0.5),
    }
    if kind is minLSTM:
        candidates["equations"] = equations(layer, x) - whole
    errors[kind.__name__] = {name: abs(value).max().item() for name, value in candidates.items()}
    for name, error in errors[kind.__name__].items():
        print(f"{kind.__name__:8}{name:48}{error:.1e}")
gru, lstm = errors["minGRU"], errors["minLSTM"]
offset = "second piece against steps from the state + 0.5"
equal = (gru["steps"], gru["two pieces"], lstm["steps"], lstm["equations"], lstm[offset])
sys.exit(0 if max(equal) < 1e-5 and lstm["two pieces"] > 0.1 and gru[offset] > 0.1 else 1)
PY
