"""The export of a model file, of a text or of a table, to a format of `unrolled export`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from unrolled.errors import UsageError
from unrolled.exchange.export_options import ExportOptions
from unrolled.option_rules import refuse_unused

if TYPE_CHECKING:
    from unrolled.exchange.export_job import ExportResult

FORMATS = {"weights": ("c", "html"), "float16": ("onnx",), "text": ("c", "html")}
"""The formats that a setting is for."""

FOR_TEXTS = {
    "weights": "is for models of texts and pages of models that label texts, and all others have float32 weights",
    "text": "is for models of texts: what rounding costs those that label texts is measured on the rows of their run",
}
"""Why models of tables have no such settings."""


def export_file(path: Path, options: ExportOptions, given: Collection[str]) -> ExportResult:
    """Export the model of a run folder or a model file, check what is written, and write it; `given` names the given settings.

    Raises:
        ModelError: There is no model, or it is damaged.
        UsageError: The model has no form in this format, a setting has no effect in it, or a file exists.
    """
    from unrolled.exchange.exports import export_model, open_job, write_export
    from unrolled.exchange.table_card import export_table_card
    from unrolled.exchange.table_export import export_table, is_table_model, open_table_job

    reasons = {name: f"is for --to {' or '.join(allowed)}" for name, allowed in FORMATS.items() if options.to not in allowed}
    refuse_unused(options, given, reasons)
    if not is_table_model(path):
        return export_model(open_job(path, options), options.to, options.force)
    job = open_table_job(path, options)
    has_weights = options.to in ("c", "html") and not job.model_file.spec.is_stream
    refuse_unused(options, given, {name: reason for name, reason in FOR_TEXTS.items() if name != "weights" or not has_weights})
    if options.weights == "int4" and has_weights:
        raise UsageError("--weights is int4; the page or C file of a model of a table has int8 or float32.")

    def export() -> ExportResult:
        return export_table_card(job) if options.to == "card" else export_table(job, options.to)

    return write_export(job.path, job.out, export, options.force)
