"""The data of a report that text and table models share, from the logs of a run, and the writing of the page."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled import __version__
from unrolled.atomic_io import write_atomic
from unrolled.checkpoints.run_data import load_request
from unrolled.checkpoints.run_dir import Run
from unrolled.checkpoints.run_summary import is_number
from unrolled.display import Displayed, page_frame
from unrolled.errors import UsageError
from unrolled.options import GROUP_TITLES, ModelOptions, ReportOptions, TrainRequest
from unrolled.output_paths import check_outputs
from unrolled.training.diagnosis import RunEvidence
from unrolled.training.open_data import is_table
from unrolled.views.report import report_page


@dataclass(frozen=True, repr=False)
class WrittenReport(Displayed):
    """A report that was written to `page_path`, with its data."""

    page_path: Path
    data: dict[str, Any]

    @property
    def facts(self) -> Mapping[str, object]:
        return {"page": self.page_path, **{item["name"]: item["value"] for item in self.data["headline"]}}

    def _repr_html_(self) -> str:
        return page_frame(self.page_path, report_page(self.data))

    def to_json(self) -> dict[str, Any]:
        """Return the path and the data of the page."""
        return {"page": str(self.page_path), **self.data}

    def summary(self) -> str:
        """Return the headline numbers, the diagnosis and the path of the page as lines of text."""
        lines = [
            f"{item['name']}: {item['value']}" + (f" ({item['note']})" if item["note"] else "")
            for item in self.data["headline"]
        ]
        lines += [self.data.get("diagnosis") or "", *(f"* {item}" for item in self.data.get("advice", []))]
        return "\n".join([line for line in lines if line] + [f"page: {self.page_path}"])


def write_report(run: Run | None, path: Path, options: ReportOptions, measure: Callable[[], dict[str, Any]]) -> WrittenReport:
    """Call `measure` and write its result as a page. Raises `UsageError` for a model without its run folder."""
    if run is None:
        raise UsageError(f"{path} is a model without its run folder: there is nothing to report.")
    page_path = run.path / "report.html" if options.out is None else Path(options.out)
    check_outputs(options, (path,), run.path, page_path)
    data = measure()
    write_atomic(page_path, report_page(data).encode())
    return WrittenReport(page_path, data)


def run_sections(run: Run | None, tokens_per_epoch: int | None) -> dict[str, Any]:
    """Return the settings, curves and samples from the logs of a run; `tokens_per_epoch` may be unknown."""
    if run is None:
        return {}
    request, _ = load_request(run)
    settings = [
        {"group": name, "rows": [_setting_row(field, getattr(part, field.name), request) for field in dataclasses.fields(part)]}
        for name, part in zip(GROUP_TITLES, request.groups(), strict=True)
        if is_table(request) or not name.startswith("tables")
    ]
    records = list(_valid_records(run.metrics.read()))
    train_records = [record for record in records if record.get("event") == "train" and is_number(record.get("epochs"))]

    def curve(key: str, records: Iterable[dict[str, Any]]) -> list[list[Any]]:
        numeric = [record for record in records if is_number(record.get(key))]
        rows = [
            [record["step"], record["seconds"], _tokens_seen(record, train_records, tokens_per_epoch), record[key]]
            for record in numeric
        ]
        return [row for row in rows if math.isfinite(row[1]) and math.isfinite(row[3])]

    validation_records = [record for record in records if record.get("event") == "validation"]
    return {
        "settings": settings,
        "curves": {
            "loss_unit": "character",
            "train": curve("train_nats", train_records),
            "validation": curve("val_nats", validation_records),
            "lr": curve("lr", train_records),
            "gradient_norm": curve("gradient_norm", train_records),
        },
        "samples": [
            {"step": record["step"], "seconds": record["seconds"], "val_nats": record.get("val_nats"), "text": record["text"]}
            for record in _valid_records(run.samples.read())
            if isinstance(record.get("text"), str) and (record.get("val_nats") is None or is_number(record["val_nats"]))
        ],
    }


def run_evidence(
    run: Run, sections: dict[str, Any], options: ModelOptions, noun: str, learns_numbers: bool = False
) -> RunEvidence:
    """Return what the logs of a run show of what would help; `sections` is what `run_sections` returns."""
    epochs = [record["epochs"] for record in _valid_records(run.metrics.read()) if is_number(record.get("epochs"))]
    curve = [(float(row[0]), float(row[3])) for row in sections["curves"]["validation"]]
    dropout = None if learns_numbers else options.dropout
    return RunEvidence(curve, float(epochs[-1]) if epochs else 0.0, options.hidden, dropout, noun)


def training_time(run: Run | None) -> dict[str, str]:
    """Return the duration of the training as a headline."""
    train_records = [record for record in _valid_records(run.metrics.read()) if record.get("event") == "train"] if run else []
    last = train_records[-1] if train_records else {}
    seconds, num_epochs = float(last.get("seconds") or 0), last.get("epochs")
    passes = float(num_epochs) if num_epochs is not None and is_number(num_epochs) else 0.0
    return {
        "name": "training",
        "value": f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:.1f} min",
        "note": f"{passes:,.{2 if passes < 100 else 0}f} passes",
    }


def _valid_records(records: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the records that have a step and a time; skip others, which this program did not write."""
    return (record for record in records if is_number(record.get("step")) and is_number(record.get("seconds")))


def _setting_row(field: dataclasses.Field[Any], value: Any, request: TrainRequest) -> list[str]:
    """Return a setting's name, value and origin."""
    origin = "chosen by the recipe" if field.metadata["by_recipe"] else ""
    return [field.name, _format_value(value), "given" if field.name in request.explicit else origin]


def _tokens_seen(record: dict[str, Any], train_records: list[dict[str, Any]], tokens_per_epoch: int | None) -> float | None:
    """Return how many tokens the model had read at a record; for a validation record, at its step."""
    if tokens_per_epoch is None:
        return None
    if "epochs" in record:
        return float(record["epochs"] * tokens_per_epoch)
    if not train_records:
        return 0.0
    last = train_records[-1]
    return float(last["epochs"] * tokens_per_epoch * record["step"] / max(1, last["step"]))


def _format_value(value: Any) -> str:
    return "" if value is None else (f"{value:g}" if isinstance(value, float) else str(value))


def created_by() -> str:
    """Return the time and the version of the program, for the page."""
    return f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M} by unrolled {__version__}"
