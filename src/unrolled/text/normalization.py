"""Unicode normal forms (UAX #15) of texts of any length, so that equal texts have equal tokens.

Many letters can be written in two ways: `é` is one code point in NFC, the usual form, and a letter with a combining mark in
NFD, the form of file names on macOS. NFKC also replaces compatibility forms, such as ligatures and full-width letters.

A text is normalized chunk by chunk with the result of one pass over all of it: a chunk is cut only where a *segment* starts,
which is a code point that composes with none before it. A segment of more than `MAX_SEGMENT` code points is no writing, and
sorting its marks would take quadratic time, so it is cut there; UAX #15 (Stream-Safe Text Format) does so at 30.
"""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from unrolled.errors import ModelError
from unrolled.text.text_files import Chunk

NUM_CODE_POINTS = 0x110000
MAX_SEGMENT = 128
_SCANNED = 1024
"""Code points at the end of a chunk that are searched for its last segment, before all of it is."""

_NOTES = {"nfc": "characters were composed (NFC)", "nfkc": "characters were composed or replaced (NFKC)"}
_Form = Literal["NFC", "NFKC"]


def normalize(text: str, form: str) -> str:
    """Return a text in the normal form `nfc` or `nfkc`, or unchanged for `none`.

    Example:
        >>> normalize("e\\u0301", "nfc") == "\\u00e9"
        True
    """
    if form == "none" or text.isascii():
        return text
    return unicodedata.normalize(_unicode_form(form), text) if len(text) <= MAX_SEGMENT else _normalize_long(text, form)[0]


def require_form(form: object) -> str:
    """Return the normal form that a model file names. Raises `ModelError` for anything else."""
    if isinstance(form, str) and form in (*_NOTES, "none"):
        return form
    raise ModelError(f"The model's normal form cannot be read: expected one of {', '.join(_NOTES)}, none, not {form!r:.99}.")


def normalize_counted(text: str, form: str) -> tuple[str, int]:
    """Return a text as `normalize` does, and how many of its characters (letters with their marks) changed."""
    if form == "none" or text.isascii():
        return text, 0
    if len(text) <= MAX_SEGMENT and unicodedata.is_normalized(_unicode_form(form), text):
        return text, 0
    return _normalize_long(text, form)


def count_changes(text: str, form: str) -> int:
    """Return how many characters of a text (letters with their marks) are others in the normal form `form`."""
    return normalize_counted(text, form)[1]


def change_note(form: str) -> str:
    """Return what follows the number of changed characters in a message."""
    return _NOTES[form]


def normalize_chunks(chunks: Iterable[Chunk], form: str, notes: dict[str, int]) -> Iterator[Chunk]:
    """Yield the code points of a text, given in chunks, in a normal form; count in `notes` the characters that changed."""
    if form == "none":
        yield from chunks
        return
    previous: Chunk = np.zeros(0, dtype=np.uint8)
    for chunk in chunks:
        if not len(chunk):
            continue
        if len(previous) and not _starts_segment(form)[chunk[0]]:
            last_start = _last_start(previous, form)
            chunk = cast(Chunk, np.concatenate([previous[last_start:], chunk]))
            previous = previous[:last_start]
        if len(previous):
            yield _normalize_chunk(previous, form, notes)
        previous = chunk
    if len(previous):
        yield _normalize_chunk(previous, form, notes)


def starts_segment(character: str) -> bool:
    """Return whether a text may be cut before a character, whatever the normal form."""
    return all(bool(_starts_segment(form)[ord(character)]) for form in _NOTES)


def _unicode_form(form: str) -> _Form:
    return "NFC" if form == "nfc" else "NFKC"


def _starts_segment(form: str) -> npt.NDArray[np.bool_]:
    return _tables(form)[0]


