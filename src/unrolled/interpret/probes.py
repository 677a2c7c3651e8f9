"""Which hidden unit follows which feature of a text: all units compared with all features, with a significance test.

Units are selected on the first half of the text and scored on the second. The null distribution is what the same units reach
on features that are shifted in time (circularly): this keeps the autocorrelation of states and features, and removes only
their relation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unrolled.display import Displayed
from unrolled.interpret.activations import Activations
from unrolled.interpret.text_features import FEATURES, Feature, Values

N_SHIFTS = 99
"""Number of shifts of the null distribution; the smallest possible p-value is 1 / (N_SHIFTS + 1)."""

MIN_TOKENS_PER_CLASS = 20
"""Minimum number of tokens, in each half, at which a feature must be on, and must be off, to be used."""

DETECTOR_THRESHOLDS = {"AUC": 0.9, "correlation": 0.8}
"""A unit with at least this score, and a significant one, is called a detector: a person would recognize the feature."""

Floats = npt.NDArray[np.float32]


SHIFTS_AT_ONCE = 10
"""Shifts of all features whose scores are one matrix product: ten products of a tenth of the size take ten times as long."""

MAX_P_VALUE = 0.05
"""A unit whose score reaches this on shifted features is not shown as following a feature."""

MIN_PROBE_TOKENS = 2000
"""Minimum length of a text for comparing units with its features."""


@dataclass(frozen=True)
class Probe:
    """A unit and the feature that it follows.

    `kind` and `score`: for a boolean feature the area under the ROC curve (AUC, 0.5 to 1), for a numeric one the absolute rank
    correlation (0 to 1). `sign` is -1 if the unit goes down where the feature goes up. `p_value` is the probability that the
    best of all units reaches this score on shifted features. A `trivial` feature depends on the current character only.
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
        """Whether the unit is a detector of a feature that depends on more than the current character."""
        return not self.trivial and self.p_value <= MAX_P_VALUE and self.score >= DETECTOR_THRESHOLDS[self.kind]


@dataclass(frozen=True, repr=False)
class ProbeReport(Displayed):
    """`best_units` has the best unit of each feature, the highest scores first and trivial features last; `best_features` the
    best feature of each unit, in the order of the units. `detector_fraction` is the fraction of units that are detectors of a
    feature that is neither trivial nor local.
    """

    best_units: list[Probe]
    best_features: list[Probe]
    detector_fraction: float

    @property
    def followed(self) -> list[Probe]:
        """Those of `best_units` that follow their feature: chance does not explain their score."""
        return [result for result in self.best_units if result.p_value <= MAX_P_VALUE]

    @property
    def facts(self) -> Mapping[str, object]:
        return {"features": len(self.best_units), "detectors": f"{self.detector_fraction:.1%} of the units"}


def too_short_to_probe(num_tokens: int) -> str:
    """Return why units cannot be compared with features of a text of this length; an empty text if they can."""
    if num_tokens >= MIN_PROBE_TOKENS:
        return ""
    return f"too short to find detectors: {num_tokens:,} tokens, and {MIN_PROBE_TOKENS:,} are needed"


def probe_units(activations: Activations, text: str, seed: int = 0) -> ProbeReport:
    """Compare every unit with every feature of the `text`, which has one character for each step.

    A unit's value is the cell state c of an LSTM, which follows features more closely than its output h, and h of other cells.
    Raises `ValueError` if there are not as many characters as steps.
    """
    if len(text) != len(activations.h):
        raise ValueError(f"{len(text):,} characters were given for {len(activations.h):,} steps: one for each is needed.")
    midpoint, states = len(text) // 2, activations.h if activations.c is None else activations.c
    features, first_half, second_half = list[Feature](), list[Values](), list[Values]()
    for feature in FEATURES:
        values = feature.compute(text)
        if _varies(values[:midpoint]) and _varies(values[midpoint:]):
            features.append(feature)
            first_half.append(values[:midpoint])
            second_half.append(values[midpoint:])
    if not features:
        return ProbeReport([], [], 0.0)
    first_half_scores = _signed_scores(_centered_ranks(states[:midpoint]), _feature_weights(first_half))
    ranks, weights = _centered_ranks(states[midpoint:]), _feature_weights(second_half)
    kinds = ["AUC" if values.dtype == bool else "correlation" for values in second_half]
    null_scores = _null_scores(ranks, weights, seed)
    table = ScoreTable(features, kinds, _signed_scores(ranks, weights), null_scores, activations.h.shape[2])
    return _report(table, first_half_scores)


def _report(table: ScoreTable, first_half_scores: Floats) -> ProbeReport:
    """Select the best unit of each feature, and the best feature of each unit, by the scores `(F, U)` on the first half."""
    best_units = [table.result(index, int(np.abs(first_half_scores[index]).argmax())) for index in range(len(table.features))]
    best_units.sort(
        key=lambda result: (result.trivial, not result.is_detector, result.p_value > MAX_P_VALUE, -table.relative_score(result))
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
    """Features, their kinds, signed scores `(F, U)` on the second half, and the null distribution `(F, N_SHIFTS)`."""

    features: list[Feature]
    kinds: list[str]
    scores: Floats
    null_scores: Floats
    hidden_size: int

    def result(self, index: int, unit: int) -> Probe:
        """Return the result for one feature (its index) and one unit."""
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
        """Return the absolute signed score at which a unit is a detector of each feature, `(F,)`."""
        return np.array([_signed_threshold(kind) for kind in self.kinds], dtype=np.float32)

    def relative_score(self, result: Probe) -> float:
        """Return a score divided by the detector threshold, so that AUC and correlation can be compared."""
        return (2 * result.score - 1 if result.kind == "AUC" else result.score) / _signed_threshold(result.kind)


def _signed_threshold(kind: str) -> float:
    return 2 * DETECTOR_THRESHOLDS[kind] - 1 if kind == "AUC" else DETECTOR_THRESHOLDS[kind]


def _varies(values: Values) -> bool:
    if values.dtype == bool:
        return MIN_TOKENS_PER_CLASS <= int(values.sum()) <= len(values) - MIN_TOKENS_PER_CLASS
    return len(values) > 2 * MIN_TOKENS_PER_CLASS and bool(values.std() > 0)


def _centered_ranks(states: Floats) -> Floats:
    """Return, for states `(T, L, H)`, the rank of each value among those of the same unit, with mean zero: `(T, U)`."""
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
    """Return weights `(T, F)` whose product with centered ranks is 2 * AUC - 1, or a rank correlation."""
    columns, num_tokens = [], len(features[0])
    rank_norm = np.sqrt(num_tokens * (num_tokens**2 - 1) / 12)  # the norm of centered ranks
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
    """Return the scores of all features and units, `(F, U)`, from -1 to 1."""
    return np.asarray(weights.T @ ranks)


def _null_scores(ranks: Floats, weights: Floats, seed: int) -> Floats:
    """Return the highest score of any unit on each feature, for features shifted by random distances, `(F, N_SHIFTS)`."""
    rng, (num_tokens, num_features) = np.random.default_rng(seed), weights.shape
    shifts, best = rng.integers(num_tokens // 20, num_tokens - num_tokens // 20, N_SHIFTS), []
    for some in np.array_split(shifts, max(1, N_SHIFTS // SHIFTS_AT_ONCE)):
        shifted = np.concatenate([np.roll(weights, shift, 0) for shift in some], axis=1)
        best.append(np.abs(_signed_scores(ranks, shifted)).max(1).reshape(len(some), num_features))
    return np.concatenate(best).T
