"""The Python functions: `train` and `load` for texts, `train_table` and `load_table` for tables.

The command line calls these functions and no others.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex, Unpack

from unrolled.checkpoints.array_file import read_model
from unrolled.checkpoints.run_dir import Run, find_model
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.exchange.import_options import ImportOptions
from unrolled.flag_names import in_terms_of_caller
from unrolled.keyword_docs import keyword_arguments
from unrolled.keywords import ImportKwargs, MachineKwargs, TrainKwargs, TrainTableKwargs
from unrolled.models.base import MAX_PATH_CHARS
from unrolled.models.text import Model
from unrolled.options import (
    OPTION_CLASSES,
    DataOptions,
    MachineOptions,
    ModelOptions,
    RunOptions,
    TrainingOptions,
    TrainRequest,
    from_dict,
    present_names,
    split_by_class,
)
from unrolled.runtime.text_network import to_text_model

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from unrolled.models.table import TableModel


@keyword_arguments(DataOptions, ModelOptions, TrainingOptions, MachineOptions, RunOptions)
def train(
    *inputs: str | Path | Sequence[str | Path],
    text: str | None = None,
    source: str | None = None,
    header: str | None = None,
    group_by: str | None = None,
    preset: str | None = None,
    resume: str | None = None,
    progress: bool = True,
    allow_change: bool = False,
    **options: Unpack[TrainKwargs],
) -> Model:
    """Train a language model on texts and return the one with the best validation loss.

    Ctrl-C saves a checkpoint and returns the model trained so far; `model.result.stop_signal` tells that this happened.

    Args:
        inputs: Files, folders, `-` or `builtin:NAME`; none: a built-in corpus. Or one list, of paths or of texts, each a
            document.
        text: The text itself, in place of `inputs`.
        source: A column of tables, to learn to write like its cells; each is a document. A frame of one column needs none.
        header: How the columns of these tables are named, see `train_table`.
        group_by: For a log: a regular expression that captures the key of a line; lines with the same key are a session.
        preset: A set of options by name: "char-rnn" or "post-pg". `options` override it.
        resume: A run folder to continue exactly where it stopped; then no inputs and no preset.
        progress: Whether to print progress on stderr.
        allow_change: With `resume`: accept other versions, another machine, or other learning rates.

    Returns:
        The model. It is also saved in the run folder `model.run.path`.

    Raises:
        UsageError: An option is unknown or cannot be used.
        DataError: A text cannot be read.
        DivergedError: The loss is not finite any more.
        StorageError: The run folder cannot be written.

    Example:
        >>> model = unrolled.train("book.txt", steps=20, hidden=8, batch=4, sample_length=0, progress=False)
        >>> model.result.steps
        20
    """
    names, source = _text_inputs(inputs, text, source)
    own = {"source": source, "header": header, "group_by": group_by}
    columns = {name: value for name, value in own.items() if value is not None}
    model = _train(names, preset, resume, progress, allow_change, {**columns, **options}, expect_table=False)
    return _require_text_model(model)


@keyword_arguments(*OPTION_CLASSES, exclude=("source", "target"))
def train_table(
    table: Any = None,
    source: str | int | Sequence[str | int] | None = None,
    target: str | int | None = None,
    progress: bool = True,
    *,
    resume: str | None = None,
    allow_change: bool = False,
    **options: Unpack[TrainTableKwargs],
) -> TableModel:
    """Train a model to predict one column of a table from others, and return the one with the best validation loss.

    Args:
        table: A file (CSV, TSV, JSON lines, CoNLL, Parquet), or `builtin:NAME`, which knows its columns; or a frame of
            pandas or polars, an Arrow table, a dictionary of columns, a list of dictionaries, or a structured array; or
            an array `(N, D)` or a list of tuples, whose columns are named 0, 1, 2 ..., or by `header`.
        source: Input column, as NAME or NAME:KIND, or the number of one without a name; or a list of them.
        target: Column to predict, in the same way. The kinds determine the sequence mode.
        progress: Whether to print progress on stderr.
        resume: A run folder to continue exactly where it stopped; then no table and no columns.
        allow_change: With `resume`: accept other versions, another machine, or other learning rates.

    Returns:
        The model. It is also saved in the run folder `model.run.path`.

    Raises:
        UsageError: An option is unknown or cannot be used.
        DataError: The table cannot be read, or lacks a column.
        DivergedError: The loss is not finite any more.
        StorageError: The run folder cannot be written.

    Example:
        >>> model = unrolled.train_table("words.csv", "word", "label", steps=5, hidden=8, progress=False)
        >>> model.spec.mode.name
        'many-to-one'
    """
    from unrolled.tables.frames import has_rows, is_table, keep_frame, named_rows
    from unrolled.tables.table_format import path_of_table

    named = (("source", source), ("target", target))
    columns = {
        name: str(column) if isinstance(column, SupportsIndex) else column for name, column in named if column is not None
    }
    header = options.pop("header", None) if has_rows(table) else None
    table, validation = (named_rows(data, header) if has_rows(data) else data for data in (table, options.get("validation")))
    if is_table(validation):
        options["validation"] = keep_frame(validation)
    inputs = () if table is None else (keep_frame(table) if is_table(table) else path_of_table(table),)
    return _require_table_model(_train(inputs, None, resume, progress, allow_change, {**columns, **options}, expect_table=True))


def _text_inputs(inputs: tuple[Any, ...], text: str | None, source: str | None) -> tuple[tuple[str, ...], str | None]:
    """Return the inputs of `train` as names of files, and the column to read of them; texts are kept in the cache."""
    from unrolled.tables.frames import is_frame, keep_documents, keep_frame, keep_text, only_column

    if text is not None:
        if inputs or source is not None:
            raise UsageError("A text is given, and inputs or a source too: give one of them.")
        if not isinstance(text, str):
            raise UsageError(f"text is {type(text).__name__}, and a string is expected: decode bytes, or write them to a file.")
        if not text:
            raise DataError("The text is empty: there is nothing to learn from.")
        return (keep_text(text),), None
    if len(inputs) == 1 and is_frame(inputs[0]):
        return (keep_frame(inputs[0]),), source or only_column(inputs[0])
    if len(inputs) == 1 and isinstance(inputs[0], list | tuple):
        inputs = _files_of_list(inputs[0]) or inputs
    if len(inputs) == 1 and isinstance(inputs[0], Iterable) and not isinstance(inputs[0], str | os.PathLike | bytes):
        if source is not None:
            raise UsageError("source is a column of a table, and a list of texts is given: leave it out.")
        return (keep_documents(inputs[0]),), "text"
    for name in inputs:
        if not isinstance(name, str | os.PathLike):
            raise UsageError(f"The name of a file is expected, or a list of texts, and a {type(name).__name__} is given.")
        if isinstance(name, str) and ("\n" in name or len(name) > MAX_PATH_CHARS):
            shown = f"{name[:40]!r}... ({len(name):,} characters)"
            raise DataError(f"{shown} is not the name of a file: to learn from a text itself, write train(text=...).")
    return tuple(map(str, inputs)), source


def _files_of_list(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return the paths of a list that has nothing else, none for a list of texts.

    Raises `UsageError` for strings that all name files: they may be meant as texts or as files.
    """
    if values and all(isinstance(value, os.PathLike) for value in values):
        return tuple(values)
    if values and all(isinstance(value, str) and len(value) <= MAX_PATH_CHARS and os.path.isfile(value) for value in values):
        raise UsageError(
            f"{values[0]!r} and all other texts of the list are names of files: write train(*names) to learn from "
            "the files, or train(text=...) to learn from the names."
        )
    return ()


