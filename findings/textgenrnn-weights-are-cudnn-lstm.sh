#!/usr/bin/env bash
# One would guess: the weights that come with textgenrnn, an `.hdf5` of Keras LSTM layers whose kernels have the shapes of
#   keras.layers.LSTM, (inputs, 4 units) and (units, 4 units), can be read as those of an LSTM.
# What happens: they are those of CuDNNLSTM. The kernels have the same shapes, but each gate's block is transposed inside them, and
#   only the bias, (8 units,) instead of (4 units,), shows it. With its halves added up it fits an LSTM too: then nothing fails, and
#   the model is far worse than chance.
# Version: textgenrnn 2.0.0, read by h5py 3.14.0 and numpy 2.3.5; the network is computed here in numpy.
# Why it matters: an importer must decide by the shape of the bias, file by file: users' own files have either layout, by whether they
#   were trained on a GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps textgenrnn==2.0.0 h5py==3.14.0 numpy==2.3.5 2>/dev/null
"$folder/venv/bin/python" - "$folder"/venv/lib/python3*/site-packages/textgenrnn <<'PY'
import json
import sys
from pathlib import Path

import h5py
import numpy as np

UNITS, WINDOW = 128, 40
TEXT = "The president said on Monday that the new law would be in effect by the end of the year."
folder = Path(sys.argv[1])
weights = h5py.File(folder / "textgenrnn_weights.hdf5")
vocabulary = json.loads((folder / "textgenrnn_vocab.json").read_text("utf-8"))


def array(layer, name):
    return np.asarray(weights[f"{layer}/{layer}/{name}:0"], dtype=np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(layer, inputs, is_cudnn):
    kernels, bias = [array(layer, "kernel"), array(layer, "recurrent_kernel")], array(layer, "bias")
    if is_cudnn:  # each gate's block holds its matrix by rows of units
        kernels = [np.hstack([b.reshape(UNITS, -1).T for b in np.hsplit(k, 4)]) for k in kernels]
    bias = bias.reshape(2, -1).sum(0)
    h = c = np.zeros(UNITS)
    outputs = []
    for x in inputs:
        i, f, g, o = np.split(x @ kernels[0] + h @ kernels[1] + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs)


def bits(is_cudnn):
    ids = [vocabulary["<s>"], *(vocabulary[c] for c in TEXT)]
    total = 0.0
    for end in range(1, len(ids)):
        window = ids[max(0, end - WINDOW) : end]
        embedded = array("embedding", "embeddings")[[0] * (WINDOW - len(window)) + window]
        first = lstm("rnn_1", embedded, is_cudnn)
        second = lstm("rnn_2", first, is_cudnn)
        features = np.hstack([embedded, first, second])[WINDOW - len(window) :]
        scores = np.exp(features @ array("attention", "attention_W"))
        context = (features * scores / scores.sum()).sum(0)
        logits = context @ array("output", "kernel") + array("output", "bias")
        total -= logits[ids[end]] - np.log(np.exp(logits).sum())
    return total / (len(ids) - 1) / np.log(2)


shapes = {name: array("rnn_1", name).shape for name in ("kernel", "recurrent_kernel", "bias")}
print("textgenrnn 2.0.0:", shapes)
cudnn, plain = bits(True), bits(False)
print(f"bits per character of a sentence: {cudnn:.2f} as CuDNNLSTM, {plain:.2f} as LSTM, {np.log2(len(vocabulary)):.2f} by chance")
sys.exit(0 if shapes["bias"] == (8 * UNITS,) and cudnn < 3 and plain > np.log2(len(vocabulary)) else 1)
PY
