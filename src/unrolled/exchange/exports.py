"""The formats of `unrolled export`, and the one way to write one: checked first, whole, never onto a file that exists."""

from __future__ import annotations

import importlib
from pathlib import Path

from unrolled.atomic_io import write_atomic
from unrolled.errors import StorageError, UsageError
from unrolled.exchange.export_job import ExportJob, ExportResult
from unrolled.options import REGISTRIES

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
        UsageError: A file exists and `force` is not given, a folder is missing, or the format has no such option.
        ExportError: The exported model computes something else than the model; nothing is written.
    """
    check_out(job.out, force)
    result: ExportResult = importlib.import_module(EXPORTS[to]).export(job)
    for path in result.files:
        check_out(path, force)
        if path.exists() and path.samefile(job.path):
            raise UsageError(f"{path} is the model itself: choose another --out.")
    for path, content in result.files.items():
        write_atomic(path, content)
    return result


def check_out(path: Path, force: bool) -> None:
    """Refuse a file that exists, unless `force` is given, and a folder that does not."""
    if path.is_dir():
        raise UsageError(f"--out is {path}, which is a folder; a file is expected: add a name.")
    if not path.parent.is_dir():
        raise StorageError(f"Cannot write {path}: there is no folder {path.parent}. Make it, or choose another --out.")
    if path.exists() and not force:
        raise UsageError(f"{path} exists and is not overwritten: choose another --out, or add --force.")
