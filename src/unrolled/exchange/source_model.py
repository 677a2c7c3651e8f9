"""A language model as a foreign file describes it, in the gate order of this package, and how it becomes a model of ours.

Every importer returns a `SourceModel`. Gates are an axis of their own, so that a change of the gate order is an index:

    weight_ih  (G, H, I)     weight_hh  (G, H, H)     bias  (G, H)     bias_hh  (G, H) or None
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.errors import ModelError
from unrolled.exchange.vocabulary import Vocabulary
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, from_dict
from unrolled.runtime.text_network import TextModel

Array = npt.NDArray[np.floating[Any]]
MAX_UNITS = 65536
ABSENT_BIAS = -1e4
"""Bias of a token that the source model does not have: its probability is zero in float32, and the bias is finite."""


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one recurrent layer; shapes in the docstring of the module."""

    weight_ih: Array
    weight_hh: Array
    bias: Array
    bias_hh: Array | None = None

    def padded(self, input_size: int, hidden_size: int) -> LayerWeights:
        """Return the same layer with more inputs and units, all of whose weights are zero."""
        more_inputs, more_units = input_size - self.weight_ih.shape[2], hidden_size - self.weight_hh.shape[1]
        return LayerWeights(
            np.pad(self.weight_ih, ((0, 0), (0, more_units), (0, more_inputs))),
            np.pad(self.weight_hh, ((0, 0), (0, more_units), (0, more_units))),
            np.pad(self.bias, ((0, 0), (0, more_units))),
            None if self.bias_hh is None else np.pad(self.bias_hh, ((0, 0), (0, more_units))),
        )


