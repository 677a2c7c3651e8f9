"""The vocabulary of a foreign model: from what its file calls token 0, 1, 2 ... to a tokenizer of this package.

Characters become a `CharTokenizer` that keeps the ids of the file. Lua reads texts as bytes, so vocabularies of char-rnn can
hold single bytes of longer characters; these become a `ByteTokenizer`. Words become a `WordListTokenizer`.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unrolled.atomic_io import storage_error
from unrolled.errors import ModelError
from unrolled.exchange.torch7 import Table
from unrolled.exchange.torch_pickle import read_torch_pickle
from unrolled.text.tokenizer import ByteTokenizer, CharTokenizer, Tokenizer
from unrolled.text.word_list_tokenizer import WordListTokenizer, written

MIN_WORDS = 0.5
"""With a larger fraction of tokens of several characters, tokens are words."""

SUBWORD_MARKS = ("##", "\u0120", "\u2581")
"""What the parts of words begin with in vocabularies of WordPiece, of byte-level BPE and of SentencePiece."""

MAX_VOCABULARY_BYTES = 256 << 20
UNKNOWN_NAMES = {"unk", "unknown", "oov", "uk"}
PADDING_NAMES = {"", "pad", "padding", "blank", "mask"}
END_NAMES = {"s", "/s", "eos", "sos", "bos", "start", "end", "go", "eot", "endoftext", "|endoftext|"}
PADDING_CHARACTER, UNKNOWN_CHARACTER, FIRST_PRIVATE = "\x00", "\ufffd", 0xE000
TEXT_ORDERS = ("sorted", "first occurrence", "frequency")
"""Orders of the characters of a text in which programs commonly number them."""

PICKLE, ZIP = b"\x80", b"PK\x03\x04"
Token = str | bytes | None
"""What a file calls a token: a text, bytes (Lua), or None for an id that it does not name."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the id in the file of each of its tokens (None: the file does not have it)."""

    tokenizer: Tokenizer
    source_ids: list[int | None]
    documents: str = "none"
    notes: tuple[str, ...] = ()

    def check_size(self, num_tokens: int) -> None:
        """Raise `ModelError` if these are not the tokens of an output layer of `num_tokens`."""
        count = sum(source_id is not None for source_id in self.source_ids)
        if count != num_tokens:
            raise ModelError(
                f"The vocabulary has {count} tokens, and the output layer of the model has {num_tokens}: give the vocabulary "
                "that the model was trained with, with --vocabulary."
            )

    @property
    def known_ids(self) -> list[int]:
        """The ids of the tokens that the file has."""
        return [index for index, source_id in enumerate(self.source_ids) if source_id is not None]


def build_vocabulary(tokens: Sequence[Token], word_setting: str = "") -> Vocabulary:
    """Return the vocabulary of a model whose token `i` is `tokens[i]`; of words, with this setting of `WordListTokenizer`.

    Raises `ModelError` if a token is neither a character nor a byte, and most are not words.
    """
    by_id: Sequence[Token] = tokens
    if any(isinstance(token, bytes) for token in tokens):
        decoded = [_decode(token) for token in tokens]
        byte_values = [_byte_value(token) for token in tokens]
        if any(token is None or len(token) != 1 for token in decoded) and all(value is not None for value in byte_values):
            return _byte_vocabulary([value for value in byte_values if value is not None])
        by_id = decoded
    texts = [token if token is None else str(token) for token in by_id]
    are_words = sum(len(token or "") > 1 for token in texts) > MIN_WORDS * len(texts)
    return _word_vocabulary(texts, word_setting) if are_words else _character_vocabulary(texts)


def _decode(token: Token) -> str | None:
    """Return a token of Lua as text; None if it is not whole UTF-8."""
    if not isinstance(token, bytes):
        return token
    try:
        return token.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _byte_value(token: Token) -> int | None:
    """Return the byte that a token of Lua stands for: torch-rnn writes bytes above 127 as `[195]`."""
    if isinstance(token, bytes) and len(token) == 1:
        return token[0]
    digits = token[1:-1] if isinstance(token, bytes) and token[:1] == b"[" and token[-1:] == b"]" else b""
    return int(digits) if digits.isdigit() and len(digits) == 3 and 128 <= int(digits) <= 255 else None


def _byte_vocabulary(values: list[int]) -> Vocabulary:
    if len(set(values)) != len(values):
        raise ModelError("The vocabulary names one byte twice: each token must be a different one.")
    source_ids: list[int | None] = [None] * 256
    for index, value in enumerate(values):
        source_ids[value] = index
    absent = 256 - len(values)
    note = f"the vocabulary is of {len(values)} bytes (UTF-8); the {absent} other bytes get the probability zero"
    return Vocabulary(ByteTokenizer(), source_ids, notes=(note,) if absent else ())


