"""Text models of every cell and kind of layer, saved as model files, with weights that let every part count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from unrolled.checkpoints.model_file import TextModelFile, save_model
from unrolled.exchange.export_job import ExportJob
from unrolled.exchange.export_options import ExportOptions
from unrolled.exchange.exports import open_job
from unrolled.network_shapes import LINEAR_CELLS
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.runtime.text_network import TextNetwork, read_text_model
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer

CHARACTERS = "\n abcdefghijklmnopqr\u00e9\u65e5\U0001f600"
CELLS = ("rnn", "gru", "gru-reset-before", "lstm")
NEWER_CELLS = (
    ("mingru", "residual"), ("minlstm", "one-hot"), ("rg-lru", "residual one-hot"), ("slstm", "plain"),
    ("mogrifier-lstm", "residual"), ("mogrifier-lstm", "one-hot"), ("mogrifier-gru", "plain"),
)  # fmt: skip
"""Other cells, with kinds of layers that let every part of them count."""

HARD_CELLS = (("lstm-hard-sigmoid", "plain"), ("gru-hard-sigmoid", "residual"), ("gru-reset-before-hard-sigmoid", "one-hot"))
"""Cells that have every portable step but that of the native module."""

LAYERS: dict[str, dict[str, Any]] = {
    "residual": {"hidden": 21, "layers": 2},
    "plain": {"hidden": 18, "layers": 3, "residual": False, "embedding": 35, "two_biases": True},
    "one-hot": {"hidden": 18, "layers": 2, "residual": False, "embedding": 0, "two_biases": True},
    "residual one-hot": {"hidden": len(CHARACTERS) + 1, "layers": 1, "embedding": 0},
}  # fmt: skip
"""Sizes all differ, and are no multiples of 16 or 32."""


def noisy_model(tokenizer: Tokenizer, seed: int = 0, **options: Any) -> TextModelFile:
    """Return a model whose biases and norms are not what they are initialized to."""
    torch.manual_seed(seed)
    model = RecurrentLM(tokenizer.vocab_size, ModelOptions(**options)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
    return TextModelFile(model, tokenizer, "none" if tokenizer.eos_id is None else "line", {"steps": 3, "val_nats": 1.5})


def saved_model(
    path: Path, cell: str, layers: str = "residual", has_eos: bool = True, is_bytes: bool = False, normalization: str = "none"
) -> Path:
    """Save a noisy model and return its path."""
    tokenizer = ByteTokenizer(has_eos) if is_bytes else CharTokenizer(CHARACTERS, has_eos)
    tokenizer.normalization = normalization
    options = LAYERS[layers] | ({"two_biases": False} if cell in LINEAR_CELLS else {})
    save_model(path, noisy_model(tokenizer, cell=cell, **options))
    return path


def saved_network(folder: Path, cell: str, layers: str) -> TextNetwork:
    """Return the arrays of a noisy model, read from its file."""
    return read_text_model(saved_model(folder / "m.safetensors", cell, layers)).network


def job_of(path: Path, out: str, **options: Any) -> ExportJob:
    """Return a job that exports the model in a file."""
    return open_job(path, ExportOptions(out=out, **options))
