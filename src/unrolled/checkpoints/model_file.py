"""Model files: weights, tokenizer and configuration in one file, in the safetensors format.

The metadata of the header holds one JSON value under `unrolled`: format version, kind, options, tokenizer, a short history, and
`sha256`, the SHA-256 of the whole file in which the digits of `sha256` itself count as zeros. So one changed bit anywhere is
noticed. Nothing is pickled, and nothing that is read is executed.

The optimizer state of a checkpoint is saved in the same way.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from unrolled.atomic_io import storage_error, write_atomic
from unrolled.checkpoints.format_1 import upgrade
from unrolled.errors import ModelError, UsageError
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM, parameter_count
from unrolled.options import DataOptions, ModelOptions, PairOptions, choices, from_dict
from unrolled.tables.spec import ModelDims, TableSpec
from unrolled.text.tokenizer import Tokenizer, tokenizer_from_json

FORMAT_VERSION = 2
MODEL_FILE_NAME = "model.safetensors"
MAX_HEADER_BYTES = 64 << 20
"""Files with a larger header are refused. The largest possible vocabulary needs a tenth of this."""

MAX_HEADER_ITEMS = 500_000
"""Members of objects and lists in a header beyond which it is not parsed: a table's words and labels need a tenth."""

HISTORY_NUMBERS = frozenset(("steps", "seconds", "val_nats", "logit_scale"))
"""Facts in the history of a model that are numbers."""

DOCUMENTS_TYPE = typing.get_type_hints(DataOptions)["documents"]

_EMPTY_DIGEST = "0" * 64


@dataclass(frozen=True)
class TextModelFile:
    """The content of the file of a text model. `documents` is none, line or file; `history` has facts of its training."""

    model: RecurrentLM
    tokenizer: Tokenizer
    documents: str = "none"
    history: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the JSON value of the header."""
        text_fields = {"tokenizer": self.tokenizer.to_json(), "documents": self.documents}
        return {"kind": "text", "options": asdict(self.model.options), **text_fields, "history": self.history}


@dataclass(frozen=True)
class TableModelFile:
    """The content of the file of a table model."""

    model: EncoderDecoder
    spec: TableSpec
    history: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the JSON value of the header."""
        options = {"options": asdict(self.model.options), "table_options": asdict(self.model.pair)}
        return {"kind": "table", **options, "spec": self.spec.to_json(), "history": self.history}


ModelFile = TextModelFile | TableModelFile


def save_model(path: Path, model_file: ModelFile) -> None:
    """Write the model file `path`, whole or not at all."""
    save_checked(path, model_file.model.state_dict(), model_file.metadata())


def load_model(path: Path) -> ModelFile:
    """Read a model file, on the processor, in float32. Raises `ModelError` for anything but a whole, sound model."""
    tensors, metadata = load_checked(path)
    build = _BUILDERS.get(str(metadata.get("kind")))
    if build is None:
        raise ModelError(f"{path} holds no model but {metadata.get('kind')!r}.")
    try:
        if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
            raise ValueError("the weights are not float32")
        _require_finite(tensors)
        with torch.random.fork_rng(devices=[]):  # on the meta device, torch's initialisers import its compiler: 0.9 s
            model_file = build(tensors, metadata)
        model_file.model.load_state_dict(tensors, assign=True)
        for weight in model_file.model.parameters():
            weight.requires_grad_(True)
        return model_file
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, UsageError) as error:
        raise ModelError(f"{path} is no model that this version can read: {error}.") from error


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise `ValueError` for a weight that is infinite or not a number: every loss would be wrong, or 0."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"the weights of {name} are not finite")


def _documents(metadata: Mapping[str, Any]) -> str:
    """Return what the header says a document is. Raises `ValueError` for anything but none, line or file."""
    documents = metadata["documents"]
    if documents not in choices("documents", DOCUMENTS_TYPE):
        raise ValueError(f"its documents are {str(documents)[:40]!r}, and none, line or file is expected")
    return str(documents)


