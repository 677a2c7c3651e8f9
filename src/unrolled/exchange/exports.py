"""The formats of `unrolled export`, and the one way to write one: checked first, whole, never onto a file that exists."""

from __future__ import annotations

import importlib
from pathlib import Path

from unrolled.atomic_io import write_atomic
from unrolled.exchange.export_job import ExportJob, ExportResult
from unrolled.options import REGISTRIES
from unrolled.output_paths import check_new_file

EXPORTS = {name: f"unrolled.exchange.{name}_export" for name in ("c", "html", "onnx", "numpy", "card")}
"""The module of each format. It has a function `export(job) -> ExportResult`, which returns files that were checked."""

REGISTRIES["to"] = EXPORTS
FILE_NAMES = {"c": "{}.c", "html": "{}.html", "onnx": "{}.onnx", "numpy": "{}.py", "card": "README.md"}


def default_out(to: str, name: str) -> Path:
    """Return the file that is written without `--out`: in the current folder, named as the run."""
    return Path(FILE_NAMES.get(to, "{}." + to).format(name))


def export_model(job: ExportJob, to: str, force: bool = False) -> ExportResult:
    """Export a model to a format, check it, and write its files.

    Raises:
        UsageError: A file exists and `force` is not given, or the run needs it; a folder is missing; or the format has no such
            option.
        ExportError: The exported model computes something else than the model; nothing is written.
    """
    run = job.path.parent if (job.path.parent / "config.json").is_file() else None
    check_new_file("--out", job.out, (job.path,), run, force)
    result: ExportResult = importlib.import_module(EXPORTS[to]).export(job)
    for path in result.files:
        check_new_file("--out", path, (job.path,), run, force)
    for path, content in result.files.items():
        write_atomic(path, content)
    return result
