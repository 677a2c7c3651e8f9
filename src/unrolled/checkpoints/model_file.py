"""One file, one model: weights, vocabulary and configuration, in the safetensors format.

The header's metadata holds one JSON value under `unrolled`: format version, kind, options, vocabulary, a short history, and
`seal`: the SHA-256 of the whole file with the seal's own digits read as zeros, so that one changed bit anywhere is
noticed. Nothing here is pickled, and nothing that is read is run.

The same sealed file carries the optimiser's tensors in a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from unrolled.atomic_io import storage_error, write_bytes
from unrolled.errors import ModelError, UsageError
from unrolled.nn.encoder_decoder import PairModel
from unrolled.nn.language_model import SequenceModel, parameter_count
from unrolled.options import ModelOptions, PairOptions, from_dict
from unrolled.tables.spec import PairShape, Task
from unrolled.text.tokenizer import Vocabulary, vocabulary_from_json

FORMAT = 1
MODEL_NAME = "model.safetensors"
LONGEST_HEADER = 64 << 20
"""Bytes of header beyond which a file is not believed: the largest vocabulary there can be needs a tenth."""

MOST_PARTS = 500_000
"""Members of objects and lists in a header beyond which it is not parsed: a table's words and labels need a tenth."""

_ZEROS = "0" * 64


@dataclass(frozen=True)
class SavedModel:
    """A model of texts as it lies in its file. `unit` is what its documents are; `history` is worth knowing of its training."""

    model: SequenceModel
    vocabulary: Vocabulary
    unit: str = "stream"
    history: dict[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """Return all but the weights."""
        meaning = {"vocabulary": self.vocabulary.to_json(), "unit": self.unit}
        return {"kind": "model", "options": asdict(self.model.options), **meaning, "history": self.history}


@dataclass(frozen=True)
class SavedPairs:
    """A model of a table's two columns as it lies in its file."""

    model: PairModel
    task: Task
    history: dict[str, Any] = field(default_factory=dict)

    def about(self) -> dict[str, Any]:
        """Return all but the weights."""
        options = {"options": asdict(self.model.options), "pair": asdict(self.model.pair)}
        return {"kind": "pairs", **options, "task": self.task.to_json(), "history": self.history}


Saved = SavedModel | SavedPairs


def save_model(path: Path, saved: Saved) -> None:
    """Write the model file `path`, whole or not at all."""
    write_sealed(path, saved.model.state_dict(), saved.about())


def load_model(path: Path) -> Saved:
    """Read a model file, on the processor, in float32. Raises `ModelError` for anything but a whole, sound model."""
    tensors, about = read_sealed(path)
    build = _BUILDERS.get(str(about.get("kind")))
    if build is None:
        raise ModelError(f"{path} holds no model but {about.get('kind')!r}.")
    try:
        if any(tensor.dtype != torch.float32 for tensor in tensors.values()):
            raise ValueError("the weights are not float32")
        with torch.random.fork_rng(devices=[]):  # on the meta device, torch's initialisers import its compiler: 0.9 s
            saved = build(tensors, about)
        saved.model.load_state_dict(tensors, assign=True)
        for weight in saved.model.parameters():
            weight.requires_grad_(True)
        return saved
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, UsageError) as error:
        raise ModelError(f"{path} is no model that this version can read: {error}.") from error


def load_text_model(path: Path) -> SavedModel:
    """Read a model file that is to be one of texts, as `load_model` does."""
    saved = load_model(path)
    if not isinstance(saved, SavedModel):
        raise ModelError(f"{path} is a model of a table, and one of texts is expected.")
    return saved


def _text(tensors: Mapping[str, Tensor], about: dict[str, Any]) -> SavedModel:
    vocabulary = vocabulary_from_json(about["vocabulary"])
    options = from_dict(ModelOptions, about["options"], "model")
    if parameter_count(vocabulary.size, options) != sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError("the weights are not those of its options")
    return SavedModel(SequenceModel(vocabulary.size, options).eval(), vocabulary, str(about["unit"]), dict(about["history"]))


def _pairs(tensors: Mapping[str, Tensor], about: dict[str, Any]) -> SavedPairs:
    task = Task.from_json(about["task"])
    options = from_dict(ModelOptions, about["options"], "model")
    pair = from_dict(PairOptions, about["pair"], "model")
    _fits(tensors, task.shape, options)
    return SavedPairs(PairModel(task.shape, options, pair).eval(), task, dict(about["history"]))


def _fits(tensors: Mapping[str, Tensor], shape: PairShape, options: ModelOptions) -> None:
    """Raise `ValueError` before anything is built that could be larger than the file it comes from."""
    weights = sum(tensor.numel() for tensor in tensors.values())
    drawn = max(1, shape.source_size, shape.target_size, math.prod(shape.picture or (0,)), shape.written)
    wide = tensors["reader.norm.weight"].numel() == options.hidden and options.hidden**2 <= max(weights, 1 << 24)
    if not wide or options.layers > len(tensors) or drawn > max(weights, 1 << 24):
        raise ValueError("the weights are not those of its options")


_BUILDERS: dict[str, Callable[[Mapping[str, Tensor], dict[str, Any]], Saved]] = {"model": _text, "pairs": _pairs}


def write_sealed(path: Path, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and a JSON value as a sealed safetensors file."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    content = safetensors.torch.save(plain, {"unrolled": json.dumps({"format": FORMAT, "seal": _ZEROS, **about})})
    digest = hashlib.sha256(content).hexdigest()
    write_bytes(path, content.replace(_ZEROS.encode(), digest.encode(), 1))


def read_sealed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a sealed file; return its tensors and its JSON value. Raises `ModelError` if it is damaged, or newer than we."""
    content = _read(path)
    about = _about(path, content)
    seal = about.pop("seal", None)
    if not isinstance(seal, str) or len(seal) != len(_ZEROS) or not seal.isascii():
        raise ModelError(f"{path} was not written by unrolled: its header has no seal.")
    if hashlib.sha256(content.replace(seal.encode(), _ZEROS.encode(), 1)).hexdigest() != seal:
        raise ModelError(f"{path} is damaged: its contents do not match its seal. Take another copy or checkpoint.")
    try:
        return safetensors.torch.load(content), about
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error


def _read(path: Path) -> bytes:
    """Return what is in a file that begins like a model, so that whatever else is large is not read to its end."""
    if path.exists() and not path.is_file():  # a device would never end
        raise ModelError(f"{path} is no file.")
    try:
        with open(path, "rb") as file:
            length, head = os.fstat(file.fileno()).st_size, file.read(9)
            size = int.from_bytes(head[:8], "little")
            if head[8:] != b"{" or not 2 <= size <= min(LONGEST_HEADER, length - 8):
                raise ModelError(f"{path} is no model file, or only the beginning of one ({length:,} bytes).")
            header = file.read(size - 1)
            if sum(map(header.count, (b",", b"[", b"{"))) > MOST_PARTS:
                raise ModelError(f"{path} is no model file: its header has too many parts.")
            return head + header + file.read()
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _about(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON value of the header, its format known to be one that we read."""
    size = int.from_bytes(content[:8], "little")
    try:
        about = dict(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["unrolled"]))
        version = int(about["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} is no model file of unrolled, or is damaged in its header.") from error
    if version > FORMAT:
        raise ModelError(
            f"{path} has format {version} and this version of unrolled reads up to {FORMAT}: install a newer unrolled."
        )
    return about
