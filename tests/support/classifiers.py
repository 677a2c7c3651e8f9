"""Models that label a text, with noisy weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import torch

from unrolled.checkpoints.model_file import TableModelFile, TextModelFile
from unrolled.nn.base_classifier import BaseClassifier
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.nn.language_model import RecurrentLM
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.base_text import BaseText
from unrolled.tables.column import Column
from unrolled.tables.label_columns import LabelColumn, LabelsColumn
from unrolled.tables.numeric_columns import NumberColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer, split_words
from unrolled.text.tokenizer import CharTokenizer, Tokenizer

WORDS = (
    "the battery was awful and The screen broke , but delivery was lovely ! It 's a 42 - inch TV , bought in 2023 for my "
    "grandmother 's house in K\u00f6ln . really nice good bad walking talking singing ringing"
)
RARE = "running jumping hopping 5th 7th 9th 11th NASA FIFA OPEC NATO UEFA"


def text_column(tokens: str, spaces: bool = True) -> TextColumn:
    """Return a column `text` of words, with shapes of rare ones, or of characters."""
    if tokens == "characters":
        return TextColumn("text", CharTokenizer("abcdefgh .,!\u0301\u00e9\u00f6"))
    counts = Counter(2 * split_words(WORDS, spaces) + split_words(RARE, spaces))
    counts.update({f"x{number}ing": 1 for number in range(9)})
    return TextColumn("text", WordTokenizer.from_counts(counts, spaces, True))


def base_text(tokenizer: Tokenizer | None = None, **options: Any) -> BaseText:
    """Return what a language model of small letters reads, one that has options."""
    options = {"hidden": 12, "layers": 2, **options}
    return BaseText(tokenizer or CharTokenizer("\n abcdefghijklmnopqrstuvwxyz\u2019"), ModelOptions(**options))


def base_model() -> TextModelFile:
    """Return the language model of `base_text`, with random weights."""
    reader = base_text()
    torch.manual_seed(0)
    return TextModelFile(RecurrentLM(reader.tokenizer.vocab_size, reader.options).eval(), reader.tokenizer)


def classifier(
    tokens: str = "words", cell: Any = "lstm", ngrams: int = 1024, labels: int = 3, spaces: bool = True, **pair: Any
) -> TableModelFile:
    """Return a model of a text and a label; `base` of `pair` helps it. With `tags`, `words` or `characters`, each token has a
    label; with `number`, the target is one."""
    column, max_length = text_column(tokens, spaces), pair.pop("max_length", None)
    column.base = pair.pop("base", None)
    column.ngram_buckets, column.ngram_version = 0 if "tags" in pair else ngrams, pair.pop("version", 2)
    column.normalization = pair.pop("normalization", "none")
    names, tags = [f"label {number}" for number in range(labels)], pair.pop("tags", None)
    target: Column = LabelsColumn("labels", ["B", "I", "O"], tags) if tags else LabelColumn("label", names)
    if pair.pop("number", False):
        target = NumberColumn("price", np.array([70.0]), np.array([12.5]))
    spec = TableSpec(column, target, max_length=max_length, threshold=pair.pop("threshold", None))
    torch.manual_seed(0)
    options = ModelOptions(cell=cell, hidden=13, layers=2, two_biases=cell.startswith("gru"))
    model = EncoderDecoder(spec.dims, options, PairOptions(**pair)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.2)
        model.temperature.fill_(1.3)
        if model.ngrams is not None:
            for buffer in (model.ngrams.table, model.ngrams.bias):
                buffer.normal_()
            model.ngrams.weights.uniform_(0.0, 3.0)[-1] = 0
            model.ngrams.share.fill_(0.3 if spec.target.kind == "number" else 2.0)
        if model.base is not None:
            _make_noisy(model.base)
    return TableModelFile(model, spec)


def _make_noisy(base: BaseClassifier) -> None:
    """Give a base weights as if it had been trained, in bfloat16, and a classifier of its states."""
    for weight in [base.vectors, *base.stack.state_dict().values()]:
        weight.add_(torch.randn_like(weight) * 0.3)
        weight.copy_(weight.bfloat16())
    base.means.normal_(0.0, 0.3)
    base.scales.uniform_(0.5, 2.0)
    base.table.normal_()
