"""The formats of `unrolled export`: a model is opened, exported and checked, and then written atomically to a new file."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.atomic_io import write_atomic
from unrolled.checkpoints.array_file import read_model
from unrolled.checkpoints.run_dir import Run, find_model, is_run_dir, run_of_model
from unrolled.display import shell_argument
from unrolled.errors import UnrolledError, UsageError
from unrolled.exchange.export_job import ExportJob, ExportResult
from unrolled.exchange.export_options import ExportOptions
from unrolled.options import REGISTRIES, MachineOptions
from unrolled.output_paths import check_new_file, check_outputs
from unrolled.runtime.text_network import GATE_NAMES, to_text_model

if TYPE_CHECKING:
    from unrolled.analysis.text_session import TextSession

EXPORTS = {name: f"unrolled.exchange.{name}_export" for name in ("c", "html", "onnx", "numpy", "card")}
"""The module of each format. It has a function `export(job) -> ExportResult`, which returns files that were checked."""

REGISTRIES["to"] = EXPORTS
ARRAY_FORMATS = ("c", "html", "onnx", "numpy")
"""The formats that are written from the arrays of known cells."""

CHARACTER_FORMATS = ("c", "html", "numpy")
"""The formats whose programs read characters or bytes, and know no rule that finds tokens."""

MAX_TEXT_TOKENS = 1 << 20
"""Tokens of a text on which the cost of rounded weights is measured, at most."""

FILE_NAMES = {"c": "{}.c", "html": "{}.html", "onnx": "{}.onnx", "numpy": "{}.py", "card": "README.md"}


def default_out(to: str, name: str) -> Path:
    """Return the file that is written without `--out`: in the current folder, named as the run."""
    return Path(FILE_NAMES.get(to, "{}." + to).format(name))


def open_job(path: Path, options: ExportOptions) -> ExportJob:
    """Open the model of a run folder or a model file for export.

    Raises:
        ModelError: There is no model, it is damaged, or it is the model of a table.
        UsageError: The text of `--text` has no known token.
    """
    from unrolled.analysis.text_session import TextSession
    from unrolled.checkpoints.model_file import load_text_model

    model_path = find_model(path)
    header, arrays = read_model(model_path)
    model = to_text_model(model_path, header, arrays)
    run = run_of_model(model_path)
    check_outputs(options, (model_path, options.text), None if run is None else run.path)
    session = TextSession(model_path, model, MachineOptions(device="cpu", precision="float32"), run)
    train, held_out = _texts(session, options)
    return ExportJob(
        model,
        load_text_model(model_path).model.eval(),
        model_path,
        Path(options.out) if options.out else default_out(options.to, session.name),
        session.name,
        session.description,
        options.weights,
        options.float16,
        held_out,
        train,
        data_text(run),
    )


def _texts(session: TextSession, options: ExportOptions) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    """Return the training ids and the ids on which the cost of rounding is measured; None for what is not at hand."""
    if options.text is not None:
        corpus, _ = session.corpus((options.text,))
        if len(corpus.ids) < 2:
            raise UsageError(f"{options.text} has {len(corpus.ids)} tokens that the model knows; at least 2 are needed.")
        return None, np.asarray(corpus.ids[:MAX_TEXT_TOKENS])
    if session.run is None:
        return None, None
    try:
        train, held_out = session.train_and_held_out()
    except (UnrolledError, OSError):  # the text is gone: the figures are left out, and the command says so
        return None, None
    return np.asarray(train), np.asarray(held_out[:MAX_TEXT_TOKENS])


def data_text(run: Run | None) -> str:
    """Return the data and seed of a run, in words; "" if they are not known."""
    if run is None:
        return ""
    request: dict[str, Any] = run.config.get("options", {})
    inputs = request.get("inputs") or run.config.get("inputs") or []
    seed = (request.get("training") or {}).get("seed", request.get("seed"))
    fraction = (request.get("data") or {}).get("train_fraction", request.get("train_fraction"))
    text = " ".join(shell_argument(Path(str(name)).name) for name in inputs)  # without the folders of the computer it was on
    return f"{text or 'Not known'}; {fraction} of it for training, the rest is held out; seed {seed}."


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