@functools.cache
def _tables(form: str) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return, for every code point, whether a segment starts with it, and whether a text with it may be in another form.

    A segment does not start with one whose decomposition begins with a mark that is sorted (of a combining class), or with a
    code point that is the second of a composition, such as a vowel of Korean or of Bengali. Both arrays are `(0x110000,)`.
    """
    starts, changes = np.ones(NUM_CODE_POINTS, dtype=bool), np.zeros(NUM_CODE_POINTS, dtype=bool)
    seconds = [*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)]  # vowels and finals of Korean syllables
    first_parts: list[tuple[int, int]] = []
    for code_point in range(0x80, 0x30000):  # no other plane has decompositions or marks
        character = chr(code_point)
        starts[code_point] = not unicodedata.combining(character)
        parts = unicodedata.decomposition(character).split()
        if not parts:
            continue
        if len(parts) == 2 and parts[0][0] != "<":
            seconds.append(int(parts[1], 16))
        first_parts.append((code_point, ord(unicodedata.normalize("NFD" if form == "nfc" else "NFKD", character)[0])))
        changes[code_point] = unicodedata.normalize(_unicode_form(form), character) != character
    starts[seconds] = False
    for code_point, first in first_parts:
        starts[code_point] &= starts[first]
    return starts, changes | ~starts


def _last_start(chunk: Chunk, form: str) -> int:
    """Return where the last segment of a chunk starts, or the last piece of one that is too long."""
    if chunk.dtype == np.uint8:
        return len(chunk) - 1
    is_start = _starts_segment(form)
    for begin in (max(0, len(chunk) - _SCANNED), 0):
        starts = np.flatnonzero(is_start[chunk[begin:]])
        if len(starts):
            last = begin + int(starts[-1])
            return last + (len(chunk) - last - 1) // MAX_SEGMENT * MAX_SEGMENT
    return (len(chunk) - 1) // MAX_SEGMENT * MAX_SEGMENT


def _normalize_chunk(chunk: Chunk, form: str, notes: dict[str, int]) -> Chunk:
    """Return a chunk of whole segments in a normal form."""
    if chunk.dtype == np.uint8 or not _tables(form)[1][chunk].any():
        return chunk
    text, num_changed = _normalize_long(chunk.astype(np.uint32).tobytes().decode("utf-32-le", "surrogatepass"), form)
    if num_changed:
        notes[_NOTES[form]] = notes.get(_NOTES[form], 0) + num_changed
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def _normalize_long(text: str, form: str) -> tuple[str, int]:
    """Return a text in a normal form, and how many of its segments changed."""
    code_points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    is_start, may_change = _tables(form)
    changeable = np.flatnonzero(may_change[code_points])
    if not len(changeable):  # as of most texts; what follows takes 0.2 ms for 500 characters
        return text, 0
    starts = np.union1d(0, np.flatnonzero(is_start[code_points]))
    lengths = np.diff(starts, append=len(code_points))
    is_long = lengths > MAX_SEGMENT
    pieces = [np.arange(start, start + n, MAX_SEGMENT) for start, n in zip(starts[is_long], lengths[is_long], strict=True)]
    starts = np.union1d(starts, np.concatenate(pieces)) if pieces else starts
    ends = np.append(starts[1:], len(code_points))
    touched = np.unique(np.searchsorted(starts, changeable, side="right") - 1)
    spans = [slice(start, end) for start, end in zip(starts[touched].tolist(), ends[touched].tolist(), strict=True)]
    counts = Counter([text[span] for span in spans])
    normal = {segment: unicodedata.normalize(_unicode_form(form), segment) for segment in counts}
    num_changed = sum(count for segment, count in counts.items() if normal[segment] != segment)
    if not num_changed:
        return text, 0
    if not pieces:
        return unicodedata.normalize(_unicode_form(form), text), num_changed
    parts: list[str] = []
    for span, previous in zip(spans, [slice(0, 0), *spans], strict=False):
        parts += (text[previous.stop : span.start], normal[text[span]])
    return "".join((*parts, text[spans[-1].stop :])), num_changed
