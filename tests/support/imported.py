"""Imported models of texts."""

from unrolled.checkpoints.model_file import TableModelFile, TextModelFile
from unrolled.exchange.imports import ImportedModel
from unrolled.runtime.text_network import TextModel


def text_model(imported: ImportedModel) -> TextModelFile | TextModel:
    """Return the model of texts that an import gave."""
    assert not isinstance(imported.model_file, TableModelFile)
    return imported.model_file
