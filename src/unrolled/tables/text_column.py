"""Columns of text."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.tables.base_text import BaseText
from unrolled.tables.cell_values import Array, Cell, parse_text, readable
from unrolled.tables.column import MAX_BASELINE_ROWS, Column, EvalRows, SymbolCounts, normalized_texts
from unrolled.tables.metric_report import MetricReport
from unrolled.tables.metrics import generation_report
from unrolled.tables.ngrams import MAX_CASE_TEXTS, hash_ngrams, read_buckets, version_for
from unrolled.tables.ragged import RaggedArray
from unrolled.tables.word_tokenizer import BPETokenizer, WordTokenizer, split_words, word_tokenizer_from_json
from unrolled.text.normalization import normalize_counted
from unrolled.text.rule_tokenizer import RuleTokenizer
from unrolled.text.tokenizer import CharTokenizer, Tokenizer
from unrolled.text.tokenizers import TOKENIZERS, tokenizer_class, tokenizer_from_json

logger = logging.getLogger(__name__)


def token_kinds() -> list[str]:
    """Return what one token of a text may be, by name."""
    return list(TOKENIZERS)


def is_token_kind(kind: str) -> bool:
    """Return whether a kind of column is text of these tokens: `smiles`, `regex:[a-z]+`."""
    return kind.partition(":")[0] in token_kinds()


def _keeping(texts: Iterable[str], kept: list[str]) -> Iterator[str]:
    """Yield texts, and keep the first ones."""
    for text in texts:
        if len(kept) < MAX_CASE_TEXTS:
            kept.append(text)
        yield text


class TextColumn(Column):
    """A text, as characters, bytes, words or byte-pair pieces."""

    kind, tensor_kind, is_sequence, output = "text", "ids", True, "generated"
    may_keep_na = True
    tokenizer: Tokenizer

    def __init__(self, name: str, tokenizer: Tokenizer) -> None:
        super().__init__(name)
        self.tokenizer = tokenizer
        self.unk_id = tokenizer.vocab_size
        self.size = tokenizer.vocab_size + 1

    @classmethod
    def fit(cls, name: str, cells: Iterable[Cell], config: dict[str, Any]) -> TextColumn:
        tokens, form = config["tokens"], "none" if config["tokens"] == "bytes" else config.get("normalize", "none")
        texts = normalized_texts(name, readable(cells, parse_text), form)
        first_texts = list[str]()
        column = cls(name, cls._fit_tokenizer(name, _keeping(texts, first_texts), tokens, config))
        column.normalization = form
        if tokens not in ("words", "bpe"):
            column.ngram_version = version_for(first_texts)
        return column

    @staticmethod
    def _fit_tokenizer(name: str, texts: Iterable[str], tokens: str, config: dict[str, Any]) -> Tokenizer:
        if tokens == "bpe":
            return BPETokenizer.train(texts)
        if tokens == "words":
            counts: Counter[str] = Counter()
            for text in texts:
                counts.update(split_words(text, config["spaces"]))
            return WordTokenizer.from_counts(counts, config["spaces"], config["is_source"])
        tokenizer_type, notes = tokenizer_class(tokens), dict[str, int]()
        if issubclass(tokenizer_type, RuleTokenizer):
            tokenizer = tokenizer_type.fit_texts(tokens.partition(":")[2], texts, "none", notes)
            for note, count in notes.items():
                logger.info(f"column '{name}': {count:,} {note}")
            return tokenizer
        chars: set[str] = set()
        for text in texts:
            chars.update(text)
        return tokenizer_type.fit([] if tokenizer_type.reads_bytes else sorted(chars), has_eos=False)

    @property
    def symbol_noun(self) -> str:  # type: ignore[override]
        words = self.tokenizer.kind == "words"
        return "words are not in the vocabulary of the model" if words else "characters were never seen in training"

    def count_symbols(self, cell: Cell) -> SymbolCounts:
        tokenizer = self.tokenizer
        text, num_changed = normalize_counted(parse_text(cell), self.normalization)
        if isinstance(tokenizer, WordTokenizer):
            words = split_words(text, tokenizer.spaces)
            return SymbolCounts(len(words), sum(not tokenizer.has_word(word) for word in words), num_changed)
        if isinstance(tokenizer, CharTokenizer):
            num_unknown = int((tokenizer.id_of_code_point[tokenizer.code_points(text)] < 0).sum())
            return SymbolCounts(len(text), num_unknown, num_changed)
        return SymbolCounts(len(text), 0, num_changed)

    def unknown_symbols(self, cell: Cell) -> list[str]:
        text, tokenizer = self.read_text(cell), self.tokenizer
        if isinstance(tokenizer, WordTokenizer):
            return [word for word in split_words(text, tokenizer.spaces) if not tokenizer.has_word(word)]
        return tokenizer.unknown_tokens(text)

    def encode(self, cell: Cell) -> Array:
        text, tokenizer = self.read_text(cell), self.tokenizer
        if isinstance(tokenizer, WordTokenizer):
            ids_or_none = [tokenizer.lookup(word) for word in split_words(text, tokenizer.spaces)]
            return np.array([self.unk_id if i is None else i for i in ids_or_none], dtype=np.int64)
        if isinstance(tokenizer, CharTokenizer):
            code_points = tokenizer.code_points(text)
            ids: Array = tokenizer.id_of_code_point[code_points].astype(np.int64)
            for position in np.flatnonzero(ids < 0).tolist():
                replacement = tokenizer.nearest_known(chr(code_points[position]))
                is_char = len(replacement) == 1 and replacement.strip()
                ids[position] = tokenizer.encode(replacement)[0] if is_char else self.unk_id
            return ids
        return tokenizer.encode(text).astype(np.int64)

    def cell_tokens(self, cell: Cell) -> Sequence[str]:
        text, tokenizer = self.read_text(cell), self.tokenizer
        if isinstance(tokenizer, RuleTokenizer):
            return tokenizer.texts_of(tokenizer.code_points(text))
        return split_words(text, tokenizer.spaces) if isinstance(tokenizer, WordTokenizer) else text

    def text_of_steps(self, cell: Cell, steps: Array) -> str:
        """Return the text of the first steps of a cell."""
        if not self.has_text_tokens:
            return self.decode(steps)
        separator = " " if isinstance(self.tokenizer, WordTokenizer) and self.tokenizer.spaces else ""
        return separator.join(self.cell_tokens(cell)[: len(steps)])

    @property
    def has_text_tokens(self) -> bool:
        """Whether the texts of its tokens together are the text: words and characters, and not bytes and pieces of words."""
        return isinstance(self.tokenizer, WordTokenizer | CharTokenizer)

    def features_of(self, text: str) -> dict[str, Any]:
        """Return what a linear classifier reads of a text, as fields of `EncodedSource`; nothing if the model has none."""
        ngrams = {"ngrams": hash_ngrams(text, self.ngram_version)} if self.ngram_buckets else {}
        return ngrams if self.base is None else {**ngrams, "base_ids": self.base.encode(text)}

    def decode(self, values: Array) -> str:
        return self.tokenizer.decode(i for i in values.tolist() if i != self.unk_id)

    def baseline_stats(
        self, source: Column, sources: RaggedArray, targets: RaggedArray, index: npt.NDArray[np.int64]
    ) -> dict[str, Any]:
        """Return the most frequent text, and the largest number of tokens."""
        counts = Counter(targets[i].tobytes() for i in index[:MAX_BASELINE_ROWS].tolist())
        majority_ids = np.frombuffer(counts.most_common(1)[0][0], dtype=np.int32)
        return {"max_length": int(targets.lengths[index].max()), "most_common": self.decode(majority_ids)}

    def metric_report(self, rows: EvalRows, train_stats: dict[str, Any]) -> MetricReport:
        baselines = {"most_common": [str(train_stats["most_common"])] * len(rows.truths)}
        if rows.source.tokenizer is not None:
            baselines["copy"] = [rows.source.read_text(cell) for cell in rows.source_cells]
        return generation_report([self.read_text(cell) for cell in rows.truths], rows.texts, baselines)

    def to_dict(self) -> dict[str, Any]:
        ngrams = {"ngram_buckets": self.ngram_buckets, "ngram_version": self.ngram_version} if self.ngram_buckets else {}
        base = {} if self.base is None else {"base": self.base.to_json()}
        return {"tokenizer": self.tokenizer.to_json(), **ngrams, **base}

    @classmethod
    def from_dict(cls, name: str, value: dict[str, Any]) -> TextColumn:
        tokenizer_json = value["tokenizer"]
        from_json = word_tokenizer_from_json if tokenizer_json["kind"] in ("words", "bpe") else tokenizer_from_json
        column = cls(name, from_json(tokenizer_json))
        column.base = BaseText.from_json(value.get("base"))
        column.ngram_buckets, column.ngram_version = read_buckets(value.get("ngram_buckets", 0)), value.get("ngram_version", 1)
        return column

    def describe(self) -> str:
        return f"{self.name}: text as {self.tokenizer.setting} ({self.tokenizer.vocab_size:,} kinds)"
