#!/usr/bin/env bash
# One would guess: CfC and LTC of ncps, networks for series with irregular times, read `timespans` `(B, L)`: for each row and step the
#   time since the last one.
# What happens: of a step, the vector of B times is multiplied with the units, `(B, H)`: unit k of every row gets the time of row k.
#   With a batch of another size than the units that is an error, with one row it is right, and with as many rows as units (or as
#   the wiring has neurons) it runs: a row's outputs depend on the times of the others. `(B, L, 1)` is squeezed to the same.
# Version: ncps 1.0.1 with torch 2.13.0.
# Why it matters: a batch of 32 and 32 units trains and has a loss; one row at a time, as it is served, the same model gives other
#   numbers. Give a row at a time, or call the cell with times `(B, 1)`.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ncps==1.0.1 torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - <<'PY'
import importlib.metadata
import sys

import torch
from ncps.torch import CfC, LTC

UNITS, STEPS = 8, 6
print("ncps", importlib.metadata.version("ncps"), "torch", torch.__version__)
ok = True
for kind in (CfC, LTC):
    torch.manual_seed(0)
    network = kind(3, UNITS).eval()
    x, times = torch.randn(UNITS, STEPS, 3), 0.1 + 2 * torch.rand(UNITS, STEPS)
    with torch.no_grad():
        together, _ = network(x, timespans=times)
        with_axis, _ = network(x, timespans=times[..., None])
        one_by_one = torch.cat([network(x[i : i + 1], timespans=times[i : i + 1])[0] for i in range(UNITS)])
        without, _ = network(x)
        alone = torch.cat([network(x[i : i + 1])[0] for i in range(UNITS)])
        state, steps = torch.zeros(UNITS, UNITS), []
        for step in range(STEPS):
            output, state = network.rnn_cell(x[:, step], state, times[:, step : step + 1])
            steps.append(output)
    by_cell = torch.stack(steps, dim=1)
    differences = [(a - b).abs().max().item() for a, b in
                   ((together, one_by_one), (with_axis, one_by_one), (by_cell, one_by_one), (without, alone))]
    print(f"{kind.__name__}: a batch differs from its rows one by one by {differences[0]:.1e}, with (B, L, 1) by "
          f"{differences[1]:.1e}, by the cell with (B, 1) by {differences[2]:.1e}; without times by {differences[3]:.1e}")
    ok &= min(differences[:2]) > 1e-3 and max(differences[2:]) < 1e-5
    try:
        network(x[:5], timespans=times[:5])
        ok = False
    except RuntimeError as error:
        print(f"  5 rows: {error}")
sys.exit(0 if ok else 1)
PY
