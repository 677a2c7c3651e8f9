"""Pages of HTML as they are read: text in lines, without markup."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

_SKIPPED = re.compile("head|nav|rp|rt|script|style|svg|template|title")
_BLOCK = re.compile(
    "address|article|aside|blockquote|body|caption|d[dlt]|div|figcaption|figure|footer|h[1-6r]|header|li|main|ol|p|pre|section|"
    "table|t[dhr]|ul"
)
_VOID = re.compile("area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr")
_NOTE = re.compile(r"\b(backlink|(end|foot|rear)notes?|noteref|pagebreak)\b")
"""In `epub:type` or `role`: what is no part of the running text."""

_BLANKS = re.compile(r"[ \t\r\n\f]+")


def html_lines(page: str) -> Iterator[str]:
    """Yield the lines of a page of HTML as they are read, with a blank line after each block.

    Example:
        >>> list(html_lines("<h1>One</h1><p>It was a <b>dark</b>\\n night;<br/>rain&nbsp;fell.</p>"))
        ['One', '', 'It was a dark night;', 'rain\\xa0fell.', '']
    """
    reader = _HtmlText()
    reader.feed(page)
    reader.close()
    reader.end_block()
    return iter(reader.lines)


def _is_note(attrs: list[tuple[str, str | None]]) -> bool:
    """Return whether the attributes of an element say that it is a note, or a reference to one."""
    return any(name in ("epub:type", "role") and _NOTE.search(value or "") for name, value in attrs)


class _HtmlText(HTMLParser):
    """Collects the lines of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.lines: list[str] = []
        self._parts: list[str] = []
        self._skipped, self._depth = "", 0
        self._num_pre = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._depth:
            self._depth += tag == self._skipped
        elif not _VOID.fullmatch(tag) and (_SKIPPED.fullmatch(tag) or _is_note(attrs)):
            self._skipped, self._depth = tag, 1
        elif _BLOCK.fullmatch(tag):
            self.end_block()
            self._num_pre += tag == "pre"
        elif tag == "br":
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if self._depth:
            self._depth -= tag == self._skipped
        elif _BLOCK.fullmatch(tag):
            self.end_block()
            self._num_pre -= tag == "pre" and self._num_pre > 0

    def handle_data(self, data: str) -> None:
        if not self._depth:
            data = data.replace("\u00ad", "")  # where a word may be divided: not to be read
            self._parts.append(data if self._num_pre else _BLANKS.sub(" ", data))

    def end_block(self) -> None:
        """Add the lines of the block that ends here, if there is text in it."""
        text = "".join(self._parts)
        self._parts.clear()
        lines = (
            text.strip("\n").split("\n") if self._num_pre else [re.sub(" +", " ", line).strip(" ") for line in text.split("\n")]
        )
        if any(line.strip() for line in lines):
            while not lines[-1].strip():
                lines.pop()
            self.lines += [*lines, ""]
