#!/usr/bin/env bash
# One would guess: DeepLift of captum shares out the difference of two outputs among the inputs, so that the shares add up to it, also
#   through nn.LSTM, or refuses a layer for which it has no rule, as its LRP does by name.
# What happens: its rules replace the gradients of modules such as nn.Tanh and nn.Sigmoid. Those inside nn.RNN, nn.GRU and nn.LSTM are
#   no modules, so what remains is the plain gradient: with a baseline of zeros the result is input times gradient, to the last
#   digits. The same cell written with nn.Sigmoid and nn.Tanh as modules gives shares that add up. No message about it; the error
#   appears only with return_convergence_delta=True.
# Version: captum 0.9.0 with torch 2.13.0 (CPU), numpy 2.3.5.
# Why it matters: a ranking of steps that is published as DeepLift is that of saturated gradients, which are near zero just where a gate
#   is decided; two of the compared methods are one. IntegratedGradients adds up here.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check captum==0.9.0 torch==2.13.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" -W ignore - 2>"$folder/log" <<'PY' || { tail -5 "$folder/log"; exit 1; }
import importlib.metadata
import sys

import torch
from captum.attr import LRP, DeepLift, InputXGradient, IntegratedGradients
from torch import nn


class Last(nn.Module):
    """One number from the last step of a recurrent layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.head = layer, nn.Linear(16, 1)

    def forward(self, x):
        return self.head(self.layer(x)[0][-1:].transpose(0, 1)[:, 0])


class ModuleRNN(nn.Module):
    """nn.RNN with a module of its own for the tanh of each step."""

    def __init__(self, rnn, steps):
        super().__init__()
        self.rnn, self.tanh = rnn, nn.ModuleList(nn.Tanh() for _ in range(steps))

    def forward(self, x):
        h = x.new_zeros(x.shape[1], 16)
        r = self.rnn
        for step, tanh in zip(x, self.tanh):
            h = tanh(step @ r.weight_ih_l0.T + r.bias_ih_l0 + h @ r.weight_hh_l0.T + r.bias_hh_l0)
        return h[None], h


class StepsFirst(nn.Module):
    """Rows first outside, as captum needs them, steps first inside."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.transpose(0, 1))


print("captum", importlib.metadata.version("captum"), "torch", torch.__version__)
torch.manual_seed(0)
x = 3 * torch.randn(4, 6, 3)
zeros = torch.zeros_like(x)
ok = True
layers = {name: getattr(nn, name)(3, 16) for name in ("RNN", "GRU", "LSTM")}
layers["RNN of modules"] = ModuleRNN(layers["RNN"], 6)
for name, layer in layers.items():
    model = StepsFirst(Last(layer)).eval()
    shares = DeepLift(model).attribute(x, zeros)
    product = InputXGradient(model).attribute(x)
    integrated = IntegratedGradients(model).attribute(x, zeros, n_steps=500)
    difference = (model(x) - model(zeros))[:, 0]
    missing = [(a.sum((1, 2)) - difference).abs().max().item() / difference.abs().max().item() for a in (shares, integrated)]
    same = torch.allclose(shares, product, atol=1e-6)
    print(f"{name}: DeepLift is input times gradient: {same}; its sum misses {missing[0]:.1%}, IntegratedGradients' {missing[1]:.1%}")
    ok &= (not same and missing[0] < 1e-4) if name == "RNN of modules" else (same and missing[0] > 0.02)
    ok &= missing[1] < 0.02
try:
    LRP(StepsFirst(Last(layers["LSTM"])).eval()).attribute(x)
    ok = False
except TypeError as error:
    print("LRP:", str(error)[:70])
sys.exit(0 if ok else 1)
PY
