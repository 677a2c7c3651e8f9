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

from unrolled.interpret.activations import Activations
from unrolled.interpret.text_features import FEATURES, Feature, Values

N_SHIFTS = 99
"""Places to which features are moved; the smallest chance that can be told is one in so many and one."""

MIN_TOKENS_PER_CLASS = 20
"""Symbols at which a feature must be on, and off, in each half, to be held against anything."""

DETECTOR_THRESHOLDS = {"AUC": 0.9, "correlation": 0.8}
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
    description: str
    kind: str
    score: float
    sign: int
    p_value: float
    trivial: bool = False

    @property
    def is_detector(self) -> bool:
        """Whether the unit is a detector of something that takes memory to know."""
        return not self.trivial and self.p_value <= 0.05 and self.score >= DETECTOR_THRESHOLDS[self.kind]


@dataclass(frozen=True)
class ProbeReport:
    """`features` holds the best unit of each feature, the clearest first; `units` what each unit follows best, in order.

    Features that the character itself tells come last. `share` is the share of units that are detectors of anything but what
    the last few characters tell.
    """

    best_units: list[Probe]
    best_features: list[Probe]
    detector_fraction: float


def probe_units(activations: Activations, text: str, check: Callable[[], None] = lambda: None, seed: int = 0) -> ProbeReport:
    """Hold every unit of a trace against every feature of its text, one character for each step.

    What is held is an LSTM's memory c, which follows things more closely than its output h does; h of other cells.

    Raises `ValueError` if there are not as many characters as steps.
    """
    if len(text) != len(activations.h):
        raise ValueError(f"{len(text):,} characters were given for {len(activations.h):,} steps: one for each is needed.")
    midpoint, states = len(text) // 2, activations.h if activations.c is None else activations.c
    values = [(feature, feature.compute(text)) for feature in FEATURES]
    values = [
        (feature, feature_values)
        for feature, feature_values in values
        if _varies(feature_values[:midpoint]) and _varies(feature_values[midpoint:])
    ]
    if not values:
        return ProbeReport([], [], 0.0)
    first_half_scores = _signed_scores(
        _centered_ranks(states[:midpoint]), _feature_weights([feature_values[:midpoint] for _, feature_values in values])
    )
    check()
    ranks, weights = (
        _centered_ranks(states[midpoint:]),
        _feature_weights([feature_values[midpoint:] for _, feature_values in values]),
    )
    table = ScoreTable(
        [feature for feature, _ in values],
        ["AUC" if feature_values.dtype == bool else "correlation" for _, feature_values in values],
        _signed_scores(ranks, weights),
        _null_scores(ranks, weights, check, seed),
        activations.h.shape[2],
    )
    best_units = [table.result(index, int(np.abs(first_half_scores[index]).argmax())) for index in range(len(values))]
    best_units.sort(
        key=lambda result: (result.trivial, not result.is_detector, result.p_value > 0.05, -table.relative_score(result))
    )
    is_trivial_or_local = np.array([feature.trivial or feature.local for feature in table.features])
    best_feature_by_unit = (
        np.abs(first_half_scores) / table.signed_thresholds()[:, None] - is_trivial_or_local[:, None]
    ).argmax(0)
    best_features = [table.result(int(index), unit) for unit, index in enumerate(best_feature_by_unit)]
    local_names = {feature.name for feature in table.features if feature.local}
    return ProbeReport(
        best_units,
        best_features,
        sum(result.is_detector and result.feature not in local_names for result in best_features) / len(best_features),
    )


