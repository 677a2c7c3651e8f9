"""The formats of `unrolled export`. Every export is checked first, and then written atomically to a new file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

from unrolled.atomic_io import write_atomic
from unrolled.checkpoints.run_dir import is_run_dir
from unrolled.errors import UsageError
from unrolled.exchange.export_job import ExportJob, ExportResult
from unrolled.options import REGISTRIES
from unrolled.output_paths import check_new_file
from unrolled.runtime.text_network import GATE_NAMES

EXPORTS = {name: f"unrolled.exchange.{name}_export" for name in ("c", "html", "onnx", "numpy", "card")}
"""The module of each format. It has a function `export(job) -> ExportResult`, which returns files that were checked."""

REGISTRIES["to"] = EXPORTS
ARRAY_FORMATS = ("c", "html", "onnx", "numpy")
"""The formats that are written from the arrays of known cells."""

CHARACTER_FORMATS = ("c", "html", "numpy")
"""The formats whose programs read characters or bytes, and know no rule that finds tokens."""

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
    tokenizer = job.model.tokenizer
    has_long_tokens = tokenizer.splits_text and any(len(token) > 1 for token in tokenizer.token_strings())
    if has_long_tokens and to in CHARACTER_FORMATS:
        raise UsageError(
            f"--to {to} is for models of characters and bytes, and this one has the tokens {tokenizer.setting:.99}: "
            "export it with --to onnx, whose file names the tokens, or train with --tokens characters."
        )
    cell = job.model.network.cell
    if cell not in GATE_NAMES and to in ARRAY_FORMATS:
        raise UsageError(
            f"--to {to} has no cell {cell}: its cells are {', '.join(GATE_NAMES)}; --to card describes this model, too."
        )
    export: Callable[[ExportJob], ExportResult] = importlib.import_module(EXPORTS[to]).export
    return write_export(job.path, job.out, lambda: export(job), force)


def write_export(model_path: Path, out: Path, export: Callable[[], ExportResult], force: bool = False) -> ExportResult:
    """Call `export` and write the files that it returns; `out` is the first one. Raises as `export_model` does."""
    run = model_path.parent if is_run_dir(model_path.parent) else None
    check_new_file("--out", out, (model_path,), run, force)
    result = export()
    for path in result.files:
        check_new_file("--out", path, (model_path,), run, force)
    for path, content in result.files.items():
        write_atomic(path, content)
    return result
