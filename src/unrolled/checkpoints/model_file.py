"""Model files as torch modules: the upper half of the reader and writer of model files.

What such a file is, and how it is checked, is in `array_file`. The optimizer state of a checkpoint is saved in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from unrolled.checkpoints.array_file import FORMAT_VERSION as FORMAT_VERSION
from unrolled.checkpoints.array_file import (
    checksum_header,
    read_documents,
    read_generation,
    read_history,
    read_tokenizer,
    read_verified,
    require_finite,
    to_present_format,
    window_refusal,
    write_with_checksum,
)
from unrolled.errors import ModelError, UsageError
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM, parameter_count
from unrolled.nn.ngram_classifier import to_present_state
from unrolled.options import ModelOptions, PairOptions, from_dict
from unrolled.tables.model_dims import ModelDims
from unrolled.tables.spec import TableSpec
from unrolled.text.line_format import LineFormat
from unrolled.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextModelFile:
    """The content of a text model's file.

    `documents` is a choice of `--documents`; `history` has facts of its training, `generation` its own defaults of sampling.
    """

    model: RecurrentLM
    tokenizer: Tokenizer
    documents: str = "none"
    history: dict[str, Any] = field(default_factory=dict)
    generation: dict[str, Any] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """Return the JSON value of the header."""
        text_fields = {"tokenizer": self.tokenizer.to_json(), "documents": self.documents}
        if self.tokenizer.line_format != LineFormat():
            text_fields["lines"] = self.tokenizer.line_format.to_json()
        if self.generation:
            text_fields["generation"] = self.generation
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
    """Write the model file `path` atomically."""
    tensors = model_file.model.state_dict()
    frozen = {name: _shortened(tensor) for name, tensor in tensors.items() if name.startswith(("base.stack.", "base.vectors"))}
    save_checked(path, tensors | frozen, model_file.metadata())


def _shortened(tensor: Tensor) -> Tensor:
    """Return a tensor in bfloat16, if it then has the same values."""
    short = tensor.bfloat16()
    return short if torch.equal(short.to(tensor.dtype), tensor) else tensor


def load_model(path: Path) -> ModelFile:
    """Read a model file, on the processor, in float32. Raises `ModelError` for anything but a whole, sound model.

    Raises `UsageError` for a model that reads windows, which torch has no network for.
    """
    tensors, metadata = load_checked(path)
    build = _BUILDERS.get(str(metadata.get("kind")))
    if build is None:
        raise ModelError(f"{path} holds no model but {metadata.get('kind')!r}.")
    if metadata.get("window") is not None:
        raise UsageError(window_refusal(path))
    try:
        tensors = to_present_state({name: _to_float32(tensor) for name, tensor in tensors.items()})
        require_finite({name: tensor.numpy() for name, tensor in tensors.items()})
        with torch.random.fork_rng(devices=[]):  # on the meta device, torch's initializers import its compiler: 0.9 s
            model_file = build(tensors, metadata)
        model_file.model.load_state_dict(tensors, assign=True)
        for weight in model_file.model.parameters():
            weight.requires_grad_(True)
        return model_file
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError, UsageError) as error:
        raise ModelError(f"{path} is no model that this version can read: {error}.") from error


def _to_float32(tensor: Tensor) -> Tensor:
    """Return a weight in float32, which has every value of the shorter formats."""
    if tensor.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        raise ValueError("the weights are not float32")
    return tensor.float()


def load_table_model(path: Path) -> TableModelFile:
    """Read a model file that is to be one of a table, as `load_model` does."""
    model_file = load_model(path)
    if not isinstance(model_file, TableModelFile):
        raise ModelError(f"{path} is a model of texts, and one of a table is expected.")
    return model_file


def load_text_model(path: Path) -> TextModelFile:
    """Read a model file that is to be one of texts, as `load_model` does."""
    model_file = load_model(path)
    if not isinstance(model_file, TextModelFile):
        raise ModelError(f"{path} is a model of a table, and one of texts is expected.")
    return model_file


def _build_text_model(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> TextModelFile:
    tokenizer = read_tokenizer(metadata)
    options = from_dict(ModelOptions, metadata["options"], "model")
    if parameter_count(tokenizer.vocab_size, options) != sum(tensor.numel() for tensor in tensors.values()):
        raise ValueError("the weights are not those of its options")
    network = RecurrentLM(tokenizer.vocab_size, options).eval()
    return TextModelFile(network, tokenizer, read_documents(metadata), read_history(metadata), read_generation(metadata))


def _build_table_model(tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> TableModelFile:
    spec = TableSpec.from_json(metadata["spec"])
    options = from_dict(ModelOptions, metadata["options"], "model")
    pair = from_dict(PairOptions, metadata["table_options"], "model")
    _check_sizes(tensors, spec.dims, options)
    network = EncoderDecoder(spec.dims, options, pair).eval()
    if "encoder.start" in tensors:
        network.encoder.add_start()
    return TableModelFile(network, spec, read_history(metadata))


def _check_sizes(tensors: Mapping[str, Tensor], dims: ModelDims, options: ModelOptions) -> None:
    """Raise `ValueError` before anything is built that could be larger than the file it comes from."""
    num_weights = sum(tensor.numel() for tensor in tensors.values())
    sizes = [size for other in dims.others for size in (other.size, math.prod(other.image_shape or (0,)))]
    largest = max(
        1,
        dims.ngram_buckets,
        *((dims.base.vocab_size, dims.base.options.hidden**2, dims.base.options.layers) if dims.base else ()),
        dims.source_size,
        dims.target_size,
        math.prod(dims.image_shape or (0,)),
        dims.target_length,
        *sizes,
    )
    width = tensors["encoder.norm.weight"].numel() if options.residual else tensors["head.weight"].shape[-1]
    is_width_valid = width == options.hidden and options.hidden**2 <= max(num_weights, 1 << 24)
    if not is_width_valid or options.layers > len(tensors) or largest > max(num_weights, 1 << 24):
        raise ValueError("the weights are not those of its options")


_BUILDERS: dict[str, Callable[[Mapping[str, Tensor], dict[str, Any]], ModelFile]] = {
    "text": _build_text_model,
    "table": _build_table_model,
}


def save_checked(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and a JSON value as a safetensors file with a checksum."""
    cpu_tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_with_checksum(path, safetensors.torch.save(cpu_tensors, checksum_header(metadata, FORMAT_VERSION)))


def load_checked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Verify and read a file; return its tensors and its JSON value. Raises `ModelError` if it is damaged, or of a newer
    version."""
    content, metadata = read_verified(path)
    try:
        tensors = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelError(f"{path} is damaged: {error}.") from error
    return to_present_format(path, tensors, metadata)
