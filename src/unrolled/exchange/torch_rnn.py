"""Checkpoints of torch-rnn (Johnson 2016, `.t7`): LSTM, GRU and RNN, with or without batch normalization.

A checkpoint is a table with `model`, an `nn.LanguageModel`: `net` is a sequence of nn.LookupTable, recurrent layers and
nn.Linear, and `idx_to_token` the vocabulary, from 1. A layer has one matrix `(D + H, G H)` of input and recurrent weights.

    LSTM   gates i, f, o, g
    GRU    gates u, r, n; n = tanh(W x + U (r * h)),  h' = (1 - u) * h + u * n: the reset gate before the product, u is 1 - z
    of ours
"""

from __future__ import annotations

import numpy as np

from unrolled.errors import ModelError
from unrolled.exchange.gate_orders import inverted_update_gate, layer_in_our_order
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.torch7 import Table, Tensor, TorchObject
from unrolled.exchange.torch7_graph import tensor
from unrolled.exchange.vocabulary import VocabularyFile, build_vocabulary, checkpoint_tokens

CELL_CLASSES = {"nn.LSTM": ("lstm", 4, "ifog"), "nn.GRU": ("gru-reset-before", 3, "zrn"), "nn.VanillaRNN": ("rnn", 1, "")}
NORMALIZATIONS = ("nn.BatchNormalization", "cudnn.BatchNormalization")
IGNORED = {"nn.Dropout", "nn.View", "nn.Identity"}


def read_torch_rnn(model: TorchObject, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of an `nn.LanguageModel`. Raises `ModelError` for another network or a damaged one."""
    net = model.get("net")
    table = net.get("modules") if isinstance(net, TorchObject) else None
    modules = [module for module in (table.sequence() if isinstance(table, Table) else []) if isinstance(module, TorchObject)]
    if not modules or modules[0].class_name != "nn.LookupTable":
        raise ModelError(
            "The nn.LanguageModel of the file has no `net` that begins with nn.LookupTable, as those of torch-rnn have."
        )
    embedding, layers, classes = tensor(modules[0], "weight"), [], []
    scale, shift, head, dropout = None, None, None, 0.0
    for module in modules[1:]:
        if head is not None and module.class_name not in IGNORED:
            raise ModelError(f"The model has a module {module.class_name:.60} after its nn.Linear, so it cannot be imported.")
        if module.class_name in NORMALIZATIONS:
            scale, shift = _normalization(module)
        elif module.class_name in CELL_CLASSES:
            classes.append(module.class_name)
            layers.append(_after_normalization(_layer(module), scale, shift))
            scale = shift = None
        elif module.class_name == "nn.Linear":
            weight, bias = tensor(module, "weight"), tensor(module, "bias")
            head = (weight, bias) if scale is None or shift is None else (weight * scale, bias + weight @ shift)
        elif module.class_name not in IGNORED:
            raise ModelError(f"The model has a module {module.class_name:.60} that no cell here has, so it cannot be imported.")
        dropout = float(module.get("p") or 0.0) if module.class_name == "nn.Dropout" else dropout
    if head is None or len(set(classes)) != 1:
        raise ModelError("The nn.LanguageModel of the file lacks nn.Linear or recurrent layers of one kind.")
    cell, _, order = CELL_CLASSES[classes[0]]
    notes = _notes(cell, dropout, any(module.class_name in NORMALIZATIONS for module in modules))
    vocabulary = build_vocabulary(checkpoint_tokens(model.get("idx_to_token"), len(head[1]), vocabulary_file))
    return SourceModel(
        "torch-rnn checkpoint", cell, tuple(layers), head[0], head[1], vocabulary, embedding, order,
        (*notes, *vocabulary.notes), {"dropout": dropout} if dropout else {},
    )  # fmt: skip


def _notes(cell: str, dropout: float, is_normalized: bool) -> list[str]:
    notes = [f"dropout {dropout:g} between the layers is active in training only"] * (dropout > 0)
    if cell.startswith("gru"):
        notes.append("the update gate u of the file is 1 - z of ours: its weights change their signs")
    if is_normalized:
        notes.append("batch normalization with its running statistics is folded into the layer after it")
    return notes


def _layer(module: TorchObject) -> LayerWeights:
    cell, num_gates, order = CELL_CLASSES[module.class_name]
    weight, bias = tensor(module, "weight"), tensor(module, "bias")
    units = len(bias) // num_gates
    if weight.ndim != 2 or weight.shape[1] != num_gates * units or not 0 < units < len(weight):
        raise ModelError(
            f"The {module.class_name} of the file has weights {weight.shape} and {len(bias)} biases, which do not fit."
        )
    blocks = np.moveaxis(weight.reshape(len(weight), num_gates, units), 0, 2)  # (G, H, D + H)
    size = len(weight) - units
    layer = LayerWeights(blocks[:, :, :size], blocks[:, :, size:], bias.reshape(num_gates, units))
    layer = layer_in_our_order(layer, cell, order)
    return inverted_update_gate(layer) if cell.startswith("gru") else layer


def _normalization(module: TorchObject) -> tuple[np.ndarray, np.ndarray]:
    """Return what batch normalization does in use: `scale * h + shift`."""
    mean, eps = tensor(module, "running_mean"), float(module.get("eps") or 1e-5)
    if isinstance(module.get("running_var"), Tensor):
        scale = 1 / np.sqrt(tensor(module, "running_var") + eps)
    else:
        scale = tensor(module, "running_std")  # older versions of nn store one over the deviation
    shift = -mean * scale
    if isinstance(module.get("weight"), Tensor):
        weight = tensor(module, "weight")
        scale, shift = scale * weight, shift * weight + tensor(module, "bias")
    return scale, shift


def _after_normalization(layer: LayerWeights, scale: np.ndarray | None, shift: np.ndarray | None) -> LayerWeights:
    """Return a layer that reads `h` where the given one reads `scale * h + shift`."""
    if scale is None or shift is None:
        return layer
    return LayerWeights(layer.weight_ih * scale, layer.weight_hh, layer.bias + layer.weight_ih @ shift, layer.bias_hh)
