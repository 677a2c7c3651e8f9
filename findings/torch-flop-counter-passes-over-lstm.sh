#!/usr/bin/env bash
# One would guess: torch's own FlopCounterMode counts the products of nn.LSTM as it counts those of nn.RNN and nn.GRU, and says so where
#   it knows no formula.
# What happens: on a CPU the LSTM has 0 FLOPs, forward and backward, because it is one oneDNN operator for which there is no formula;
#   GRU and RNN have the right number, 2 (I + H) H for each gate, step and row. torch.profiler(with_flops=True) counts additions
#   alone. With oneDNN off both are right. No warning.
# Version: torch 2.13.0 (CPU).
# Why it matters: a comparison at equal compute gives an LSTM of any size for nothing, and a model of an LSTM and a head reports the
#   head alone, which looks like a number.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import contextlib
import io
import sys

import torch
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

STEPS, ROWS, INPUTS, UNITS = 10, 2, 32, 64
print("torch", torch.__version__)
x = torch.randn(STEPS, ROWS, INPUTS)
ok = True
for name, gates in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    layer = getattr(torch.nn, name)(INPUTS, UNITS)
    true = 2 * gates * UNITS * (INPUTS + UNITS) * STEPS * ROWS
    counts = {}
    for fused in (True, False):
        with torch.backends.mkldnn.flags(enabled=fused):
            with FlopCounterMode(display=False) as forward:
                y = layer(x)[0]
            with FlopCounterMode(display=False) as backward:
                y.sum().backward()
        counts[fused] = (forward.get_total_flops(), backward.get_total_flops())
    with contextlib.redirect_stdout(io.StringIO()), profile(with_flops=True) as profiler:
        layer(x)
    profiled = sum(event.flops or 0 for event in profiler.key_averages())
    print(f"nn.{name}: {true} by hand; counted forward and backward {counts[True]}, oneDNN off {counts[False]}; profiler {profiled}")
    ok &= counts[False][0] == true and counts[False][1] > true
    ok &= counts[True] == ((0, 0) if name == "LSTM" else counts[False])
    ok &= profiled < true / 100 if name == "LSTM" else profiled >= true
sys.exit(0 if ok else 1)
PY
