#!/usr/bin/env bash
# One would guess: nn.LSTM under torch.autocast("cpu", torch.bfloat16) runs on every x86 processor, slowly where it must, as
#   nn.Linear and nn.GRU do.
# What happens: on a processor without AVX-512 nn.LSTM raises RuntimeError "could not create a primitive descriptor for the LSTM
#   forward propagation primitive", with gradients and without; there is no fallback. nn.Linear gives bfloat16, nn.GRU gives
#   float32 without a word.
# Version: torch 2.13.0 (CPU). ONEDNN_MAX_CPU_ISA=AVX2 shows it on any processor.
# Why it matters: a script that autocasts on CPU trains on the author's machine and stops on a laptop; a benchmark that compares
#   with nn.LSTM in bfloat16 has no such figure there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.3.5 2>/dev/null
ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" - <<'PY'
import sys
import torch

print("torch", torch.__version__)
seen = {}
for name, module in (("Linear", torch.nn.Linear(8, 8)), ("GRU", torch.nn.GRU(8, 8)), ("LSTM", torch.nn.LSTM(8, 8))):
    try:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            out = module(torch.zeros(2, 1, 8))
        seen[name] = str((out if name == "Linear" else out[0]).dtype)
    except RuntimeError as error:
        seen[name] = "RuntimeError: " + str(error).split(".")[0]
    print(f"{name:7}{seen[name]}")
expected = seen["Linear"] == "torch.bfloat16" and seen["GRU"] == "torch.float32" and "LSTM forward" in seen["LSTM"]
sys.exit(0 if expected else 1)
PY
