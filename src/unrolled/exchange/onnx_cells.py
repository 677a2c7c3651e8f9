"""ONNX nodes of the cells that ONNX has no recurrent node for: one step, written out, and a Scan of it over a sequence.

The equations are those of `runtime.numpy_model`. A Scan has the step as a graph inside, so that the number of steps stays free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from unrolled.exchange.onnx_builder import NODES, GraphBuilder, Rows
from unrolled.network_shapes import HARD_SIGMOID_CELLS, MOGRIFIER_CELLS, MOGRIFIER_ROUNDS
from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import TextLayer


class StepNodes:
    """Nodes of one step of a layer; each method adds some and returns the name of the result, `(B, ...)`."""

    def __init__(self, graph: GraphBuilder, prefix: str, layer: TextLayer, gate: str = "Sigmoid") -> None:
        self.graph, self.prefix, self.layer, self._gate, self._count = graph, prefix, layer, gate, 0

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}.{kind}_{self._count}"

    def op(self, kind: str, *inputs: str) -> str:
        """Add a node with one output."""
        return self.graph.node(kind, list(inputs), [self._name(kind)])

    def const(self, value: float) -> str:
        """Add a number."""
        return self.graph.weight(self._name("const"), np.array(value, np.float32))

    def linear(self, x: str, weight: Floats, bias: Floats | None = None) -> str:
        """Add `x W^T`, plus a bias."""
        product = self.op("MatMul", x, self.graph.weight(self._name("weight"), weight.T))
        return product if bias is None else self.op("Add", product, self.graph.weight(self._name("bias"), bias))

    def split(self, x: str, parts: int) -> list[str]:
        """Cut the last axis into equal parts."""
        names = [self._name("part") for _ in range(parts)]
        self.graph.node("Split", [x], names, axis=-1)
        return names

    def gate(self, x: str) -> str:
        """Add the nonlinearity of gates; the slope of a hard sigmoid is ONNX's default, 0.2."""
        return self.op(self._gate, x)

    def log_sigmoid(self, x: str) -> str:
        """Add `ln(1 / (1 + e^-x))`."""
        return self.op("Neg", self.op("Softplus", self.op("Neg", x)))

    def mix(self, share: str, h: str, n: str) -> str:
        """Add `(1 - share) h + share n`."""
        kept = self.op("Mul", self.op("Sub", self.const(1), share), h)
        return self.op("Add", kept, self.op("Mul", share, n))

    def gates(self, x: str, h: str | None) -> list[str]:
        """Add the sums of all gates, of the input and of `h` if there is one."""
        layer, gates = self.layer, self.linear(x, self.layer.weight_ih, self.layer.bias)
        if h is not None:
            gates = self.op("Add", gates, self.linear(h, layer.weight_hh, layer.bias_hh))
        return self.split(gates, len(layer.gate_names))

    def mogrify(self, x: str, h: str) -> tuple[str, str]:
        """Add the rounds of a Mogrifier."""
        for index in range(MOGRIFIER_ROUNDS):
            weight = self.layer.others[f"mogrifier_{'qr'[index % 2]}"][index // 2]
            factor = self.op("Mul", self.const(2), self.op("Sigmoid", self.linear(x if index % 2 else h, weight)))
            if index % 2:
                h = self.op("Mul", factor, h)
            else:
                x = self.op("Mul", factor, x)
        return x, h


Step: TypeAlias = Callable[[StepNodes, str, str, list[str]], list[str]]
"""From the input, the `h` that gates read and the state to the next state, by their names."""


def _lstm(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    i, f, g, o = nodes.gates(x, h)
    kept = nodes.op("Mul", nodes.gate(f), state[1])
    c = nodes.op("Add", kept, nodes.op("Mul", nodes.gate(i), nodes.op("Tanh", g)))
    return [nodes.op("Mul", nodes.gate(o), nodes.op("Tanh", c)), c]


def _gru(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    layer = nodes.layer
    r_x, z_x, n_x = nodes.gates(x, None)
    r_h, z_h, n_h = nodes.split(nodes.linear(h, layer.weight_hh, layer.bias_hh), 3)
    r, z = (nodes.gate(nodes.op("Add", *pair)) for pair in ((r_x, r_h), (z_x, z_h)))
    n = nodes.op("Tanh", nodes.op("Add", n_x, nodes.op("Mul", r, n_h)))
    return [nodes.mix(z, n, state[0])]


def _gru_reset_before(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    weight, bias, size = nodes.layer.weight_hh, nodes.layer.bias_hh, nodes.layer.weight_hh.shape[1]
    rows_rz, rows_n = slice(2 * size), slice(2 * size, None)
    r_x, z_x, n_x = nodes.gates(x, None)
    r_h, z_h = nodes.split(nodes.linear(h, weight[rows_rz], None if bias is None else bias[rows_rz]), 2)
    r, z = (nodes.gate(nodes.op("Add", *pair)) for pair in ((r_x, r_h), (z_x, z_h)))
    n_h = nodes.linear(nodes.op("Mul", r, h), weight[rows_n], None if bias is None else bias[rows_n])
    return [nodes.mix(z, nodes.op("Tanh", nodes.op("Add", n_x, n_h)), state[0])]


def _mingru(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    z, n = nodes.gates(x, None)
    return [nodes.mix(nodes.op("Sigmoid", z), h, n)]


def _minlstm(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    i, f, n = nodes.gates(x, None)
    share = nodes.op("Sigmoid", nodes.op("Sub", nodes.log_sigmoid(i), nodes.log_sigmoid(f)))
    return [nodes.mix(share, h, n)]


def _rg_lru(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    """ONNX has no expm1: `1 - a^2` is `tanh(-ln a) (1 + a^2)`, whose digits do not cancel where a is nearly 1."""
    r, i, n = nodes.gates(x, None)
    decay = nodes.log_sigmoid(nodes.graph.weight(f"{nodes.prefix}.decay_logit", nodes.layer.others["decay_logit"]))
    log_a = nodes.op("Mul", nodes.op("Mul", nodes.const(8), nodes.op("Sigmoid", r)), decay)
    a = nodes.op("Exp", log_a)
    square = nodes.op("Add", nodes.const(1), nodes.op("Mul", a, a))
    square = nodes.op("Mul", nodes.op("Tanh", nodes.op("Neg", log_a)), square)
    written = nodes.op("Mul", nodes.op("Sqrt", square), nodes.op("Mul", nodes.op("Sigmoid", i), n))
    return [nodes.op("Add", nodes.op("Mul", a, h), written)]


def _slstm(nodes: StepNodes, x: str, h: str, state: list[str]) -> list[str]:
    _, c, n, m = state
    i, f, g, o = nodes.gates(x, h)
    kept = nodes.op("Add", nodes.log_sigmoid(f), m)
    kept = nodes.op("Where", nodes.op("Equal", n, nodes.const(0)), i, kept)
    m = nodes.op("Max", kept, i)
    i, f = (nodes.op("Exp", nodes.op("Sub", log, m)) for log in (i, kept))
    c = nodes.op("Add", nodes.op("Mul", f, c), nodes.op("Mul", i, nodes.op("Tanh", g)))
    n = nodes.op("Add", nodes.op("Mul", f, n), i)
    return [nodes.op("Div", nodes.op("Mul", nodes.op("Sigmoid", o), c), n), c, n, m]


STEPS: dict[str, Step] = {
    "mogrifier-gru": _gru,
    "mogrifier-lstm": _lstm,
    "mingru": _mingru,
    "minlstm": _minlstm,
    "rg-lru": _rg_lru,
    "slstm": _slstm,
    HARD_SIGMOID_CELLS["gru"]: _gru,
    HARD_SIGMOID_CELLS["gru-reset-before"]: _gru_reset_before,
    HARD_SIGMOID_CELLS["lstm"]: _lstm,
}
"""The cells without a recurrent node of ONNX, or whose hard sigmoids are an attribute of it that some programs do not read."""

ONNX_CELLS = (*NODES, *STEPS)
"""The cells that can be exported to ONNX."""


def add_step(graph: GraphBuilder, prefix: str, cell: str, layer: TextLayer, x: str, state: list[str]) -> list[str]:
    """Add one step of a cell that reads `x` `(B, I)`; return the names of the next state, whose first part is the output."""
    gate = "HardSigmoid" if cell in HARD_SIGMOID_CELLS.values() else "Sigmoid"
    nodes, h = StepNodes(graph, prefix, layer, gate), state[0]
    if cell in MOGRIFIER_CELLS:
        x, h = nodes.mogrify(x, h)
    return STEPS[cell](nodes, x, h, state)


def add_scan(graph: GraphBuilder, prefix: str, cell: str, layer: TextLayer, xs: str, state: list[str]) -> list[str]:
    """Add the steps of a cell over `xs` `(T, B, I)`; return the names of the outputs `(T, B, H)` and of the final state."""
    size = layer.weight_ih.shape[0] // len(layer.gate_names)
    parts = [Rows(name, graph.number_kind, size) for name in state]
    inputs = [Rows(xs, graph.number_kind, layer.weight_ih.shape[1])]
    return graph.scan(prefix, parts, inputs, lambda part, x: add_step(graph, prefix, cell, layer, x[0], part))
