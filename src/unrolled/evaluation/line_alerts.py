"""Which lines of a log are alerts: a threshold of their bits, and how well it separates lines with labels."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import MAX_LINE_CHARS, Displayed, html_table, one_line, plural
from unrolled.errors import DataError
from unrolled.tables.cell_values import MISSING_IN_NUMBERS
from unrolled.tables.metrics import roc_auc

MAX_SHOWN_ALERTS = 20
"""Alerts that a notebook shows of a report."""

MARGIN_BITS = 0.5
"""How far a chosen threshold is above the held-out line that it is chosen by. Lines of a rare but normal kind have nearly the
same bits: a threshold between them would make alerts of some of them, and of others with other kernels."""

MAX_COOLING_SESSIONS = 100_000
"""Most sessions after an alert that are remembered; the oldest ones are forgotten first."""

NORMAL_LABELS = frozenset(("", "-", "0", "0.0", "false", "f", "no", "n", "normal", "ok", "benign", "negative", "none"))
"""Labels of lines that are not anomalies, in lower case; all other labels are those of anomalies."""


@dataclass(frozen=True, repr=False)
class Threshold(Displayed):
    """Lines with more than `bits` are alerts. `rate` is what it was chosen for, on `num_lines` held-out lines of which
    `num_above` are above it; None and 0 for one that was given."""

    bits: float
    rate: float | None = None
    num_lines: int = 0
    num_above: int = 0

    @property
    def facts(self) -> Mapping[str, object]:
        return {"bits": f"{self.bits:.2f}", "chosen": self.origin}

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        if self.rate is None:
            return "as given"
        return f"{self.num_above:,} of {plural(self.num_lines, 'held-out line')} are above it, at most {self.rate:g} of them"


def lines_needed(rate: float) -> int:
    """Return how many held-out lines a threshold for a rate of alerts needs: so many that one of them may be above it."""
    return math.ceil(1 / rate - 1e-9)


def choose_threshold(line_bits: Iterable[float], rate: float) -> Threshold:
    """Return the lowest threshold that at most a fraction `rate` of held-out lines is above, and `MARGIN_BITS` more.

    Args:
        line_bits: The bits of held-out lines.
        rate: Fraction of lines that may be alerts, above 0 and below 1.

    Raises:
        DataError: There are fewer lines than `lines_needed(rate)`.

    Example:
        >>> choose_threshold(range(1, 101), 0.05).bits
        95.5
    """
    bits = np.sort(np.fromiter(line_bits, np.float64))
    if len(bits) < lines_needed(rate):
        raise DataError(
            f"--alert-rate {rate:g} needs at least {lines_needed(rate):,} held-out lines, and there are {len(bits):,}: train "
            "on a longer log or with a smaller --train-fraction, choose a higher rate, or give a threshold with --alert-above."
        )
    threshold = float(bits[len(bits) - 1 - int(rate * len(bits) + 1e-9)]) + MARGIN_BITS
    return Threshold(threshold, rate, len(bits), int((bits > threshold).sum()))


class AlertCooldown:
    """Tells which lines above a threshold are alerts of their own: not the next `num_lines` lines of a session after an alert,
    as what follows an anomaly is surprising too. With `num_lines` 0, all are.

    Example:
        >>> cooldown = AlertCooldown(2)
        >>> [cooldown.alert_of(number, "a", is_above) for number, is_above in enumerate([True, True, False, True], 1)]
        [1, 1, None, 4]
    """

    def __init__(self, num_lines: int) -> None:
        self.num_lines = num_lines
        self.num_following = 0
        self._cooling: dict[Hashable, tuple[int, int]] = {}

    def alert_of(self, number: int, key: Hashable | None, is_above: bool) -> int | None:
        """Return the number of the alert that a line belongs to, its own if it is one; None if it is not above the threshold.

        Args:
            number: The line's number.
            key: The key of its session; None for a line that is a session of its own.
            is_above: Whether it has more bits than the threshold.
        """
        if key is None:
            return number if is_above else None
        alert, remaining = self._cooling.pop(key, (number, 0))
        if remaining:
            self.num_following += is_above
            if remaining > 1:
                self._cooling[key] = (alert, remaining - 1)
            return alert if is_above else None
        if not is_above:
            return None
        if self.num_lines:
            self._cooling[key] = (number, self.num_lines)
            if len(self._cooling) > MAX_COOLING_SESSIONS:
                del self._cooling[next(iter(self._cooling))]
        return number


@dataclass(frozen=True, repr=False)
class LabelMetrics(Displayed):
    """How well lines with labels are separated. Without a threshold, only `roc_auc` is known.

    `num_found` of `num_anomalies` lines that are anomalies are above the threshold. `num_false` alerts are false: neither the
    line nor those above the threshold that belong to it are anomalies. `precision` is the fraction of alerts that are not
    false, `recall` that of anomalies that are found, `false_alert_rate` the false alerts divided by the `num_normal` normal
    lines. `recall_by_label` is the recall of each label of anomalies, where there are several.
    """

    num_lines: int
    num_anomalies: int
    roc_auc: float
    num_found: int | None = None
    num_false: int | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    false_alert_rate: float | None = None
    recall_by_label: Mapping[str, float] | None = None

    @property
    def num_normal(self) -> int:
        """Lines that are no anomalies."""
        return self.num_lines - self.num_anomalies

    @property
    def facts(self) -> Mapping[str, object]:
        return {name: f"{value:.4f}" if isinstance(value, float) else value for name, value in asdict(self).items()}


def is_anomaly(labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which labels are those of anomalies. Raises `DataError` if there are no two classes, or for `NA` and the like."""
    missing = [
        label.strip() for label in labels if label.strip() in MISSING_IN_NUMBERS and label.strip().lower() not in NORMAL_LABELS
    ]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(labels):,} labels are missing values, such as {missing[0]!r}, and neither normal nor an "
            "anomaly: leave these lines out, or give them a label."
        )
    words = [label.strip().lower() for label in labels]
    mask = np.array([word not in NORMAL_LABELS for word in words], dtype=bool)
    if mask.all() or not mask.any():
        seen = sorted({label.strip() for label in labels})
        shown = ", ".join(map(repr, seen[:5])) + (", ..." if len(seen) > 5 else "")
        kind = "anomalies" if mask.all() and len(mask) else "normal lines"
        raise DataError(
            f"All {len(labels):,} labels are those of {kind} ({shown or 'none'}): precision, recall and AUC need both; a "
            "normal line is labeled 0, false, no, normal, ok, benign or -, and every other label is an anomaly."
        )
    return mask


