"""Checkpoints of char-rnn (Karpathy 2015, `.t7`): LSTM, GRU and RNN, of CPU, CUDA and OpenCL.

A checkpoint is a table with `protos` (`protos.rnn` is the graph of one step), `opt` and `vocab`, from bytes to ids that count
from 1. The inputs of the graph are the character and the states of the layers (c and h of an LSTM), its outputs are the next
states and the log-probabilities.

    LSTM   gates i, f, o, g in one linear layer           c' = f * c + i * g,  h' = o * tanh(c')
    GRU    n = tanh(W x + U (r * h)),  h' = z * n + (1 - z) * h: the reset gate before the product, and z for 1 - z of ours

Each linear layer has a bias of its own; where two are added, their sum is imported. Input is one-hot.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.errors import ModelError
from unrolled.exchange.source_model import LayerWeights, SourceModel
from unrolled.exchange.torch7 import Table, TorchObject
from unrolled.exchange.torch7_graph import Expression, graph_outputs, tensor
from unrolled.exchange.vocabulary import VocabularyFile, build_vocabulary, checkpoint_tokens

FILE_ORDERS = {"lstm": "ifog", "gru": "zrn", "gru-reset-before": "zrn", "rnn": ""}
NOT_KNOWN = "The graph of the model computes none of the cells LSTM, GRU and RNN of char-rnn, so it cannot be imported"


def read_char_rnn(checkpoint: Table, vocabulary_file: VocabularyFile | None = None) -> SourceModel:
    """Return the model of a checkpoint. Raises `ModelError` for another network or a damaged one."""
    protos = checkpoint.get("protos")
    graph = protos.get("rnn") if isinstance(protos, Table) else None
    if not isinstance(graph, TorchObject) or graph.class_name != "nn.gModule":
        raise ModelError("The file has no `protos.rnn` of the class nn.gModule, as a checkpoint of char-rnn has.")
    outputs, dropout = graph_outputs(graph)
    head, states = _split_head(outputs, protos)
    layers, cell = _layers(states)
    embedding = None if _is_one_hot(layers[0][0]) else _embedding(layers[0][0])
    weight, bias = _linear_map(head)[1:]
    notes = [f"dropout {dropout:g} between the layers is active in training only"] * (dropout > 0)
    if cell.startswith("gru"):
        notes.append("the update gate z of the file is 1 - z of ours: its weights change their signs")
    vocabulary = build_vocabulary(checkpoint_tokens(checkpoint.get("vocab"), len(bias), vocabulary_file))
    return SourceModel(
        "char-rnn checkpoint", cell, tuple(layer for _, layer in layers), weight, bias, vocabulary, embedding,
        FILE_ORDERS[cell], (*notes, *vocabulary.notes), _facts(checkpoint, dropout),
    )  # fmt: skip


def _facts(checkpoint: Table, dropout: float) -> dict[str, Any]:
    """Return what the checkpoint says about its training."""
    facts: dict[str, Any] = {"dropout": dropout} if dropout else {}
    for name, target in (("val_loss", "val_nats"), ("epoch", "epochs"), ("i", "steps")):
        value = checkpoint.get(name)
        if isinstance(value, float) and np.isfinite(value):
            facts[target] = int(value) if target == "steps" else value
    return facts


def _split_head(outputs: list[Expression], protos: Table) -> tuple[Expression, list[Expression]]:
    """Return the linear layer of the output, and the next states. Early checkpoints have it outside of the graph."""
    if outputs and outputs[-1].kind == "log-softmax":
        return outputs[-1].parts[0], outputs[:-1]
    for name in ("softmax", "decoder"):
        module = protos.get(name)
        modules = module.get("modules") if isinstance(module, TorchObject) else None
        linear = modules.sequence()[0] if isinstance(modules, Table) and modules.sequence() else module
        if isinstance(linear, TorchObject) and linear.class_name == "nn.Linear" and outputs:
            bias = linear.get("bias")
            return Expression(
                "linear", (outputs[-1],), weight=tensor(linear, "weight"), bias=bias.array() if bias else None
            ), outputs
    raise ModelError(f"{NOT_KNOWN}: its last output is no nn.LogSoftMax of a linear layer.")


def _layers(states: list[Expression]) -> tuple[list[tuple[Expression, LayerWeights]], str]:
    """Return for each layer its input and weights, and the cell that all have."""
    found: list[tuple[Expression, LayerWeights]] = []
    cells = set()
    position, below = 0, None
    while position < len(states):
        is_lstm = position + 1 < len(states) and states[position + 1].kind == "product"
        if is_lstm:
            match = _lstm(states[position + 1], states[position], position)
        else:
            match = _gru(states[position], position) if states[position].kind == "sum" else _rnn(states[position], position)
        cell, inputs, layer = match
        if below is not None and inputs is not below:
            raise ModelError(f"{NOT_KNOWN}: layer {len(found)} does not read the output of the layer before it.")
        found.append((inputs, layer))
        cells.add(cell)
        position += 1 + is_lstm
        below = states[position - 1]
    if len(cells) != 1:
        raise ModelError(f"{NOT_KNOWN}: it has {'no layers' if not cells else 'layers of ' + ' and '.join(sorted(cells))}.")
    return found, cells.pop()


def _lstm(h: Expression, c: Expression, position: int) -> tuple[str, Expression, LayerWeights]:
    """Match h' = o * tanh(c'), c' = f * c + i * g."""
    o_gate, tanh_c = _factors(h, "sigmoid", "tanh")
    if tanh_c.parts[0] is not c or c.kind != "sum" or len(c.parts) != 2:
        raise ModelError(f"{NOT_KNOWN}: its output is not o * tanh(c).")
    write = [part for part in c.parts if part.kind == "product" and any(_elementwise(p).kind == "tanh" for p in part.parts)]
    keep = [part for part in c.parts if part not in write]
    if len(write) != 1 or len(keep) != 1:
        raise ModelError(f"{NOT_KNOWN}: its memory is not f * c + i * tanh(...).")
    i_gate, g_gate = _factors(write[0], "sigmoid", "tanh")
    f_gate, previous_c = _factors(keep[0], "sigmoid", "input")
    if previous_c.index != position + 1:
        raise ModelError(f"{NOT_KNOWN}: the memory of one layer is read by another.")
    gates = [_pre_activation(gate.parts[0], position + 2) for gate in (i_gate, f_gate, g_gate, o_gate)]
    return "lstm", *_stacked(gates)


