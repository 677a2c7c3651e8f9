#!/usr/bin/env bash
# One would guess: the initial state that a .nam file of an LSTM stores is the one that was trained, so that the file gives the numbers of
#   the model that it was made from, from the first sample on.
# What happens: the exporter feeds 48,000 samples of silence and stores the state after them, in the place of the trained one. A model
#   that is read back from its own weights differs in its first samples, and agrees once the start is forgotten.
# Version: neural-amp-modeler 0.13.0 with torch 2.13.0 (CPU).
# Why it matters: a reader that begins at zero is wrong in the first samples of every file, and one that is compared with the
#   outputs of the model in training, instead of those of the file, looks wrong though it is right.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 neural-amp-modeler==0.13.0 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import torch
from nam.models.recurrent import LSTM

print("neural-amp-modeler", importlib.metadata.version("neural-amp-modeler"), "torch", torch.__version__)
torch.manual_seed(0)
model, read_back = LSTM(8), LSTM(8)
model.eval(), read_back.eval()
with torch.no_grad():
    read_back.import_weights(model._export_weights())
    sound = 0.1 * torch.randn(1, 4000)
    difference = (model(sound, pad_start=False) - read_back(sound, pad_start=False)).abs()[0]
    trained, stored = model._initial_hidden.abs().max().item(), read_back._initial_hidden.abs().max().item()
print(f"largest number of the hidden state: trained {trained:.3f}, in the file {stored:.3f}")
print(f"difference of the outputs: first sample {difference[0]:.4f}, after 2,000 samples {difference[2000:].max():.1e}")
sys.exit(0 if trained == 0 and stored > 0.01 and difference[0] > 1e-3 and difference[2000:].max() < 1e-5 else 1)
PY
