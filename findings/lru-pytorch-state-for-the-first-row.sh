#!/usr/bin/env bash
# One would guess: LRU(...)(inputs, state) of a batch starts every row from the state that is given.
# What happens: only the first row starts from it; the state is set to zeros after each row, so that all others start from zero.
#   The state after the inputs is not returned either, and what the module keeps is zeros: a text cannot be fed in pieces.
# Version: LRU-pytorch 0.1.3, torch 2.13.0 (CPU), numpy 2.3.5.
# Why it matters: carried state, as in training by truncated backpropagation, is right for one row of a batch and lost for the
#   rest, with right shapes and no message. It takes a loop over rows of one, and a state computed by hand.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 LRU-pytorch==0.1.3 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import torch
from LRU_pytorch import LRU

print("LRU-pytorch", importlib.metadata.version("LRU-pytorch"), "torch", torch.__version__)
torch.manual_seed(0)
layer = LRU(in_features=3, out_features=4, state_features=8)
row = torch.randn(5, 3)
state = torch.complex(*torch.randn(2, 8))
with torch.no_grad():
    from_state, from_zero = layer(row, state), layer(row, torch.zeros_like(state))
    batch = layer(torch.stack([row, row, row]), state)
    kept = layer.state.abs().max().item()
ok = (from_state - from_zero).abs().max() > 0.1 and kept == 0
for index, output in enumerate(batch):
    given, zero = (output - from_state).abs().max().item(), (output - from_zero).abs().max().item()
    print(f"row {index} of three equal rows: differs by {given:.1e} from the row alone with the state, by {zero:.1e} from zero state")
    ok &= (given < 1e-6) if index == 0 else (zero < 1e-6 and given > 0.1)
print("largest number of the state that the module keeps:", kept)
sys.exit(0 if ok else 1)
PY
