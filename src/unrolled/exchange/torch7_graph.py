"""The equations that an nngraph module computes, as expressions, and the recurrent cells among them.

char-rnn writes a step of its network as a graph of modules. The order of the parameters in a file says nothing about their meaning, so the
graph itself is followed: each output is an expression of the inputs, in which the equation of a cell is recognized.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unrolled.errors import ModelError
from unrolled.exchange.torch7 import Storage, Table, Tensor, TorchObject

IDENTITIES = {"nn.Identity", "nn.Dropout", "nn.Copy", "nn.Contiguous"}
"""Modules that change nothing when a model is used; `nn.Dropout` scales in training."""

MAX_NODES = 20_000


@dataclass(frozen=True, eq=False)
class Expression:
    """A value in a graph: what it is (`kind`), and of which values.

    Kinds: `input` (number `index`), `one-hot`, `embedding`, `linear` (weight, bias), `sum`, `product`, `sigmoid`, `tanh`,
    `rows` (elements `start` to `stop` of a vector), `chunks` (a vector in `index` parts), `one-minus`, `negative`, `log-softmax`.
    """

    kind: str
    parts: tuple[Expression, ...] = ()
    index: int = 0
    start: int = 0
    stop: int = 0
    weight: np.ndarray | None = None
    bias: np.ndarray | None = None


def graph_outputs(graph: TorchObject) -> tuple[list[Expression], float]:
    """Return the expression of each output of an `nn.gModule`, and the probability of its dropout (0: none)."""
    return _Graph(graph).outputs()


class _Graph:
    def __init__(self, graph: TorchObject) -> None:
        outnode, innode = graph.get("outnode"), graph.get("innode")
        if not isinstance(outnode, TorchObject) or not isinstance(innode, TorchObject):
            raise ModelError(
                "The graph of the model has no input or output node: the file is damaged, or from another program."
            )
        self.output_data, self.input_data = outnode.get("data"), innode.get("data")
        self.values: dict[int, Expression] = {}
        self.open: set[int] = set()
        self.dropout = 0.0

    def outputs(self) -> tuple[list[Expression], float]:
        return [self.value(data) for data in self.sources(self.output_data)], self.dropout

    @staticmethod
    def sources(data: Table) -> list[Table]:
        """Return the nodes that feed a node, in the order of its inputs."""
        order = data.get("mapindex") if isinstance(data, Table) else None
        nodes = order.sequence() if isinstance(order, Table) else []
        if not all(isinstance(node, Table) for node in nodes):
            raise ModelError("The graph of the model is damaged: an input of a node is no node.")
        return nodes

    def value(self, data: Table) -> Expression:
        """Return the expression of a node."""
        if id(data) in self.values:
            return self.values[id(data)]
        if id(data) in self.open or len(self.open) > MAX_NODES:
            raise ModelError("The graph of the model has a cycle, and a step of a recurrent network has none.")
        self.open.add(id(data))
        self.values[id(data)] = result = self._compute(data)
        self.open.remove(id(data))
        return result

    def _compute(self, data: Table) -> Expression:
        if data is self.input_data:
            return Expression("input")
        sources, module, select = self.sources(data), data.get("module"), data.get("selectindex")
        if not sources:
            raise ModelError("The graph of the model has a node without an input.")
        if select is not None:
            index = int(select) - 1
            if sources[0] is self.input_data or self._is_split_of_input(sources[0]):
                return Expression("input", index=index)
            return _element(self.value(sources[0]), index)
        values = [self.value(source) for source in sources]
        if module is None:
            return values[0]
        if not isinstance(module, TorchObject):
            raise ModelError("The graph of the model is damaged: a node is no module.")
        if module.class_name == "nn.Dropout":
            self.dropout = float(module.get("p") or 0.0)
        return _module_value(module, values)

    def _is_split_of_input(self, data: Table) -> bool:
        return data.get("module") is None and any(source is self.input_data for source in self.sources(data))


def _element(value: Expression, index: int) -> Expression:
    """Return one part of a vector that was split into `value.index` equal ones."""
    if value.kind != "chunks" or not 0 <= index < value.index:
        raise ModelError("The graph of the model takes a part of a value in a way that is not known here.")
    size = vector_size(value.parts[0]) // value.index
    return Expression("rows", value.parts, start=index * size, stop=(index + 1) * size)


def vector_size(value: Expression) -> int:
    """Return the number of elements of a vector that linear modules made."""
    if value.kind == "linear" and value.weight is not None:
        return int(value.weight.shape[0])
    if value.kind == "rows":
        return value.stop - value.start
    if value.parts:
        return vector_size(value.parts[0])
    raise ModelError("The graph of the model splits a vector whose size is not known.")


def _module_value(module: TorchObject, values: list[Expression]) -> Expression:
    """Return the expression that a module makes of its inputs."""
    name, first = module.class_name, values[0]
    simple = {
        "nn.Sigmoid": "sigmoid", "nn.Tanh": "tanh", "nn.CAddTable": "sum", "nn.CMulTable": "product", "OneHot": "one-hot",
        "nn.OneHot": "one-hot", "nn.LogSoftMax": "log-softmax", "nn.SoftMax": "log-softmax",
    }  # fmt: skip
    if name in IDENTITIES:
        return first
    if name in simple:
        return Expression(simple[name], tuple(values))
    if name in ("nn.Linear", "nn.LinearNB", "LinearNB"):
        weight, bias = tensor(module, "weight"), module.get("bias")
        return Expression(
            "linear", (first,), weight=weight, bias=bias.array() if isinstance(bias, Tensor) else np.zeros(len(weight))
        )
    if name == "nn.LookupTable":
        return Expression("embedding", (first,), weight=tensor(module, "weight"))
    size = module.get("size")
    if name == "nn.Reshape" and isinstance(size, Storage) and len(size.elements) == 2 and size.elements[0] > 0:
        return Expression("reshape", (first,), index=int(size.elements[0]))
    if name == "nn.SplitTable" and first.kind == "reshape":
        return Expression("chunks", first.parts, index=first.index)
    if name == "nn.Narrow":
        start = int(module.get("index")) - 1
        return Expression("rows", (first,), start=start, stop=start + int(module.get("length")))
    if name == "nn.MulConstant" and module.get("constant_scalar") == -1:
        return Expression("negative", (first,))
    if name == "nn.AddConstant" and module.get("constant_scalar") == 1 and first.kind == "negative":
        return Expression("one-minus", first.parts)
    if name == "nn.JoinTable":
        raise ModelError("The graph joins vectors (nn.JoinTable), and no cell here does: skip connections cannot be imported.")
    raise ModelError(f"The model has a module {name:.60} that no cell here has, so it cannot be imported.")


def tensor(module: TorchObject, name: str) -> np.ndarray:
    """Return a parameter of a module as float32. Raises `ModelError` if it has none."""
    value = module.get(name)
    if not isinstance(value, Tensor):
        raise ModelError(f"The module {module.class_name:.60} of the model has no {name}: the file is damaged.")
    return value.array()
