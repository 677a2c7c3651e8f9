"""What a run folder remembers of a training, and the page that is made of it."""

from __future__ import annotations

import dataclasses
import datetime
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.atomic_io import write_bytes
from unrolled.checkpoints.run_dir import Run
from unrolled.errors import UsageError
from unrolled.options import ReportOptions, TrainRequest
from unrolled.training.launch import is_table
from unrolled.training.resume import saved_request
from unrolled.views.report import report_page

Note = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """A report that was written to `page`, and all that is on it."""

    page: Path
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return where it is, and what is on it."""
        return {"page": str(self.page), **self.data}

    def summary(self) -> str:
        """Return the headline and where the page is."""
        lines = [
            f"{one['name']}: {one['value']}" + (f" ({one['note']})" if one["note"] else "") for one in self.data["headline"]
        ]
        lines += [self.data.get("diagnosis") or "", *(f"* {one}" for one in self.data.get("advice", []))]
        return "\n".join([line for line in lines if line] + [f"page: {self.page}"])


def write_report(run: Run | None, path: Path, options: ReportOptions, measure: Callable[[], dict[str, Any]]) -> Written:
    """Measure what a run is to report and write its page. Raises `UsageError` for a model without one."""
    if run is None:
        raise UsageError(f"{path} is a model without its run folder: there is nothing to report.")
    data = measure()
    page = Path(options.out) if options.out else run.path / "report.html"
    write_bytes(page, report_page(data).encode())
    return Written(page, data)


def run_parts(run: Run | None, symbols: int | None) -> dict[str, Any]:
    """Return what the logs of a run say: settings, curves, samples. `symbols` is the size of an epoch, if it is known."""
    if run is None:
        return {}
    request, _ = saved_request(run)
    groups = ("data", "model", "training", "machine", "run", "tables: columns", "tables: network")
    settings = [
        {"group": name, "rows": [_setting(field, getattr(part, field.name), request) for field in dataclasses.fields(part)]}
        for name, part in zip(groups, request.parts(), strict=True)
        if is_table(request) or not name.startswith("tables")
    ]
    records = list(_sound(run.metrics.read()))
    trained = [record for record in records if record.get("event") == "train" and _is_number(record.get("epochs"))]

    def curve(key: str, found: Iterable[dict[str, Any]]) -> list[list[Any]]:
        known = [one for one in found if _is_number(one.get(key))]
        rows = [[one["step"], one["seconds"], _symbols(one, trained, symbols), one[key]] for one in known]
        return [row for row in rows if math.isfinite(row[1]) and math.isfinite(row[3])]

    validation = [record for record in records if record.get("event") == "validation"]
    return {
        "settings": settings,
        "curves": {
            "loss_unit": "character",
            "train": curve("train_nats", trained),
            "validation": curve("val_nats", validation),
            "lr": curve("lr", trained),
            "gradient_norm": curve("gradient_norm", trained),
        },
        "samples": [
            {"step": one["step"], "seconds": one["seconds"], "val_nats": one.get("val_nats"), "text": one["text"]}
            for one in _sound(run.samples.read())
            if isinstance(one.get("text"), str) and (one.get("val_nats") is None or _is_number(one["val_nats"]))
        ],
    }


def spent(run: Run | None) -> dict[str, str]:
    """Return how long a run has trained, as a headline."""
    trained = [one for one in _sound(run.metrics.read()) if one.get("event") == "train"] if run else []
    last = trained[-1] if trained else {}
    minutes, passes = float(last.get("seconds") or 0) / 60, last.get("epochs")
    return {"name": "training", "value": f"{minutes:.1f} min", "note": f"{passes if _is_number(passes) else 0:.2f} passes"}


def _sound(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records that say when they were made; others were not written by us."""
    return (one for one in records if _is_number(one.get("step")) and _is_number(one.get("seconds")))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def _setting(field: dataclasses.Field[Any], value: Any, request: TrainRequest) -> list[str]:
    """Return a setting's name, value, and who chose it."""
    chosen = "chosen by the recipe" if field.metadata.get("chosen") else ""
    return [field.name, _value(value), "given" if field.name in request.given else chosen]


def _symbols(record: dict[str, Any], trained: list[dict[str, Any]], symbols: int | None) -> float | None:
    """Return how many symbols were read by a record: a validation's are those of the step it was made at."""
    if symbols is None:
        return None
    if "epochs" in record:
        return float(record["epochs"] * symbols)
    if not trained:
        return 0.0
    last = trained[-1]
    return float(last["epochs"] * symbols * record["step"] / max(1, last["step"]))


def _value(value: Any) -> str:
    return "" if value is None else (f"{value:g}" if isinstance(value, float) else str(value))


def made() -> str:
    """Return when a page was made, and by what."""
    return f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M} by unrolled {__version__}"
