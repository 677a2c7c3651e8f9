"""A text as a trained model reads it: an id for every symbol, side by side with what a person sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.text.tokenizer import Bytes, Ids, Vocabulary

LINE_FEED = 10
UNIT_ENDS = {"line": "\n", "file": ""}


@dataclass(frozen=True)
class Reading:
    """`ids` `(T,)`, the text `shown` for each, whether each is `known`, and where the state starts from zero (`begins`).

    `shown` joined is the text. What is no whole character yet is shown with its last byte, the end of a line as its line end,
    and the end that a text starts from as nothing.
    """

    ids: npt.NDArray[np.int64]
    shown: list[str]
    known: npt.NDArray[np.bool_]
    begins: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.ids)

    def head(self, symbols: int) -> Reading:
        """Return the reading of the first symbols only."""
        begins = None if self.begins is None else self.begins[:symbols]
        return Reading(self.ids[:symbols], self.shown[:symbols], self.known[:symbols], begins)

    @property
    def text(self) -> str:
        """What was read."""
        return "".join(self.shown)


def read(vocabulary: Vocabulary, unit: str, text: str) -> Reading:
    """Return how a model of `unit` reads a text; what it never saw is read as the closest it knows.

    A model of documents reads each from its start symbol on, and from zero.
    """
    points = vocabulary.points(text)
    ids, known = vocabulary.align(points)
    shown = _bytes_shown(points) if isinstance(vocabulary, Bytes) else list(text)
    if vocabulary.end is None:
        return Reading(ids, shown, known, None)
    if unit == "line":
        breaks = points == LINE_FEED
        ids, known = np.where(breaks, vocabulary.end, ids), known | breaks
    ids, known = np.append(vocabulary.end, ids), np.append(True, known)
    return Reading(ids, ["", *shown], known, ids == vocabulary.end)


def reread(vocabulary: Vocabulary, unit: str, ids: Ids) -> Reading:
    """Return the reading that ids of a corpus stand for."""
    end = UNIT_ENDS.get(unit, "")
    decoder = vocabulary.decoder()
    shown = [end if symbol == vocabulary.end else decoder.push(symbol) for symbol in ids.tolist()]
    if vocabulary.end is not None and shown and ids[0] == vocabulary.end:
        shown[0] = ""
    whole = ids.astype(np.int64)
    begins = None if vocabulary.end is None else whole == vocabulary.end
    return Reading(whole, shown, np.ones(len(ids), dtype=bool), begins)


def _bytes_shown(points: npt.NDArray[Any]) -> list[str]:
    decoder = Bytes().decoder()
    shown = [decoder.push(int(byte)) for byte in points]
    if shown:
        shown[-1] += decoder.finish()
    return shown
