"""Nodes and weights of an ONNX graph, and its recurrent nodes.

ONNX stacks the gates of an LSTM as i o f c (ours: i f g o) and of a GRU as z r h (ours: r z n). `linear_before_reset` is 1 for
"gru" and 0 for "gru-reset-before". Our GRU has the same `h' = (1 - z) n + z h`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.runtime.portable_arithmetic import Floats
from unrolled.runtime.text_network import TextLayer

OPSET, IR_VERSION = 17, 8
GATES = {"rnn": ("h",), "gru": ("z", "r", "n"), "gru-reset-before": ("z", "r", "n"), "lstm": ("i", "o", "f", "g")}
"""The order of ONNX, in our names of the gates."""

NODES = {"rnn": "RNN", "gru": "GRU", "gru-reset-before": "GRU", "lstm": "LSTM"}


def gate_rows(layer: TextLayer, order: tuple[str, ...], key: str) -> Floats:
    """Return an array of a layer with its gates in another order; zeros for a second bias that there is not."""
    parts = [layer.gate(name) for name in order]
    rows = [part[key] if key in part else np.zeros(layer.weight_hh.shape[1], np.float32) for part in parts]
    return np.concatenate(rows).astype(np.float32)


class Rows(NamedTuple):
    """A tensor `(B, width)`, or of several steps `(T, B, width)`, with its name and its type in `onnx.TensorProto`."""

    name: str
    kind: int
    width: int


class GraphBuilder:
    """Nodes and weights of a graph; with `float16` in half precision, while inputs and outputs stay float32."""

    def __init__(self, float16: bool = False) -> None:
        self.float16 = float16
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> str:
        """Add a node, named as its first output, by which quantizers and converters find it; return that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Add a weight; return its name."""
        from onnx import numpy_helper

        if self.float16 and array.dtype == np.float32:
            array = array.astype(np.float16)
        self.weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def cast(self, name: str, output: str, to_half: bool) -> str:
        """Convert an input of the graph to its format, or a result to a float32 output; without `float16`, no node is needed.

        The result then takes the name of the output: after an identity, some runtimes would list the output by another name.
        """
        from onnx import TensorProto

        if self.float16:
            return self.node("Cast", [name], [output], to=self.number_kind if to_half else TensorProto.FLOAT)
        return name if to_half else self.rename(name, output)

    def rename(self, name: str, output: str) -> str:
        """Give a result the name of an output."""
        for node in self.nodes:
            for names in (node.input, node.output):
                names[:] = [output if item == name else item for item in names]
            node.name = node.output[0]
        return output

    def recurrent_weights(self, prefix: str, cell: str, layer: TextLayer) -> list[str]:
        """Add the weights of a recurrent node, in the order of gates of ONNX; return their names."""
        arrays = {key: gate_rows(layer, GATES[cell], key) for key in ("weight_ih", "weight_hh", "bias", "bias_hh")}
        return [
            self.weight(f"{prefix}.W", arrays["weight_ih"][None]),
            self.weight(f"{prefix}.R", arrays["weight_hh"][None]),
            self.weight(f"{prefix}.B", np.concatenate([arrays["bias"], arrays["bias_hh"]])[None]),
        ]

    def recurrent(self, cell: str, inputs: list[str], outputs: list[str], hidden_size: int) -> str:
        """Add the recurrent node of a cell; return its first output, `(T, 1, B, H)`."""
        attributes = {"linear_before_reset": int(cell == "gru")} if NODES[cell] == "GRU" else {}
        return self.node(NODES[cell], inputs, outputs, hidden_size=hidden_size, **attributes)

    @property
    def number_kind(self) -> int:
        """The type of weights and arithmetic, in `onnx.TensorProto`."""
        from onnx import TensorProto

        return int(TensorProto.FLOAT16 if self.float16 else TensorProto.FLOAT)

    def scan(
        self,
        prefix: str,
        state: Sequence[Rows],
        inputs: Sequence[Rows],
        step: Callable[[list[str], list[str]], list[str]],
        num_outputs: int = 1,
    ) -> list[str]:
        """Add a Scan, in which `step` adds the nodes of one step: from the names of the state and of the inputs to those of the
        next state. Return the names of `num_outputs` parts of the state after each step, `(T, B, ...)`, and of the final state.

        The batch has no name inside the Scan: there it would stay free where a program fixes the sizes of the inputs.
        """
        from onnx import helper

        states = [part._replace(name=f"{prefix}.state_{number}") for number, part in enumerate(state)]
        xs = [part._replace(name=f"{prefix}.x_{number}") for number, part in enumerate(inputs)]
        outer, self.nodes = self.nodes, []
        following = step([part.name for part in states], [part.name for part in xs])
        finals = [part._replace(name=name) for name, part in zip(following, states, strict=True)]
        ys = [
            part._replace(name=self.node("Identity", [part.name], [f"{prefix}.output_{number}"]))
            for number, part in enumerate(finals[:num_outputs])
        ]

        def infos(parts: list[Rows]) -> list[Any]:
            return [helper.make_tensor_value_info(part.name, part.kind, [None, part.width]) for part in parts]

        body = helper.make_graph(self.nodes, f"{prefix}.step", infos(states + xs), infos(finals + ys))
        self.nodes = outer
        last = [f"{prefix}.final_{number}" for number in range(len(state))]
        outputs = [f"{prefix}.ys_{number}" for number in range(num_outputs)]
        names = [part.name for part in (*state, *inputs)]
        self.node("Scan", names, last + outputs, body=body, num_scan_inputs=len(inputs))
        return outputs + last

    def model(self, name: str, inputs: list[Any], outputs: list[Any], metadata: dict[str, str]) -> Any:
        """Return the `onnx.ModelProto` of the nodes."""
        from onnx import helper

        proto = helper.make_graph(self.nodes, name, inputs, outputs, self.weights)
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "unrolled"
        helper.set_model_props(model, metadata)
        return model