def _train(
    inputs: Sequence[str],
    preset: str | None,
    resume: str | None,
    progress: bool,
    allow_change: bool,
    options: Mapping[str, Any],
    expect_table: bool,
) -> Model | TableModel:
    from unrolled.checkpoints.run_data import load_request
    from unrolled.training import launch, open_data
    from unrolled.training.callbacks import ProgressCallback
    from unrolled.views.notebook_progress import python_progress

    if resume is not None and (inputs or preset):
        raise UsageError("resume continues with the run's own text and settings: leave inputs and preset out.")
    split_by_class(options, OPTION_CLASSES, "train")  # a resumed run does not build a request of them
    inputs = tuple(map(str, inputs))
    if resume is None:
        request = TrainRequest.build(inputs, options, "train", preset)
    else:
        request, _ = load_request(Run.open(Path(resume)))
    if open_data.is_table(request) is not expect_table:
        noun, function = ("a text", "unrolled.train") if expect_table else ("a table", "unrolled.train_table")
        raise UsageError(f"This is the training of {noun}: use {function}.")
    callback = python_progress() if progress else ProgressCallback()
    with callback:  # before the text is read: what is left out of it is a message too
        if resume is None:
            training_run = launch.start_run(request, callback)
        else:
            training_run = launch.resume_run(Path(resume), present_names(options, OPTION_CLASSES), callback, allow_change)
        result = training_run.train()
        for message in filter(None, (result.test_summary, result.diagnosis) if training_run.process_group.is_main else ()):
            logger.info(message)
    model = open_model(Path(result.model), training_run.request.machine)
    model.result = dataclasses.replace(result, diagnosis=in_terms_of_caller(result.diagnosis))
    return model


