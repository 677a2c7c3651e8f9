#!/usr/bin/env bash
# One would guess: nn.LSTM in bfloat16 keeps its cell state in float32 inside one call, as matrix products keep their sums, and
#   rounds what it returns.
# What happens: on a CPU the cell state is rounded to bfloat16 at every step. With open gates and an input that adds 1 a step, it stands
#   at 256 after 256 steps, after 300 and after 1,000: 256 + 1 is 256 in bfloat16. In float32 it is the number of steps.
# Version: torch 2.13.0 (CPU).
# Why it matters: what an LSTM counts (brackets, position in a line, the values of a sensor) stops to grow, and no shape, dtype or
#   loss of a short test shows it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" - <<'PY'
import sys
import torch

print("torch", torch.__version__)
seen = {}
for dtype in (torch.float32, torch.bfloat16):
    layer = torch.nn.LSTM(1, 1).to(dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias_ih_l0.fill_(100)  # all gates are open, and tanh of the new value is 1
        for steps in (256, 300, 1000):
            _, (_, c) = layer(torch.zeros(steps, 1, 1, dtype=dtype))
            seen[dtype, steps] = float(c)
            print(str(dtype), steps, "steps: c =", float(c))
expected = {(d, n): 256.0 if d == torch.bfloat16 else float(n) for d, n in seen}
sys.exit(0 if seen == expected else 1)
PY
