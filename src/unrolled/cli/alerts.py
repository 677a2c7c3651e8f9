"""What `unrolled score` prints about alerts: each line as it is found, then the threshold and the metrics."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from unrolled.cli.json_output import JSON_VERSION
from unrolled.cli.parser import print_note
from unrolled.display import plural
from unrolled.errors import UsageError
from unrolled.option_rules import refuse_unused
from unrolled.printable import printable

if TYPE_CHECKING:
    from unrolled.analysis.log_alerts import AlertScan
    from unrolled.evaluation.line_alerts import Alert, LabelMetrics, Threshold
    from unrolled.models.text import Model
    from unrolled.options import AlertOptions, ScoreOptions

MAX_SHOWN = 500
"""Characters of a line that are printed; --json has all."""


def check_settings(
    options: AlertOptions, score_options: ScoreOptions, settings: Mapping[str, Any], input_name: str | None
) -> None:
    """Raise `UsageError` for settings of alerts that do not fit together, or do not fit the others, which are `settings`."""
    if options.follow is not None and input_name is not None:
        raise UsageError(f"INPUT {input_name} and --follow {options.follow} are given; expected one text: leave one out.")
    if options.follow is not None and (options.labels is not None or options.label is not None):
        raise UsageError("--follow reads lines that are not there yet, and labels are for lines that are: leave one out.")
    if options.from_start and options.follow is None:
        raise UsageError("--from-start is for --follow: it would have no effect, so leave it out.")
    refuse_unused(score_options, settings, {"top": "is for scores, and alerts are all lines above the threshold"})


def print_alerts(
    model: Model, input_name: str | None, options: AlertOptions, score_options: ScoreOptions, as_json: bool
) -> None:
    """Print the alerts of a text, or of a file that grows."""
    from unrolled.analysis.log_alerts import AlertScan

    if options.follow is not None:
        follow(model, options, score_options, as_json)
    else:
        print_scan(AlertScan(model.session, input_name, options, score_options), as_json)


def print_scan(scan: AlertScan, as_json: bool) -> None:
    """Print the alerts of a text as they are found, and at the end the threshold and the metrics."""
    from unrolled.analysis.log_alerts import following_notes

    if as_json:
        _print_json(scan)
        return
    num_alerts = 0
    for alert in scan:
        num_alerts += 1
        print(alert_text(alert))
    if scan.threshold is not None:
        of = f" ({num_alerts / scan.num_lines:.3%})" if scan.num_lines else ""
        print(
            "\n".join(
                [f"{plural(num_alerts, 'alert')} in {plural(scan.num_lines, 'line')}{of}", *following_notes(scan.cooldown)]
            )
        )
        print(threshold_text(scan.threshold))
    if (metrics := scan.metrics) is not None:
        print("\n".join(metrics_text(metrics)))


def _print_json(scan: AlertScan) -> None:
    """Write one document, alert by alert while the text is read; the rest comes last."""
    out = sys.stdout
    out.write(f'{{"version": {JSON_VERSION}, "alerts": [')
    num_alerts = 0
    for alert in scan:
        out.write((",\n" if num_alerts else "\n") + json.dumps(alert.to_json()))
        num_alerts += 1
    metrics = None if scan.metrics is None else asdict(scan.metrics)
    threshold = None if scan.threshold is None else asdict(scan.threshold)
    summary: dict[str, Any] = {"lines": scan.num_lines, "num_alerts": num_alerts}
    summary |= {"num_following": scan.cooldown.num_following, "threshold": threshold, "metrics": metrics}
    out.write("],\n" + json.dumps(summary)[1:] + "\n")


def alert_text(alert: Alert) -> str:
    """Return an alert as a line for a terminal."""
    text = alert.text if len(alert.text) <= MAX_SHOWN else f"{alert.text[:MAX_SHOWN]}... ({len(alert.text):,} characters)"
    return printable(f"line {alert.place}: {alert.bits:.1f} bits: {text}".replace("\n", " "))


def threshold_text(threshold: Threshold) -> str:
    """Return a threshold and where it comes from."""
    return f"threshold: {threshold.bits:.2f} bits, {threshold.origin}"


def metrics_text(metrics: LabelMetrics) -> list[str]:
    """Return metrics as lines of text."""
    lines = [f"ROC AUC: {metrics.roc_auc:.4f}, of {metrics.num_anomalies:,} anomalies and {metrics.num_normal:,} normal lines"]
    if metrics.precision is not None:
        lines += [
            f"precision: {metrics.precision:.4f}  recall: {metrics.recall:.4f}  F1: {metrics.f1:.4f}",
            f"found: {metrics.num_found:,} anomalies; false alerts: {metrics.num_false:,} ({metrics.false_alert_rate:.4%} of "
            "the normal lines)",
        ]
    if metrics.recall_by_label:
        lines.append("recall by label: " + ", ".join(f"{printable(k)} {v:.3f}" for k, v in metrics.recall_by_label.items()))
    return lines


def follow(model: Model, options: AlertOptions, score_options: ScoreOptions, as_json: bool) -> None:
    """Print the alerts of a file that grows, each at once, until SIGINT or SIGTERM."""
    from unrolled.analysis.log_alerts import follow_alerts
    from unrolled.training.signals import StopRequest

    def on_start(threshold: Threshold, num_earlier: int) -> None:
        _print_start(options, as_json, threshold, num_earlier)

    with StopRequest() as stop:
        for alert in follow_alerts(model.session, options, score_options, stop.is_set, on_start):
            print(json.dumps({"event": "alert", **alert.to_json()}) if as_json else alert_text(alert), flush=True)


def _print_start(options: AlertOptions, as_json: bool, threshold: Threshold, num_earlier: int) -> None:
    if as_json:
        start: dict[str, Any] = {"version": JSON_VERSION, "event": "start", "file": options.follow}
        print(json.dumps({**start, "threshold": asdict(threshold), "lines_before": num_earlier}), flush=True)
        return
    print_note(threshold_text(threshold))
    where = "start" if options.from_start else "end, where line 1 begins"
    before = f"; the {plural(num_earlier, 'line')} before are its context" if num_earlier else ""
    print_note(f"following {options.follow} from its {where}{before}")
