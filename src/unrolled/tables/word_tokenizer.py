"""Words and pieces of words behind the face of a vocabulary, for the columns of tables.

A word the training rows have but once is *rare*: on the side that is read it stands for all words that look like it (its
ending, capitals, digits), so that new words mean something; on the side that is written it is unknown.
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
from unrolled.text.tokenizer import Decoder, Ids, Vocabulary

MOST_WORDS = 30_000
"""Words a vocabulary has at most, the commonest."""

SEEN = 2
"""Rows a word must be seen in to have a symbol of its own."""

LOOKALIKES = 5
"""Rare words that must look alike for their look to have a symbol."""

BPE_SIZE = 8000
"""Pieces that byte-pair encoding learns."""

_MARK = "\0"
_TOKEN = re.compile(r" ?[^\W\d]+(?:['\u2019][^\W\d]+)*| ?\d+| ?[^\w\s]|\s")
"""Letters, a number, a mark, or white space that is not the one blank before them, which is part of them.

Numbers stand alone even where letters touch them: a whole Japanese date would be one word, and hardly ever the same twice.
"""


def split_words(text: str, spaces: bool) -> list[str]:
    """Return the words of a text: what stands between spaces, or with their blank before them so that nothing is lost."""
    return text.split() if spaces else _TOKEN.findall(" " + text)


def looks(word: str) -> Iterator[str]:
    """Yield names for the look of a word, the most particular first."""
    plain = word.strip()
    shape = ("9" if any(c.isdigit() for c in plain) else "") + ("-" if "-" in plain[1:] else "")
    case = "A" if plain.isupper() and len(plain) > 1 else "a" if plain[:1].isupper() else ""
    for letters in (4, 3, 2, 1, 0):
        if letters < len(plain):
            yield f"{_MARK}{case}{shape}~{plain[-letters:].lower() if letters else ''}"


class Words(Vocabulary):
    """Words; ids run from 0 to `size - 1`. What is no known word, nor looks like one, is `None` to `lookup`.

    With `spaces`, words are what stands between spaces. Symbols that begin with NUL are looks of rare words.
    """

    kind = "words"

    def __init__(self, symbols: Sequence[str], spaces: bool) -> None:
        super().__init__(len(symbols), has_end=False)
        self.symbols, self.spaces = list(symbols), spaces
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}

    @staticmethod
    def of(counts: Counter[str], spaces: bool, read: bool) -> Words:
        """Return the vocabulary of words `counts`; one that is `read` has symbols for the looks of rare words as well."""
        known = [word for word, count in counts.most_common(MOST_WORDS) if count >= SEEN]
        symbols = sorted(known)
        if read:
            rare = [word for word, count in counts.items() if count < SEEN]
            alike = Counter(look for word in rare for look in looks(word))
            symbols += sorted(look for look, count in alike.items() if count >= LOOKALIKES)
        return Words(symbols, spaces)

    def lookup(self, word: str) -> int | None:
        """Return the id of a word, of it in lower case, or of its look."""
        known = self._ids.get(word)
        if known is not None:
            return known
        forms = itertools.chain((word.lower(),), looks(word))
        return next((self._ids[form] for form in forms if form in self._ids), None)

    def encode(self, text: str) -> tuple[Ids, int]:
        ids = [self.lookup(word) for word in split_words(text, self.spaces)]
        known = [i for i in ids if i is not None]
        return np.array(known, dtype=np.int64), len(ids) - len(known)

    def decoder(self) -> Decoder:
        return _WordDecoder(self)

    def spell(self, ids: Sequence[int], copies: dict[int, str]) -> str:
        """Return the text of `ids`, with the words `copies` at the places where they stand."""
        words = [copies.get(at) or (self.symbols[i] if i < self.size else "") for at, i in enumerate(ids)]
        return " ".join(words) if self.spaces else "".join(words).removeprefix(" ")

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": self.symbols, "spaces": self.spaces}


class _WordDecoder(Decoder):
    def __init__(self, words: Words) -> None:
        self._words, self._begun = words, False

    def push(self, symbol: int) -> str:
        word = self._words.symbols[symbol] if symbol < self._words.size else ""
        if self._words.spaces and self._begun:
            word = " " + word
        elif not self._begun:
            word = word.removeprefix(" ")
        self._begun = True
        return word

    def finish(self) -> str:
        return ""


class Pieces(Vocabulary):
    """Pieces of words, by byte-pair encoding (Sennrich et al. 2016) over bytes: no text is unknown. Needs `tokenizers`."""

    kind = "bpe"

    def __init__(self, definition: str) -> None:
        self.definition = definition
        self._tokenizer = _tokenizers().Tokenizer.from_str(definition)
        super().__init__(self._tokenizer.get_vocab_size(), has_end=False)

    @staticmethod
    def of(texts: Iterable[str]) -> Pieces:
        """Learn the pieces of `texts`."""
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        alphabet = library.pre_tokenizers.ByteLevel.alphabet()
        trainer = library.trainers.BpeTrainer(vocab_size=BPE_SIZE, show_progress=False, initial_alphabet=alphabet)
        tokenizer.train_from_iterator(map(_encodable, texts), trainer)
        return Pieces(tokenizer.to_str())

    def encode(self, text: str) -> tuple[Ids, int]:
        return np.array(self._tokenizer.encode(_encodable(text)).ids, dtype=np.int64), 0

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode([int(i) for i in ids]))

    def decoder(self) -> Decoder:
        return _PieceDecoder(self)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "definition": json.loads(self.definition)}


class _PieceDecoder(Decoder):
    """A character may be cut by a border of pieces, so nothing is told before the end."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._ids: list[int] = []

    def push(self, symbol: int) -> str:
        self._ids.append(symbol)
        return ""

    def finish(self) -> str:
        return self._pieces.decode(self._ids)


def _encodable(text: str) -> str:
    """Return a text that has bytes: half a surrogate pair, as JSON may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise DataError("Byte-pair encoding needs the package tokenizers: pip install 'unrolled[data]'") from error
    return tokenizers


def words_from_json(value: dict[str, Any]) -> Vocabulary:
    """Build the words or pieces that `to_json` described; anything else is a `ModelError`."""
    if value.get("kind") == "bpe":
        try:
            return Pieces(json.dumps(value["definition"]))
        except DataError:
            raise
        except Exception as error:  # what tokenizers raises has no kind of its own
            raise ModelError(f"The model's pieces of words cannot be read: {error}.") from error
    symbols = value.get("symbols")
    if not isinstance(symbols, list) or not all(isinstance(s, str) for s in symbols) or len(set(symbols)) != len(symbols):
        raise ModelError("The model's words cannot be read: distinct texts are expected.")
    return Words(symbols, bool(value.get("spaces")))