@dataclass(frozen=True)
class SourceModel:
    """A recurrent language model read from a foreign file.

    Attributes:
        format: The format, for people: "char-rnn checkpoint".
        cell: A key of `CELLS`.
        layers: The recurrent layers, the first one first, in the gate order of `CELLS[cell]`.
        head_weight: `(V, H)`.
        head_bias: `(V,)`.
        vocabulary: What each of the V tokens is.
        embedding: `(V, E)`, or None for one-hot input.
        gate_order: The order of the gates in the file, in the letters of `CELLS[cell]`; empty if there is one gate.
        gate_scale: In a format whose gates can be hard sigmoids, what the rows of the gates were multiplied by for the slope of
            `HARD_SIGMOID_CELLS`; None where gates are sigmoids.
        notes: What was changed, left out or assumed, one sentence each.
        facts: What else the file says, for `history`.
    """

    format: str
    cell: str
    layers: tuple[LayerWeights, ...]
    head_weight: Array
    head_bias: Array
    vocabulary: Vocabulary
    embedding: Array | None = None
    gate_order: str = ""
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    gate_scale: float | None = None
    max_checked: ClassVar[int] = 2000
    """Tokens of the text that the check at the end of an import reads."""

    @property
    def hidden_sizes(self) -> list[int]:
        """The units of each layer."""
        return [layer.weight_hh.shape[1] for layer in self.layers]

    def describe(self) -> str:
        """Return format, cell and sizes in one line."""
        sizes = self.hidden_sizes
        units = (
            f"{len(sizes)} layer{'s' * (len(sizes) > 1)} of {', '.join(map(str, sorted(set(sizes), key=sizes.index)))} units"
        )
        inputs = "one-hot input" if self.embedding is None else f"embedding {self.embedding.shape[1]}"
        return f"{self.format}: {self.cell}, {units}, {inputs}, {len(self.head_bias)} tokens"

    def check(self) -> None:
        """Raise `ModelError` if the sizes of the parts do not fit each other, or a weight is not finite."""
        num_tokens, width = len(self.head_bias), self.hidden_sizes[-1]
        expected: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = [
            ("output layer", self.head_weight.shape, (num_tokens, width))
        ]
        size = num_tokens
        if self.embedding is not None:
            size = self.embedding.shape[1] if self.embedding.ndim == 2 else 0
            expected.append(("embedding", self.embedding.shape, (num_tokens, size)))
        for number, layer in enumerate(self.layers):
            units, gates = layer.weight_hh.shape[1], len(layer.weight_hh)
            parts = (
                (layer.weight_ih, (gates, units, size)),
                (layer.weight_hh, (gates, units, units)),
                (layer.bias, (gates, units)),
            )
            expected += [(f"layer {number}", part.shape, shape) for part, shape in parts]
            size = units
        for name, found, shape in expected:
            if tuple(found) != shape:
                raise ModelError(f"The {name} has weights of shape {tuple(found)}, and {shape} is expected there.")
        if not max(*self.hidden_sizes, size) <= MAX_UNITS:
            raise ModelError(f"The model has a layer of {max(self.hidden_sizes)} units, and at most {MAX_UNITS} are possible.")
        self.check_values()

    def check_values(self) -> None:
        """Raise `ModelError` if a weight is not finite, or the vocabulary is not that of the output layer."""
        if not all(np.isfinite(part).all() for part in self.weight_arrays()):
            raise ModelError("The model holds weights that are not finite: its training had diverged. Take another checkpoint.")
        self.vocabulary.check_size(len(self.head_bias))

    def with_layers(self, change: Callable[[LayerWeights], LayerWeights]) -> SourceModel:
        """Return the same model with each layer changed."""
        return dataclasses.replace(self, layers=tuple(map(change, self.layers)))

    def weight_arrays(self) -> list[Array]:
        """Return all weights."""
        parts = [part for layer in self.layers for part in dataclasses.astuple(layer) if part is not None]
        return [*parts, self.head_weight, self.head_bias] + ([] if self.embedding is None else [self.embedding])

    def to_model_file(self) -> TextModelFile | TextModel:
        """Return the model in the form of this package; its logits are those of the source.

        Layers with fewer units than the widest get units whose weights are zero. Such a unit is zero at every step, in each
        of our cells, so nothing changes.
        """
        self.check()
        hidden, ids = max(self.hidden_sizes), self.vocabulary.source_ids
        embedding_size = 0 if self.embedding is None else self.embedding.shape[1]
        two_biases = any(layer.bias_hh is not None for layer in self.layers)
        settings = {"cell": self.cell, "layers": len(self.layers), "hidden": hidden, "embedding": embedding_size}
        settings |= {"dropout": 0.0, "residual": False, "two_biases": two_biases}
        options = from_dict(ModelOptions, settings, "the imported model")
        with torch.random.fork_rng(devices=[]):
            model = RecurrentLM(len(ids), options).eval()
        head_weight = np.pad(self.head_weight, ((0, 0), (0, hidden - self.head_weight.shape[1])))
        weights = {"head.weight": to_rows(head_weight, ids, 0.0), "head.bias": to_rows(self.head_bias, ids, ABSENT_BIAS)}
        if self.embedding is not None:
            weights["embedding.weight"] = to_rows(self.embedding, ids, 0.0)
        for number, layer in enumerate(self.layers):
            first_size = self.embedding.shape[1] if self.embedding is not None else len(self.head_bias)
            layer = layer.padded(first_size if number == 0 else hidden, hidden)
            if number == 0 and self.embedding is None:
                by_token = to_rows(np.moveaxis(layer.weight_ih, 2, 0), ids, 0.0)
                layer = dataclasses.replace(layer, weight_ih=np.moveaxis(by_token, 0, 2))
            weights |= cell_weights(f"stack.layers.{number}.cell.", layer, two_biases)
        model.load_state_dict({name: torch.from_numpy(np.array(value, np.float32)) for name, value in weights.items()})
        return TextModelFile(model, self.vocabulary.tokenizer, self.vocabulary.documents, dict(self.facts))


def to_rows(values: Array, source_ids: list[int | None], absent: float) -> Array:
    """Return `values[i]` for each source id, and `absent` for tokens that the source does not have."""
    rows = np.full((len(source_ids), *values.shape[1:]), absent, np.float32)
    known = [index for index, source_id in enumerate(source_ids) if source_id is not None]
    rows[known] = values[[source_id for source_id in source_ids if source_id is not None]]
    return rows


def cell_weights(prefix: str, layer: LayerWeights, two_biases: bool) -> dict[str, Array]:
    """Return the parameters of a cell by name, the gates stacked in rows."""
    weights = {"weight_ih": layer.weight_ih, "weight_hh": layer.weight_hh, "bias": layer.bias}
    if two_biases:
        weights["bias_hh"] = np.zeros_like(layer.bias) if layer.bias_hh is None else layer.bias_hh
    return {prefix + name: value.reshape(-1, *value.shape[2:]) for name, value in weights.items()}