def label_metrics(
    line_bits: Sequence[float],
    labels: Sequence[str],
    threshold: Threshold | None = None,
    alert_numbers: Sequence[int] | None = None,
) -> LabelMetrics:
    """Return precision, recall, F1 and ROC AUC of the bits of lines, whose labels say which are anomalies.

    Args:
        line_bits: The bits of N lines.
        labels: Their N labels.
        threshold: The lines with more bits are alerts, or belong to one.
        alert_numbers: Of each line above the threshold, in order, the number of the alert it belongs to; None: each is one.

    Raises:
        DataError: There are not as many labels as lines, or all are of one class.

    Example:
        >>> label_metrics([1.0, 2.0, 9.0, 9.0], ["normal", "normal", "normal", "attack"], Threshold(5.0)).precision
        0.5
    """
    require_as_many(len(labels), len(line_bits))
    positive, bits = is_anomaly(labels), np.asarray(line_bits, np.float64)
    num_anomalies = int(positive.sum())
    auc = roc_auc(bits, positive)
    if threshold is None:
        return LabelMetrics(len(bits), num_anomalies, auc)
    is_above = bits > threshold.bits
    numbers = np.flatnonzero(is_above) if alert_numbers is None else np.asarray(alert_numbers, np.int64)
    num_alerts, num_true = len(np.unique(numbers)), len(np.unique(numbers[positive[is_above]]))
    found = int((is_above & positive).sum())
    precision = num_true / num_alerts if num_alerts else 0.0
    recall = found / num_anomalies
    names = np.array([label.strip() for label in labels])
    kinds = sorted(set(names[positive].tolist()))
    by_label = {kind: float(is_above[names == kind].mean()) for kind in kinds} if len(kinds) > 1 else None
    f1 = 2 * precision * recall / (precision + recall) if found else 0.0
    false = num_alerts - num_true
    return LabelMetrics(
        len(bits), num_anomalies, auc, found, false, precision, recall, f1, false / (len(bits) - num_anomalies), by_label
    )


def require_as_many(num_labels: int, num_lines: int) -> None:
    """Raise `DataError` unless there is a label for each line."""
    if num_labels != num_lines:
        raise DataError(f"There are {num_labels:,} labels and {num_lines:,} lines: one label for each line is expected.")


@dataclass(frozen=True, repr=False)
class Alert(Displayed):
    """A line above the threshold: its `number` from 1, its `bits`, its `text`, and the `key` of its session, if it has one.

    Of a text that is several files, `file` is the one that it is in, and `number` is that in the file.
    """

    number: int
    bits: float
    text: str
    key: str | None = None
    file: str | None = None

    @property
    def place(self) -> str:
        """The line's number, or `FILE:NUMBER`."""
        return f"{self.number:,}" if self.file is None else f"{self.file}:{self.number}"

    @property
    def facts(self) -> Mapping[str, object]:
        return {"line": self.place, "bits": f"{self.bits:.1f}", "session": self.key or "", "text": self.text}

    def to_json(self) -> dict[str, Any]:
        """Return the alert as JSON values."""
        file = {} if self.file is None else {"file": self.file}
        return {**file, "line": self.number, "bits": round(self.bits, 3), "session": self.key, "text": self.text}


@dataclass(frozen=True, repr=False)
class AlertReport(Displayed):
    """The alerts of a text, the threshold (None: none was asked for), and how well lines with labels are separated.

    `num_following` lines are above the threshold too, but follow an alert of their session within its cooldown.
    """

    alerts: Sequence[Alert]
    num_lines: int
    threshold: Threshold | None
    metrics: LabelMetrics | None = None
    num_following: int = 0

    @property
    def facts(self) -> Mapping[str, object]:
        metrics = {} if self.metrics is None else {"ROC AUC": f"{self.metrics.roc_auc:.4f}"}
        bits = "" if self.threshold is None else f"{self.threshold.bits:.2f} bits"
        return {"lines": f"{self.num_lines:,}", "alerts": f"{len(self.alerts):,}", "threshold": bits, **metrics}

    def _repr_html_(self) -> str:
        rows = [[alert.place, f"{alert.bits:.1f}", one_line(alert.text, MAX_LINE_CHARS)] for alert in self.alerts]
        shown = html_table(rows[:MAX_SHOWN_ALERTS], ["line", "bits", "text"]) if rows else ""
        more = f"<div>{len(rows) - MAX_SHOWN_ALERTS:,} more</div>" if len(rows) > MAX_SHOWN_ALERTS else ""
        return super()._repr_html_() + shown + more
