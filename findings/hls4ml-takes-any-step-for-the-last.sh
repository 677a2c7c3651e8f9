#!/usr/bin/env bash
# One would guess: hls4ml converts a PyTorch model that reads one step of a recurrent layer, y[:, 2] of `y, h = self.gru(x)`, so that it
#   reads that step, or refuses, as it refuses layers of two directions and several layers by name.
# What happens: it converts every nn.GRU and nn.LSTM to one that gives its last step only, and passes over the index: y[:, 0] and y[:, 2]
#   are both the last step, in the right shape, without an error. A model that returns the whole of y gives one step.
# Version: hls4ml 1.3.0 (backend Vitis, compiled with g++), torch 2.13.0 (CPU), numpy 2.3.5.
# Why it matters: a trigger that answers after some steps, or a tagger, becomes another network on the FPGA; y[:, -1] is right, and so
#   the usual example passes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hls4ml==1.3.0 torch==2.13.0 numpy==2.3.5 2>/dev/null
cd "$folder"
cat >step.py <<'PY'
import contextlib
import importlib.metadata
import io
import sys

import hls4ml
import numpy as np
import torch
from torch import nn

STEPS, WANTED = 6, 2


class OneStep(nn.Module):
    """A GRU, of which one step is read."""

    def __init__(self):
        super().__init__()
        self.layer, self.activation = nn.GRU(3, 8, batch_first=True), nn.ReLU()

    def forward(self, x):
        y, h = self.layer(x)
        return self.activation(y[:, WANTED])


print("hls4ml", importlib.metadata.version("hls4ml"), "torch", torch.__version__)
torch.manual_seed(0)
model = OneStep().eval()
x = torch.randn(5, STEPS, 3)
with contextlib.redirect_stdout(io.StringIO()):
    settings = {"default_precision": "ap_fixed<32,10>", "channels_last_conversion": "off", "transpose_outputs": False}
    config = hls4ml.utils.config_from_pytorch_model(model, (STEPS, 3), **settings)
    source = {"hls_config": config, "output_dir": "project", "backend": "Vitis", "io_type": "io_parallel"}
    converted = hls4ml.converters.convert_from_pytorch_model(model, **source)
    converted.compile()
    given = converted.predict(x.numpy())
with torch.no_grad():
    steps = model.activation(model.layer(x)[0]).numpy()
differences = [float(abs(given - steps[:, step]).max()) for step in range(STEPS)]
print(f"asked for step {WANTED} of 0 to {STEPS - 1}; difference from each step:", *np.round(differences, 3))
sys.exit(0 if differences[-1] < 0.03 and differences[WANTED] > 0.1 else 1)
PY
venv/bin/python -W ignore step.py 2>log || { tail -5 log; exit 1; }
