"""Writers of Torch7 files, and of the checkpoints of char-rnn and torch-rnn in them."""

import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Parameters = dict[str, np.ndarray]


@dataclass(eq=False)
class LuaTable:
    """A Lua table; keys may be tables."""

    entries: list[tuple[Any, Any]] = field(default_factory=list)


@dataclass(eq=False)
class LuaObject:
    """An object of a Torch class with fields."""

    class_name: str
    fields: LuaTable


@dataclass(eq=False)
class LuaFunction:
    """A Lua function: bytes of code, which a reader must not run."""

    code: bytes


@dataclass(eq=False)
class LuaStorage:
    """Elements that tensors share."""

    values: np.ndarray
    kind: str


@dataclass(eq=False)
class LuaTensor:
    """A view of a storage, row by row."""

    shape: tuple[int, ...]
    offset: int
    storage: LuaStorage


def table(*sequence: Any, **named: Any) -> LuaTable:
    """Return a table with values 1, 2, 3 ... and named ones."""
    return LuaTable([*((float(i + 1), value) for i, value in enumerate(sequence)), *named.items()])


def thing(class_name: str, **fields: Any) -> LuaObject:
    """Return an object with fields."""
    return LuaObject(class_name, table(**fields))


class Weights:
    """Tensors that all share one storage, as char-rnn's do."""

    def __init__(self, kind: str = "Float") -> None:
        self.kind = kind
        self.storage = LuaStorage(np.zeros(3), kind)  # what lies before the first tensor

    def __call__(self, values: np.ndarray) -> LuaTensor:
        tensor = LuaTensor(values.shape, len(self.storage.values), self.storage)
        self.storage.values = np.concatenate([self.storage.values, values.reshape(-1)])
        return tensor


class Torch7Writer:
    """Writes one value in the binary form."""

    TYPES = {"Double": "<f8", "Float": "<f4", "Cuda": "<f4", "CudaHalf": "<f2", "Long": "<i8"}

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.indices: dict[int, int] = {}

    def bytes(self, value: Any) -> bytes:
        """Return the bytes of a file with this value."""
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)  # graphs of many layers nest deeply
        try:
            self.write(value)
        finally:
            sys.setrecursionlimit(limit)
        return b"".join(self.parts)

    def ints(self, *values: int) -> None:
        self.parts.append(struct.pack(f"<{len(values)}i", *values))

    def string(self, value: bytes) -> None:
        self.ints(len(value))
        self.parts.append(value)

    def write(self, value: Any) -> None:
        if value is None:
            self.ints(0)
        elif isinstance(value, bool):
            self.ints(5, int(value))
        elif isinstance(value, int | float):
            self.ints(1)
            self.parts.append(struct.pack("<d", value))
        elif isinstance(value, str | bytes):
            self.ints(2)
            self.string(value.encode() if isinstance(value, str) else value)
        else:
            self.reference(value)

    def reference(self, value: Any) -> None:
        self.ints(3 if isinstance(value, LuaTable) else 8 if isinstance(value, LuaFunction) else 4)
        is_new = id(value) not in self.indices
        index = self.indices.setdefault(id(value), len(self.indices) + 1)
        self.ints(index)
        if not is_new:
            return
        if isinstance(value, LuaTable):
            self.ints(len(value.entries))
            for key, entry in value.entries:
                self.write(key)
                self.write(entry)
        elif isinstance(value, LuaFunction):
            self.string(value.code)
            self.write(LuaTable())
        else:
            self.string(b"V 1")
            self.object(value)

    def object(self, value: Any) -> None:
        if isinstance(value, LuaStorage):
            self.string(f"torch.{value.kind}Storage".encode())
            self.parts += [struct.pack("<q", len(value.values)), value.values.astype(self.TYPES[value.kind]).tobytes()]
        elif isinstance(value, LuaTensor):
            self.string(f"torch.{value.storage.kind}Tensor".encode())
            strides = [int(np.prod(value.shape[i + 1 :])) for i in range(len(value.shape))]
            self.ints(len(value.shape))
            self.parts.append(struct.pack(f"<{2 * len(strides) + 1}q", *value.shape, *strides, value.offset + 1))
            self.write(value.storage)
        else:
            self.string(value.class_name.encode())
            self.write(value.fields)