def _history(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts about the training. Raises `ValueError` for one of another type or range than is written."""
    history = metadata["history"]
    if not isinstance(history, dict):
        raise ValueError(f"its history is {str(history)[:40]!r}, and names with values are expected")
    for name, value in history.items():
        is_finite = isinstance(value, int | float) and type(value) is not bool and abs(value) <= sys.float_info.max
        if name in HISTORY_NUMBERS and value is not None and not is_finite:
            raise ValueError(f"its history has {str(value)[:40]!r} as {name}, and a finite number is expected")
        if name == "diagnosis" and not isinstance(value, str):
            raise ValueError(f"its history has {str(value)[:40]!r} as {name}, and a text is expected")
    return dict(history)


def load_text_model(path: Path) -> TextModelFile:
    """Read a model file that is to be one of texts, as `load_model` does."""
    model_file = load_model(path)
    if not isinstance(model_file, TextModelFile):
        raise ModelError(f"{path} is a model of a table, and one of texts is expected.")
    return model_file


def _build_text_model(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> TextModelFile:
    tokenizer = tokenizer_from_json(metadata["tokenizer"])
    options = from_dict(ModelOptions, metadata["options"], "model")
    if parameter_count(tokenizer.vocab_size, options) != sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError("the weights are not those of its options")
    return TextModelFile(RecurrentLM(tokenizer.vocab_size, options).eval(), tokenizer, _documents(metadata), _history(metadata))


def _build_table_model(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> TableModelFile:
    spec = TableSpec.from_json(metadata["spec"])
    options = from_dict(ModelOptions, metadata["options"], "model")
    pair = from_dict(PairOptions, metadata["table_options"], "model")
    _check_sizes(tensors, spec.dims, options)
    return TableModelFile(EncoderDecoder(spec.dims, options, pair).eval(), spec, _history(metadata))


def _check_sizes(tensors: Mapping[str, Tensor], shape: ModelDims, options: ModelOptions) -> None:
    """Raise `ValueError` before anything is built that could be larger than the file it comes from."""
    num_weights = sum(tensor.numel() for tensor in tensors.values())
    largest = max(1, shape.source_size, shape.target_size, math.prod(shape.image_shape or (0,)), shape.target_length)
    is_width_valid = tensors["encoder.norm.weight"].numel() == options.hidden and options.hidden**2 <= max(num_weights, 1 << 24)
    if not is_width_valid or options.layers > len(tensors) or largest > max(num_weights, 1 << 24):
        raise ValueError("the weights are not those of its options")


_BUILDERS: dict[str, Callable[[Mapping[str, Tensor], dict[str, Any]], ModelFile]] = {
    "text": _build_text_model,
    "table": _build_table_model,
}


def save_checked(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and a JSON value as a sealed safetensors file."""
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(
        cpu_tensors, {"unrolled": json.dumps({"format": FORMAT_VERSION, "sha256": _EMPTY_DIGEST, **metadata})}
    )
    digest = hashlib.sha256(content).hexdigest()
    write_atomic(path, content.replace(_EMPTY_DIGEST.encode(), digest.encode(), 1))


def load_checked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a sealed file; return its tensors and its JSON value. Raises `ModelError` if it is damaged, or newer than we."""
    content = _read_file(path)
    metadata = _read_metadata(path, content)
    digest = metadata.pop("sha256" if metadata["format"] > 1 else "seal", None)
    if not isinstance(digest, str) or len(digest) != len(_EMPTY_DIGEST) or not digest.isascii():
        raise ModelError(f"{path} was not written by unrolled: its header has no seal.")
    if hashlib.sha256(content.replace(digest.encode(), _EMPTY_DIGEST.encode(), 1)).hexdigest() != digest:
        raise ModelError(f"{path} is damaged: its contents do not match its seal. Take another copy or checkpoint.")
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    try:
        return (tensors, metadata) if metadata["format"] > 1 else upgrade(tensors, metadata)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a sound file of format 1: {error}.") from error


def _read_file(path: Path) -> bytes:
    """Return what is in a file that begins like a model, so that whatever else is large is not read to its end."""
    if path.exists() and not path.is_file():  # a device would never end
        raise ModelError(f"{path} is no file.")
    try:
        with open(path, "rb") as file:
            file_size, prefix = os.fstat(file.fileno()).st_size, file.read(9)
            header_size = int.from_bytes(prefix[:8], "little")
            if prefix[8:] != b"{" or not 2 <= header_size <= min(MAX_HEADER_BYTES, file_size - 8):
                raise ModelError(f"{path} is no model file, or only the beginning of one ({file_size:,} bytes).")
            header = file.read(header_size - 1)
            if sum(map(header.count, (b",", b"[", b"{"))) > MAX_HEADER_ITEMS:
                raise ModelError(f"{path} is no model file: its header has too many parts.")
            return prefix + header + file.read()
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _read_metadata(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON value of the header, its format known to be one that we read."""
    size = int.from_bytes(content[:8], "little")
    try:
        metadata = dict(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["unrolled"]))
        version = int(metadata["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} is no model file of unrolled, or is damaged in its header.") from error
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path} has format {version} and this version of unrolled reads up to {FORMAT_VERSION}: install a newer unrolled."
        )
    return metadata
