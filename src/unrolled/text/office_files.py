"""Word and OpenDocument texts, e-books, PDF and e-mail (`.docx`, `.odt`, `.epub`, `.pdf`, `.eml`) as plain text.

All but PDF and e-mail are zip archives of XML. A paragraph of an office document becomes a line, and one of an e-book is
followed by a blank line, since stanzas and headings are paragraphs there. Formatting, notes, comments, deleted text,
pronunciations above words (ruby) and tables of contents are left out.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO
from urllib.parse import unquote
from xml.parsers import expat

from unrolled.errors import DataError
from unrolled.text.compressed_files import CHUNK_BYTES, DECOMPRESSION_ERRORS, ZipArchive
from unrolled.text.file_signatures import MAIL_SUFFIXES, OFFICE_NOUNS
from unrolled.text.html_text import html_lines
from unrolled.text.mail_files import mail_lines
from unrolled.text.pdf_files import pdf_lines

MAX_MEMBER_BYTES = 1 << 30
"""Bytes of one file of an archive, unzipped: far beyond what a person writes."""

MAX_CHAPTER_BYTES = 1 << 26
MAX_BLANKS = 999

BLANK = "\0"
"""Stands for a blank that is kept, where others are not: XML has no such character."""

Event = tuple[str, str, dict[str, str]]
"""`("start", name, attributes)`, `("end", name, {})` or `("text", text, {})`; names are without their namespace."""

_WORD_SKIPPED = frozenset(("Fallback", "del", "instrText", "moveFrom", "pPr", "rPr", "rt", "sectPr", "trPr"))
"""Elements of a Word document: what was deleted or moved away, the second form of a text box, and properties."""

_OPEN_SKIPPED = frozenset(
    ("annotation", "bibliography", "note", "ruby-text", "sequence-decls", "table-of-content", "tracked-changes")
)
_BLANKS = re.compile(r"[ \t\r\n\f]+")
_DECLARED_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"']([A-Za-z0-9_.-]{1,40})[\"']")


def office_text(file: Path | IO[bytes], name: str) -> Iterator[str]:
    """Yield the lines of a document, without line ends.

    Args:
        file: The file, or the path of it or of a copy.
        name: Its name, whose suffix says what it is.

    Raises:
        DataError: It is damaged, encrypted, of another kind, or has no text.
    """
    noun, has_text = OFFICE_NOUNS[Path(name).suffix.lower()], False
    suffix = Path(name).suffix.lower()
    lines = mail_lines(file) if suffix in MAIL_SUFFIXES else pdf_lines(file, name) if suffix == ".pdf" else None
    for line in _zipped_lines(file, name, noun) if lines is None else lines:
        has_text |= bool(line.strip())
        yield line
    if not has_text:
        raise DataError(f"{name} is {_article(noun)} without text: of pictures alone there is nothing to read.")


def _zipped_lines(file: Path | IO[bytes], name: str, noun: str) -> Iterator[str]:
    suffix = Path(name).suffix.lower()
    lines = {".odt": _open_document_lines, ".epub": _book_lines}.get(suffix, _word_lines)
    try:
        with ZipArchive(file) as archive, contextlib.ExitStack() as files:
            yield from lines(_Members(archive, name, files))
    except (RuntimeError, NotImplementedError) as error:  # a password is needed, or a rare kind of compression
        raise DataError(f"{name} cannot be unzipped here: {error}. Save it as plain text (UTF-8).") from error
    except (OSError, *DECOMPRESSION_ERRORS) as error:
        raise DataError(f"{name} is damaged ({error}), or no {noun}.") from error


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'eO' else 'a'} {noun}"


class _Members:
    """The files in a document, which `files` closes. Errors name the document."""

    def __init__(self, archive: zipfile.ZipFile, name: str, files: contextlib.ExitStack) -> None:
        self.archive, self.name, self.files = archive, name, files
        self.names = set(archive.namelist())

    def open(self, member: str, limit: int = MAX_MEMBER_BYTES) -> IO[bytes]:
        """Return a file in the archive. Raises `DataError` if there is none of this name, or it is too large."""
        if member not in self.names:
            noun = OFFICE_NOUNS[Path(self.name).suffix.lower()]
            raise DataError(f"{self.name} is no {noun}, or damaged: it has no {member:.99}.")
        if self.archive.getinfo(member).file_size > limit:
            raise DataError(f"{self.name}: {member:.99} holds more than {limit >> 20:,} MB: save it as plain text (UTF-8).")
        return self.files.enter_context(self.archive.open(member))

    def events(self, member: str) -> Iterator[Event]:
        """Yield the elements and texts of an XML file. Raises `DataError` where it is not well-formed, or declares entities."""
        events: list[Event] = []
        parser = expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = lambda tag, attributes: events.append(
            ("start", _local(tag), {_local(key): value for key, value in attributes.items()})
        )
        parser.EndElementHandler = lambda tag: events.append(("end", _local(tag), {}))
        parser.CharacterDataHandler = lambda text: events.append(("text", text, {}))
        parser.EntityDeclHandler = self._refuse_entity
        file, is_last = self.open(member), False
        while not is_last:
            chunk = file.read(CHUNK_BYTES)
            is_last = not chunk
            try:
                parser.Parse(chunk, is_last)
            except expat.ExpatError as error:
                raise DataError(f"{self.name} is damaged: {member:.99}: {error}.") from error
            yield from events
            events.clear()

    def _refuse_entity(self, *arguments: object) -> None:
        raise DataError(f"{self.name} declares entities of XML, which no such document needs: save it as plain text (UTF-8).")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _paragraphs(events: Iterator[Event], skipped: frozenset[str], inline: Callable[[Event, list[str]], None]) -> Iterator[str]:
    """Yield the text of each `p` and `h` outside of the elements `skipped`, those in a text box before the one that holds it.

    `inline` adds to the parts of a paragraph what an event within it stands for.
    """
    stack: list[list[str]] = []
    depth = 0
    for event in events:
        kind, name, _ = event
        if kind == "start" and (depth or name in skipped):
            depth += 1
        elif kind == "end" and depth:
            depth -= 1
        elif depth:
            continue
        elif name in ("p", "h") and kind == "start":
            stack.append([])
        elif name in ("p", "h") and kind == "end" and stack:
            yield from "".join(stack.pop()).split("\n")
        elif stack:
            inline(event, stack[-1])


def _word_lines(members: _Members) -> Iterator[str]:
    """Yield the lines of a Word document (ECMA-376, WordprocessingML)."""
    texts = {"tab": "\t", "cr": "\n", "noBreakHyphen": "\u2011"}
    in_text = False

    def inline(event: Event, parts: list[str]) -> None:
        nonlocal in_text
        kind, name, attributes = event
        if name == "t" and kind != "text":
            in_text = kind == "start"
        elif kind == "text":
            parts += [name] if in_text else []
        elif kind == "start":
            is_line = name == "br" and attributes.get("type", "textWrapping") == "textWrapping"
            parts.append("\n" if is_line else texts.get(name, ""))

    events = members.events(_main_part(members))
    if (root := next(events)[1]) != "document":
        raise DataError(f"{members.name} is no Word document: it holds {_article(root)}.")
    yield from _paragraphs(_without_contents(events), _WORD_SKIPPED, inline)


def _without_contents(events: Iterator[Event]) -> Iterator[Event]:
    """Yield the events of a Word document without its table of contents, which has a property that says so before it."""
    depth, is_contents = 0, False
    for event in events:
        kind, name, attributes = event
        is_contents |= name == "docPartGallery" and attributes.get("val") == "Table of Contents"
        if kind == "start" and (depth or (is_contents and name == "sdtContent")):
            depth, is_contents = depth + 1, False
        elif kind == "end" and depth:
            depth -= 1
        elif not depth:
            yield event


def _main_part(members: _Members) -> str:
    """Return the name of the part with the text: most programs write word/document.xml."""
    for _, name, attributes in members.events("_rels/.rels"):
        if name == "Relationship" and attributes.get("Type", "").endswith("/officeDocument"):
            return attributes.get("Target", "").lstrip("/")
    return "word/document.xml"


def _open_document_lines(members: _Members) -> Iterator[str]:
    """Yield the lines of an OpenDocument text (OASIS, ODF 1.2), where blanks count once but for the element `s`."""
    for line in _paragraphs(members.events("content.xml"), _OPEN_SKIPPED, _open_document_inline):
        yield line.strip(" ").replace(BLANK, " ")


def _open_document_inline(event: Event, parts: list[str]) -> None:
    kind, name, attributes = event
    if kind == "text":
        text = _BLANKS.sub(" ", name)
        parts.append(text[1:] if text[:1] == " " and parts and parts[-1].endswith(" ") else text)
    elif kind == "start" and name == "s":
        count = attributes.get("c", "1")
        parts.append(BLANK * (min(int(count), MAX_BLANKS) if count.isdecimal() else 1))
    elif kind == "start" and name in ("tab", "line-break"):
        parts.append("\t" if name == "tab" else "\n")


def _book_lines(members: _Members) -> Iterator[str]:
    """Yield the lines of an e-book (EPUB 2 and 3), in the order of its spine."""
    package = next(
        (
            attributes.get("full-path", "")
            for _, name, attributes in members.events("META-INF/container.xml")
            if name == "rootfile"
        ),
        "",
    )
    items: dict[str, dict[str, str]] = {}
    order: list[str] = []
    for kind, name, attributes in members.events(package):
        if kind == "start" and name == "item":
            items[attributes.get("id", "")] = attributes
        elif kind == "start" and name == "itemref" and attributes.get("linear") != "no":
            order.append(attributes.get("idref", ""))
    encrypted = _encrypted(members)
    for item in (items[idref] for idref in order if idref in items):
        if "html" not in item.get("media-type", "") or "nav" in item.get("properties", "").split():
            continue
        chapter = posixpath.normpath(posixpath.join(posixpath.dirname(package), unquote(item.get("href", ""))))
        if chapter in encrypted:
            raise DataError(f"{members.name} is encrypted (DRM), and cannot be read by other programs.")
        page = members.open(chapter, MAX_CHAPTER_BYTES).read()
        yield from html_lines(_decoded(page, f"{members.name}: {chapter}"))


def _encrypted(members: _Members) -> set[str]:
    name = "META-INF/encryption.xml"
    events = members.events(name) if name in members.names else iter(())
    return {unquote(attributes.get("URI", "")) for _, tag, attributes in events if tag == "CipherReference"}


def _decoded(data: bytes, name: str) -> str:
    """Return the text of an XHTML file, by its byte order mark or its declaration, else as UTF-8."""
    declared = _DECLARED_ENCODING.match(data.removeprefix(b"\xef\xbb\xbf"))
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else declared[1].decode() if declared else "utf-8"
    try:
        return data.decode("utf-8-sig" if encoding.lower() == "utf-8" else encoding)
    except (LookupError, UnicodeError) as error:
        raise DataError(f"{name} is not {encoding}: {error}.") from error
