"""Which unit follows what: every unit of a trace held against every feature of the text, and told only if chance cannot.

Units are chosen on the first half of the text and scored on the second, which had no say in the choice. Chance is what the same
units reach on the same features of the same text moved to another place: both keep all that goes on within them, and only
what ties them together is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.interpret.activations import Trace
from unrolled.interpret.text_features import FEATURES, Feature, Values

SHIFTS = 99
"""Places to which features are moved; the smallest chance that can be told is one in so many and one."""

FEWEST = 20
"""Symbols at which a feature must be on, and off, in each half, to be held against anything."""

STRONG = {"AUC": 0.9, "correlation": 0.8}
"""From here on a unit that passes the test is called a detector: a person who sees it would name what it follows."""

LONGEST = 50_000
"""Symbols that are looked at: enough for rare things, and the states of a large model still fit memory."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Probe:
    """What a unit follows best.

    `score` is, of something on or off, the area under the ROC curve (0.5 to 1: the chance that the unit tells a symbol where
    it is on from one where it is off), of a number the rank correlation (0 to 1). `sign` is -1 if the unit goes down where
    the feature goes up. `p` is the chance that the best of all units does as well on features moved elsewhere.
    `plain` features are told by the character itself.
    """

    layer: int
    unit: int
    feature: str
    means: str
    kind: str
    score: float
    sign: int
    p: float
    plain: bool = False

    @property
    def strong(self) -> bool:
        """Whether the unit is a detector of something that takes memory to know."""
        return not self.plain and self.p <= 0.05 and self.score >= STRONG[self.kind]


@dataclass(frozen=True)
class Findings:
    """`features` holds the best unit of each feature, the clearest first; `units` what each unit follows best, in order.

    Features that the character itself tells come last. `share` is the share of units that are detectors of anything but what
    the last few characters tell.
    """

    features: list[Probe]
    units: list[Probe]
    share: float


def probe(found: Trace, text: str, check: Callable[[], None] = lambda: None, seed: int = 0) -> Findings:
    """Hold every unit of a trace against every feature of its text, one character for each step.

    What is held is an LSTM's memory c, which follows things more closely than its output h does; h of other cells.

    Raises `ValueError` if there are not as many characters as steps.
    """
    if len(text) != len(found.h):
        raise ValueError(f"{len(text):,} characters were given for {len(found.h):,} steps: one for each is needed.")
    half, states = len(text) // 2, found.h if found.c is None else found.c
    values = [(feature, feature.of(text)) for feature in FEATURES]
    values = [(feature, own) for feature, own in values if _varies(own[:half]) and _varies(own[half:])]
    if not values:
        return Findings([], [], 0.0)
    first = _signed(_ranks(states[:half]), _weights([own[:half] for _, own in values]))
    check()
    ranks, weights = _ranks(states[half:]), _weights([own[half:] for _, own in values])
    board = _Board(
        [feature for feature, _ in values],
        ["AUC" if own.dtype == bool else "correlation" for _, own in values],
        _signed(ranks, weights),
        _chance(ranks, weights, check, seed),
        found.h.shape[2],
    )
    best = [board.probe(index, int(np.abs(first[index]).argmax())) for index in range(len(values))]
    best.sort(key=lambda one: (one.plain, not one.strong, one.p > 0.05, -board.height(one)))
    light = np.array([feature.plain or feature.near for feature in board.features])
    clearest = (np.abs(first) / board.floors()[:, None] - light[:, None]).argmax(0)
    units = [board.probe(int(index), unit) for unit, index in enumerate(clearest)]
    near = {feature.name for feature in board.features if feature.near}
    return Findings(best, units, sum(one.strong and one.feature not in near for one in units) / len(units))


