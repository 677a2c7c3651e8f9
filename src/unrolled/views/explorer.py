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

from unrolled.views.html_page import pack, page

STYLES = ("shared/page.css", "explorer/explorer.css")
SCRIPT = "explorer/main.js"
BODY = "explorer/explorer.html"
SIGNED = {"h", "c", "g", "n"}
FINE = {"h", "c"}
FINE_TOP = 62  # 254 would be seen by nobody, and makes the page a fifth larger
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
    symbols: Sequence[str]
    layers: int
    hidden: int
    signals: Mapping[str, NDArray[np.floating[Any]]]
    bits: NDArray[np.floating[Any]]
    alphabet: Sequence[str]
    guess_ids: NDArray[np.integer[Any]]
    guess_chances: NDArray[np.floating[Any]]
    probes: Sequence[Mapping[str, Any]] = ()
    importance: NDArray[np.floating[Any]] | None = None
    effects: Sequence[Mapping[str, Any]] = ()
    ends: Sequence[int] = ()
    end_ids: Sequence[int] = ()
    labels: bool = False

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: An array has another shape than the text and the layers ask for.
        """
        count, units = len(self.symbols), self.layers * self.hidden
        shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
        shapes = {f"signals[{name!r}]": (array.shape, (count, units)) for name, array in self.signals.items()}
        shapes["bits"] = (self.bits.shape, (count,))
        shapes["guess_ids"] = (self.guess_ids.shape, (count, self.guess_ids.shape[-1]))
        shapes["guess_chances"] = (self.guess_chances.shape, self.guess_ids.shape)
        if self.importance is not None:
            shapes["importance"] = (self.importance.shape, (units,))
        wrong = [f"{name} has shape {came}, expected {right}" for name, (came, right) in shapes.items() if came != right]
        if not count or "h" not in self.signals:
            wrong.append("there must be a symbol, and a signal h")
        if wrong:
            raise ValueError("The explorer cannot show this: " + "; ".join(wrong))


def explorer_page(view: ExplorerData) -> str:
    """Return the explorer of a text as one HTML page."""
    return page(f"{view.title} - neuron explorer", STYLES, SCRIPT, payload(view), BODY)


def payload(view: ExplorerData) -> dict[str, Any]:
    """Return what the scripts of the page read."""
    return {
        "title": view.title,
        "subtitle": view.subtitle,
        "tokens": list(view.symbols),
        "documentEnds": [int(place) for place in view.ends],
        "layers": view.layers,
        "hiddenSize": view.hidden,
        "activations": [signal(name, array) for name, array in view.signals.items()],
        "surprisal": pack(steps(view.bits, SURPRISE_STEPS, (0, SURPRISE_MISSING - 1), SURPRISE_MISSING).astype(np.uint16)),
        "vocabulary": list(view.alphabet),
        "eosIds": [int(number) for number in view.end_ids],
        "topK": view.guess_ids.shape[1],
        "predictsLabels": view.labels,
        "topIds": pack(view.guess_ids.astype(np.uint32)),
        "topProbabilities": pack(steps(view.guess_chances, 65535, (0, 65535), 0).astype(np.uint16)),
        "probes": [probe(found, view.hidden) for found in view.probes],
        "importance": None if view.importance is None else [number(value) for value in view.importance],
        "interventions": [effect(found, view) for found in view.effects],
    }


def signal(name: str, array: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Return a signal in few levels: 63 of the state and the memory, 15 or 16 of gates; a unit's timeline in one piece.

    Signed values have an odd number of levels, so that 0 stays 0. Differences along the text deflate better than the
    levels of a state that moves slowly, and worse where it jumps, so the shorter of the two is kept.
    """
    fine, signed = name in FINE, name in SIGNED
    missing = 255 if fine else 15
    top = FINE_TOP if fine else missing - signed
    values = np.tanh(array) if name == "c" else array
    scaled = (values + 1) / 2 if signed else values
    levels = steps(scaled, top, (0, top), missing if fine or signed else 0).astype(np.uint8).T
    raw = np.ascontiguousarray(levels) if fine else nibbles(levels)
    packed = pack(raw)
    moved = pack(np.diff(raw, axis=1, prepend=np.uint8(0))) if fine else packed
    moving = len(moved) < len(packed)
    return {
        "name": name,
        "highResolution": fine,
        "min": -1 if signed else 0,
        "maxLevel": top,
        "deltaEncoded": moving,
        "data": moved if moving else packed,
    }


def steps(values: NDArray[np.floating[Any]], top: float, span: tuple[int, int], missing: int) -> NDArray[np.float64]:
    """Return values in whole steps of `1 / top`, kept within `span`, with `missing` in place of NaN."""
    scaled = np.clip(np.rint(np.asarray(values, dtype=np.float64) * top), *span)
    return np.where(np.isnan(scaled), missing, scaled)


def nibbles(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return rows of numbers below 16 as bytes, two numbers in each, the first in the low half."""
    even = np.pad(levels, ((0, 0), (0, levels.shape[1] % 2)))
    return even[:, 0::2] | (even[:, 1::2] << np.uint8(4))


def probe(found: Mapping[str, Any], hidden: int) -> dict[str, Any]:
    """Return a detector as JSON can have it."""
    return {
        "neuron": place(found, hidden),
        "feature": str(found["feature"]),
        "description": str(found["means"]),
        "metric": str(found["kind"]),
        "score": number(found["score"]),
        "pValue": number(found["p"]),
    }


def effect(found: Mapping[str, Any], view: ExplorerData) -> dict[str, Any]:
    """Return what holding a unit does as JSON can have it, with the changes along the text packed."""
    changes = found["changes"]
    if not isinstance(changes, np.ndarray) or changes.shape != (len(view.symbols),):
        pairs, changes = changes, np.full(len(view.symbols), np.nan)
        for at, change in pairs:
            changes[int(at)] = change
    return {
        "neuron": place(found, view.hidden),
        "value": number(found["value"]),
        "feature": str(found["feature"]),
        "meanChange": number(found["bits"]),
        "surprisalChanges": pack(steps(changes, CHANGE_STEPS, (-32767, 32767), CHANGE_MISSING).astype(np.int16)),
        "originalSample": str(found["before"]),
        "clampedSample": str(found["after"]),
        "seed": int(found["seed"]),
    }


def place(found: Mapping[str, Any], hidden: int) -> int:
    """Return the number of a unit among all layers."""
    return int(found["layer"]) * hidden + int(found["unit"])


def number(value: Any) -> float | None:
    """Return a number in six digits, or None for what JSON has no number for."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
