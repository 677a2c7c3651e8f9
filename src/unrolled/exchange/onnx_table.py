"""ONNX graphs of models of tables that predict labels or numbers, written node by node from the weights.

The graph reads `source`, `(T, B)` int64 ids or `(T, B, D)` float32 numbers, and `lengths` `(B,)` int64: the steps of each row;
what follows them is padding, which no row depends on. A source of a single step has T = 1. It gives

    logits, probabilities    `(B, V)`, or `(T, B, V)` for a label at each step, of the V labels that can be predicted
    numbers                  `(B, D)`, scaled as in training: times `scale`, plus `mean`, they are in the unit of the data

A model with a classifier of hashed n-grams reads `ngrams` `(K, B)` too: for each distinct n-gram of the text, the remainder of
its hash (`tables/ngrams.py`) by the number of buckets that is in the metadata, padded with that number. Where a language model
helps, it reads `base_ids` `(S, B)`, the ids of its own tokens (`tables/base_text.py`), and `base_lengths` `(B,)`.

T and B are free in inputs and outputs. The temperature of the model is part of the logits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from unrolled.exchange.export_job import array_of
from unrolled.exchange.onnx_builder import NODES, GraphBuilder
from unrolled.exchange.onnx_cells import add_scan
from unrolled.runtime.text_network import GATE_NAMES, NORM_EPSILON, STATE_NAMES, cell_layer

if TYPE_CHECKING:
    from torch import nn

    from unrolled.nn.base_classifier import BaseClassifier
    from unrolled.nn.encoder_decoder import EncoderDecoder
    from unrolled.nn.ngram_classifier import NgramClassifier
    from unrolled.nn.stack import Stack

BLOCKED = -30000.0
"""The score of padding, in half precision too: its exp is 0."""


def build_table_graph(model: EncoderDecoder, float16: bool, metadata: dict[str, str]) -> Any:
    """Return the `onnx.ModelProto` of a model that has a head.

    Args:
        model: The model of a table, without a decoder and without an image.
        float16: Whether weights and arithmetic are in half precision.
        metadata: Strings that the file keeps, such as the columns.
    """
    from onnx import TensorProto, helper

    graph = _TableGraph(model, float16)
    is_ids, is_aligned = model.dims.source_tensor_kind == "ids", model.dims.mode.output == "aligned"
    xs = graph.encode("source" if is_ids else graph.cast("source", "source.cast", to_half=True))
    features = xs if is_aligned else graph.pool(xs)
    names = graph.head(features)
    size = len(graph.known_labels) if graph.is_label else model.dims.target_size
    free: list[str | int | None] = ["T", "B"] if is_aligned else ["B"]
    source: list[str | int | None] = ["T", "B"] if is_ids else ["T", "B", model.dims.source_size]
    more = {} if model.ngrams is None else {"ngrams": ["K", "B"]}
    more |= {} if model.base is None else {"base_ids": ["S", "B"], "base_lengths": ["B"]}
    return graph.model(
        "unrolled_table",
        [
            helper.make_tensor_value_info("source", TensorProto.INT64 if is_ids else TensorProto.FLOAT, source),
            helper.make_tensor_value_info("lengths", TensorProto.INT64, ["B"]),
            *(helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in more.items()),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [*free, size]) for name in names],
        metadata,
    )


class _TableGraph(GraphBuilder):
    """The nodes of a model, in the order of `Encoder.forward` and `EncoderDecoder.logits`."""

    def __init__(self, model: EncoderDecoder, float16: bool) -> None:
        super().__init__(float16)
        self.net, self.cell, self.hidden_size = model, model.options.cell, model.options.hidden
        self.is_label = model.dims.target_tensor_kind == "ids"
        self.known_labels = range(max(1, model.dims.target_size - 1) if self.is_label else model.dims.target_size)
        self.axis = {axis: self.weight(f"axis_{axis}", np.array([axis])) for axis in (0, 1, 2)}

    def linear(self, name: str, x: str, module: nn.Linear) -> str:
        """Add `x W^T + b`."""
        y = self.node("MatMul", [x, self.weight(f"{name}.weight", array_of(module.weight).T)], [f"{name}.product"])
        has_bias = module.bias is not None
        return self.node("Add", [y, self.weight(f"{name}.bias", array_of(module.bias))], [f"{name}.out"]) if has_bias else y

    def norm(self, name: str, x: str, module: nn.LayerNorm | None) -> str:
        """Add a layer norm, if there is one."""
        if module is None:
            return x
        weights = [self.weight(f"{name}.{key}", array_of(getattr(module, key))) for key in ("weight", "bias")]
        return self.node("LayerNormalization", [x, *weights], [f"{name}.norm"], axis=-1, epsilon=NORM_EPSILON)

    def gelu(self, name: str, x: str) -> str:
        """Add x (1 + erf(x / sqrt(2))) / 2."""
        root = self.weight(f"{name}.sqrt_half", np.array(0.5**0.5, np.float32))
        one, half = (self.weight(f"{name}.{key}", np.array(value, np.float32)) for key, value in (("one", 1), ("half", 0.5)))
        erf = self.node("Erf", [self.node("Mul", [x, root], [f"{name}.scaled"])], [f"{name}.erf"])
        factor = self.node("Mul", [self.node("Add", [erf, one], [f"{name}.erf_1"]), half], [f"{name}.factor"])
        return self.node("Mul", [x, factor], [f"{name}.gelu"])

    def encode(self, source: str) -> str:
        """Add input layer, recurrent layers and final norm; return the outputs `(T, B, H)`."""
        encoder = self.net.encoder
        layer: Any = encoder.input_layer
        if self.net.dims.source_tensor_kind == "ids":
            x = self.node("Gather", [self.weight("embedding.weight", array_of(layer.embedding.weight)), source], ["embedded"])
        else:
            x = self.linear("input", source, layer.proj)
            if layer.mlp is not None:
                y = self.linear("mlp_1", self.gelu("gelu_0", x), layer.mlp[1])
                x = self.node("Add", [x, self.linear("mlp_2", self.gelu("gelu_1", y), layer.mlp[3])], ["input.mlp"])
        for index, bidirectional in enumerate(encoder.layers):
            x = self.bidirectional_layer(f"layer_{index}", x, bidirectional)
        if encoder.stack is not None:
            x = self.stack("", x, encoder.stack, self.cell)
        return self.norm("encoder", x, encoder.norm)

    def stack(self, prefix: str, x: str, stack: Stack, cell: str) -> str:
        """Add layers that read forward; return their outputs `(T, B, H)`."""
        for index, layer in enumerate(stack.layer_list()):
            name = f"{prefix}layer_{index}"
            y = self.read(name, self.norm(name, x, layer.norm), layer.cell, cell)
            x = y if layer.norm is None else self.node("Add", [x, y], [f"{name}.out"])
        return x

    def bidirectional_layer(self, prefix: str, x: str, layer: Any) -> str:
        """Add a residual layer, half of whose units read each row backward."""
        normed = self.norm(prefix, x, layer.norm)
        forward = self.read(f"{prefix}.forward", normed, layer.forward_cell, self.cell)
        reversed_steps = self.reverse(f"{prefix}.reversed", normed)
        backward = self.read(f"{prefix}.backward", reversed_steps, layer.backward_cell, self.cell)
        both = [forward, self.reverse(f"{prefix}.restored", backward)]
        return self.node("Add", [x, self.node("Concat", both, [f"{prefix}.both"], axis=-1)], [f"{prefix}.out"])

    def reverse(self, name: str, x: str) -> str:
        """Reverse each row within its own length."""
        return self.node("ReverseSequence", [x, "lengths"], [name], time_axis=0, batch_axis=1)

    def read(self, prefix: str, x: str, cell: nn.Module, kind: str) -> str:
        """Add a recurrent layer that begins with zeros; return its outputs `(T, B, H)`."""
        arrays = {name: array_of(weight) for name, weight in cell.state_dict().items()}
        layer = cell_layer(arrays, GATE_NAMES[kind])
        size = len(layer.bias) // len(layer.gate_names)
        if kind not in NODES:
            zeros = self.zeros(prefix, x, size)
            return add_scan(self, prefix, kind, layer, x, [zeros] * len(STATE_NAMES.get(kind, "h")))[0]
        y = self.recurrent(kind, [x, *self.recurrent_weights(prefix, kind, layer)], [f"{prefix}.Y"], size)
        return self.node("Squeeze", [y, self.axis[1]], [f"{prefix}.y"])

    def zeros(self, prefix: str, x: str, size: int) -> str:
        """Add zeros `(B, size)` for steps `x` `(T, B, ...)`."""
        from onnx import numpy_helper

        shape = self.node("Shape", [x], [f"{prefix}.batch"], start=1, end=2)
        shape = self.node("Concat", [shape, self.weight(f"{prefix}.size", np.array([size]))], [f"{prefix}.state_shape"], axis=0)
        zero = numpy_helper.from_array(np.zeros(1, np.float16 if self.float16 else np.float32))
        return self.node("ConstantOfShape", [shape], [f"{prefix}.zeros"], value=zero)

    def masks(self, x: str, lengths: str, prefix: str = "") -> tuple[str, str]:
        """Add which steps of `x` `(T, B, H)` are within the `lengths` `(B,)`, and which are the last: two `(T, B, 1)`."""
        shape = self.node("Shape", [x], [f"{prefix}memory.shape"])
        zero, one = (self.weight(f"{prefix}{name}", np.array(value)) for name, value in (("zero", 0), ("one", 1)))
        steps = self.node("Gather", [shape, zero], [f"{prefix}steps"], axis=0)
        column = self.node("Range", [zero, steps, one], [f"{prefix}range"])
        column = self.node("Unsqueeze", [column, self.axis[1]], [f"{prefix}positions"])
        row = self.node("Unsqueeze", [lengths, self.axis[0]], [f"{prefix}lengths.row"])
        last = self.node("Equal", [column, self.node("Sub", [row, one], [f"{prefix}lengths.last"])], [f"{prefix}is_last"])
        within = self.node("Less", [column, row], [f"{prefix}within"])
        mask = self.node("Unsqueeze", [within, self.axis[2]], [f"{prefix}mask"])
        return mask, self.node("Unsqueeze", [last, self.axis[2]], [f"{prefix}is_last.mask"])

    def pool(self, memory: str) -> str:
        """Add the pooling of `(T, B, H)` to `(B, H)`."""
        pool, is_sequence = self.net.encoder.pool, self.net.encoder.is_sequence
        if not is_sequence:
            return self.node("Squeeze", [memory, self.axis[0]], ["pooled"])
        mask, is_last = self.masks(memory, "lengths")
        if pool.kind == "last":
            return self.last(memory, is_last)
        if pool.kind == "max":
            return self.largest("memory", memory, mask)
        if pool.kind == "mean":
            return self.mean("memory", memory, mask, "lengths")
        if pool.hidden is None or pool.score is None:
            raise ValueError(f"there is no pooling {pool.kind}")
        hidden = self.node("Tanh", [self.linear("pool.hidden", memory, pool.hidden)], ["pool.tanh"])
        scores = self.blocked("scores", self.linear("pool.score", hidden, pool.score), mask)
        weights = self.node("Softmax", [scores], ["pool.weights"], axis=0)
        weighted = self.node("Mul", [memory, weights], ["pool.weighted"])
        return self.node("ReduceSum", [weighted, self.axis[0]], ["pooled"], keepdims=0)

    def mean(self, name: str, x: str, mask: str, lengths: str) -> str:
        """Add the mean of `x` over the steps where the mask is true, `lengths` many."""
        count = self.node("Unsqueeze", [lengths, self.axis[1]], [f"{name}.length"])
        return self.node("Div", [self.sum_of(name, x, mask), self.number(count, f"{name}.count")], [f"{name}.mean"])

    def largest(self, name: str, x: str, mask: str) -> str:
        """Add the maximum of `x` over the steps where the mask is true."""
        return self.node("ReduceMax", [self.blocked(name, x, mask)], [f"{name}.max"], axes=[0], keepdims=0)

    def last(self, memory: str, is_last: str) -> str:
        """Add the last step of each row; of units that read backward, that is the first."""
        last = self.sum_of("last", memory, is_last)
        if not self.net.encoder.bidirectional:
            return last
        half = self.hidden_size // 2
        bounds = {name: self.weight(name, np.array([value])) for name, value in (("half", half), ("end", self.hidden_size))}
        first_half = self.node("Slice", [last, self.axis[0], bounds["half"], self.axis[1]], ["last.forward"])
        first = self.node("Gather", [memory, self.weight("first", np.array(0))], ["first_step"], axis=0)
        second_half = self.node("Slice", [first, bounds["half"], bounds["end"], self.axis[1]], ["last.backward"])
        return self.node("Concat", [first_half, second_half], ["pooled"], axis=-1)

    def number(self, name: str, output: str) -> str:
        """Convert to the number format of the graph."""
        from onnx import TensorProto

        return self.node("Cast", [name], [output], to=TensorProto.FLOAT16 if self.float16 else TensorProto.FLOAT)

    def sum_of(self, name: str, x: str, mask: str) -> str:
        """Add the sum over the steps where the mask is true."""
        masked = self.node("Mul", [x, self.number(mask, f"{name}.mask")], [f"{name}.masked"])
        return self.node("ReduceSum", [masked, self.axis[0]], [f"{name}.sum"], keepdims=0)

    def blocked(self, name: str, x: str, mask: str) -> str:
        """Replace what is padding by a number below all others."""
        low = self.weight(f"{name}.low", np.array(BLOCKED, np.float32))
        return self.node("Where", [mask, x, low], [f"{name}.blocked"])

    def head(self, features: str) -> list[str]:
        """Add the output layer; return the names of the outputs of the graph."""
        head = self.net.head
        if head is None:
            raise ValueError("This model generates with a decoder: it has no head.")
        weight, bias = array_of(head.weight), array_of(head.bias)
        if self.is_label:  # the unknown label is never predicted; the temperature divides the logits
            temperature = array_of(self.net.temperature)
            weight, bias = (array[: len(self.known_labels)] / temperature for array in (weight, bias))
        elif self.net.ngrams is not None:
            weight, bias = (array * (1 - array_of(self.net.ngrams.share)) for array in (weight, bias))
        product = self.node("MatMul", [features, self.weight("head.weight", weight.T)], ["head.product"])
        values = self.node("Add", [product, self.weight("head.bias", bias)], ["head.values"])
        if self.net.ngrams is not None:
            values = self.node("Add", [values, self.ngram_logits(self.net.ngrams)], ["logits.joined"])
        if self.net.base is not None:
            values = self.node("Add", [values, self.base_logits(self.net.base)], ["logits.all"])
        if not self.is_label:
            return [self.cast(values, "numbers", to_half=False)]
        logits = self.cast(values, "logits", to_half=False)
        return [logits, self.node("Softmax", [logits], ["probabilities"], axis=-1)]

    def ngram_logits(self, classifier: NgramClassifier) -> str:
        """Add `NgramClassifier.forward`, its share and the temperature in the weights; return the logits `(B, V)`."""
        from unrolled.nn.ngram_classifier import MIN_SQUARES, SCALE

        known, weights = len(self.known_labels), array_of(classifier.weights)
        factor = array_of(classifier.share) / array_of(self.net.temperature)
        table = factor * SCALE * weights[:, None] * array_of(classifier.table)[:, :known]
        bias = factor * array_of(classifier.bias)[:known]
        sums = self.node("Gather", [self.weight("ngrams.table", table), "ngrams"], ["ngrams.rows"], axis=0)
        sums = self.node("ReduceSum", [sums, self.axis[0]], ["ngrams.sum"], keepdims=0)
        squares = self.node("Gather", [self.weight("ngrams.squares", weights**2), "ngrams"], ["ngrams.row_squares"], axis=0)
        squares = self.node("ReduceSum", [squares, self.axis[0]], ["ngrams.square_sum"], keepdims=0)
        smallest = self.weight("ngrams.smallest", np.array(MIN_SQUARES, np.float32))
        roots = self.node("Sqrt", [self.node("Max", [squares, smallest], ["ngrams.positive"])], ["ngrams.roots"])
        mean = self.node("Div", [sums, self.node("Unsqueeze", [roots, self.axis[1]], ["ngrams.column"])], ["ngrams.mean"])
        return self.node("Add", [mean, self.weight("ngrams.bias", bias)], ["ngrams.logits"])

    def base_logits(self, base: BaseClassifier) -> str:
        """Add `BaseClassifier.forward`, the share and the temperature in the weights; return the logits `(B, V)`."""
        dims, ngrams = self.net.dims.base, self.net.ngrams
        if dims is None or ngrams is None:
            raise ValueError("A language model without n-grams labels no text.")
        vectors = self.weight("base.vectors", array_of(base.vectors))
        embedded = self.node("Gather", [vectors, "base_ids"], ["base.embedded"], axis=0)
        states = self.stack("base.", embedded, base.stack, dims.options.cell)
        mask, is_last = self.masks(states, "base_lengths", "base.")
        negative = self.node("Neg", [states], ["base.negative"])
        pooled = [
            self.mean("base.states", states, mask, "base_lengths"),
            self.largest("base.states", states, mask),
            self.node("Neg", [self.largest("base.negative", negative, mask)], ["base.min"]),
            self.sum_of("base.last", states, is_last),
        ]
        features = self.node("Concat", pooled, ["base.features"], axis=-1)
        centered = self.node("Sub", [features, self.weight("base.means", array_of(base.means))], ["base.centered"])
        factor = array_of(ngrams.share) / array_of(self.net.temperature) * array_of(base.scales)
        table = factor[:, None] * array_of(base.table)[:, : len(self.known_labels)]
        return self.node("MatMul", [centered, self.weight("base.table", table)], ["base.logits"])
