"""ONNX graphs of a text model, written node by node from the weights; nothing is traced, so no size is frozen.

The sequence graph reads `tokens` `(T, B)` and gives `logits` `(T, B, V)`; the step graph reads `token` `(B,)` and gives
`logits` `(B, V)`. Both take the states `h_0`, `c_0`, `h_1`, ... `(B, H)` and give the next ones, `next_h_0`, ...; `c` only of
an LSTM or sLSTM, which has `n` and `m`, too. T and B are free in inputs and outputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from unrolled.exchange.onnx_builder import NODES, GraphBuilder
from unrolled.exchange.onnx_cells import add_scan, add_step
from unrolled.runtime.text_network import NORM_EPSILON, TextLayer, TextNetwork


class TextGraphBuilder(GraphBuilder):
    """The graph of a text model."""

    def __init__(self, network: TextNetwork, is_step: bool, float16: bool = False) -> None:
        super().__init__(float16)
        self.network, self.is_step = network, is_step


def build_graph(network: TextNetwork, is_step: bool, float16: bool, metadata: dict[str, str]) -> Any:
    """Return the `onnx.ModelProto` of a model.

    Args:
        network: The model.
        is_step: Whether the graph takes one step, instead of a sequence.
        float16: Whether weights and arithmetic are in half precision.
        metadata: Strings that the file keeps, such as the tokens.
    """
    from onnx import TensorProto, helper

    graph = TextGraphBuilder(network, is_step, float16)
    zero, minus_one = graph.weight("axis_0", np.array([0])), graph.weight("axis_1", np.array([1]))
    tokens = graph.node("Unsqueeze", ["token", zero], ["tokens"]) if is_step else "tokens"
    x = _embed(graph, tokens)
    state_names: list[str] = []
    for index in range(len(network.layers)):
        x = add_layer(graph, index, x, zero, minus_one, state_names)
    weight = graph.weight("head.weight", network.head_weight.T)
    product = graph.node("MatMul", [x, weight], ["head_product"])
    logits = graph.node("Add", [product, graph.weight("head.bias", network.head_bias)], ["sequence_logits"])
    if is_step:
        logits = graph.node("Squeeze", [logits, zero], ["step_logits"])
    graph.cast(logits, "logits", to_half=False)
    free: list[str | int | None] = ["B"] if is_step else ["T", "B"]
    tokens_info = helper.make_tensor_value_info("token" if is_step else "tokens", TensorProto.INT64, free)
    shape: list[str | int | None] = ["B", network.hidden_size]
    inputs = [tokens_info, *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in state_names)]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*free, network.vocab_size])]
    outputs += [helper.make_tensor_value_info(f"next_{name}", TensorProto.FLOAT, shape) for name in state_names]
    return graph.model("unrolled_step" if is_step else "unrolled", inputs, outputs, metadata)


def _embed(graph: TextGraphBuilder, tokens: str) -> str:
    """Add the input of the first layer, `(T, B, E)`: rows of the embedding, or one-hot vectors."""
    network = graph.network
    if network.embedding is not None:
        return graph.node("Gather", [graph.weight("embedding.weight", network.embedding), tokens], ["embedded"])
    depth = graph.weight("vocab_size", np.array(network.vocab_size))
    values = graph.weight("off_on", np.array([0, 1], np.float32))
    return graph.node("OneHot", [tokens, depth, values], ["embedded"], axis=-1)


def add_layer(graph: TextGraphBuilder, index: int, x: str, zero: str, one: str, state_names: list[str]) -> str:
    """Add a layer that reads `x` `(T, B, E)`; return its output `(T, B, H)`, and add the names of its states."""
    network, layer = graph.network, graph.network.layers[index]
    prefix, cell = f"layer_{index}", network.cell
    cell_input = x
    if layer.norm_weight is not None and layer.norm_bias is not None:
        norm = [graph.weight(f"{prefix}.norm.weight", layer.norm_weight), graph.weight(f"{prefix}.norm.bias", layer.norm_bias)]
        cell_input = graph.node("LayerNormalization", [x, *norm], [f"{prefix}.norm"], axis=-1, epsilon=NORM_EPSILON)
    states = [f"{name}_{index}" for name in network.state_names]
    state_names += states
    initial = [graph.cast(name, f"{name}.cast", to_half=True) for name in states]
    if cell in NODES:
        y = _recurrent_node(graph, prefix, layer, cell_input, initial, states, zero, one)
    else:
        y = _written_out(graph, prefix, layer, cell_input, initial, states, zero)
    return graph.node("Add", [x, y], [f"{prefix}.out"]) if network.residual else y


def _recurrent_node(
    graph: TextGraphBuilder, prefix: str, layer: TextLayer, x: str, initial: list[str], states: list[str], zero: str, one: str
) -> str:
    """Add the recurrent node of ONNX for a layer, and its next states; return its output `(T, B, H)`."""
    cell = graph.network.cell
    inputs = [x, *graph.recurrent_weights(prefix, cell, layer), ""]
    inputs += [graph.node("Unsqueeze", [part, zero], [f"{name}.initial"]) for name, part in zip(states, initial, strict=True)]
    outputs = [f"{prefix}.Y", *(f"{name}.final" for name in states)]
    y = graph.recurrent(cell, inputs, outputs, graph.network.hidden_size)
    for name in states:
        graph.cast(graph.node("Squeeze", [f"{name}.final", zero], [f"{name}.next"]), f"next_{name}", to_half=False)
    return graph.node("Squeeze", [y, one], [f"{prefix}.y"])  # without the axis of directions


def _written_out(
    graph: TextGraphBuilder, prefix: str, layer: TextLayer, x: str, initial: list[str], states: list[str], zero: str
) -> str:
    """Add a layer whose cell has no node in ONNX, and its next states; return its output `(T, B, H)`."""
    if graph.is_step:
        x = graph.node("Squeeze", [x, zero], [f"{prefix}.x"])
        final = add_step(graph, prefix, graph.network.cell, layer, x, initial)
        y = graph.node("Unsqueeze", [final[0], zero], [f"{prefix}.y"])
    else:
        y, *final = add_scan(graph, prefix, graph.network.cell, layer, x, initial)
    for name, part in zip(states, final, strict=True):
        graph.cast(part, f"next_{name}", to_half=False)
    return y