def _word_vocabulary(tokens: list[str | None], setting: str) -> Vocabulary:
    """Return a vocabulary of words; of those in brackets, some are padding, unknown and end."""
    special = UNKNOWN_NAMES | PADDING_NAMES | END_NAMES
    words = {
        index: token
        for index, token in enumerate(tokens)
        if token and not (token[0] in "<[" and token.strip("<>[]").lower() in special)
    }
    strange = next((word for word in words.values() if " " in word or word.startswith(SUBWORD_MARKS) and len(word) > 2), None)
    if strange is not None:
        raise ModelError(
            f"The vocabulary holds {strange!r:.60}, which is no word: only models of characters, bytes or words between spaces "
            "can be imported. If the vocabulary in the file is wrong, name another one with --vocabulary."
        )
    make = functools.partial(WordListTokenizer, argument=setting)
    vocabulary = _with_special_tokens(tokens, {index: written(word) for index, word in words.items()}, make)
    note = f"{len(words):,} words, found between spaces; what is no word of the vocabulary is not read"
    return dataclasses.replace(vocabulary, notes=(note, *vocabulary.notes))


def _character_vocabulary(tokens: list[str | None]) -> Vocabulary:
    """Return a vocabulary of characters."""
    characters = {index: token for index, token in enumerate(tokens) if token is not None and len(token) == 1}
    return _with_special_tokens(tokens, characters, CharTokenizer)


def _with_special_tokens(
    tokens: list[str | None], characters: dict[int, str], tokenizer_of: Callable[[list[str], bool], Tokenizer]
) -> Vocabulary:
    """Return the vocabulary of characters or words by their id; padding, unknown and end become one or the eos, with a note."""
    if len(set(characters.values())) != len(characters):
        double = Counter(characters.values()).most_common(1)[0][0]
        raise ModelError(f"The vocabulary names {double!r:.60} twice: each token must be a different one.")
    taken, eos_source_id, notes = set(characters.values()), None, []
    for index, token in enumerate(tokens):
        if index in characters:
            continue
        name = (token or "").strip("<>[]").lower()
        if name in END_NAMES and eos_source_id is None:
            eos_source_id = index
            notes.append(f"token {index}, {token!r}, is the end of a document")
            continue
        if token is not None and name not in UNKNOWN_NAMES | PADDING_NAMES | END_NAMES:
            raise ModelError(
                f"The vocabulary holds {token!r:.60}, which is not one character: only models of characters or bytes can be "
                "imported. If the vocabulary in the file is wrong, name another one with --vocabulary."
            )
        wanted = UNKNOWN_CHARACTER if name in UNKNOWN_NAMES else PADDING_CHARACTER
        characters[index] = wanted if wanted not in taken else _private_character(taken)
        taken.add(characters[index])
        notes.append(
            f"token {index}, {'without a name' if token is None else repr(token)}, is the character {characters[index]!r}"
        )
    order = [index for index in range(len(tokens)) if index != eos_source_id]
    tokenizer = tokenizer_of([characters[index] for index in order], eos_source_id is not None)
    source_ids: list[int | None] = [*order] if eos_source_id is None else [*order, eos_source_id]
    documents = "none" if eos_source_id is None else "file" if "\n" in taken else "line"
    return Vocabulary(tokenizer, source_ids, documents, tuple(notes))


def _private_character(taken: set[str]) -> str:
    return next(chr(code) for code in range(FIRST_PRIVATE, 0xF900) if chr(code) not in taken)


def tokens_of(value: Any, num_tokens: int) -> list[Token] | None:
    """Return the tokens that a value names, `(num_tokens,)`: a list of texts, a map to ids or from ids; None if it names none.

    Ids count from 0, or from 1 as in Lua; from 1 with one token more in the model, id 0 is that of the padding.
    """
    if isinstance(value, str) and len(value) == len(set(value)) == num_tokens:
        return list(value)
    if isinstance(value, list | tuple) and all(isinstance(token, str) for token in value):
        return list(value) if len(value) == num_tokens else [None, *value] if len(value) == num_tokens - 1 else None
    if not isinstance(value, Mapping) or not value:
        return None
    by_id = _ids_first(value)
    if by_id is None or len(by_id) not in (num_tokens, num_tokens - 1):
        return None
    first = min(by_id)
    offset = first if first == 1 and len(by_id) == num_tokens else 0
    tokens: list[Token] = [None] * num_tokens
    for index, token in by_id.items():
        if not 0 <= index - offset < num_tokens:
            return None
        tokens[index - offset] = token
    return tokens


def _ids_first(value: Mapping[Any, Any]) -> dict[int, Token] | None:
    """Return a map from ids to tokens; None if the value is none in either direction, or two tokens have one id."""
    by_id: dict[int, Token]
    if all(isinstance(index, int) and not isinstance(index, bool) for index in value.values()):
        by_id = {index: token for token, index in value.items() if isinstance(token, str | bytes)}
        return by_id if len(by_id) == len(value) else None
    if all(isinstance(token, str | bytes) for token in value.values()):
        by_id = {int(index): token for index, token in value.items() if isinstance(index, int) or str(index).isdecimal()}
        return by_id if len(by_id) == len(value) else None
    return None


def parts_within(value: Any) -> Iterator[Any]:
    """Yield a value and all that is in its containers, once each, what is nearest to it first."""
    seen = {id(value)}
    waiting = deque([value])
    while waiting:
        part = waiting.popleft()
        yield part
        inner = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else _json_within(part)
        for found in inner:
            if isinstance(found, Mapping | list | tuple | str) and id(found) not in seen:
                seen.add(id(found))
                waiting.append(found)


