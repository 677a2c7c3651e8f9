"""Byte-pair encoding of texts, over characters: frequent parts of words are tokens.

The parts of a word are found by the order of the vocabulary alone: of all neighboring parts, those whose union comes first are
joined (Sennrich et al. 2016). So a model reads texts without the package that trained it.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

from unrolled.errors import DataError
from unrolled.text.rule_tokenizer import WORD_PATTERN, RuleTokenizer, count_pieces
from unrolled.text.tokenizer import DOCUMENT_SEPARATORS

NUM_MERGES = 8000
"""Tokens of several characters that are learned, at most."""

MAX_WORD_CHARS = 200
"""A longer word is cut: joining its parts takes a time that grows with the square of its length."""

MAX_CACHED_WORDS = 1 << 16


class BPETextTokenizer(RuleTokenizer):
    """Parts of words, learned by the package `tokenizers`; white space and marks are words too, so that nothing is lost."""

    kind, pattern = "bpe", WORD_PATTERN

    def __init__(self, tokens: Sequence[str], has_eos: bool = False, argument: str = "") -> None:
        super().__init__(tokens, has_eos, argument)
        self._split_words = self.split_line
        self.split_line = self._split_line
        self._parts = functools.lru_cache(MAX_CACHED_WORDS)(self._join_parts)

    @classmethod
    def fit_texts(cls, argument: str, texts: Iterable[str], documents: str, notes: dict[str, int]) -> RuleTokenizer:
        counts, characters = count_pieces(texts, cls.rule(argument)[0])
        characters.update(*counts)
        if documents in DOCUMENT_SEPARATORS:
            characters.discard(chr(DOCUMENT_SEPARATORS[documents]))
        words = (
            (word[:MAX_WORD_CHARS], count) for word, count in sorted(counts.items()) if len(word) > 1 and _is_unicode(word)
        )
        alphabet = sorted(filter(_is_unicode, characters))
        merged = _train((itertools.repeat(word, count) for word, count in words), alphabet)
        return cls(sorted(characters) + [token for token in merged if token not in characters], documents != "none", argument)

    def _split_line(self, line: str) -> list[str]:
        return list(itertools.chain.from_iterable(map(self._parts, self._split_words(line))))

    def _join_parts(self, word: str) -> tuple[str, ...]:
        pieces = [word[start : start + MAX_WORD_CHARS] for start in range(0, len(word), MAX_WORD_CHARS)]
        return tuple(part for piece in pieces for part in self._join(list(piece)))

    def _join(self, parts: list[str]) -> list[str]:
        rank = self._token_to_id
        while len(parts) > 1:
            ranks = [rank.get(left + right, len(rank)) for left, right in itertools.pairwise(parts)]
            first = min(ranks)
            if first == len(rank):
                break
            position = ranks.index(first)
            parts[position : position + 2] = [parts[position] + parts[position + 1]]
        return parts


def _is_unicode(text: str) -> bool:
    """Return whether a text has no unpaired surrogate, which the package `tokenizers` does not take."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _train(words: Iterable[Iterable[str]], alphabet: list[str]) -> list[str]:
    """Return the tokens of several characters that are learned from words, each as often as it occurs, in their order."""
    tokenizers = import_tokenizers()
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=len(alphabet) + NUM_MERGES, min_frequency=2, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(itertools.chain.from_iterable(words), trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    joined = ("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1) for merge in merges)
    return list(dict.fromkeys(joined))


def import_tokenizers() -> Any:
    """Return the package `tokenizers`. Raises `DataError` where it is not installed."""
    try:
        import tokenizers
    except ImportError as error:
        raise DataError("Byte-pair encoding needs the package tokenizers: pip install 'unrolled[data]'") from error
    return tokenizers
