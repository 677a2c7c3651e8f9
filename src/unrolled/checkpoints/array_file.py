"""Safetensors files with a checksum as numpy arrays: the lower half of the reader of model files. It imports no torch.

The metadata of the header holds one JSON value under `unrolled`: format version, kind, options, tokenizer, a short history, and
`sha256`, the SHA-256 of the whole file in which the digits of `sha256` itself count as zeros. So one changed bit anywhere is
noticed. Nothing is pickled, and nothing that is read is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from unrolled.atomic_io import storage_error, write_atomic
from unrolled.checkpoints.format_1 import upgrade
from unrolled.errors import ModelError
from unrolled.options import DataOptions, SampleOptions, choices, from_dict
from unrolled.text.line_format import LineFormat
from unrolled.text.tokenizer import Tokenizer
from unrolled.text.tokenizers import tokenizer_from_json

Array: TypeAlias = npt.NDArray[Any]
T = TypeVar("T")

FORMAT_VERSION = 2
MAX_HEADER_BYTES = 64 << 20
"""Files with a larger header are refused. The largest possible vocabulary needs a tenth of this."""

MAX_HEADER_ITEMS = 500_000
"""Members of objects and lists in a header beyond which it is not parsed: a table's words and labels need a tenth."""

EMPTY_DIGEST = "0" * 64

GENERATION_SETTINGS = ("temperature", "top_k", "top_p", "min_p")
"""What a model of texts may say about how it is sampled where nobody says otherwise."""

HISTORY_NUMBERS = frozenset(("steps", "seconds", "val_nats", "logit_scale"))
"""Facts in the history of a model that are numbers."""

TAKE_ANOTHER = "Take another copy or checkpoint."
DOCUMENTS_TYPE = typing.get_type_hints(DataOptions)["documents"]

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4",
    "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def read_model(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a file with a checksum, a model of any kind or the training state of a checkpoint.

    Args:
        path: The file.

    Returns:
        The JSON value of its header, in the present format, and its arrays by name. The arrays can be written to. bfloat16,
        which numpy does not have, becomes float32, which has all its values; any other dtype stays as it is.

    Raises:
        ModelError: The file is missing, damaged, no model file, or newer than this version.
        StorageError: It cannot be read.

    Example:
        >>> header, arrays = read_model(Path("runs/book/model.safetensors"))
        >>> header["kind"], arrays["head.bias"].dtype
        ('text', dtype('float32'))
    """
    content, metadata = read_verified(path)
    try:
        entries = safetensors.deserialize(content)  # type: ignore[no-untyped-call]  # the package leaves it untyped
        arrays = {name: _to_array(entry) for name, entry in entries}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}. {TAKE_ANOTHER}") from error
    arrays, metadata = to_present_format(path, arrays, metadata)
    return metadata, arrays


TEMPERATURE = "temperature"
"""The array of models of tables that calibration sets: it is no parameter of the network."""


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return the JSON value of a model file, in the present format, and its number of weights; the weights are not read.

    The checksum is not verified: this is for lists of models. Raises as `read_model` does.
    """
    content = _read_file(path, header_only=True)
    metadata = _read_metadata(path, content)
    try:
        entries = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        weights = {name: entry for name, entry in entries.items() if name not in ("__metadata__", TEMPERATURE)}
        num_weights = sum(math.prod(entry["shape"]) for entry in weights.values())
    except (KeyError, TypeError) as error:
        raise ModelError(f"{path} is damaged in its header. {TAKE_ANOTHER}") from error
    return to_present_format(path, dict[str, Array](), metadata)[1], int(num_weights)