def _json_within(text: Any) -> tuple[Any, ...]:
    """Return the JSON object that a text is, in a tuple: Keras's `Tokenizer.to_json` writes its maps as texts."""
    try:
        return (json.loads(text),) if isinstance(text, str) and text[:1] == "{" else ()
    except (ValueError, RecursionError):
        return ()


def find_tokens(value: Any, num_tokens: int) -> list[Token] | None:
    """Return the tokens that a value or anything within it names, such as `{"idx_to_token": {...}}`; None if nothing does."""
    found = _first_words(value, num_tokens)
    if found is not None:
        return found
    return next((tokens for part in parts_within(value) if (tokens := tokens_of(part, num_tokens)) is not None), None)


def _first_words(value: Any, num_tokens: int) -> list[Token] | None:
    """Return the tokens of Keras's `Tokenizer(num_words=num_tokens)`, whose `word_index` has all words of its texts."""
    for part in parts_within(value):
        if isinstance(part, Mapping) and part.get("num_words") == num_tokens:
            index = (_json_within(part.get("word_index")) or (part.get("word_index"),))[0]
            if isinstance(index, Mapping):
                return tokens_of({word: i for word, i in index.items() if isinstance(i, int) and i < num_tokens}, num_tokens)
    return None


@dataclass(frozen=True)
class VocabularyFile:
    """A file that names the tokens: JSON, a pickle or a file of torch.save, or the text that the model was trained on."""

    path: Path
    value: Any
    text: str | None

    @classmethod
    def read(cls, path: Path) -> VocabularyFile:
        """Read a vocabulary file. Raises `ModelError` if it is missing or no text."""
        try:
            if not path.is_file():
                raise ModelError(f"There is no vocabulary file {path}.")
            if path.stat().st_size > MAX_VOCABULARY_BYTES:
                raise ModelError(
                    f"{path} is larger than {MAX_VOCABULARY_BYTES >> 20} MB: give a part of the text that has all characters."
                )
            content = path.read_bytes()
            if content[:1] == PICKLE or content[:4] == ZIP:
                return cls(path, read_torch_pickle(path), None)
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ModelError(f"{path} is no vocabulary: JSON or a text in UTF-8 is expected.") from error
        except OSError as error:
            raise storage_error(error, path, "read") from error
        if text.lstrip()[:1] in ("{", "["):
            try:
                return cls(path, json.loads(text), None)
            except (ValueError, RecursionError):
                pass  # a text that begins with a bracket
        return cls(path, None, text)

    def tokens(self, num_tokens: int, order: str = TEXT_ORDERS[0]) -> list[Token]:
        """Return the tokens of a model of `num_tokens`; the characters of a text are numbered in one of `TEXT_ORDERS`."""
        if self.text is None:
            named = find_tokens(self.value, num_tokens)
            if named is None:
                size = f"{len(self.value)} entries" if isinstance(self.value, dict | list) else "no entries"
                raise ModelError(
                    f"{self.path} has {size}, and the model has {num_tokens} tokens: a JSON list of {num_tokens} "
                    "characters, or a map from characters to ids, is expected."
                )
            return named
        characters = _ordered_characters(self.text, order)
        if len(characters) not in (num_tokens, num_tokens - 1):
            raise ModelError(
                f"{self.path} has {len(characters)} different characters, and the model has {num_tokens} tokens: give the "
                "whole "
                "text that it was trained on, or its vocabulary as JSON."
            )
        tokens: list[Token] = [None] * (num_tokens - len(characters))
        return tokens + [*characters]


def checkpoint_tokens(table: Any, num_tokens: int, vocabulary_file: VocabularyFile | None) -> list[Token]:
    """Return the tokens of a Torch7 checkpoint: those of the vocabulary file, or without one, those that its table names.

    The table maps bytes to ids, as in char-rnn, or ids to bytes, as in torch-rnn; ids are Lua's numbers, from 1.
    Raises `ModelError` if they are not the tokens of an output layer of `num_tokens`.
    """
    if vocabulary_file is not None:
        return vocabulary_file.tokens(num_tokens)
    entries = table.entries if isinstance(table, Table) else {}
    pairs = [item for item in entries.items() if {type(part) for part in item} == {bytes, float}]
    tokens = tokens_of({_without_fraction(key): _without_fraction(value) for key, value in pairs}, num_tokens)
    if tokens is None:
        raise ModelError(
            f"The vocabulary in the checkpoint has {len(entries)} entries, and the output layer of the model has "
            f"{num_tokens} tokens: give the right one with --vocabulary."
        )
    return tokens


def _without_fraction(value: bytes | float) -> bytes | int:
    return int(value) if isinstance(value, float) else value


def _ordered_characters(text: str, order: str) -> list[str]:
    counts = Counter(text)  # in the order of their first occurrence
    if order == "frequency":
        return [character for character, _ in counts.most_common()]
    return list(counts) if order == "first occurrence" else sorted(counts)