@dataclass(frozen=True)
class ScoreTable:
    """Features, their kinds, signed scores `(F, U)` on the second half, and what chance reaches, `(F, SHIFTS)`, sorted."""

    features: list[Feature]
    kinds: list[str]
    scores: Floats
    null_scores: Floats
    hidden_size: int

    def result(self, index: int, unit: int) -> Probe:
        """Return what is known of one unit and one feature."""
        signed, kind, feature = float(self.scores[index, unit]), self.kinds[index], self.features[index]
        num_above = int((self.null_scores[index] >= abs(signed)).sum())
        score = (abs(signed) + 1) / 2 if kind == "AUC" else abs(signed)
        p_value = (num_above + 1) / (N_SHIFTS + 1)
        return Probe(
            *divmod(unit, self.hidden_size),
            feature.name,
            feature.description,
            kind,
            min(score, 1.0),
            -1 if signed < 0 else 1,
            p_value,
            feature.trivial,
        )

    def signed_thresholds(self) -> Floats:
        """Return the signed score from which on each feature's units are detectors, `(F,)`."""
        return np.array([_signed_threshold(kind) for kind in self.kinds], dtype=np.float32)

    def relative_score(self, result: Probe) -> float:
        """Return a score as a share of what makes a detector, so that areas and correlations stand in one order."""
        return (2 * result.score - 1 if result.kind == "AUC" else result.score) / _signed_threshold(result.kind)


def _signed_threshold(kind: str) -> float:
    return 2 * DETECTOR_THRESHOLDS[kind] - 1 if kind == "AUC" else DETECTOR_THRESHOLDS[kind]


def _varies(values: Values) -> bool:
    if values.dtype == bool:
        return MIN_TOKENS_PER_CLASS <= int(values.sum()) <= len(values) - MIN_TOKENS_PER_CLASS
    return len(values) > 2 * MIN_TOKENS_PER_CLASS and bool(values.std() > 0)


def _centered_ranks(states: Floats) -> Floats:
    """Return for states `(T, L, H)` the rank of each unit's value among its own, around zero: `(T, U)`."""
    flat = states.reshape(len(states), -1)
    order, ranks = flat.argsort(0), np.empty(flat.shape, dtype=np.float32)
    ordered, positions = np.take_along_axis(flat, order, 0), np.arange(len(flat))[:, None]
    is_run_start = np.ones(flat.shape, dtype=bool)
    is_run_start[1:] = ordered[1:] != ordered[:-1]
    is_run_end = np.roll(is_run_start, -1, 0)
    run_starts = np.maximum.accumulate(np.where(is_run_start, positions, 0), 0)
    run_ends = np.minimum.accumulate(np.where(is_run_end, positions, len(flat))[::-1], 0)[::-1]
    np.put_along_axis(ranks, order, ((run_starts + run_ends) / 2 - (len(flat) - 1) / 2).astype(np.float32), 0)
    return ranks


def _feature_weights(features: list[Values]) -> Floats:
    """Return `(T, F)`, whose product with centred ranks is twice an area under the curve less one, or a rank correlation."""
    columns, num_tokens = [], len(features[0])
    rank_norm = np.sqrt(num_tokens * (num_tokens**2 - 1) / 12)  # the length of centred ranks
    for values in features:
        if values.dtype == bool:
            num_on = int(values.sum())
            columns.append(values * (2 / (num_on * (num_tokens - num_on))))
        else:
            _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
            ranks = (counts.cumsum() - (counts + 1) / 2)[inverse]  # equal values share the mean of their ranks
            ranks = ranks - ranks.mean()
            columns.append(ranks / (np.linalg.norm(ranks) * rank_norm))
    return np.stack(columns, 1).astype(np.float32)


def _signed_scores(ranks: Floats, weights: Floats) -> Floats:
    """Return the scores of features and units, `(F, U)`, from -1 to 1."""
    return np.asarray(weights.T @ ranks)


def _null_scores(ranks: Floats, weights: Floats, check: Callable[[], None], seed: int) -> Floats:
    """Return the best that any unit reaches on each feature when all features are moved to another place, `(F, SHIFTS)`."""
    rng, num_tokens = np.random.default_rng(seed), len(ranks)
    best = np.empty((weights.shape[1], N_SHIFTS), dtype=np.float32)
    for index, shift in enumerate(rng.integers(num_tokens // 20, num_tokens - num_tokens // 20, N_SHIFTS)):
        check()
        best[:, index] = np.abs(_signed_scores(ranks, np.roll(weights, shift, 0))).max(1)
    return best
