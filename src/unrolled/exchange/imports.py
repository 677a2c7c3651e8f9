"""Import of foreign models: the formats, and the way from a file to a model of this package."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic_io import make_dir, storage_error
from unrolled.checkpoints.array_file import save_arrays
from unrolled.checkpoints.model_file import TableModelFile, TextModelFile, save_model
from unrolled.checkpoints.run_dir import MODEL_FILE_NAME, is_run_dir
from unrolled.display import shell_argument
from unrolled.errors import DataError, ModelError, UsageError
from unrolled.exchange.char_rnn import read_char_rnn
from unrolled.exchange.import_check import ImportCheck, run_check, token_losses
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.keras_model import is_keras, read_keras
from unrolled.exchange.ml5 import is_ml5, read_ml5
from unrolled.exchange.numbers_import import check_outputs_equal, to_model_file
from unrolled.exchange.numbers_lstm import check_vectors, is_numbers_model, read_numbers_model
from unrolled.exchange.pytorch_state_dict import is_pytorch, read_pytorch
from unrolled.exchange.source_model import SourceModel
from unrolled.exchange.textgenrnn import is_textgenrnn, read_textgenrnn
from unrolled.exchange.torch7 import Table, TorchObject, is_torch7, modules_within, read_torch7
from unrolled.exchange.torch_rnn import read_torch_rnn
from unrolled.exchange.vocabulary import TEXT_ORDERS, VocabularyFile, build_vocabulary
from unrolled.output_paths import check_outputs
from unrolled.runtime.text_network import TextModel

MAX_TEXT_BYTES = 1 << 20
"""Of the text of the check, the first part is read."""


@dataclass(frozen=True)
class ImportFormat:
    """A format: what it is, whether a path (with the first bytes of the file) is in it, and its reader."""

    description: str
    matches: Callable[[Path, bytes], bool]
    read: Callable[[Path, VocabularyFile | None], SourceModel]


@dataclass(frozen=True)
class ImportedModel:
    """The result of an import: the model, what it is, what was changed or assumed, and the check (None: no text for it, or the
    model is one of numbers)."""

    model_file: TextModelFile | TextModel | TableModelFile
    description: str
    notes: tuple[str, ...]
    check: ImportCheck | None

    @property
    def is_text(self) -> bool:
        """Whether it is a model of texts."""
        return not isinstance(self.model_file, TableModelFile)

    def to_json(self) -> dict[str, Any]:
        """Return all but the model as a JSON value."""
        check = None if self.check is None else self.check.to_json()
        return {"description": self.description, "notes": list(self.notes), "check": check}


def _read_torch7(path: Path, vocabulary_file: VocabularyFile | None) -> SourceModel:
    value = read_torch7(path)
    if isinstance(value, Table) and value.get("protos") is not None:
        return read_char_rnn(value, vocabulary_file)
    model = value.get("model") if isinstance(value, Table) else value
    if isinstance(model, TorchObject) and model.class_name == "nn.LanguageModel":
        return read_torch_rnn(model, vocabulary_file)
    names = sorted({module.class_name for module in modules_within(value)})[:6]
    raise ModelError(
        f"{path} is a file of Torch7, but neither a checkpoint of char-rnn nor one of torch-rnn; it holds "
        f"{', '.join(names) or 'no module'}."
    )


IMPORTS: dict[str, ImportFormat] = {
    "torch7": ImportFormat("char-rnn or torch-rnn checkpoint (.t7)", lambda path, head: is_torch7(head), _read_torch7),
    "pytorch": ImportFormat("PyTorch model or state_dict (.pt, .pth)", is_pytorch, read_pytorch),
    "safetensors": ImportFormat(
        "PyTorch state_dict (.safetensors)",
        lambda path, head: path.suffix == ".safetensors" and head[8:9] == b"{",
        read_pytorch,
    ),
    "textgenrnn": ImportFormat("textgenrnn weights (.hdf5)", is_textgenrnn, read_textgenrnn),
    "keras": ImportFormat("Keras model (.keras, .h5)", is_keras, read_keras),
    "ml5": ImportFormat("folder of ml5's charRNN", is_ml5, read_ml5),
}
"""The formats that can be imported, in the order in which a file is tried: `IMPORTS["name"] = ImportFormat(...)` adds one."""


NUMBERS = "a model of audio samples (.nam, RTNeural JSON)"


def _import_numbers(path: Path, options: ImportOptions) -> ImportedModel:
    """Import a model of audio samples. Raises `ModelError` for another file, or if a check fails."""
    model = read_numbers_model(path)
    for name in ("vocabulary", "text"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} is for models of texts, and {path} is {NUMBERS}: leave it out.")
    model_file = to_model_file(model)
    recorded = [check_vectors(model, options.vectors)] if options.vectors else []
    imported = ImportedModel(model_file, model.describe(), (*recorded, *check_outputs_equal(model, model_file)), None)
    model_file.history["import"] = imported.to_json()
    return imported


def import_file(path: Path, options: ImportOptions) -> ImportedModel:
    """Read a foreign model, check it, and return it in the form of this package.

    Raises:
        ModelError: The file is no model of a known format, is damaged, holds a layer or a convention that no cell here has, or
            fits another convention than that of its format clearly better.
        UsageError: A vocabulary is needed, or an option cannot be used.
    """
    kind = _format_of(path)
    if kind is None:
        with _named_damage(path, NUMBERS):
            return _import_numbers(path, options)
    vocabulary_file = None if options.vocabulary is None else VocabularyFile.read(Path(options.vocabulary))
    text = None if options.text is None else _read_text(Path(options.text))
    with _named_damage(path, kind.description):
        source = kind.read(path, vocabulary_file)
        source.check()
    model_file = source.to_model_file()
    name = options.text
    if vocabulary_file is not None and vocabulary_file.text is not None:
        if text is None:
            name, text = str(vocabulary_file.path), vocabulary_file.text
        source, model_file = _best_order(source, model_file, vocabulary_file, text)
    check = run_check(source, model_file, name, text)
    imported = ImportedModel(model_file, source.describe(), source.notes, check)
    model_file.history["import"] = imported.to_json()
    return imported


def output_path(path: Path, options: ImportOptions) -> Path:
    """Return the model file to write, `runs/NAME/model.safetensors` by default.

    Raises `UsageError` if it exists, without `force`, but first `ModelError` for a file that is no model.
    """
    _format_of(path)
    check_outputs(options, (path, options.vocabulary, options.text, *options.vectors))
    name = path.parent.name if path.name == "manifest.json" else path.stem
    out = Path(options.out) if options.out is not None else Path("runs") / (name or "imported")
    target = out if out.suffix == ".safetensors" else out / MODEL_FILE_NAME
    if is_run_dir(target.parent) and target.name == MODEL_FILE_NAME:
        raise UsageError(f"{target.parent} is the folder of a training: choose another one with --out.")
    if target.is_dir():
        raise UsageError(f"{target} is a folder, and a model file is to be written there: choose another name with --out.")
    if target.exists() and not options.force:
        raise UsageError(f"{target} exists already: choose another name with --out, or overwrite it with --force.")
    return target


def write_imported(imported: ImportedModel, target: Path) -> None:
    """Write the model file `target` atomically."""
    make_dir(target.parent)
    model_file = imported.model_file
    if isinstance(model_file, TextModel):
        save_arrays(target, model_file.network.arrays(), model_file.metadata())
    else:
        save_model(target, model_file)


def _format_of(path: Path) -> ImportFormat | None:
    """Return the format of a file, None for a model of audio samples. Raises `ModelError` if it has none of them."""
    if is_run_dir(path) and (path / "checkpoints").is_dir():
        raise ModelError(
            f"{path} is a run of unrolled already: use it as RUN, for example unrolled info {shell_argument(path)}"
        )
    head = _head(path)
    if is_numbers_model(path, head):
        return None
    for kind in IMPORTS.values():
        if kind.matches(path, head):
            return kind
    known = ", ".join([*(kind.description for kind in IMPORTS.values()), NUMBERS.partition(" (")[2].rstrip(")")])
    raise ModelError(f"{path} is no model of a known format. Formats: {known}.")


@contextlib.contextmanager
def _named_damage(path: Path, name: str) -> Iterator[None]:
    """Raise `ModelError` for what a reader stumbles over in a file that is not as its format says.

    numpy does not warn: numbers that are not finite are refused by name.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (
        KeyError,
        IndexError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        MemoryError,
        EOFError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ModelError(f"{path} is damaged, or not {name}: {error!r:.200}.") from error


def _head(path: Path) -> bytes:
    """Return the first bytes of a file, none of a folder."""
    if not path.exists():
        raise ModelError(f"There is no file {path}.")
    if path.is_dir():
        return b""
    if not path.is_file():
        raise ModelError(f"{path} is no file.")
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(MAX_TEXT_BYTES).decode("utf-8", "ignore")
    except FileNotFoundError as error:
        raise DataError(f"There is no text {path}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _best_order(
    source: SourceModel, model_file: TextModelFile | TextModel, vocabulary_file: VocabularyFile, text: str
) -> tuple[SourceModel, TextModelFile | TextModel]:
    """Return the model with the characters of the vocabulary's text in the order that fits: a text has none by itself."""
    found = []
    for order in TEXT_ORDERS:
        vocabulary = build_vocabulary(vocabulary_file.tokens(len(source.head_bias), order))
        note = f"the characters of {vocabulary_file.path} are numbered in the order: {order}"
        candidate = dataclasses.replace(source, vocabulary=vocabulary, notes=(*source.notes, note))
        candidate_file = candidate.to_model_file()
        losses = token_losses(candidate, candidate_file, text)
        found.append((float(losses.mean()) if len(losses) else 0.0, candidate, candidate_file))
    return min(found, key=lambda item: item[0])[1:]
