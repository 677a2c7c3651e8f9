"""The neuron explorer: the activations of a recurrent network on a text, as one self-contained HTML page.

The views are those of Karpathy's post (The Unreasonable Effectiveness of Recurrent Neural Networks, 2015): the text
colored by one unit, and the most probable next characters under each character. Finding units by a selection of the text
is from LSTMVis (Strobelt et al., 2018).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.views.html_page import pack_array, render_page

STYLES = ("shared/page.css", "explorer/explorer.css")
SCRIPT = "explorer/main.js"
BODY = "explorer/explorer.html"
SIGNED_SIGNALS = {"h", "c", "g", "n"}
FINE_SIGNALS = {"h", "c"}
MAX_FINE_LEVEL = 62  # 254 levels look the same and make the page 20% larger
SURPRISE_STEPS, SURPRISE_MISSING = 1000, 65535
CHANGE_STEPS, CHANGE_MISSING = 100, -32768


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """The data of the explorer for T tokens that a network of L layers with H units read.

    A unit is numbered `layer * H + unit`, as in the columns of every array here.

    Args:
        title: The heading.
        subtitle: A short description of the model.
        token_texts: The text of each token; "" for a byte within a character and for the end of a document.
        num_layers: L.
        hidden_size: H.
        signals: Name to `(T, L*H)`, "h" (the hidden state, in -1..1) first. Then, depending on the cell: "c" (cell state,
            unbounded, displayed as its tanh), gates "i", "f", "o", "r", "z", "a", "b" (in 0..1), candidates "g", "n"
            (displayed in -1..1).
        bits: `(T,)` the surprisal of each token; NaN for a token without context.
        vocab_texts: The text of each of the V tokens of the vocabulary.
        top_ids: `(T, K)` the most probable next tokens after each token, in descending order.
        top_probs: `(T, K)` their probabilities.
        probes: Detectors, the best first: `layer`, `unit`, `feature`, `description`, `score`, `kind` ("AUC" or
            "correlation") and `p_value`, as in `interpret.probes.Probe`.
        importance: `(L*H,)` the increase of the loss when the unit is clamped to 0, in bits per token, or None.
        effects: Effects of clamped units: `layer`, `unit`, `value`, `feature` (may be ""), `bits` (mean change),
            `changes` (pairs of position and change in bits, or `(T,)`), `before` and `after` (samples), `seed`.
        eos_positions: Positions in the text at which a document ends.
        eos_ids: Tokens of the vocabulary that end a document.
        predicts_labels: Whether the predictions are labels of the tokens, and not the next tokens.
        is_series: Whether the steps of a series were read, and not the tokens of a text.
    """

    title: str
    subtitle: str
    token_texts: Sequence[str]
    num_layers: int
    hidden_size: int
    signals: Mapping[str, NDArray[np.floating[Any]]]
    bits: NDArray[np.floating[Any]]
    vocab_texts: Sequence[str]
    top_ids: NDArray[np.integer[Any]]
    top_probs: NDArray[np.floating[Any]]
    probes: Sequence[Mapping[str, Any]] = ()
    importance: NDArray[np.floating[Any]] | None = None
    effects: Sequence[Mapping[str, Any]] = ()
    eos_positions: Sequence[int] = ()
    eos_ids: Sequence[int] = ()
    predicts_labels: bool = False
    is_series: bool = False

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: An array has another shape than the text and the layers ask for.
        """
        num_tokens, num_units = len(self.token_texts), self.num_layers * self.hidden_size
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
        shapes = {f"signals[{name!r}]": (array.shape, (num_tokens, num_units)) for name, array in self.signals.items()}
        shapes["bits"] = (self.bits.shape, (num_tokens,))
        shapes["top_ids"] = (self.top_ids.shape, (num_tokens, self.top_ids.shape[-1]))
        shapes["top_probs"] = (self.top_probs.shape, self.top_ids.shape)
        if self.importance is not None:
            shapes["importance"] = (self.importance.shape, (num_units,))
        problems = [
            f"{name} has shape {shape}, expected {expected}" for name, (shape, expected) in shapes.items() if shape != expected
        ]
        if not num_tokens or "h" not in self.signals:
            problems.append("at least one token and the signal h are needed")
        if problems:
            raise ValueError("The explorer cannot display this: " + "; ".join(problems))


def explorer_page(data: ExplorerData) -> str:
    """Return the explorer of a text as one HTML page."""
    return render_page(f"{data.title} - neuron explorer", STYLES, SCRIPT, payload(data), BODY)