@dataclass(frozen=True)
class _Board:
    """Features, their kinds, signed scores `(F, U)` on the second half, and what chance reaches, `(F, SHIFTS)`, sorted."""

    features: list[Feature]
    kinds: list[str]
    scores: Floats
    chance: Floats
    size: int

    def probe(self, index: int, unit: int) -> Probe:
        """Return what is known of one unit and one feature."""
        signed, kind, feature = float(self.scores[index, unit]), self.kinds[index], self.features[index]
        above = int((self.chance[index] >= abs(signed)).sum())
        score = (abs(signed) + 1) / 2 if kind == "AUC" else abs(signed)
        p = (above + 1) / (SHIFTS + 1)
        return Probe(
            *divmod(unit, self.size),
            feature.name,
            feature.means,
            kind,
            min(score, 1.0),
            -1 if signed < 0 else 1,
            p,
            feature.plain,
        )

    def floors(self) -> Floats:
        """Return the signed score from which on each feature's units are detectors, `(F,)`."""
        return np.array([_signed_floor(kind) for kind in self.kinds], dtype=np.float32)

    def height(self, one: Probe) -> float:
        """Return a score as a share of what makes a detector, so that areas and correlations stand in one order."""
        return (2 * one.score - 1 if one.kind == "AUC" else one.score) / _signed_floor(one.kind)


def _signed_floor(kind: str) -> float:
    return 2 * STRONG[kind] - 1 if kind == "AUC" else STRONG[kind]


def _varies(values: Values) -> bool:
    if values.dtype == bool:
        return FEWEST <= int(values.sum()) <= len(values) - FEWEST
    return len(values) > 2 * FEWEST and bool(values.std() > 0)


def _ranks(states: Floats) -> Floats:
    """Return for states `(T, L, H)` the rank of each unit's value among its own, around zero: `(T, U)`."""
    flat = states.reshape(len(states), -1)
    order, ranks = flat.argsort(0), np.empty(flat.shape, dtype=np.float32)
    ordered, at = np.take_along_axis(flat, order, 0), np.arange(len(flat))[:, None]
    begins = np.ones(flat.shape, dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    ends = np.roll(begins, -1, 0)
    first = np.maximum.accumulate(np.where(begins, at, 0), 0)
    last = np.minimum.accumulate(np.where(ends, at, len(flat))[::-1], 0)[::-1]
    np.put_along_axis(ranks, order, ((first + last) / 2 - (len(flat) - 1) / 2).astype(np.float32), 0)
    return ranks


def _weights(features: list[Values]) -> Floats:
    """Return `(T, F)`, whose product with centred ranks is twice an area under the curve less one, or a rank correlation."""
    columns, steps = [], len(features[0])
    spread = np.sqrt(steps * (steps**2 - 1) / 12)  # the length of centred ranks
    for values in features:
        if values.dtype == bool:
            on = int(values.sum())
            columns.append(values * (2 / (on * (steps - on))))
        else:
            _, same, counts = np.unique(values, return_inverse=True, return_counts=True)
            ranks = (counts.cumsum() - (counts + 1) / 2)[same]  # equal values share the mean of their ranks
            ranks = ranks - ranks.mean()
            columns.append(ranks / (np.linalg.norm(ranks) * spread))
    return np.stack(columns, 1).astype(np.float32)


def _signed(ranks: Floats, weights: Floats) -> Floats:
    """Return the scores of features and units, `(F, U)`, from -1 to 1."""
    return np.asarray(weights.T @ ranks)


def _chance(ranks: Floats, weights: Floats, check: Callable[[], None], seed: int) -> Floats:
    """Return the best that any unit reaches on each feature when all features are moved to another place, `(F, SHIFTS)`."""
    draw, steps = np.random.default_rng(seed), len(ranks)
    best = np.empty((weights.shape[1], SHIFTS), dtype=np.float32)
    for index, shift in enumerate(draw.integers(steps // 20, steps - steps // 20, SHIFTS)):
        check()
        best[:, index] = np.abs(_signed(ranks, np.roll(weights, shift, 0))).max(1)
    return best
