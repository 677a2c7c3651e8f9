"""The neuron explorer: a text as a recurrent network read it, on one page that opens anywhere.

The views are those of Karpathy's post (The Unreasonable Effectiveness of Recurrent Neural Networks, 2015): the text
coloured by one unit, and the likeliest next characters under each character. The choice of units by a stretch of text
is that of LSTMVis (Strobelt et al., 2018).
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
MAX_FINE_LEVEL = 62  # 254 would be seen by nobody, and makes the page a fifth larger
SURPRISE_STEPS, SURPRISE_MISSING = 1000, 65535
CHANGE_STEPS, CHANGE_MISSING = 100, -32768


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """What the explorer shows of `T` symbols that a network of `L` layers of `H` units read.

    A unit is numbered `layer * H + unit`, as in the columns of every array here.

    Args:
        title: The heading.
        subtitle: The model and the run, in a few words.
        symbols: The text of each symbol; "" for a byte within a character and for the end of a document.
        layers: L.
        hidden: H.
        signals: Name to `(T, L*H)`, "h" (the state, in -1..1) first. Then what the cell has: "c" (memory, unbounded,
            shown as its tanh), gates "i", "f", "o", "r", "z" (in 0..1), candidates "g", "n" (in -1..1).
        bits: `(T,)` how surprising each symbol was; NaN where nothing came before.
        alphabet: The text of each of the V symbols of the vocabulary.
        guess_ids: `(T, G)` the likeliest next symbols once a symbol was read, the likeliest first.
        guess_chances: `(T, G)` their probabilities.
        probes: Detectors, the best first: `layer`, `unit`, `feature`, `score`, `kind` ("AUC" or "correlation"), `p`
            and `means` (what the feature is, in words).
        importance: `(L*H,)` bits a symbol that this text costs more without the unit, or None.
        effects: What holding a unit does: `layer`, `unit`, `value`, `feature` (may be ""), `bits` (change of the mean),
            `changes` (pairs of place and change in bits, or `(T,)`), `before` and `after` (samples), `seed`.
        ends: Places in the text where a document ends.
        end_ids: Symbols of the alphabet that end a document.
        labels: Whether the guesses are labels that stand beside the symbols, and not the next symbols.
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

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: An array has another shape than the text and the layers ask for.
        """
        num_tokens, num_units = len(self.token_texts), self.num_layers * self.hidden_size
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
        shapes = {f"signals[{name!r}]": (array.shape, (num_tokens, num_units)) for name, array in self.signals.items()}
        shapes["bits"] = (self.bits.shape, (num_tokens,))
        shapes["guess_ids"] = (self.top_ids.shape, (num_tokens, self.top_ids.shape[-1]))
        shapes["guess_chances"] = (self.top_probs.shape, self.top_ids.shape)
        if self.importance is not None:
            shapes["importance"] = (self.importance.shape, (num_units,))
        problems = [
            f"{name} has shape {shape}, expected {expected}" for name, (shape, expected) in shapes.items() if shape != expected
        ]
        if not num_tokens or "h" not in self.signals:
            problems.append("there must be a symbol, and a signal h")
        if problems:
            raise ValueError("The explorer cannot show this: " + "; ".join(problems))


def explorer_page(data: ExplorerData) -> str:
    """Return the explorer of a text as one HTML page."""
    return render_page(f"{data.title} - neuron explorer", STYLES, SCRIPT, payload(data), BODY)


def payload(data: ExplorerData) -> dict[str, Any]:
    """Return what the scripts of the page read."""
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
        "topIds": pack_array(data.top_ids.astype(np.uint32)),
        "topProbabilities": pack_array(quantize(data.top_probs, 65535, (0, 65535), 0).astype(np.uint16)),
        "probes": [probe_dict(item, data.hidden_size) for item in data.probes],
        "importance": None if data.importance is None else [json_number(value) for value in data.importance],
        "interventions": [effect_dict(item, data) for item in data.effects],
    }


def encode_signal(name: str, array: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return a signal in few levels: 63 of the state and the memory, 15 or 16 of gates; a unit's timeline in one piece.

    Signed values have an odd number of levels, so that 0 stays 0. Differences along the text deflate better than the
    levels of a state that moves slowly, and worse where it jumps, so the shorter of the two is kept.
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
    """Return values in whole steps of `1 / top`, kept within `span`, with `missing` in place of NaN."""
    scaled = np.clip(np.rint(np.asarray(values, dtype=np.float64) * scale), *limits)
    return np.where(np.isnan(scaled), missing, scaled)


def pack_nibbles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows of numbers below 16 as bytes, two numbers in each, the first in the low half."""
    even = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2)))
    return even[:, 0::2] | (even[:, 1::2] << np.uint8(4))


def probe_dict(detector: Mapping[str, Any], hidden_size: int) -> dict[str, Any]:
    """Return a detector as JSON can have it."""
    return {
        "neuron": unit_index(detector, hidden_size),
        "feature": str(detector["feature"]),
        "description": str(detector["means"]),
        "metric": str(detector["kind"]),
        "score": json_number(detector["score"]),
        "pValue": json_number(detector["p"]),
    }


def effect_dict(item: Mapping[str, Any], data: ExplorerData) -> dict[str, Any]:
    """Return what holding a unit does as JSON can have it, with the changes along the text packed."""
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
    """Return the number of a unit among all layers."""
    return int(item["layer"]) * hidden_size + int(item["unit"])


def json_number(value: Any) -> float | None:
    """Return a number in six digits, or None for what JSON has no number for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