def save_arrays(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
    """Write arrays and a JSON value with a checksum; the bytes are those that the same tensors of torch would give."""
    contiguous = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    write_with_checksum(path, safetensors.numpy.save(contiguous, checksum_header(metadata)))


def checksum_header(metadata: Mapping[str, Any], version: int = FORMAT_VERSION) -> dict[str, str]:
    """Return the metadata of a safetensors header for a JSON value, with an empty digest."""
    return {"unrolled": json.dumps({"format": version, "sha256": EMPTY_DIGEST, **metadata})}


def write_with_checksum(path: Path, content: bytes) -> None:
    """Write a safetensors file atomically, with its SHA-256 in the place of the empty digest of its header."""
    digest = hashlib.sha256(content).hexdigest()
    write_atomic(path, content.replace(EMPTY_DIGEST.encode(), digest.encode(), 1))


def read_verified(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Verify a file; return its content and the JSON value of its header. Raises as `read_model` does."""
    content = _read_file(path)
    metadata = _read_metadata(path, content)
    digest = metadata.pop("sha256" if metadata["format"] > 1 else "seal", None)
    if not isinstance(digest, str) or len(digest) != len(EMPTY_DIGEST) or not digest.isascii():
        raise ModelError(
            f"{path} was not written by unrolled: its header has no checksum. Models of other programs: unrolled import."
        )
    if hashlib.sha256(content.replace(digest.encode(), EMPTY_DIGEST.encode(), 1)).hexdigest() != digest:
        raise ModelError(f"{path} is damaged: its contents do not match its checksum. {TAKE_ANOTHER}")
    return content, metadata


def to_present_format(path: Path, arrays: dict[str, T], metadata: dict[str, Any]) -> tuple[dict[str, T], dict[str, Any]]:
    """Return arrays or tensors and the JSON value of a file under the names of the present format."""
    try:
        return (arrays, metadata) if metadata["format"] > 1 else upgrade(arrays, metadata)
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is not a sound file of format 1: {error}. {TAKE_ANOTHER}") from error


def _to_array(entry: Mapping[str, Any]) -> Array:
    """Return an entry of a safetensors file as an array."""
    dtype = entry["dtype"]
    if dtype == "BF16":  # the upper half of a float32
        upper_half = np.frombuffer(entry["data"], dtype="<u2").astype(np.uint32)
        return (upper_half << 16).view(np.float32).reshape(entry["shape"])
    if dtype not in _DTYPES:
        raise ValueError(f"numbers of the type {dtype} are not read")
    return np.frombuffer(entry["data"], dtype=_DTYPES[dtype]).reshape(entry["shape"])


def _read_file(path: Path, header_only: bool = False) -> bytes:
    """Return what is in a file that begins like a model, so that whatever else is large is not read to its end."""
    if path.exists() and not path.is_file():  # a device would never end
        raise ModelError(f"{path} is no file: name a model file or a run folder.")
    try:
        with open(path, "rb") as file:
            file_size, prefix = os.fstat(file.fileno()).st_size, file.read(9)
            header_size = int.from_bytes(prefix[:8], "little")
            if prefix[8:] != b"{" or not 2 <= header_size <= min(MAX_HEADER_BYTES, file_size - 8):
                raise ModelError(f"{path} is no model file, or only the beginning of one ({file_size:,} bytes).")
            header = file.read(header_size - 1)
            if sum(map(header.count, (b",", b"[", b"{"))) > MAX_HEADER_ITEMS:
                raise ModelError(f"{path} is no model file: its header has too many parts.")
            return prefix + header + (b"" if header_only else file.read())
    except FileNotFoundError as error:
        raise ModelError(f"There is no model file {path}: name another file or a run folder.") from error
    except OSError as error:
        raise storage_error(error, path, "read") from error


def _read_metadata(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON value of the header, its format known to be one that we read."""
    size = int.from_bytes(content[:8], "little")
    try:
        metadata = dict(json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["unrolled"]))
        version = int(metadata["format"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelError(f"{path} is no model file of unrolled, or is damaged in its header. {TAKE_ANOTHER}") from error
    if version > FORMAT_VERSION:
        raise ModelError(
            f"{path} has format {version} and this version of unrolled reads up to {FORMAT_VERSION}: install a newer unrolled."
        )
    return metadata


def require_finite(weights: Mapping[str, Array]) -> None:
    """Raise `ValueError` for a weight that is infinite or not a number: every loss would be wrong, or 0."""
    for name, weight in weights.items():
        if not np.isfinite(weight).all():
            raise ValueError(f"the weights of {name} are not finite")


def read_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """Return the tokenizer of a model of texts, with what it masks. Raises `ModelError` and `ValueError`."""
    tokenizer = tokenizer_from_json(metadata["tokenizer"])
    if "lines" in metadata:
        tokenizer.line_format = LineFormat.from_json(metadata["lines"])
    return tokenizer


def read_documents(metadata: Mapping[str, Any]) -> str:
    """Return what the header says a document is. Raises `ValueError` for anything but the choices of the option."""
    documents, known = metadata["documents"], choices("documents", DOCUMENTS_TYPE)
    if documents not in known:
        raise ValueError(f"its documents are {str(documents)[:40]!r}, and one of {', '.join(known)} is expected")
    return str(documents)


def read_generation(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of sampling of a model of texts, by their names in `SampleOptions`; mostly there are none.

    Raises `ValueError` for other names, and `UsageError` for values that `SampleOptions` refuses.
    """
    generation = metadata.get("generation", {})
    if not isinstance(generation, dict) or not set(generation) <= set(GENERATION_SETTINGS):
        raise ValueError(
            f"its generation is {str(generation)[:40]!r}, and some of {', '.join(GENERATION_SETTINGS)} are expected"
        )
    from_dict(SampleOptions, generation, "model")
    return generation


def window_refusal(path: Path) -> str:
    """Return the sentence for what needs a network that carries a state, and got one that reads windows."""
    return (
        f"{path} was imported from textgenrnn, whose network reads its last tokens anew at each step: it can be sampled, "
        "scored and evaluated on the CPU in float32, and all else needs a model that carries a state (unrolled train TEXT)."
    )


def read_history(metadata: Mapping[str, Any]) -> dict[str, Any]:
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
