"""Small random models, and checkpoints made of them."""

from typing import Any

import torch

from unrolled.checkpoints.model_file import TextModelFile
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions
from unrolled.text.tokenizer import CharTokenizer


def small_model(seed: int = 0, end: bool = False) -> TextModelFile:
    """Return a model of four characters with random weights; of lines if it has an end."""
    torch.manual_seed(seed)
    vocabulary = CharTokenizer("ab\u00e9\u65e5", end)
    model = RecurrentLM(vocabulary.vocab_size, ModelOptions(hidden=6, layers=1))
    return TextModelFile(model, vocabulary, "line" if end else "none", {"steps": 3})


def checkpoint_parts(step: int, version: int = 0) -> tuple[Any, dict[str, torch.Tensor], dict[str, Any]]:
    """Return what a checkpoint of a step is made of; another `version` has other numbers."""
    saved = small_model(step + 100 * version)
    saved.history.update(steps=step)
    return saved, {"x": torch.full((50,), step + version / 10)}, {"state": {"used": {"steps": step}}}