def _gru(h: Expression, position: int) -> tuple[str, Expression, LayerWeights]:
    """Match h' = z * n + (1 - z) * h, or with z and 1 - z exchanged."""
    if len(h.parts) != 2 or any(part.kind != "product" for part in h.parts):
        raise ModelError(f"{NOT_KNOWN}: its state is not z * n + (1 - z) * h.")
    new = [part for part in h.parts if any(_elementwise(p).kind == "tanh" for p in part.parts)]
    old = [part for part in h.parts if part not in new]
    if len(new) != 1 or len(old) != 1:
        raise ModelError(f"{NOT_KNOWN}: its state is not z * n + (1 - z) * h.")
    is_inverted = any(part.kind == "one-minus" for part in old[0].parts)  # the file's z weighs the new state, ours the old one
    z_new, n_gate = _factors(new[0], "sigmoid" if is_inverted else "one-minus", "tanh")
    z_old, previous = _factors(old[0], "one-minus" if is_inverted else "sigmoid", "input")
    z_gate, inverse = (z_new, z_old) if is_inverted else (z_old, z_new)
    if inverse.parts[0] is not z_gate or previous.index != position + 1:
        raise ModelError(f"{NOT_KNOWN}: its state is not z * n + (1 - z) * h.")
    state = position + 1
    z_inputs, z_x, z_h, z_bias = _pre_activation(z_gate.parts[0], state)
    r_gate, n_parts = _candidate(n_gate.parts[0], state)
    sign = -1 if is_inverted else 1
    gates = [_pre_activation(r_gate.parts[0], state), (z_inputs, sign * z_x, sign * z_h, sign * z_bias), n_parts]
    return "gru-reset-before", *_stacked(gates)


