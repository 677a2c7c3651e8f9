"""ONNX graphs of models of series, written node by node from the weights: numbers in and out in the unit of the data.

The sequence graph reads `source` `(T, B, D)` float64, NaN at gaps, and gives for each step

    logits, probabilities    `(T, B, V)`, of labels
    numbers                  `(T, B, D)` float64; of a forecast, those of the next step; the mean, where there is a deviation
    deviations               `(T, B, D)` float64, of models with a loss for them
    quantiles                `(T, B, Q, D)` float64, instead of `numbers`, of models of quantiles

The step graph has no T. Both read `seconds` `(T, B)` float64, if the model reads the calendar: the time of each step since 1970
on the clock of the data, of a forecast that of the next step. A time that is not finite is not known.

Their states are those of text models, `h_0`, `c_0`, ... `(B, H)`, and `levels` `(K, B, D)` float64: the last K numbers, scaled,
with gaps filled; K is the lag of a model of changes, else 1. A model of changes has `known` `(K, B, D)` float64, too: 0 before
the series, 1 where there were only gaps until then, 2 after a number. All start from zeros, unless the metadata has a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from unrolled.exchange.export_job import array_of
from unrolled.exchange.onnx_builder import Rows
from unrolled.exchange.onnx_graph import TextGraphBuilder, add_layer
from unrolled.exchange.series_model import SeriesModel
from unrolled.nn.number_loss import MAX_LOG_DEVIATION
from unrolled.runtime.text_network import NORM_EPSILON, TextNetwork
from unrolled.tables.time_features import CYCLES, DAY, FIRST_WEEKDAY, WEEKDAYS

if TYPE_CHECKING:
    from unrolled.tables.scaling import Scaling

END = np.iinfo(np.int64).max
"""The end of a slice that goes on to the last step."""


def build_series_graph(series: SeriesModel, is_step: bool, float16: bool, metadata: dict[str, str]) -> Any:
    """Return the `onnx.ModelProto` of a model of series.

    Args:
        series: The model.
        is_step: Whether the graph takes one step, instead of a sequence.
        float16: Whether weights and arithmetic of the network are in half precision.
        metadata: Strings that the file keeps, such as the columns.
    """
    from onnx import TensorProto, helper

    graph = _SeriesGraph(series, is_step, float16)
    outputs = graph.add_outputs(graph.add_network(graph.add_inputs()))
    free: list[Any] = ["B"] if is_step else ["T", "B"]
    num_columns = len(series.source.columns)
    inputs = [Port("source", True, [*free, num_columns]), *([Port("seconds", True, free)] if series.source.cycles else [])]
    states = [Port(name, False, ["B", graph.network.hidden_size]) for name in graph.layer_states]
    states += [Port(name, True, [graph.num_levels, "B", num_columns]) for name in graph.level_states]
    results = [part._replace(shape=[*free, *part.shape]) for part in outputs]
    results += [part._replace(name=f"next_{part.name}") for part in states]
    ends = [
        [
            helper.make_tensor_value_info(name, TensorProto.DOUBLE if double else TensorProto.FLOAT, shape)
            for name, double, shape in parts
        ]
        for parts in (inputs + states, results)
    ]
    return graph.model("unrolled_series_step" if is_step else "unrolled_series", ends[0], ends[1], metadata)


class Port(NamedTuple):
    """An input or output of a graph: its name, whether it is float64 or float32, and its shape."""

    name: str
    is_double: bool
    shape: list[Any]


class _SeriesGraph(TextGraphBuilder):
    """The nodes of a model, in the order of `NumbersColumn.to_inputs`, `EncoderDecoder.stream` and `NumbersColumn.unscale`."""

    def __init__(self, series: SeriesModel, is_step: bool, float16: bool) -> None:
        options, head = series.network.options, series.head
        network = TextNetwork(options.cell, series.layers, head.weight, head.bias, residual=options.residual)
        super().__init__(network, is_step, float16)
        self.series, self.skip_weight = series, head.skip
        self.num_levels = max(1, series.source.difference)
        self.layer_states: list[str] = []
        self.level_states = ["levels", "known"] if series.source.difference else ["levels"]
        self._count, self._base = 0, ""
        self._axes: dict[int, str] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; return its name."""
        self._count += 1
        return self.node(kind, list(inputs), [f"{kind.lower()}_{self._count}"], **attributes)

    def const(self, values: Any, dtype: type = np.float64) -> str:
        """Add numbers as a weight; return its name."""
        self._count += 1
        return self.weight(f"const_{self._count}", np.asarray(values, dtype))

    def axis(self, number: int) -> str:
        """Return the number of an axis as a weight."""
        if number not in self._axes:
            self._axes[number] = self.weight(f"axis_{number}", np.array([number]))
        return self._axes[number]

    def cut(self, x: str, start: int, stop: int) -> str:
        """Cut steps out of `x` `(T, ...)`."""
        return self.op("Slice", x, self.const([start], np.int64), self.const([stop], np.int64), self.axis(0))

    def to_double(self, x: str) -> str:
        """Convert to float64."""
        from onnx import TensorProto

        return self.op("Cast", x, to=TensorProto.DOUBLE)

    def linear(self, x: str, weight: NDArray[Any], bias: NDArray[Any] | None = None) -> str:
        """Add `x W^T + b`."""
        y = self.op("MatMul", x, self.const(weight.T, np.float32))
        return y if bias is None else self.op("Add", y, self.const(bias, np.float32))

    def steps(self, name: str) -> str:
        """Return an input with an axis of steps."""
        return self.op("Unsqueeze", name, self.axis(0)) if self.is_step else name

    def add_inputs(self) -> str:
        """Add the scaling, the filling of gaps, the changes and the calendar; return the inputs of the network, `(T, B, I)`."""
        source, numbers = self.series.source, self.steps("source")
        is_number = self.is_finite(numbers)
        filled, *known = self.filled(self.scaled(numbers, source.scaling), is_number)
        levels = self.op("Concat", "levels", filled, axis=0)
        self.keep_last(levels, "next_levels")
        parts = [filled]
        if source.scaling.has_gaps:
            parts.append(self.to_double(self.op("Not", is_number)))
        if source.difference:
            parts.append(self.changes(filled, levels, is_number, *known))
        if source.cycles:
            parts.append(self.calendar())
        return self.op("Cast", self.op("Concat", *parts, axis=-1), to=self.number_kind)

    def is_finite(self, x: str) -> str:
        """Return whether numbers are finite: NaN is not less than infinity."""
        return self.op("Less", self.op("Abs", x), self.const(np.inf))

    def scaled(self, x: str, scaling: Scaling) -> str:
        """Add `Scaling.apply`."""
        clipped = self.op("Max", self.op("Min", x, self.const(scaling.high)), self.const(scaling.low))
        return self.op("Div", self.op("Sub", clipped, self.const(scaling.center)), self.const(scaling.spread))

    def filled(self, scaled: str, is_number: str) -> list[str]:
        """Put the last number into gaps, zero before the first; return these numbers, and of a model of changes `known`."""
        from onnx import TensorProto

        last = [self.op("Squeeze", self.cut(name, -1, END), self.axis(0)) for name in self.level_states]

        def step(state: list[str], inputs: list[str]) -> list[str]:
            value, is_value = inputs
            following = [self.op("Where", is_value, value, state[0])]
            for known in state[1:]:
                following.append(self.op("Max", known, self.op("Add", self.to_double(is_value), self.const(1.0))))
            return following

        if self.is_step:
            row = [self.op("Squeeze", name, self.axis(0)) for name in (scaled, is_number)]
            return [self.op("Unsqueeze", name, self.axis(0)) for name in step(last, row)]
        width = len(self.series.source.columns)
        state = [Rows(name, TensorProto.DOUBLE, width) for name in last]
        inputs = [Rows(scaled, TensorProto.DOUBLE, width), Rows(is_number, TensorProto.BOOL, width)]
        return self.scan("fill", state, inputs, step, num_outputs=len(state))[: len(state)]

    def changes(self, filled: str, levels: str, is_number: str, known: str) -> str:
        """Add the change of each number from the one K steps before it, scaled; zeros where one of them is not known.

        `levels` and `known` are those of the K steps before and of these. The numbers that the next steps are changes from are
        kept: in a series that is shorter than K, the last ones.
        """
        lag, scaling = self.num_levels, self.series.source.change
        known = self.op("Concat", "known", known, axis=0)
        self.keep_last(known, "next_known")
        was_known = self.op("Equal", self.cut(known, 0, -lag), self.const(2.0))
        difference = self.op("Sub", filled, self.cut(levels, 0, -lag))
        change = self.scaled(difference, scaling)
        self._base = filled
        if lag > 1:
            is_there = self.op("Greater", self.cut(known, 1, 1 - lag), self.const(0.0))
            self._base = self.op("Where", is_there, self.cut(levels, 1, 1 - lag), filled)
        return self.op("Where", self.op("And", is_number, was_known), change, self.const(0.0))

    def keep_last(self, steps: str, name: str) -> None:
        """Add the last K of some steps as the output `name`, a state."""
        bounds = [self.const([bound], np.int64) for bound in (-self.num_levels, END)]
        self.node("Slice", [steps, *bounds, self.axis(0)], [name])

    def fraction(self, x: str, period: float) -> str:
        """Add the remainder of a division, from 0 to below `period`."""
        turns = self.op("Floor", self.op("Div", x, self.const(period)))
        return self.op("Sub", x, self.op("Mul", turns, self.const(period)))

    def calendar(self) -> str:
        """Add the place of each step in the cycles of the calendar, `(T, B, F)`; zeros where its time is not known."""
        seconds = self.op("Unsqueeze", self.steps("seconds"), self.axis(2))
        parts = []
        for cycle in self.series.source.cycles:
            if cycle == "week":
                days = self.op("Floor", self.op("Div", seconds, self.const(DAY)))
                day = self.fraction(self.op("Add", days, self.const(float(FIRST_WEEKDAY))), WEEKDAYS)
                parts.append(self.to_double(self.op("Equal", day, self.const(np.arange(WEEKDAYS)))))
                continue
            angle = self.op("Mul", self.fraction(seconds, CYCLES[cycle]), self.const(2 * np.pi / CYCLES[cycle]))
            parts += [self.op(function, angle) for function in ("Sin", "Cos")]
        features = self.op("Concat", *parts, axis=-1)
        return self.op("Where", self.is_finite(seconds), features, self.const(0.0))

    def add_network(self, inputs: str) -> str:
        """Add input layer, recurrent layers, norm and output layer; return the values `(T, B, V)`, float32."""
        from onnx import TensorProto

        encoder, network, x = cast(Any, self.series.network.encoder), self.network, inputs
        if network.residual:
            x = self.linear(x, array_of(encoder.input_layer.proj.weight), array_of(encoder.input_layer.proj.bias))
        for index in range(len(network.layers)):
            x = add_layer(self, index, x, self.axis(0), self.axis(1), self.layer_states)
        if encoder.norm is not None:
            weights = [self.const(array_of(getattr(encoder.norm, key)), np.float32) for key in ("weight", "bias")]
            x = self.op("LayerNormalization", x, *weights, axis=-1, epsilon=NORM_EPSILON)
        values = self.op("Add", self.linear(x, network.head_weight, network.head_bias), self.linear(inputs, self.skip_weight))
        return self.op("Cast", values, to=TensorProto.FLOAT) if self.float16 else values

    def add_outputs(self, values: str) -> list[Port]:
        """Add the outputs for the values of the output layer; return them, with shapes without steps and rows."""
        target = self.series.numbers
        if target is None:
            logits, probabilities = self.result(values, "logits"), "probabilities"
            self.node("Softmax", [logits], [probabilities], axis=-1)
            return [Port(name, False, [self.series.num_labels]) for name in (logits, probabilities)]
        width = len(target.columns)
        factor, shift = target.scaling.spread, self.const(target.scaling.center)
        if target.difference:
            level = self.op("Add", self._base, self.const(target.change.center))
            shift, factor = self.op("Add", self.op("Mul", level, self.const(factor)), shift), factor * target.change.spread
        parts = self.split(self.to_double(values), target.outputs_per_number)
        scale = self.const(factor)
        numbers = [self.op("Add", self.op("Mul", part, scale), shift) for part in parts]
        if target.loss == "quantiles":
            return [Port(self.result(self.sorted(numbers), "quantiles"), True, [len(numbers), width])]
        outputs = [Port(self.result(numbers[0], "numbers"), True, [width])]
        if target.loss == "gaussian":
            limit = self.const(MAX_LOG_DEVIATION)
            log = self.op("Mul", self.op("Tanh", self.op("Div", parts[1], limit)), limit)
            outputs.append(Port(self.result(self.op("Mul", self.op("Exp", log), scale), "deviations"), True, [width]))
        return outputs

    def split(self, values: str, count: int) -> list[str]:
        """Cut the last axis into equal parts."""
        if count == 1:
            return [values]
        self._count += 1
        names = [f"part_{self._count}_{number}" for number in range(count)]
        self.node("Split", [values], names, axis=-1)
        return names

    def sorted(self, numbers: list[str]) -> str:
        """Join numbers `(T, B, D)` to `(T, B, Q, D)`, in order."""
        joined = self.op("Concat", *(self.op("Unsqueeze", part, self.axis(2)) for part in numbers), axis=2)
        self.node("TopK", [joined, self.const([len(numbers)], np.int64)], ["in_order", "order"], axis=2, largest=0)
        return "in_order"

    def result(self, x: str, name: str) -> str:
        """Add a result as an output with this name; in the step graph, without the axis of steps."""
        return self.node("Squeeze", [x, self.axis(0)], [name]) if self.is_step else self.rename(x, name)
