"""Thresholds of the bits of lines, and the metrics of lines with labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import DataError
from unrolled.evaluation import line_alerts
from unrolled.evaluation.line_alerts import MARGIN_BITS, AlertCooldown, Threshold, choose_threshold, label_metrics, lines_needed
from unrolled.tables.metrics import roc_auc

SCORES = st.lists(st.integers(0, 6).map(float), min_size=2, max_size=60)


@given(bits=SCORES, rate=st.sampled_from([0.5, 0.34, 0.1, 0.05]))
def test_at_most_the_rate_is_above_the_lowest_threshold(bits: list[float], rate: float) -> None:
    if len(bits) < lines_needed(rate):
        with pytest.raises(DataError, match=f"needs at least {lines_needed(rate)} held-out lines, and there are {len(bits)}"):
            choose_threshold(bits, rate)
        return
    found = choose_threshold(bits, rate)
    reached = found.bits - MARGIN_BITS
    assert reached in bits
    assert found.num_above == sum(value > found.bits for value in bits)
    assert sum(value > reached for value in bits) <= rate * len(bits)
    lower = max((value for value in bits if value < reached), default=None)
    if lower is not None:  # the next lower one would let too many through
        assert sum(value > lower for value in bits) > rate * len(bits)


def test_lines_of_a_rare_kind_are_alerts_together_or_not_at_all() -> None:
    generator = np.random.default_rng(1)  # the same line, after texts that hardly matter
    rare = 5.8 + generator.normal(scale=0.02, size=20)
    found = choose_threshold([*generator.uniform(size=970), *rare, 14.0], 0.005)
    assert (found.bits > rare).all()
    assert found.num_above == 1


def test_lines_needed() -> None:
    assert [lines_needed(rate) for rate in (0.5, 0.3, 0.1, 0.001, 1e-6)] == [2, 4, 10, 1000, 1_000_000]


@given(scores=SCORES, data=st.data())
def test_auc_is_how_often_a_positive_is_above_a_negative(scores: list[float], data: st.DataObject) -> None:
    positive = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    if positive.all() or not positive.any():
        return
    values = np.array(scores)
    pairs = [(a > b) + 0.5 * (a == b) for a in values[positive] for b in values[~positive]]
    assert roc_auc(values, positive) == pytest.approx(np.mean(pairs))


def test_metrics() -> None:
    bits = [1.0, 5.0, 5.0, 9.0, 9.0, 2.0, 8.0]
    labels = ["normal", "Normal", "slow", "lost", "OK", "lost", " slow "]
    found = label_metrics(bits, labels, Threshold(5.0))
    assert (found.num_lines, found.num_anomalies, found.num_normal, found.num_found, found.num_false) == (7, 4, 3, 2, 1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 0.5
    assert found.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert found.false_alert_rate == pytest.approx(1 / 3)
    assert found.recall_by_label == {"lost": 0.5, "slow": 0.5}
    assert found.roc_auc == pytest.approx((1 + 2 + 1 + 2 + 0.5 + 0.5) / 12)  # 9: 2.5, 8: 2, 5: 1.5, 2: 1 of 3 normal ones
    only = label_metrics(bits, labels)
    assert (only.precision, only.num_found, only.roc_auc) == (None, None, found.roc_auc)
    nothing = label_metrics(bits, labels, Threshold(99.0))
    assert (nothing.precision, nothing.recall, nothing.f1) == (0, 0, 0)
    assert label_metrics(bits, ["0", "1", "1", "1", "0", "1", "1"], Threshold(5.0)).recall_by_label is None


def test_a_session_of_its_own_has_no_cooldown_and_old_sessions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    cooldown = AlertCooldown(3)
    assert [cooldown.alert_of(number, None, True) for number in (1, 2)] == [1, 2]
    monkeypatch.setattr(line_alerts, "MAX_COOLING_SESSIONS", 2)
    assert [cooldown.alert_of(number, key, True) for number, key in enumerate("abcacab", 1)] == [1, 2, 3, 4, 3, 4, 7]
    assert cooldown.num_following == 2


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["0", "0"], r"All 2 labels are those of normal lines \('0'\): precision, recall and AUC need both"),
        (["1", "1"], r"All 2 labels are those of anomalies \('1'\)"),
        (["0", "?"], r"1 of 2 labels are missing values, such as '\?', and neither normal nor an anomaly"),
        (["0"], "There are 1 labels and 2 lines: one label for each line is expected"),
        ([], "There are 0 labels and 2 lines"),
    ],
)
def test_labels_that_cannot_be_used(labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        label_metrics([1.0, 2.0], labels, Threshold(1.0))
