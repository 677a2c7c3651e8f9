"""How results are displayed: as one line by `repr`, and as a table in a notebook."""

from __future__ import annotations

import html
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from unrolled.printable import printable

LN_2 = math.log(2)
MAX_LINE_CHARS = 160
MAX_VALUE_CHARS = 60
VERBS_OF_ONE = {"are": "is", "were": "was", "have": "has"}


class Displayed(ABC):
    """A base class of results: `facts` is all that a subclass defines. A dataclass needs `repr=False`."""

    @property
    @abstractmethod
    def facts(self) -> Mapping[str, object]:
        """What is displayed, by name."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{name} {one_line(value)}" for name, value in self.facts.items())
        return one_line(f"<unrolled.{type(self).__name__.removeprefix('Notebook')}: {shown}", MAX_LINE_CHARS) + ">"

    def _repr_html_(self) -> str:
        return html_table([(name, str(value)) for name, value in self.facts.items()])


def one_line(value: object, max_chars: int = MAX_VALUE_CHARS) -> str:
    """Return a value as one line of at most `max_chars` characters."""
    text = " ".join(printable(str(value)).split())
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def loss_text(nats: float, unit: str) -> str:
    """Return a loss with its unit: in bits and nats per `unit`; the loss of scaled numbers, of the unit `number`, has none.

    Example:
        >>> loss_text(1.0, "character")
        '1.443 bits, 1.0000 nats per character'
    """
    return f"{nats:.4f}, of scaled numbers" if unit == "number" else f"{nats / LN_2:.3f} bits, {nats:.4f} nats per {unit}"


def plural(count: int, noun: str) -> str:
    """Return a count and its noun, such as "1 row" or "1,200 rows"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def agree(count: int, words: str) -> str:
    """Return words about `count` things: the first verb in its form for one, if it is one.

    Example:
        >>> f"1 of 9 rows {agree(1, 'are left out')}"
        '1 of 9 rows is left out'
    """
    return re.sub(r"\b(are|were|have)\b", lambda verb: VERBS_OF_ONE[verb[0]], words, count=1) if count == 1 else words


def counted(count: int, words: str) -> str:
    """Return words that begin with a plural noun, as they are said of `count` things.

    Example:
        >>> counted(1, "words are not known"), counted(2, "files are read")
        ('word is not known', 'files are read')
    """
    return re.sub(r"\b(\w+)s\b", r"\1", agree(count, words), count=1) if count == 1 else words


def html_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = ()) -> str:
    """Return rows as an HTML table; the first cell of a row is its heading."""
    left = ' style="text-align:left"'
    head = "".join(f"<th{left}>{escape(name)}</th>" for name in headings)
    body = "".join(
        f"<tr><th{left}>{escape(name)}</th>{''.join(f'<td{left}>{escape(value)}</td>' for value in values)}</tr>"
        for name, *values in rows
    )
    return f"<table>{f'<tr>{head}</tr>' if head else ''}{body}</table>"


def page_frame(path: object, page: str) -> str:
    """Return a whole HTML page in a frame below its path, for a notebook. Its scripts cannot reach the notebook."""
    return (
        f'<div>{escape(str(path))}</div><iframe srcdoc="{html.escape(page)}" sandbox="allow-scripts" '
        'style="width:100%;height:640px;border:1px solid #8886"></iframe>'
    )


def escape(text: str) -> str:
    """Return a text as HTML, without control characters."""
    return html.escape(printable(text))