class Graph:
    """An nngraph module under construction; a node is the table of its data."""

    def __init__(self, num_inputs: int) -> None:
        self.data: list[LuaTable] = []
        self.innode = self.node(None)
        split = self.node(None, self.innode)
        self.inputs = [self.node(thing("nn.Identity"), self.select(split, i)) for i in range(num_inputs)]

    def node(self, module: LuaObject | None, *inputs: LuaTable, select: int | None = None) -> LuaTable:
        order = table(*inputs)
        order.entries += [(data, float(i + 1)) for i, data in enumerate(inputs)]
        data = LuaTable([("annotations", LuaTable()), ("mapindex", order), ("input", LuaTable())])
        data.entries += [("module", module)] * (module is not None) + [("selectindex", select)] * (select is not None)
        self.data.append(data)
        return data

    def select(self, data: LuaTable, index: int) -> LuaTable:
        return self.node(None, data, select=index + 1)

    def call(self, class_name: str, *inputs: LuaTable, **fields: Any) -> LuaTable:
        return self.node(thing(class_name, **fields), *inputs)

    def module(self, outputs: Sequence[LuaTable]) -> LuaObject:
        out = self.node(None, *outputs)
        nodes = [thing("nngraph.Node", data=data, id=float(i)) for i, data in enumerate(self.data)]
        for node, following in zip(nodes, nodes[1:], strict=False):  # each node holds the next one, as deep as real files are
            node.fields.entries.append(("children", table(following)))
        by_data = {id(data): node for data, node in zip(self.data, nodes, strict=True)}
        return thing("nn.gModule", forwardnodes=table(*nodes), innode=by_data[id(self.innode)], outnode=by_data[id(out)])


class CharRnn:
    """A checkpoint of char-rnn under construction, from the parameters of its linear layers."""

    def __init__(
        self, cell: str, vocab: Sequence[bytes], layers: list[Parameters], head: Parameters, kind: str = "Float"
    ) -> None:
        self.cell, self.vocab, self.layers, self.head = cell, vocab, layers, head
        self.tensor = Weights(kind)

    def linear(self, graph: Graph, values: Parameters, x: LuaTable) -> LuaTable:
        return graph.call("nn.Linear", x, weight=self.tensor(values["weight"]), bias=self.tensor(values["bias"]))

    def layer(self, graph: Graph, layer: Parameters, x: LuaTable, states: list[LuaTable], is_early: bool) -> list[LuaTable]:
        """Return the next states of a layer; `layer` has `x_GATE`, `h_GATE`, `bx_GATE`, `bh_GATE` of each gate."""
        h = states[-1]

        def of(gate: str, source: str, data: LuaTable) -> LuaTable:
            return self.linear(graph, {"weight": layer[f"{source}_{gate}"], "bias": layer[f"b{source}_{gate}"]}, data)

        if self.cell == "rnn":
            return [graph.call("nn.Tanh", graph.call("nn.CAddTable", of("n", "x", x), of("n", "h", h)))]
        if self.cell == "gru":
            z, r = (graph.call("nn.Sigmoid", graph.call("nn.CAddTable", of(g, "x", x), of(g, "h", h))) for g in "zr")
            gated = of("n", "h", graph.call("nn.CMulTable", r, h))
            n = graph.call("nn.Tanh", graph.call("nn.CAddTable", gated, of("n", "x", x)))
            minus = graph.call("nn.MulConstant", z, constant_scalar=-1, inplace=False)
            rest = graph.call("nn.AddConstant", minus, constant_scalar=1, inplace=False)
            return [graph.call("nn.CAddTable", graph.call("nn.CMulTable", z, n), graph.call("nn.CMulTable", rest, h))]
        stacked = {name: np.concatenate([layer[f"{name}_{gate}"] for gate in "ifog"]) for name in ("x", "h", "bx", "bh")}
        sums = graph.call(
            "nn.CAddTable",
            self.linear(graph, {"weight": stacked["x"], "bias": stacked["bx"]}, x),
            self.linear(graph, {"weight": stacked["h"], "bias": stacked["bh"]}, h),
        )
        i, f, o, g = self.early_gates(graph, sums) if is_early else self.gates(graph, sums, len(layer["h_i"]))
        write, keep = graph.call("nn.CMulTable", i, g), graph.call("nn.CMulTable", f, states[0])
        c = graph.call("nn.CAddTable", keep, write)
        return [c, graph.call("nn.CMulTable", o, graph.call("nn.Tanh", c))]

    def gates(self, graph: Graph, sums: LuaTable, units: int) -> list[LuaTable]:
        size = LuaStorage(np.array([4, units]), "Long")
        split = graph.node(None, graph.call("nn.SplitTable", graph.call("nn.Reshape", sums, size=size), dimension=2))
        parts = [graph.select(split, i) for i in range(4)]
        return [graph.call("nn.Tanh" if i == 3 else "nn.Sigmoid", part) for i, part in enumerate(parts)]

    def early_gates(self, graph: Graph, sums: LuaTable) -> list[LuaTable]:
        """The form of the first weeks: one sigmoid over three gates, cut by nn.Narrow."""
        units = len(self.layers[0]["h_i"])

        def cut(data: LuaTable, start: int, count: int) -> LuaTable:
            return graph.call("nn.Narrow", data, dimension=2, index=start * units + 1, length=count * units)

        sigmoids = graph.call("nn.Sigmoid", cut(sums, 0, 3))
        return [cut(sigmoids, i, 1) for i in range(3)] + [graph.call("nn.Tanh", cut(sums, 3, 1))]

    def checkpoint(self, dropout: float = 0.0, is_early: bool = False, **more: Any) -> LuaTable:
        """Return the table that char-rnn saves."""
        states_per_layer = 2 if self.cell == "lstm" else 1
        graph = Graph(1 + states_per_layer * len(self.layers))
        x = graph.call("OneHot", graph.inputs[0])
        outputs: list[LuaTable] = []
        for number, layer in enumerate(self.layers):
            first = 1 + states_per_layer * number
            states = self.layer(graph, layer, x, graph.inputs[first : first + states_per_layer], is_early)
            outputs += states
            x = graph.call("nn.Dropout", states[-1], p=dropout) if dropout else states[-1]
        outputs.append(graph.call("nn.LogSoftMax", self.linear(graph, self.head, x)))
        protos = table(rnn=graph.module(outputs), criterion=thing("nn.ClassNLLCriterion"))
        vocab = LuaTable([(character, float(i + 1)) for i, character in enumerate(self.vocab)])
        opt = table(
            rnn_size=float(len(self.layers[0]["h_n" if self.cell != "lstm" else "h_i"])), model=self.cell, dropout=dropout
        )
        losses = LuaTable([(float(i), 3.0) for i in range(1, 50)])
        return table(protos=protos, opt=opt, vocab=vocab, train_losses=losses, val_loss=1.5, i=50.0, epoch=2.5, **more)


