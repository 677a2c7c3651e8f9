"""`--unknown refuse`: tokens of a text that a model does not know, with the line of each, are an error."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from unrolled.display import plural
from unrolled.errors import DataError
from unrolled.text.rule_tokenizer import whole_lines
from unrolled.text.tokenizer import LINE_FEED, RECORD_SEPARATOR, Tokenizer

MAX_NAMED = 5
KEEP_HINT = "correct it, or read it with --unknown keep"


class UnknownTokens:
    """Counts the tokens of a text that a tokenizer does not know, and keeps the place where each is first.

    Args:
        tokenizer: That of the model.
        place: What is counted between two separators, for messages: a line, or a document.
        separator: The code point after each.
    """

    def __init__(self, tokenizer: Tokenizer, place: str = "line", separator: int = LINE_FEED) -> None:
        self.tokenizer, self.place, self.separator = tokenizer, place, chr(separator)
        self.counts: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.number = 1

    def add(self, text: str) -> None:
        """Count those of the next part of the text, which is whole lines."""
        for index, part in enumerate(text.split(self.separator)):
            self.number += index > 0
            lines = part.split("\n") if "\n" in part else [part]  # a line end may be what separates documents
            for token in itertools.chain.from_iterable(map(self.tokenizer.unknown_tokens, lines)):
                self.counts[token] += 1
                self.first.setdefault(token, self.number)

    def require_none(self, name: str) -> None:
        """Raise `DataError` if there is any."""
        if self.counts:
            raise DataError(self.message(name))

    def message(self, name: str) -> str:
        """Return how many there are, and the first ones with their places."""
        named = [f"{token!r:.40} ({self.place} {self.first[token]:,})" for token in list(self.first)[:MAX_NAMED]]
        more = f" and {len(self.first) - MAX_NAMED:,} others" if len(self.first) > MAX_NAMED else ""
        num_tokens = sum(self.counts.values())
        return f"{name} has {plural(num_tokens, 'token')} that the model does not know: {', '.join(named)}{more}; {KEEP_HINT}."


def refuse_unknown(
    chunks: Iterable[npt.NDArray[Any]], tokenizer: Tokenizer, documents: str, name: str
) -> Iterator[npt.NDArray[Any]]:
    """Yield chunks of code points as they are. Raises `DataError`, once all are counted, at the first unknown token."""
    is_lines = documents not in ("blank-line", "cell", "record")
    tally = UnknownTokens(tokenizer, *(("line", LINE_FEED) if is_lines else ("document", RECORD_SEPARATOR)))
    for text in whole_lines(chunks):
        tally.add(tokenizer.normalize(text))
        if not tally.counts:
            yield np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    tally.require_none(name)
