"""The configuration of a Keras model: which layers it has, and which of their settings a cell here can follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unrolled.errors import ModelError

CELLS = {"SimpleRNN": "rnn", "GRU": "gru", "LSTM": "lstm", "CuDNNGRU": "gru", "CuDNNLSTM": "lstm"}
NEUTRAL = {
    "InputLayer",
    "Dropout",
    "SpatialDropout1D",
    "GaussianNoise",
    "GaussianDropout",
    "AlphaDropout",
    "ActivityRegularization",
}
"""Layers that change nothing when a model is used."""

MAX_NAME = 200
"""Most characters of a name in a configuration."""

HARD_SIGMOID = "hard_sigmoid"
GATES = ("sigmoid", HARD_SIGMOID)
EXPECTED: dict[str, dict[str, tuple[str, ...]]] = {
    "LSTM": {"activation": ("tanh",), "recurrent_activation": GATES},
    "GRU": {"activation": ("tanh",), "recurrent_activation": GATES},
    "SimpleRNN": {"activation": ("tanh",)},
    "CuDNNLSTM": {},
    "CuDNNGRU": {},
}  # fmt: skip
"""Settings of the layers that the cells here have."""


@dataclass(frozen=True)
class KerasLayer:
    """A layer with weights: its class, its name, its settings, and whether TimeDistributed wraps it."""

    class_name: str
    name: str
    settings: Mapping[str, Any]
    is_wrapped: bool = False

    def setting(self, name: str) -> Any:
        """Return a setting, also under its name in Keras 1, or else the default of Keras before 2.3."""
        old_name, default = ("inner_activation", HARD_SIGMOID) if name == "recurrent_activation" else (name, "tanh")
        return self.settings.get(name, self.settings.get(old_name, default))

    @property
    def has_hard_sigmoids(self) -> bool:
        """Whether the gates are hard sigmoids."""
        return "recurrent_activation" in EXPECTED[self.class_name] and self.setting("recurrent_activation") == HARD_SIGMOID


@dataclass(frozen=True)
class KerasNetwork:
    """The layers of a language model in Keras: an embedding or none, recurrent layers, and a last one."""

    embedding: KerasLayer | None
    recurrent: tuple[KerasLayer, ...]
    dense: KerasLayer
    ordered: tuple[KerasLayer, ...]
    notes: tuple[str, ...]

    @property
    def has_hard_sigmoids(self) -> bool:
        """Whether the gates of the recurrent layers are hard sigmoids."""
        return self.recurrent[0].has_hard_sigmoids

    @property
    def cell(self) -> str:
        """The cell of all recurrent layers, a key of `CELLS` of this package; with hard sigmoids, it has another name."""
        first = self.recurrent[0]
        resets_before = first.class_name == "GRU" and not first.settings.get("reset_after", False)
        return "gru-reset-before" if resets_before else CELLS[first.class_name]


def parse_network(config: Any) -> KerasNetwork:
    """Return the layers of a model's configuration. Raises `ModelError` that names what cannot be imported."""
    entries = _layer_entries(config)
    layers = [_layer(entry) for entry in entries]
    notes: list[str] = []
    recurrent: list[KerasLayer] = []
    embedding, dense = None, None
    for layer in layers:
        if layer.class_name in NEUTRAL:
            if "ropout" in layer.class_name or "Noise" in layer.class_name:
                notes.append(f"{layer.class_name} {layer.name} is active in training only")
        elif layer.class_name == "Embedding" and not recurrent and embedding is None:
            embedding = layer
            notes += ["mask_zero: token 0 is a token like others here"] * bool(layer.settings.get("mask_zero"))
        elif layer.class_name in CELLS and dense is None:
            _check_recurrent(layer)
            recurrent.append(layer)
        elif layer.class_name == "Dense" and recurrent and dense is None:
            dense = layer
        elif layer.class_name != "Activation" or dense is None or layer.settings.get("activation") != "softmax":
            raise ModelError(
                f"The model has a layer {layer.class_name} ({layer.name}) in a place where no model here has it, so it "
                "cannot be "
                "imported: Embedding, SimpleRNN, GRU or LSTM layers, and one Dense are expected, in this order."
            )
    if not recurrent or dense is None:
        raise ModelError("The model lacks recurrent layers (SimpleRNN, GRU, LSTM) or a Dense layer after them.")
    return _network(layers, embedding, recurrent, dense, notes)


