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
CODE_POINTS = 0x110000


class Decoder:
    """Turns ids into text as they come; what is not yet a whole character is kept for the next call."""

    def push(self, symbol: int) -> str:
        """Return the text that `symbol` completes, perhaps none."""
        raise NotImplementedError

    def push_all(self, ids: Ids) -> str:
        """Return what `push` returns for each of the ids `(N,)`, together."""
        return "".join(map(self.push, ids.tolist()))

    def finish(self) -> str:
        """Return what is left, with a replacement mark for a character that was cut short."""
        raise NotImplementedError


class Vocabulary:
    """The symbols a model knows; `ids` run from 0 to `size - 1`, and `end` is the last of them, if there is one."""

    kind: ClassVar[str]

    def __init__(self, units: int, has_end: bool) -> None:
        self.size = units + has_end
        self.end: int | None = units if has_end else None

    def encode(self, text: str) -> tuple[Ids, int]:
        """Return the ids of `text` as an array `(N,)`, and how many symbols were left out as unknown."""
        raise NotImplementedError

    def decoder(self) -> Decoder:
        """Return a fresh decoder of a stream of ids."""
        raise NotImplementedError

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; the end symbol has none."""
        decoder = self.decoder()
        return decoder.push_all(np.fromiter(ids, np.int64)) + decoder.finish()

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        """Return the ids of a prompt, and what each unknown character was replaced by (perhaps by nothing)."""
        raise NotImplementedError

    def align(self, points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return an id for every symbol of `points` `(N,)` (code points, or bytes), and whether it is the symbol's own.

        An unknown symbol is read as the closest known one, so that ids and text stay side by side.
        """
        raise NotImplementedError

    def points(self, text: str) -> npt.NDArray[Any]:
        """Return the symbols of a text as `align` takes them: code points, or bytes."""
        raise NotImplementedError

    def start(self) -> int:
        """Return the id from which text without a prompt begins."""
        raise NotImplementedError

    def shown(self) -> list[str]:
        """Return each symbol as a text `(V,)`: that of an end is empty, and that of part of a character a number."""
        raise NotImplementedError

    def begins_character(self) -> npt.NDArray[np.bool_]:
        """Return, for each id, whether it begins a character (an end counts as one, as its line end would), `(V,)`."""
        return np.ones(self.size, dtype=bool)

    def to_json(self) -> dict[str, Any]:
        """Return what `vocabulary_from_json` needs to build the same vocabulary."""
        raise NotImplementedError


class Characters(Vocabulary):
    """Unicode code points, in their order, so that the same text always gives the same ids."""

    kind = "characters"

    def __init__(self, symbols: Sequence[str], has_end: bool = False) -> None:
        super().__init__(len(symbols), has_end)
        self.symbols = list(symbols)
        self._ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        self._points = self.points("".join(self.symbols))

    @functools.cached_property
    def table(self) -> npt.NDArray[np.int32]:
        """The id of every code point, `(0x110000,)`; -1 where there is none."""
        table = np.full(CODE_POINTS, -1, dtype=np.int32)
        table[[ord(symbol) for symbol in self.symbols]] = np.arange(len(self.symbols))
        return table

    def points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)

    def align(self, points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        ids = self.table[points].astype(np.int64)
        known = ids >= 0
        if not known.all():
            for point in np.unique(points[~known]):
                like = self.closest(chr(point))
                ids[points == point] = self._ids[like[0]] if like else self.start()
        return ids, known

    def shown(self) -> list[str]:
        return self.symbols + [""] * (self.end is not None)

    def encode(self, text: str) -> tuple[Ids, int]:
        ids = self.table[self.points(text)]
        known = ids[ids >= 0]
        return known, len(ids) - len(known)

    def decoder(self) -> Decoder:
        return _CharacterDecoder(self._points, self.end is not None)

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        ids: list[int] = []
        replaced: dict[str, str] = {}
        for character in text:
            known = character if character in self._ids else self.closest(character)
            if known != character:
                replaced[character] = known
            ids.extend(self._ids[part] for part in known)
        return ids, replaced

    def closest(self, character: str) -> str:
        """Return the known text nearest to an unknown character: other case, no accent, a compatible form, a blank."""
        if unicodedata.combining(character):
            return ""  # an accent by itself, over the letter before it
        plain = "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
        swapped = character.swapcase()
        other_case = swapped if len(swapped) == 1 else ""  # Unicode's other case of a sharp s or of a ligature is two letters
        for form in (other_case, plain, _PLAIN.get(character, ""), plain.swapcase(), " ", "\n"):
            if form and all(part in self._ids for part in form):
                return form
        return ""

    def start(self) -> int:
        if self.end is not None:
            return self.end
        return self._ids.get("\n", self._ids.get(" ", 0))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "symbols": "".join(self.symbols), "end": self.end is not None}