def _candidate(value: Expression, state: int) -> tuple[Expression, tuple[Expression, np.ndarray, np.ndarray, np.ndarray]]:
    """Return the reset gate r and the weights of W x + U (r * h)."""
    terms = [_linear_map(part) for part in (value.parts if value.kind == "sum" else ())]
    gated = [term for term in terms if term[0].kind == "product"]
    direct = [term for term in terms if term[0].kind != "product"]
    if len(gated) != 1 or len(direct) != 1:
        raise ModelError(f"{NOT_KNOWN}: its new state is not tanh(W x + U (r * h)).")
    r_gate, previous = _factors(gated[0][0], "sigmoid", "input")
    if previous.index != state:
        raise ModelError(f"{NOT_KNOWN}: the reset gate multiplies no state of its layer.")
    inputs, weight, bias = direct[0]
    return r_gate, (inputs, weight, gated[0][1], bias + gated[0][2])


def _rnn(h: Expression, position: int) -> tuple[str, Expression, LayerWeights]:
    """Match h' = tanh(W x + U h)."""
    if h.kind != "tanh":
        raise ModelError(f"{NOT_KNOWN}: a state is {h.kind}.")
    return "rnn", *_stacked([_pre_activation(h.parts[0], position + 1)])


def _stacked(gates: list[tuple[Expression, np.ndarray, np.ndarray, np.ndarray]]) -> tuple[Expression, LayerWeights]:
    """Return the input that all gates have, and their weights as one layer."""
    if any(gate[0] is not gates[0][0] for gate in gates):
        raise ModelError(f"{NOT_KNOWN}: the gates of a layer have different inputs.")
    weight_ih, weight_hh, bias = (np.stack([np.asarray(gate[i], np.float32) for gate in gates]) for i in (1, 2, 3))
    return gates[0][0], LayerWeights(weight_ih, weight_hh, bias)


def _factors(product: Expression, first: str, second: str) -> tuple[Expression, Expression]:
    """Return the two factors of a product by their kinds, in any order."""
    factors = {part.kind: part for part in map(_elementwise, product.parts)} if product.kind == "product" else {}
    if len(product.parts) != 2 or set(factors) != {first, second}:
        raise ModelError(
            f"{NOT_KNOWN}: a product of {first} and {second} is expected, and there is one of {', '.join(factors)}."
        )
    return factors[first], factors[second]


def _elementwise(value: Expression) -> Expression:
    """Return a part of a sigmoid or tanh as the sigmoid or tanh of that part."""
    if value.kind == "rows" and value.parts[0].kind in ("sigmoid", "tanh"):
        outer = value.parts[0]
        return Expression(outer.kind, (Expression("rows", outer.parts, start=value.start, stop=value.stop),))
    return value


def _pre_activation(value: Expression, state: int) -> tuple[Expression, np.ndarray, np.ndarray, np.ndarray]:
    """Return what a gate computes before its sigmoid or tanh: its input x, W, U and b of `W x + U h + b`.

    `state` is the number of the input of the graph that is h.
    """
    rows = slice(None)
    while value.kind == "rows":
        rows = slice(value.start + (rows.start or 0), value.start + rows.stop if rows.stop else value.stop)
        value = value.parts[0]
    terms = [_linear_map(part) for part in (value.parts if value.kind == "sum" else ())]
    recurrent = [term for term in terms if term[0].kind == "input" and term[0].index == state]
    direct = [term for term in terms if not any(term is other for other in recurrent)]
    if len(recurrent) != 1 or len(direct) != 1:
        raise ModelError(f"{NOT_KNOWN}: a gate is no sum of two linear layers, of the input and of the state.")
    (inputs, weight, bias), (_, recurrent_weight, recurrent_bias) = direct[0], recurrent[0]
    return inputs, weight[rows], recurrent_weight[rows], (bias + recurrent_bias)[rows]


def _linear_map(value: Expression) -> tuple[Expression, np.ndarray, np.ndarray]:
    """Return the input, weight and bias of a linear layer."""
    if value.kind != "linear" or value.weight is None:
        raise ModelError(f"{NOT_KNOWN}: a linear layer is expected, and there is {value.kind}.")
    return value.parts[0], value.weight, np.zeros(len(value.weight), np.float32) if value.bias is None else value.bias


def _is_one_hot(value: Expression) -> bool:
    """Return whether the first layer reads one-hot vectors, made in the graph or, in early checkpoints, before it."""
    return value.kind == "one-hot" or value.kind == "input"


def _embedding(value: Expression) -> np.ndarray:
    if value.kind != "embedding" or value.weight is None:
        raise ModelError(f"{NOT_KNOWN}: its first layer reads {value.kind}.")
    return value.weight
