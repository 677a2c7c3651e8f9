"""Imported models of texts, and the model of PyTorch that many tutorials have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unrolled.checkpoints.model_file import TableModelFile, TextModelFile
from unrolled.errors import UnrolledError
from unrolled.exchange.import_options import ImportOptions
from unrolled.exchange.imports import ImportedModel, import_file
from unrolled.runtime.text_network import TextModel

LETTERS = "ehalo tx\n"
IDS = [3, 1, 0, 8, 5, 5, 2, 7, 4, 6, 0]
V, E, H = len(LETTERS), 4, 5


def text_model(imported: ImportedModel) -> TextModelFile | TextModel:
    """Return the model of texts that an import gave."""
    assert not isinstance(imported.model_file, TableModelFile)
    return imported.model_file


def log_probs(path: Path, vocabulary: str | None = None) -> np.ndarray:
    """Return what an imported model predicts after each of `IDS`, `(T, V)`."""
    model_file = import_file(path, ImportOptions(vocabulary=vocabulary)).model_file
    assert isinstance(model_file, TextModelFile)
    model = model_file.model
    with torch.inference_mode():
        return np.asarray(model(torch.tensor(IDS)[:, None], model.initial_state(1))[0][:, 0].log_softmax(-1))


def message(path: Path, vocabulary: str | None = None) -> str:
    """Return the error of an import."""
    with pytest.raises(UnrolledError) as caught:
        import_file(path, ImportOptions(vocabulary=vocabulary))
    return str(caught.value)


class CharModel(nn.Module):
    """The model of many tutorials."""

    def __init__(self, kind: Any, num_layers: int = 2, is_one_hot: bool = False, **options: Any) -> None:
        super().__init__()
        self.emb = None if is_one_hot else nn.Embedding(V, E)
        self.rnn = kind(V if is_one_hot else E, H, num_layers, **options)
        self.fc = nn.Linear(H, V)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        xs = torch.eye(V)[ids] if self.emb is None else self.emb(ids)
        logits: torch.Tensor = self.fc(self.rnn(xs)[0])
        return logits.log_softmax(-1)