def payload(data: ExplorerData) -> dict[str, Any]:
    """Return the JSON data that the scripts of the page read."""
    return {
        "title": data.title,
        "subtitle": data.subtitle,
        "tokens": list(data.token_texts),
        "documentEnds": [int(position) for position in data.eos_positions],
        "layers": data.num_layers,
        "hiddenSize": data.hidden_size,
        "activations": [encode_signal(name, array) for name, array in data.signals.items()],
        "surprisal": pack_array(
            quantize(data.bits, SURPRISE_STEPS, (0, SURPRISE_MISSING - 1), SURPRISE_MISSING).astype(np.uint16)
        ),
        "vocabulary": list(data.vocab_texts),
        "eosIds": [int(token_id) for token_id in data.eos_ids],
        "topK": data.top_ids.shape[1],
        "predictsLabels": data.predicts_labels,
        "isSeries": data.is_series,
        "topIds": pack_array(data.top_ids.astype(np.uint32)),
        "topProbabilities": pack_array(quantize(data.top_probs, 65535, (0, 65535), 0).astype(np.uint16)),
        "probes": [probe_dict(item, data.hidden_size) for item in data.probes],
        "importance": None if data.importance is None else [json_number(value) for value in data.importance],
        "interventions": [effect_dict(item, data) for item in data.effects],
    }


def encode_signal(name: str, array: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return a signal quantized to 63 levels (h and c) or to 15 or 16 (gates), compressed, unit by unit.

    Signed values have an odd number of levels, so that 0 is exact. Differences along the text compress better than the
    levels if a state changes slowly, and worse if it jumps, so the shorter of the two is used.
    """
    is_fine, is_signed = name in FINE_SIGNALS, name in SIGNED_SIGNALS
    missing = 255 if is_fine else 15
    max_level = MAX_FINE_LEVEL if is_fine else missing - is_signed
    values = np.tanh(array) if name == "c" else array
    scaled = (values + 1) / 2 if is_signed else values
    levels = quantize(scaled, max_level, (0, max_level), missing if is_fine or is_signed else 0).astype(np.uint8).T
    raw = np.ascontiguousarray(levels) if is_fine else pack_nibbles(levels)
    packed = pack_array(raw)
    packed_deltas = pack_array(np.diff(raw, axis=1, prepend=np.uint8(0))) if is_fine else packed
    use_deltas = len(packed_deltas) < len(packed)
    return {
        "name": name,
        "highResolution": is_fine,
        "min": -1 if is_signed else 0,
        "maxLevel": max_level,
        "deltaEncoded": use_deltas,
        "data": packed_deltas if use_deltas else packed,
    }


def quantize(values: NDArray[np.floating[Any]], scale: float, limits: tuple[int, int], missing: int) -> NDArray[np.float64]:
    """Return values times `scale`, rounded and clipped to `limits`, with `missing` in place of NaN."""
    scaled = np.clip(np.rint(np.asarray(values, dtype=np.float64) * scale), *limits)
    return np.where(np.isnan(scaled), missing, scaled)


def pack_nibbles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows of numbers below 16 as bytes, two numbers in each, the first in the low four bits."""
    even = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2)))
    return even[:, 0::2] | (even[:, 1::2] << np.uint8(4))


def probe_dict(detector: Mapping[str, Any], hidden_size: int) -> dict[str, Any]:
    """Return a detector as JSON values."""
    return {
        "neuron": unit_index(detector, hidden_size),
        "feature": str(detector["feature"]),
        "description": str(detector["description"]),
        "metric": str(detector["kind"]),
        "score": json_number(detector["score"]),
        "pValue": json_number(detector["p_value"]),
    }


def effect_dict(item: Mapping[str, Any], data: ExplorerData) -> dict[str, Any]:
    """Return the effect of an intervention as JSON values, with the changes along the text packed."""
    changes = item["changes"]
    if not isinstance(changes, np.ndarray) or changes.shape != (len(data.token_texts),):
        pairs, changes = changes, np.full(len(data.token_texts), np.nan)
        for position, change in pairs:
            changes[int(position)] = change
    return {
        "neuron": unit_index(item, data.hidden_size),
        "value": json_number(item["value"]),
        "feature": str(item["feature"]),
        "meanChange": json_number(item["bits"]),
        "surprisalChanges": pack_array(quantize(changes, CHANGE_STEPS, (-32767, 32767), CHANGE_MISSING).astype(np.int16)),
        "originalSample": str(item["before"]),
        "clampedSample": str(item["after"]),
        "seed": int(item["seed"]),
    }


def unit_index(item: Mapping[str, Any], hidden_size: int) -> int:
    """Return the index of a unit among all layers: layer * H + unit."""
    return int(item["layer"]) * hidden_size + int(item["unit"])


def json_number(value: Any) -> float | None:
    """Return a number with six digits, or None for one that is not finite."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
