"""Symbols to ids and back: characters or bytes behind the same face.

A vocabulary of documents (`--unit line|file`) has one symbol more, the *end*: it closes every document, and it is also
what a document starts from, so that a model begins and ends a sample by itself.
"""

from __future__ import annotations

import codecs
import functools
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from unrolled.errors import ModelError

Ids = npt.NDArray[np.integer[Any]]
NUM_CODE_POINTS = 0x110000


class DecodeStream:
    """Turns ids into text as they come; what is not yet a whole character is kept for the next call."""

    def decode_step(self, token_id: int) -> str:
        """Return the text that `symbol` completes, perhaps none."""
        raise NotImplementedError

    def decode_ids(self, ids: Ids) -> str:
        """Return what `push` returns for each of the ids `(N,)`, together."""
        return "".join(map(self.decode_step, ids.tolist()))

    def finish(self) -> str:
        """Return what is left, with a replacement mark for a character that was cut short."""
        raise NotImplementedError


class Tokenizer:
    """The symbols a model knows; `ids` run from 0 to `size - 1`, and `end` is the last of them, if there is one."""

    kind: ClassVar[str]

    def __init__(self, num_tokens: int, has_eos: bool) -> None:
        self.vocab_size = num_tokens + has_eos
        self.eos_id: int | None = num_tokens if has_eos else None

    def encode(self, text: str) -> tuple[Ids, int]:
        """Return the ids of `text` as an array `(N,)`, and how many symbols were left out as unknown."""
        raise NotImplementedError

    def decode_stream(self) -> DecodeStream:
        """Return a fresh decoder of a stream of ids."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; the end symbol has none."""
        stream = self.decode_stream()
        return stream.decode_ids(np.fromiter(ids, np.int64)) + stream.finish()

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        """Return the ids of a prompt, and what each unknown character was replaced by (perhaps by nothing)."""
        raise NotImplementedError

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return an id for every symbol of `points` `(N,)` (code points, or bytes), and whether it is the symbol's own.

        An unknown symbol is read as the closest known one, so that ids and text stay side by side.
        """
        raise NotImplementedError

    def code_points(self, text: str) -> npt.NDArray[Any]:
        """Return the symbols of a text as `align` takes them: code points, or bytes."""
        raise NotImplementedError

    def bos_id(self) -> int:
        """Return the id from which text without a prompt begins."""
        raise NotImplementedError

    def token_strings(self) -> list[str]:
        """Return each symbol as a text `(V,)`: that of an end is empty, and that of part of a character a number."""
        raise NotImplementedError

    def char_start_mask(self) -> npt.NDArray[np.bool_]:
        """Return, for each id, whether it begins a character (an end counts as one, as its line end would), `(V,)`."""
        return np.ones(self.vocab_size, dtype=bool)

    def code_point_of_id(self) -> npt.NDArray[Any]:
        """Return the code point (or byte) of each id, `(V,)` or one more; the end of a document is a line feed."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """Return what `vocabulary_from_json` needs to build the same vocabulary."""
        raise NotImplementedError


class CharTokenizer(Tokenizer):
    """Unicode code points, in their order, so that the same text always gives the same ids."""

    kind = "characters"

    def __init__(self, tokens: Sequence[str], has_eos: bool = False) -> None:
        super().__init__(len(tokens), has_eos)
        self.tokens = list(tokens)
        self._token_to_id = {token: index for index, token in enumerate(self.tokens)}
        self._code_points = self.code_points("".join(self.tokens))

    @functools.cached_property
    def id_of_code_point(self) -> npt.NDArray[np.int32]:
        """The id of every code point, `(0x110000,)`; -1 where there is none."""
        ids = np.full(NUM_CODE_POINTS, -1, dtype=np.int32)
        ids[[ord(token) for token in self.tokens]] = np.arange(len(self.tokens))
        return ids

    def code_points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        ids = self.id_of_code_point[code_points].astype(np.int64)
        known_mask = ids >= 0
        if not known_mask.all():
            for code_point in np.unique(code_points[~known_mask]):
                replacement = self.nearest_known(chr(code_point))
                ids[code_points == code_point] = self._token_to_id[replacement[0]] if replacement else self.bos_id()
        return ids, known_mask

    def token_strings(self) -> list[str]:
        return self.tokens + [""] * (self.eos_id is not None)

    def encode(self, text: str) -> tuple[Ids, int]:
        ids = self.id_of_code_point[self.code_points(text)]
        known_ids = ids[ids >= 0]
        return known_ids, len(ids) - len(known_ids)

    def decode_stream(self) -> DecodeStream:
        return _CharDecodeStream(self._code_points, self.eos_id is not None)

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        ids: list[int] = []
        replaced: dict[str, str] = {}
        for character in text:
            nearest = character if character in self._token_to_id else self.nearest_known(character)
            if nearest != character:
                replaced[character] = nearest
            ids.extend(self._token_to_id[char] for char in nearest)
        return ids, replaced

    def nearest_known(self, character: str) -> str:
        """Return the known text nearest to an unknown character: other case, no accent, a compatible form, a blank."""
        if unicodedata.combining(character):
            return ""  # an accent by itself, over the letter before it
        base_form = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        swapped_case = character.swapcase()
        other_case = (
            swapped_case if len(swapped_case) == 1 else ""
        )  # Unicode's other case of a sharp s or of a ligature is two letters
        for candidate in (other_case, base_form, _ASCII_FORMS.get(character, ""), base_form.swapcase(), " ", "\n"):
            if candidate and all(char in self._token_to_id for char in candidate):
                return candidate
        return ""

    def bos_id(self) -> int:
        if self.eos_id is not None:
            return self.eos_id
        return self._token_to_id.get("\n", self._token_to_id.get(" ", 0))

    def code_point_of_id(self) -> npt.NDArray[Any]:
        return np.array([ord(char) for char in self.tokens] + [ord("\n")], dtype=np.uint32)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "tokens": "".join(self.tokens), "has_eos": self.eos_id is not None}


class ByteTokenizer(Tokenizer):
    """All 256 bytes: any file at all can be learned, and any prompt is known."""

    kind = "bytes"

    def __init__(self, has_eos: bool = False) -> None:
        super().__init__(256, has_eos)

    def code_points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(_to_utf8(text), dtype=np.uint8)

    def encode_lossy(self, code_points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        return code_points.astype(np.int64), np.ones(len(code_points), dtype=bool)

    def token_strings(self) -> list[str]:
        return [chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in range(256)] + [""] * (self.eos_id is not None)

    def encode(self, text: str) -> tuple[Ids, int]:
        return self.code_points(text).astype(np.int64), 0

    def decode_stream(self) -> DecodeStream:
        return _ByteDecodeStream()

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        return list(_to_utf8(text)), {}

    def bos_id(self) -> int:
        return self.eos_id if self.eos_id is not None else ord("\n")

    def code_point_of_id(self) -> npt.NDArray[Any]:
        return np.append(np.arange(256), ord("\n")).astype(np.uint8)

    def char_start_mask(self) -> npt.NDArray[np.bool_]:
        ids = np.arange(self.vocab_size)
        mask: npt.NDArray[np.bool_] = (ids & 0xC0 != 0x80) | (ids > 0xFF)
        return mask

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "has_eos": self.eos_id is not None}


VOCABULARIES: dict[str, type[Tokenizer]] = {kind.kind: kind for kind in (CharTokenizer, ByteTokenizer)}


def tokenizer_from_json(value: Any) -> Tokenizer:
    """Build the vocabulary that `to_json` described; anything else is a `ModelError`."""
    if isinstance(value, dict):  # "symbols" and "end" are the names of format 1, of older files and cache entries
        tokens, has_eos = value.get("tokens", value.get("symbols")), value.get("has_eos", value.get("end"))
    if isinstance(value, dict) and isinstance(has_eos, bool):
        if value.get("kind") == "bytes":
            return ByteTokenizer(has_eos)
        if value.get("kind") == "characters" and isinstance(tokens, str) and len(set(tokens)) == len(tokens) > 0:
            return CharTokenizer(tokens, has_eos)
    raise ModelError("The model's vocabulary cannot be read: expected 'characters' or 'bytes' with distinct symbols.")


def _to_utf8(text: str) -> bytes:
    """Return the bytes of a text; those that came in undecoded come out as they were, other lone surrogates as `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class _CharDecodeStream(DecodeStream):
    def __init__(self, code_points: npt.NDArray[Any], has_eos: bool) -> None:
        self._code_points, self._has_eos = code_points, has_eos

    def decode_step(self, token_id: int) -> str:
        return chr(self._code_points[token_id]) if token_id < len(self._code_points) else ""

    def decode_ids(self, ids: Ids) -> str:
        without_eos = ids[ids < len(self._code_points)] if self._has_eos else ids
        return self._code_points[without_eos].tobytes().decode("utf-32-le", "surrogatepass")

    def finish(self) -> str:
        return ""


class _ByteDecodeStream(DecodeStream):
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def decode_step(self, token_id: int) -> str:
        return self._decoder.decode(bytes([token_id])) if token_id < 256 else ""

    def decode_ids(self, ids: Ids) -> str:
        return self._decoder.decode(ids[ids < 256].astype(np.uint8).tobytes())

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


# Typographic forms that Unicode does not decompose but every reader takes for the plain one.
_ASCII_FORMS = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"',
    "\u00bb": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE", "\u00f8": "o", "\u00d8": "O",
    "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D", "\t": " ", "\r": "\n", "\u00a0": " ",
}  # fmt: skip
