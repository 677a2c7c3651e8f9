"""Alerts on a simulated log of a service: ROC AUC, false alerts, and the speed of `score`.

    python benchmarks/log_anomalies.py --lines 2000000 --minutes 10
    python benchmarks/log_anomalies.py --run RUN --test-lines 200000      a run that was trained by the line above

A log of `--lines` lines is learned (2 x 128 units, masked, by session, as words). Another one, in which 2% of the sessions
have an anomaly of one of five kinds, is scored with a threshold that is chosen on the held-out lines. A false alert is one
without an anomaly among its lines, as in `unrolled score --labels`. Prints a line of JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import numpy as np

import unrolled
from unrolled.datasets.service_log import ANOMALIES, KEY_PATTERN, NORMAL, service_log
from unrolled.errors import DataError
from unrolled.tables.metrics import roc_auc

MASK = "numbers,hex,ip,uuid,path,time,key"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", help="a trained run; else one is trained")
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--test-lines", type=int, default=200_000)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tokens", default="words")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--alert-rate", type=float, default=1e-4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = arguments.run or train(Path(folder), arguments)
        print(json.dumps(measure(Path(folder), run, arguments)))


def train(folder: Path, arguments: argparse.Namespace) -> str:
    """Train on a normal log; return the run."""
    path = folder / "normal.log"
    with open(path, "w") as file:
        file.writelines(f"{line.text}\n" for line in service_log(arguments.lines, seed=11))
    model = unrolled.train(
        str(path), mask=MASK, group_by=KEY_PATTERN, hidden=arguments.hidden, layers=2, minutes=arguments.minutes,
        tokens=arguments.tokens, threads=arguments.threads, sample_length=0, out=str(folder / "run"),
    )  # fmt: skip
    return str(model.path.parent)


def measure(folder: Path, run: str, arguments: argparse.Namespace) -> dict[str, object]:
    """Score another log with anomalies, and return the figures."""
    log = list(service_log(arguments.test_lines, seed=12, anomaly_rate=0.02))
    path, labels = folder / "new.log", [line.label for line in log]
    path.write_text("".join(f"{line.text}\n" for line in log))
    model = unrolled.load(run, threads=arguments.threads)
    start = time.perf_counter()
    bits = np.array([line.bits[0] for line in model.scoring(str(path)).lines()])
    seconds = time.perf_counter() - start
    normal = np.array([label == NORMAL for label in labels])
    figures: dict[str, object] = {
        "lines": len(log), "anomalies": int((~normal).sum()), "roc_auc": round(roc_auc(bits, ~normal), 5),
        "megabytes_per_minute": round(path.stat().st_size / 1e6 / seconds * 60, 1),
    }  # fmt: skip
    for kind in ANOMALIES:
        chosen = normal | np.array([label == kind for label in labels])
        figures[f"roc_auc_{kind}"] = round(roc_auc(bits[chosen], ~normal[chosen]), 5)
    try:
        report = model.alerts(str(path), labels, alert_rate=arguments.alert_rate)
    except DataError as error:
        return {**figures, "threshold": str(error)}
    found = {} if report.metrics is None else dataclasses.asdict(report.metrics)
    names = ("num_found", "num_false", "recall", "precision", "recall_by_label")
    return {
        **figures, "threshold": None if report.threshold is None else dataclasses.asdict(report.threshold),
        "alerts": len(report.alerts), "following": report.num_following, **{name: found[name] for name in names},
        "false_alerts_per_10000": round(found["false_alert_rate"] * 1e4, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
