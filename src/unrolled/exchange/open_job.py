"""From a run folder or a model file, and options, to an `ExportJob`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.checkpoints.array_file import read_model
from unrolled.checkpoints.run_dir import find_model, run_of_model
from unrolled.errors import UnrolledError, UsageError
from unrolled.exchange.export_job import ExportJob
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.exports import default_out
from unrolled.exchange.model_data import data_text
from unrolled.options import MachineOptions
from unrolled.output_paths import check_outputs
from unrolled.runtime.text_network import to_text_model

if TYPE_CHECKING:
    from unrolled.analysis.text_session import TextSession

MAX_TEXT_TOKENS = 1 << 20


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
