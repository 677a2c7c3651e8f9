"""Tokenizers of texts: code points or bytes to token ids, and back.

The tokenizer of a text gives every code point, or every byte, one id. For a text of documents (`--documents line|file`) it
has one more token, the *end of sequence* (eos). It closes every document, and is also what a document starts from, so that
a model begins and ends a sample by itself. Those with a rule are in `rule_tokenizer.py`; `tokenizers.py` has all by name.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import ModelError, UsageError
from unrolled.text.decode_stream import ByteDecodeStream, CharDecodeStream, DecodeStream
from unrolled.text.decode_stream import Ids as Ids
from unrolled.text.line_format import LineFormat
from unrolled.text.normalization import normalize

NUM_CODE_POINTS = 0x110000
LINE_FEED = 10
RECORD_SEPARATOR = 30
"""The ASCII character between documents that have line ends, in the copy of a text that is encoded."""

DOCUMENT_ENDINGS = {
    "none": None, "line": "\n", "file": "", "blank-line": "\n\n", "cell": "\n", "record": "\n\n", "session": "",
}  # fmt: skip
"""What the eos stands for in the text, by the option `documents`."""

DOCUMENT_SEPARATORS = {"line": LINE_FEED} | dict.fromkeys(("blank-line", "cell", "record", "session"), RECORD_SEPARATOR)
"""The code point that becomes an eos, by the option `documents`."""


class Tokenizer:
    """The tokens a model knows: ids run from 0 to `vocab_size - 1`; the last one is `eos_id`, or that is None."""

    kind: ClassVar[str]
    """Its name in `--tokens` and in model files."""

    reads_bytes: ClassVar[bool] = False
    """Whether it gives an id to each byte of a text, instead of each code point."""

    splits_text: ClassVar[bool] = False
    """Whether its tokens depend on the characters next to them, so that it is fitted to texts and not to their characters."""

    argument_name: ClassVar[str] = ""
    """What follows its kind and a colon in `--tokens`, as `--help` names it; empty: nothing does."""

    normalization = "none"
    """Normal form of the texts that it reads, nfc or nfkc (see `normalization.py`); none for one that reads bytes."""

    line_format = LineFormat()
    """What is masked in the texts that it reads, and which of their lines are a session."""

    def __init__(self, num_tokens: int, has_eos: bool) -> None:
        self.vocab_size = num_tokens + has_eos
        self.eos_id: int | None = num_tokens if has_eos else None

    @classmethod
    def fit(cls, chars: Sequence[str], has_eos: bool) -> Tokenizer:
        """Return the tokenizer of a text with these characters, sorted; it must know all, and the line end by an id of its own.

        A tokenizer that reads bytes is given none.
        """
        raise NotImplementedError

    @property
    def setting(self) -> str:
        """The value of `--tokens` that stands for it."""
        return self.kind

    @property
    def id_of_code_point(self) -> npt.NDArray[np.int32]:
        """The id of every code point, `(0x110000,)`, or of every byte, `(256,)`; -1 for an unknown one."""
        raise NotImplementedError

    @property
    def code_point_of_id(self) -> npt.NDArray[Any]:
        """The code point (uint32) or byte (uint8) of every id, and of an eos a line end: `(vocab_size,)` or one more."""
        raise NotImplementedError

    @property
    def bos_id(self) -> int:
        """The id from which a text without a prompt begins."""
        raise NotImplementedError

    def normalize(self, text: str) -> str:
        """Return a text in the normal form that this tokenizer was fitted to, masked as its texts were."""
        return normalize(self.line_format.apply(text), self.normalization)

    def __len__(self) -> int:
        """The number of ids."""
        return self.vocab_size

    def __bool__(self) -> bool:
        return True

    def encode(self, text: str) -> Ids:
        """Return the ids of `text` as an array `(N,)`; unknown tokens are left out (`encode_prompt` replaces them).

        Example:
            >>> CharTokenizer(" abc").encode("cab!").tolist()
            [3, 1, 2]
        """
        raise NotImplementedError

    def decode_stream(self) -> DecodeStream:
        """Return a new decoder of ids that arrive one by one."""
        raise NotImplementedError

    def raw_decode_stream(self) -> DecodeStream:
        """Return a stream in which a byte that is not part of a character is a surrogate, as of Python's `surrogateescape`."""
        return self.decode_stream()

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; the eos has none."""
        stream = self.decode_stream()
        return stream.decode_ids(np.fromiter(ids, np.int64)) + stream.finish()

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        """Return the ids of a prompt, and the replacement (possibly empty) of each unknown character."""
        raise NotImplementedError

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return an id for each of the code points or bytes `(N,)`, and whether it is known.

        An unknown one gets the id of the nearest known one, so that ids and text stay aligned.
        """
        raise NotImplementedError

    def unknown_tokens(self, text: str) -> list[str]:
        """Return the tokens of a line of text, in normal form, that are not in the vocabulary."""
        return []

    def code_points(self, text: str) -> npt.NDArray[Any]:
        """Return the code points (uint32) or bytes (uint8) of a text, `(N,)`, one for each token."""
        raise NotImplementedError

    def translate(self, chunks: Iterable[npt.NDArray[Any]], spelled: Counter[str]) -> Iterator[npt.NDArray[Any]]:
        """Yield the code points of a text with one for each token, and count in `spelled` the tokens that are not known."""
        yield from chunks

    def note_spelled(self, spelled: Counter[str], notes: dict[str, int]) -> None:
        """Add to `notes` a sentence about the tokens that `translate` did not know."""

    def texts_of(self, code_points: npt.NDArray[Any]) -> list[str]:
        """Return the text of each of the code points `(N,)`."""
        return list(code_points.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass"))

    def char_counts_of(self, code_points: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return how many characters each of the code points `(N,)` stands for; a byte that begins a character is one."""
        return np.ones(len(code_points), dtype=np.int64)

    def complement_ids(self) -> npt.NDArray[Any] | None:
        """Return the id of the base that pairs with each, `(vocab_size,)`, if both strands of sequences are read; else None."""
        return None

    def other_strand(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]] | None:
        """Return the code points `(N,)` of the other strand of each document, and the place of each in `code_points`, `(N,)`.

        None, if the model reads one strand. Documents stand between record separators, which stay where they are.
        """
        return None

    def first_strands(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return ids of documents without those that are the other strand of the document before them."""
        return ids

    def token_strings(self) -> list[str]:
        """Return the text of every token, `(vocab_size,)`: an eos is empty, and a byte of a longer character is `\\xNN`."""
        raise NotImplementedError

    def char_counts(self) -> npt.NDArray[np.int64]:
        """Return the number of characters of each token, `(vocab_size,)`: 1 for an eos, like the line end it stands for.

        The first byte of a character has 1, and its other bytes 0.
        """
        return np.ones(self.vocab_size, dtype=np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return what `tokenizer_from_json` needs to build the same tokenizer; `kind` is its class."""
        raise NotImplementedError

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tokenizer:
        """Build the tokenizer that `to_json` described. Raises `ModelError` for anything else."""
        raise NotImplementedError


class CharTokenizer(Tokenizer):
    """Unicode code points, with ids in their order, so that the same text always gives the same ids."""

    kind = "characters"

    def __init__(self, tokens: Sequence[str], has_eos: bool = False) -> None:
        super().__init__(len(tokens), has_eos)
        self.tokens = list(tokens)
        self._token_to_id = {token: index for index, token in enumerate(self.tokens)}
        self._code_points = self._own_code_points()

    @classmethod
    def fit(cls, chars: Sequence[str], has_eos: bool) -> Tokenizer:
        return cls(chars, has_eos)

    def with_tokens(self, tokens: Sequence[str]) -> CharTokenizer:
        """Return a tokenizer of the same rule with other tokens."""
        return type(self)(tokens, self.eos_id is not None)

    @functools.cached_property
    def id_of_code_point(self) -> npt.NDArray[np.int32]:
        ids = np.full(NUM_CODE_POINTS, -1, dtype=np.int32)
        ids[self._code_points] = np.arange(len(self.tokens))
        return ids

    @property
    def code_point_of_id(self) -> npt.NDArray[Any]:
        return np.append(self._code_points, np.uint32(LINE_FEED))

    def _own_code_points(self) -> npt.NDArray[Any]:
        """Return the code point of each token, `(len(tokens),)`."""
        return self.code_points("".join(self.tokens))

    @property
    def bos_id(self) -> int:
        if self.eos_id is not None:
            return self.eos_id
        return self._token_to_id.get("\n", self._token_to_id.get(" ", 0))

    def code_points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        ids = self.id_of_code_point[code_points].astype(np.int64)
        known_mask = ids >= 0
        if not known_mask.all():
            for code_point in np.unique(code_points[~known_mask]):
                replacement = self.nearest_known(chr(code_point))
                ids[code_points == code_point] = self._token_to_id[replacement[0]] if replacement else self.bos_id
        return ids, known_mask

    def token_strings(self) -> list[str]:
        return self.tokens + [""] * (self.eos_id is not None)

    def encode(self, text: str) -> Ids:
        ids: Ids = self.id_of_code_point[self.code_points(self.normalize(text))]
        return ids[ids >= 0]

    def decode_stream(self) -> DecodeStream:
        return CharDecodeStream(self._code_points, self.eos_id is not None)

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        ids: list[int] = []
        replaced: dict[str, str] = {}
        for character in self.normalize(text):
            nearest = character if character in self._token_to_id else self.nearest_known(character)
            if nearest != character:
                replaced[character] = nearest
            ids.extend(self._token_to_id[char] for char in nearest)
        return ids, replaced

    def unknown_tokens(self, text: str) -> list[str]:
        unknown = set(text) - self._token_to_id.keys()
        return [character for character in text if character in unknown] if unknown else []

    def nearest_known(self, character: str) -> str:
        """Return the known text nearest to an unknown character: other case, no accent, a compatible form, a space."""
        if unicodedata.combining(character):
            return ""  # an accent that was typed as a character of its own, after its letter
        base_form = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        swapped_case = character.swapcase()
        other_case = swapped_case if len(swapped_case) == 1 else ""  # that of a sharp s or of a ligature is two letters
        for candidate in (other_case, base_form, _ASCII_FORMS.get(character, ""), base_form.swapcase(), " ", "\n"):
            if candidate and all(char in self._token_to_id for char in candidate):
                return candidate
        return ""

    def to_json(self) -> dict[str, Any]:
        form = {} if self.normalization == "none" else {"normalize": self.normalization}
        return {"kind": self.kind, "tokens": "".join(self.tokens), "has_eos": self.eos_id is not None, **form}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tokenizer:
        tokens, has_eos = value.get("tokens"), value.get("has_eos")
        if isinstance(tokens, str) and len(set(tokens)) == len(tokens) > 0 and isinstance(has_eos, bool):
            return cls(tokens, has_eos)
        raise ModelError("The model's tokenizer cannot be read: distinct characters are expected.")


class ByteTokenizer(Tokenizer):
    """All 256 bytes: any file can be learned, and any prompt is known."""

    kind = "bytes"
    reads_bytes = True

    def __init__(self, has_eos: bool = False) -> None:
        super().__init__(256, has_eos)

    @classmethod
    def fit(cls, chars: Sequence[str], has_eos: bool) -> Tokenizer:
        return cls(has_eos)

    @property
    def id_of_code_point(self) -> npt.NDArray[np.int32]:
        return np.arange(256, dtype=np.int32)

    @property
    def code_point_of_id(self) -> npt.NDArray[Any]:
        return np.append(np.arange(256), LINE_FEED).astype(np.uint8)

    @property
    def bos_id(self) -> int:
        return self.eos_id if self.eos_id is not None else LINE_FEED

    def code_points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(to_utf8(text), dtype=np.uint8)

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        return code_points.astype(np.int64), np.ones(len(code_points), dtype=bool)

    def token_strings(self) -> list[str]:
        return [chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in range(256)] + [""] * (self.eos_id is not None)

    def encode(self, text: str) -> Ids:
        return self.code_points(self.normalize(text)).astype(np.int64)

    def decode_stream(self) -> DecodeStream:
        return ByteDecodeStream()

    def raw_decode_stream(self) -> DecodeStream:
        return ByteDecodeStream("surrogateescape")

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        return list(to_utf8(self.normalize(text))), {}

    def char_counts(self) -> npt.NDArray[np.int64]:
        ids = np.arange(self.vocab_size)
        counts: npt.NDArray[np.int64] = ((ids & 0xC0 != 0x80) | (ids > 0xFF)).astype(np.int64)
        return counts

    def char_counts_of(self, code_points: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        counts: npt.NDArray[np.int64] = (code_points & 0xC0 != 0x80).astype(np.int64)
        return counts

    def texts_of(self, code_points: npt.NDArray[Any]) -> list[str]:
        stream = self.decode_stream()
        texts = [stream.decode_step(byte) for byte in code_points.tolist()]
        if texts:
            texts[-1] += stream.finish()
        return texts

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "has_eos": self.eos_id is not None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Tokenizer:
        if isinstance(value.get("has_eos"), bool):
            return cls(value["has_eos"])
        raise ModelError("The model's tokenizer cannot be read: 'has_eos' is true or false.")


def require_text(text: object) -> str:
    """Return a text. Raises `UsageError` for anything but a string."""
    if not isinstance(text, str):
        raise UsageError(f"The text is {str(text)[:40]!r} of the type {type(text).__name__}; expected a string.")
    return text


def replace_undecodable(text: str) -> str:
    """Return text in which each undecodable byte (see `raw_decode_stream`) is a replacement mark."""
    return to_utf8(text).decode("utf-8", "replace")


def to_utf8(text: str) -> bytes:
    """Return the UTF-8 bytes of a text; an undecodable byte of the command line is itself, another lone surrogate `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


# Typographic forms that Unicode does not decompose, and their usual replacements.
_ASCII_FORMS = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"',
    "\u00bb": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE", "\u00f8": "o", "\u00d8": "O",
    "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D", "\t": " ", "\r": "\n", "\u00a0": " ",
}  # fmt: skip