class Bytes(Vocabulary):
    """All 256 bytes: any file at all can be learned, and any prompt is known."""

    kind = "bytes"

    def __init__(self, has_end: bool = False) -> None:
        super().__init__(256, has_end)

    def points(self, text: str) -> npt.NDArray[Any]:
        return np.frombuffer(_utf8(text), dtype=np.uint8)

    def align(self, points: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        return points.astype(np.int64), np.ones(len(points), dtype=bool)

    def shown(self) -> list[str]:
        return [chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in range(256)] + [""] * (self.end is not None)

    def encode(self, text: str) -> tuple[Ids, int]:
        return self.points(text).astype(np.int64), 0

    def decoder(self) -> Decoder:
        return _ByteDecoder()

    def encode_prompt(self, text: str) -> tuple[list[int], dict[str, str]]:
        return list(_utf8(text)), {}

    def start(self) -> int:
        return self.end if self.end is not None else ord("\n")

    def begins_character(self) -> npt.NDArray[np.bool_]:
        ids = np.arange(self.size)
        begins: npt.NDArray[np.bool_] = (ids & 0xC0 != 0x80) | (ids > 0xFF)
        return begins

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "end": self.end is not None}


VOCABULARIES: dict[str, type[Vocabulary]] = {kind.kind: kind for kind in (Characters, Bytes)}


def vocabulary_from_json(value: Any) -> Vocabulary:
    """Build the vocabulary that `to_json` described; anything else is a `ModelError`."""
    if isinstance(value, dict) and isinstance(value.get("end"), bool):
        symbols = value.get("symbols")
        if value.get("kind") == "bytes":
            return Bytes(value["end"])
        if value.get("kind") == "characters" and isinstance(symbols, str) and len(set(symbols)) == len(symbols) > 0:
            return Characters(symbols, value["end"])
    raise ModelError("The model's vocabulary cannot be read: expected 'characters' or 'bytes' with distinct symbols.")


def _utf8(text: str) -> bytes:
    """Return the bytes of a text; those that came in undecoded come out as they were, other lone surrogates as `?`."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")


class _CharacterDecoder(Decoder):
    def __init__(self, points: npt.NDArray[Any], has_end: bool) -> None:
        self._points, self._has_end = points, has_end

    def push(self, symbol: int) -> str:
        return chr(self._points[symbol]) if symbol < len(self._points) else ""

    def push_all(self, ids: Ids) -> str:
        known = ids[ids < len(self._points)] if self._has_end else ids
        return self._points[known].tobytes().decode("utf-32-le", "surrogatepass")

    def finish(self) -> str:
        return ""


class _ByteDecoder(Decoder):
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, symbol: int) -> str:
        return self._decoder.decode(bytes([symbol])) if symbol < 256 else ""

    def push_all(self, ids: Ids) -> str:
        return self._decoder.decode(ids[ids < 256].astype(np.uint8).tobytes())

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


# Typographic forms that Unicode does not decompose but every reader takes for the plain one.
_PLAIN = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"',
    "\u00bb": '"', "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-",
    "\u00df": "ss", "\u00e6": "ae", "\u00c6": "AE", "\u0153": "oe", "\u0152": "OE", "\u00f8": "o", "\u00d8": "O",
    "\u0142": "l", "\u0141": "L", "\u0111": "d", "\u0110": "D", "\t": " ", "\r": "\n", "\u00a0": " ",
}  # fmt: skip
