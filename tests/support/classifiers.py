"""Models that label a text, with noisy weights."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch

from unrolled.checkpoints.model_file import TableModelFile
from unrolled.nn.encoder_decoder import EncoderDecoder
from unrolled.options import ModelOptions, PairOptions
from unrolled.tables.label_columns import LabelColumn
from unrolled.tables.spec import TableSpec
from unrolled.tables.text_column import TextColumn
from unrolled.tables.word_tokenizer import WordTokenizer, split_words
from unrolled.text.tokenizer import CharTokenizer

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


def classifier(
    tokens: str = "words", cell: Any = "lstm", ngrams: int = 1024, labels: int = 3, spaces: bool = True, **pair: Any
) -> TableModelFile:
    """Return a model of a text and a label."""
    column, max_length = text_column(tokens, spaces), pair.pop("max_length", None)
    column.ngram_buckets, column.ngram_version = ngrams, pair.pop("version", 2)
    column.normalization = pair.pop("normalization", "none")
    target = LabelColumn("label", [f"label {number}" for number in range(labels)])
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
            model.ngrams.share.fill_(2.0)
    return TableModelFile(model, spec)