@keyword_arguments(MachineOptions)
def load(path: str | Path, **options: Unpack[MachineKwargs]) -> Model:
    """Load a language model of texts.

    Args:
        path: A run folder, a checkpoint folder or a model file.

    Returns:
        The model, on the chosen device.

    Raises:
        ModelError: The file is missing, damaged, or a model of a table.
        UsageError: The device or kernel is not available.

    Example:
        >>> unrolled.load("runs/book", threads=1).sample(length=5) == model.sample(length=5)
        True
    """
    return _require_text_model(open_model(Path(path), from_dict(MachineOptions, options, "load")))


@keyword_arguments(MachineOptions)
def load_table(path: str | Path, **options: Unpack[MachineKwargs]) -> TableModel:
    """Load a model of a table.

    Args:
        path: A run folder, a checkpoint folder or a model file.

    Returns:
        The model, on the chosen device.

    Raises:
        ModelError: The file is missing, damaged, or a model of texts.
        UsageError: The device or kernel is not available.

    Example:
        >>> unrolled.load_table("runs/words").predict(["aba"]) == table_model.predict(["aba"])
        True
    """
    return _require_table_model(open_model(Path(path), from_dict(MachineOptions, options, "load")))


@keyword_arguments(ImportOptions)
def import_model(path: str | Path, **options: Unpack[ImportKwargs]) -> Model | TableModel:
    """Import a model of another program.

    Language models: char-rnn, torch-rnn, PyTorch, Keras, textgenrnn, ml5. Models of audio samples: Neural Amp Modeler,
    GuitarML, RTNeural.

    Args:
        path: The file, or the folder of an ml5 model.

    Returns:
        The model, which is also saved: a Model, or of audio samples a TableModel. `model.history["import"]` has what was
        changed or assumed (`notes`), and the `check`: bits per token of a short text, of chance, and of the same weights in
        other conventions.

    Raises:
        ModelError: The file is no model of a known format, is damaged, holds a layer that no cell here has, or fits another
            convention than that of its format.
        UsageError: A vocabulary is needed, or the model file exists.

    Example:
        >>> model = unrolled.import_model("lm.pt", vocabulary="chars.json")
        >>> model.history["import"]["description"]
        'PyTorch model: gru, 1 layer of 8 units, embedding 4, 9 tokens'
    """
    from unrolled.exchange.imports import import_file, output_path, write_imported

    settings = from_dict(ImportOptions, options, "import")
    target = output_path(Path(path), settings)
    write_imported(import_file(Path(path), settings), target)
    return open_model(target, MachineOptions())


def open_model(path: Path, machine: MachineOptions) -> Model | TableModel:
    """Load a model of either kind; `path` as for `load`."""
    path = find_model(path)
    header, arrays = read_model(path)
    if header.get("kind") != "table":
        return Model(path, to_text_model(path, header, arrays), machine)
    from unrolled.checkpoints.model_file import load_table_model
    from unrolled.models.table import TableModel

    return TableModel(path, load_table_model(path), machine)


def _require_text_model(model: Model | TableModel) -> Model:
    if isinstance(model, Model):
        return model
    raise ModelError(f"{model.path} is a table model, not a text model: use `unrolled predict`, or unrolled.load_table.")


def _require_table_model(model: Model | TableModel) -> TableModel:
    if not isinstance(model, Model):
        return model
    raise ModelError(f"{model.path} is a text model, not a table model: use `unrolled sample`, or unrolled.load.")