def char_rnn_parameters(
    cell: str, num_tokens: int, units: int, num_layers: int, seed: int = 0
) -> tuple[list[Parameters], Parameters]:
    """Return random parameters of the linear layers of char-rnn, as `CharRnn` takes them."""
    random = np.random.default_rng(seed)
    gates = {"lstm": "ifog", "gru": "zrn", "rnn": "n"}[cell]
    layers = []
    for number in range(num_layers):
        size = num_tokens if number == 0 else units
        shapes = {f"x_{g}": (units, size) for g in gates} | {f"h_{g}": (units, units) for g in gates}
        shapes |= {f"{b}_{g}": (units,) for b in ("bx", "bh") for g in gates}
        layers.append({name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()})
    head = {"weight": random.normal(0, 0.5, (num_tokens, units)), "bias": random.normal(0, 0.5, num_tokens)}
    return layers, {name: value.astype(np.float32) for name, value in head.items()}


def torch_rnn_checkpoint(
    class_name: str, tokens: Sequence[bytes], embedding: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]], head: Parameters,
    normalization: Parameters | None = None, kind: str = "Float",
) -> LuaTable:  # fmt: skip
    """Return the table that torch-rnn saves; a layer is its weight `(D + H, G H)` and bias."""
    tensor = Weights(kind)
    modules = [thing("nn.LookupTable", weight=tensor(embedding))]
    for weight, bias in layers:
        modules.append(thing(class_name, weight=tensor(weight), bias=tensor(bias), remember_states=True))
        if normalization is not None:
            modules.append(thing("nn.View", size=LuaStorage(np.array([1, 1, -1]), "Long")))
            modules.append(thing("nn.BatchNormalization", eps=1e-5, **{k: tensor(v) for k, v in normalization.items()}))
        modules.append(thing("nn.Dropout", p=0.1))
    modules += [
        thing("nn.View"),
        thing("nn.Linear", weight=tensor(head["weight"]), bias=tensor(head["bias"])),
        thing("nn.View"),
    ]
    net = thing("nn.Sequential", modules=table(*modules))
    return table(i=10.0, model=thing("nn.LanguageModel", net=net, idx_to_token=table(*tokens), model_type="lstm"))


def write_torch7(path: Path, value: Any) -> Path:
    """Write a value and return the path."""
    path.write_bytes(Torch7Writer().bytes(value))
    return path
