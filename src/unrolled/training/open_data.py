"""Open the data of a training, a text or columns of a table, and the base model that it starts from."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from pathlib import Path, PurePath

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.checkpoints.run_dir import is_table_run
from unrolled.nn.device import DeviceConfig
from unrolled.options import TrainRequest
from unrolled.text.archives import archive_names
from unrolled.text.compressed_files import inner_suffix, open_bytes
from unrolled.text.file_signatures import MIDI_MAGIC, MIDI_SUFFIXES, is_midi_head
from unrolled.text.folder_files import files_in
from unrolled.training.automatic_base import choose_base
from unrolled.training.distributed import ProcessGroup
from unrolled.training.fine_tuning import adopt_encoder, adopt_settings, load_base
from unrolled.training.grown_model import log_growth
from unrolled.training.tasks.base import TrainingTask
from unrolled.training.tasks.series import open_table_task
from unrolled.training.tasks.table import TableTask
from unrolled.training.tasks.text import TextTask

logger = logging.getLogger(__name__)

_RULES_BY_SUFFIX = (
    ((".abc",), "each tune in ABC notation as a document of notes and bars", "--tokens abc"),
    (
        (".fa", ".faa", ".fasta", ".ffn", ".fna"),
        "each sequence of FASTA as a document, without headers and line ends",
        "--tokens fasta",
    ),
    ((".smi", ".smiles"), "each molecule as a document of atoms and bonds", "--tokens smiles --documents line"),
)
"""What is said about files that are learned as characters: suffixes, what a rule reads, and its settings."""


def with_recognized_tokens(request: TrainRequest) -> TrainRequest:
    """Return a request with the tokens of its files, where they are of a kind that is no text, and no tokens were chosen."""
    if "tokens" not in request.explicit and request.data.tokens == "characters" and request.inputs:
        if all(map(_is_midi_input, request.inputs)):
            logger.info("these are MIDI files, learned as --tokens midi")
            return dataclasses.replace(request, data=dataclasses.replace(request.data, tokens="midi"))
        for suffixes, what, flags in _RULES_BY_SUFFIX:
            if all(inner_suffix(PurePath(name)) in suffixes for name in request.inputs):
                logger.info(f"learned as characters; {flags} reads {what}")
    return request


def _is_midi_input(name: str) -> bool:
    """Return whether an input is MIDI: a file by its name or first bytes, a folder or zip archive if most of its files are."""
    path = Path(name)
    if path.is_dir():
        return _are_mostly_midi([str(file.relative_to(path)) for file in files_in(path).files])
    if not path.is_file():
        return False
    if path.suffix.lower() == ".zip":
        return _are_mostly_midi(archive_names(path))
    if _has_midi_suffix(name):
        return True
    try:
        with open_bytes(path) as file:
            return is_midi_head(file.read(len(MIDI_MAGIC)))
    except Exception:  # whatever is wrong with it is reported when it is read
        return False


def _are_mostly_midi(names: list[str]) -> bool:
    return 2 * sum(map(_has_midi_suffix, names)) > len(names)


def _has_midi_suffix(name: str | os.PathLike[str]) -> bool:
    return inner_suffix(PurePath(name)) in MIDI_SUFFIXES


def open_with_base(
    request: TrainRequest, machine: DeviceConfig, process_group: ProcessGroup
) -> tuple[TrainRequest, TrainingTask]:
    """Return a request with the settings of its base model, if it has one, and its data, opened.

    Raises what `load_base` and `adopt_settings` raise.
    """
    base = None if request.base_name is None else load_base(request.base_name)
    if base is not None and not is_table(request):
        request = adopt_settings(request, base)
    task = open_task(request, process_group, base)
    if not isinstance(task, TextTask):
        if base is not None and isinstance(task, TableTask) and task.spec.dims.base is None:
            request = adopt_encoder(request, base)
        return request, task
    if request.training.init_from is None:
        request, base = choose_base(request, task, machine)
    if base is None:
        return request, task
    task = task.start_from(base, request)
    log_growth(request, base.tokenizer, task.corpus.tokenizer)
    return request, task


def open_task(request: TrainRequest, process_group: ProcessGroup, base: TextModelFile | None = None) -> TrainingTask:
    """Open the data of a request: in the main process before the others, or in all at once if they share the work.

    Other processes wait at most half an hour, torch's limit for a collective; encoding a large text may take longer.
    """
    if process_group.world_size > 1:
        is_joint = process_group.broadcast_str(lambda: str(not is_table(request) and TextTask.is_opened_jointly(request)))
        if is_joint == str(True):
            return TextTask.open(request)
    open_data = (
        functools.partial(open_table_task, request, base) if is_table(request) else functools.partial(TextTask.open, request)
    )
    return process_group.main_process_first(open_data)  # type: ignore[no-any-return]


def is_table(request: TrainRequest) -> bool:
    """Return whether a request trains on two columns of a table, not on a text, which may be one column."""
    return is_table_run(request.inputs, request.to_dict())
