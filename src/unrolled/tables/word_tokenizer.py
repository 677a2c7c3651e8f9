"""Tokenizers for the text columns of tables: words, and byte-pair pieces.

A word that the training rows have only once is *rare*. In a source column, it is replaced by a token for its shape (suffix,
capitals, digits), which it shares with other rare words, so that new words are not all the same; in a target column it is
unknown.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from unrolled.errors import DataError, ModelError
from unrolled.text.bpe_tokenizer import import_tokenizers
from unrolled.text.decode_stream import DecodeStream
from unrolled.text.rule_tokenizer import WORD_PATTERN
from unrolled.text.tokenizer import Ids, Tokenizer

MAX_WORDS = 30_000
"""Maximum size of a vocabulary of words: the most frequent ones."""

MIN_WORD_COUNT = 2
"""Occurrences of a word, at least, to have a token of its own."""

MIN_SHAPE_COUNT = 5
"""Rare words of the same shape, at least, for the shape to have a token."""

BPE_VOCAB_SIZE = 8000
"""Size of a vocabulary that byte-pair encoding learns."""

_SHAPE_PREFIX = "\0"
_WORDS = re.compile(WORD_PATTERN)


def split_words(text: str, spaces: bool) -> list[str]:
    """Return the words of a text, split at white space, or (not `spaces`) each with the space before it, to lose nothing."""
    return text.split() if spaces else _WORDS.findall(" " + text)


def word_shapes(word: str) -> Iterator[str]:
    """Yield names of the shape of a word, the most specific first."""
    stripped = word.strip()
    marks = ("9" if any(c.isdigit() for c in stripped) else "") + ("-" if "-" in stripped[1:] else "")
    case = "A" if stripped.isupper() and len(stripped) > 1 else "a" if stripped[:1].isupper() else ""
    for suffix_length in (4, 3, 2, 1, 0):
        if suffix_length < len(stripped):
            yield f"{_SHAPE_PREFIX}{case}{marks}~{stripped[-suffix_length:].lower() if suffix_length else ''}"


class WordTokenizer(Tokenizer):
    """Words; `spaces` says whether they are separated by white space (see `split_words`).

    Tokens that begin with NUL are shapes of rare words. `lookup` returns None for a word without a token.
    """

    kind = "words"

    def __init__(self, tokens: Sequence[str], spaces: bool) -> None:
        super().__init__(len(tokens), has_eos=False)
        self.tokens, self.spaces = list(tokens), spaces
        self._token_to_id = {token: index for index, token in enumerate(self.tokens)}

    @staticmethod
    def from_counts(counts: Counter[str], spaces: bool, is_source: bool) -> WordTokenizer:
        """Build the vocabulary from `counts` of words; that of a source also gets tokens for the shapes of rare words."""
        frequent = [word for word, count in counts.most_common(MAX_WORDS) if count >= MIN_WORD_COUNT]
        tokens = sorted(frequent)
        if is_source:
            rare = [word for word, count in counts.items() if count < MIN_WORD_COUNT]
            shape_counts = Counter(shape for word in rare for shape in word_shapes(word))
            tokens += sorted(shape for shape, count in shape_counts.items() if count >= MIN_SHAPE_COUNT)
        return WordTokenizer(tokens, spaces)

    def lookup(self, word: str) -> int | None:
        """Return the id of a word, else of it in lower case, else of its shape, else None."""
        token_id = self._token_to_id.get(word)
        if token_id is not None:
            return token_id
        fallbacks = itertools.chain((word.lower(),), word_shapes(word))
        return next((self._token_to_id[fallback] for fallback in fallbacks if fallback in self._token_to_id), None)

    def has_word(self, word: str) -> bool:
        """Return whether a word, as it is or in lower case, has a token of its own."""
        return word in self._token_to_id or word.lower() in self._token_to_id

    def encode(self, text: str) -> Ids:
        ids = [self.lookup(word) for word in split_words(text, self.spaces)]
        return np.array([i for i in ids if i is not None], dtype=np.int64)

    def decode_stream(self) -> DecodeStream:
        return _WordDecodeStream(self)

    def detokenize(self, ids: Sequence[int], copied_words: dict[int, str]) -> str:
        """Return the text of `ids`, in which `copied_words` by position replace the words of the vocabulary."""
        words = [
            copied_words.get(position) or (self.tokens[i] if i < self.vocab_size else "") for position, i in enumerate(ids)
        ]
        return " ".join(words) if self.spaces else "".join(words).removeprefix(" ")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": self.tokens, "spaces": self.spaces}


class _WordDecodeStream(DecodeStream):
    def __init__(self, tokenizer: WordTokenizer) -> None:
        self._tokenizer, self._started = tokenizer, False

    def decode_step(self, token_id: int) -> str:
        word = self._tokenizer.tokens[token_id] if token_id < self._tokenizer.vocab_size else ""
        if self._tokenizer.spaces and self._started:
            word = " " + word
        elif not self._started:
            word = word.removeprefix(" ")
        self._started = True
        return word

    def finish(self) -> str:
        return ""


class BPETokenizer(Tokenizer):
    """Byte-pair encoding (Sennrich et al., 2016) over bytes: no text is unknown. Needs the package `tokenizers`."""

    kind = "bpe"

    def __init__(self, definition: str) -> None:
        self.definition = definition
        self._tokenizer = import_tokenizers().Tokenizer.from_str(definition)
        super().__init__(self._tokenizer.get_vocab_size(), has_eos=False)

    @staticmethod
    def train(texts: Iterable[str]) -> BPETokenizer:
        """Train on `texts`."""
        library = import_tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=BPE_VOCAB_SIZE, show_progress=False, initial_alphabet=alphabet)
        tokenizer.train_from_iterator(map(_replace_surrogates, texts), trainer)
        return BPETokenizer(tokenizer.to_str())

    def encode(self, text: str) -> Ids:
        return np.array(self._tokenizer.encode(_replace_surrogates(text)).ids, dtype=np.int64)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode([int(i) for i in ids]))

    def decode_stream(self) -> DecodeStream:
        return _BPEDecodeStream(self)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "definition": json.loads(self.definition)}


class _BPEDecodeStream(DecodeStream):
    """Returns the whole text in `finish`, since two tokens may each have a part of a character."""

    def __init__(self, tokenizer: BPETokenizer) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []

    def decode_step(self, token_id: int) -> str:
        self._ids.append(token_id)
        return ""

    def finish(self) -> str:
        return self._tokenizer.decode(self._ids)


def _replace_surrogates(text: str) -> str:
    """Return a text that UTF-8 can encode: unpaired surrogates, which JSON may have, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def word_tokenizer_from_json(value: dict[str, Any]) -> Tokenizer:
    """Build the tokenizer that `to_json` described. Raises `ModelError` for anything else."""
    if value.get("kind") == "bpe":
        try:
            return BPETokenizer(json.dumps(value["definition"]))
        except DataError:
            raise
        except Exception as error:  # the exceptions of tokenizers have no type of their own
            raise ModelError(f"The model's byte-pair encoding cannot be read: {error}.") from error
    tokens = value.get("tokens", value.get("symbols"))
    if not isinstance(tokens, list) or not all(isinstance(s, str) for s in tokens) or len(set(tokens)) != len(tokens):
        raise ModelError("The model's words cannot be read: a list of distinct texts is expected.")
    return WordTokenizer(tokens, bool(value.get("spaces")))