def _network(
    layers: list[KerasLayer], embedding: KerasLayer | None, recurrent: list[KerasLayer], dense: KerasLayer, notes: list[str]
) -> KerasNetwork:
    if dense.settings.get("activation", "linear") not in ("softmax", "linear"):
        raise ModelError(
            f"The Dense layer {dense.name} has the activation {dense.settings.get('activation')!r}; softmax is expected."
        )
    kinds = {(layer.class_name.removeprefix("CuDNN"), bool(layer.settings.get("reset_after"))) for layer in recurrent}
    if len({layer.has_hard_sigmoids for layer in recurrent}) > 1:
        raise ModelError("Some layers have a sigmoid and some a hard sigmoid as gates, and one kind is expected.")
    if len({name for name, _ in kinds}) > 1 or (len(kinds) > 1 and recurrent[0].class_name == "GRU"):
        raise ModelError(
            f"The model has layers of {', '.join(layer.class_name for layer in recurrent)}, and one kind is expected."
        )
    for layer in recurrent[:-1]:
        if not layer.settings.get("return_sequences"):
            raise ModelError(f"The layer {layer.name} has return_sequences=False, and the next layer reads each of its steps.")
    if not recurrent[-1].settings.get("return_sequences"):
        notes.append(
            "the last layer has return_sequences=False: the model was trained on windows that start from the zero state, "
            "and here the "
            "state is carried on"
        )
    return KerasNetwork(
        embedding, tuple(recurrent), dense, tuple(layer for layer in layers if layer.class_name != "InputLayer"), tuple(notes)
    )


def _check_recurrent(layer: KerasLayer) -> None:
    settings = layer.settings
    for flag in ("go_backwards", "return_state"):
        if settings.get(flag):
            raise ModelError(f"The layer {layer.name} has {flag}=True, which no cell here has.")
    for name, expected in EXPECTED[layer.class_name].items():
        if (found := layer.setting(name)) not in expected:
            raise ModelError(
                f"The layer {layer.name} has {name}={found!r:.60}, and {layer.class_name} of "
                f"{' or '.join(map(repr, expected))} is what a cell here computes."
            )


def _layer_entries(config: Any) -> list[Mapping[str, Any]]:
    """Return the layers of a Sequential model, or of a functional one that is a chain."""
    if not isinstance(config, Mapping) or not isinstance(config.get("config"), Mapping | list):
        raise ModelError("The file has no configuration of a Keras model.")
    kind, inner = config.get("class_name"), config["config"]
    entries = inner if isinstance(inner, list) else inner.get("layers")
    if not isinstance(entries, list) or kind not in ("Sequential", "Functional", "Model"):
        raise ModelError(f"The model is a {kind!r:.60} of Keras: Sequential, or a functional model of one chain, is expected.")
    if kind != "Sequential":
        _check_chain(entries)
    return entries


def _check_chain(entries: list[Any]) -> None:
    """Raise `ModelError` if a layer reads anything but the layer before it."""
    previous: str | None = None
    for entry in entries:
        name = str(entry.get("name") or entry["config"].get("name"))
        sources = _source_names(entry.get("inbound_nodes", []))
        if sources != ([] if previous is None else [previous]):
            raise ModelError(
                f"The layer {name} reads {', '.join(sources) or 'an input of its own'}, not just the layer before it: "
                "models with skip "
                "connections, attention or several inputs cannot be imported."
            )
        previous = name


def _source_names(value: Any, depth: int = 12) -> list[str]:
    """Return the names of the layers in `inbound_nodes`: Keras 2 writes `["name", 0, 0, {}]`, Keras 3 `keras_history`."""
    if depth == 0:
        return []
    if isinstance(value, Mapping):
        history = value.get("keras_history")
        if isinstance(history, list) and history:
            return [str(history[0])]
        return [name for part in value.values() for name in _source_names(part, depth - 1)]
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            return [value[0]]
        return [name for part in value for name in _source_names(part, depth - 1)]
    return []


def _layer(entry: Any) -> KerasLayer:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("config"), Mapping):
        raise ModelError("The configuration of the Keras model is damaged: a layer has no settings.")
    class_name, settings = str(entry.get("class_name"))[:MAX_NAME], entry["config"]
    if len(name := str(settings.get("name") or entry.get("name"))) > MAX_NAME:
        raise ModelError(f"The configuration of the Keras model is damaged: a layer has a name of {len(name):,} characters.")
    if class_name == "Bidirectional":
        raise ModelError(
            f"The layer {settings.get('name')} is Bidirectional (merge_mode={settings.get('merge_mode')!r}): a model that "
            "predicts the next "
            "character reads forward only."
        )
    if class_name == "TimeDistributed":
        inner = _layer(settings.get("layer"))
        if inner.class_name != "Dense":
            raise ModelError(
                f"The layer {settings.get('name')} is TimeDistributed of {inner.class_name}; of Dense is expected."
            )
        return KerasLayer("Dense", name, inner.settings, is_wrapped=True)
    return KerasLayer(class_name, name, settings)
